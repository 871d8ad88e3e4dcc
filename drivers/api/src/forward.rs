//! The optional ability to add and remove forwards while a machine runs.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::driver::{DriverError, Result};
use crate::spec::{Forward, MachineSpec, Protocol};

/// Forwards of a running machine beyond those it began with. They last as long as its process: a machine that is started, or goes on
/// where it was saved, has those of its specification only.
pub trait PortForward: Send + Sync {
    /// Adds a forward; where there is this very forward already, it succeeds.
    ///
    /// # Errors
    /// [`DriverError::PortTaken`] when somebody listens there, be it another forward of this machine; [`DriverError::PortRefused`] when
    /// this user may not listen there; [`DriverError::Unsupported`] for an address that is not loopback;
    /// [`DriverError::NoMachine`] when it does not run.
    fn add(&self, spec: &MachineSpec, forward: &Forward) -> Result<()>;

    /// Takes away what listens at the forward's address; where nothing does, it succeeds. Connections that are there go on.
    ///
    /// # Errors
    /// [`DriverError::NoMachine`] when it does not run.
    fn remove(&self, spec: &MachineSpec, forward: &Forward) -> Result<()>;

    /// All that listens now, also what the machine began with.
    ///
    /// # Errors
    /// [`DriverError::NoMachine`] when it does not run.
    fn list(&self, spec: &MachineSpec) -> Result<Vec<Forward>>;
}

/// Why nobody of this user's can listen at an address right now; none when it is free. For drivers whose hypervisor does not tell.
pub fn refused(protocol: Protocol, address: SocketAddr) -> Option<DriverError> {
    let bound: io::Result<()> = match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    };
    let error = bound.err()?;
    Some(match error.kind() {
        ErrorKind::AddrInUse => DriverError::PortTaken { port: address },
        ErrorKind::PermissionDenied => DriverError::PortRefused { port: address },
        _ => DriverError::Unsupported {
            what: format!("cannot listen on {protocol} {address}: {error}"),
            hint: "use a loopback address of this host".to_owned(),
        },
    })
}
