//! What a machine is made of, in no driver's own terms.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A machine to be made. All paths are absolute and on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// The profile's name; unique per home, at most 63 characters, a DNS label.
    pub name: String,
    /// A directory that belongs to this machine alone: the driver keeps all its files there.
    pub dir: PathBuf,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The system disk.
    pub disk: Disk,
    /// Further disks, read-only, in this order after the system disk.
    pub extra_disks: Vec<ExtraDisk>,
    /// Kernel and initrd for drivers that can boot directly; others boot the disk by firmware.
    pub boot: Option<DirectBoot>,
    /// Host ports that lead into the guest from its start on.
    pub forwards: Vec<Forward>,
}

/// The system disk: a private layer over a base that is never written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The backing file: a raw disk image, read-only, shared by machines.
    pub base: PathBuf,
    /// Virtual size in MiB, not less than the base's.
    pub size_mib: u64,
}

/// A read-only raw image the guest sees as a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraDisk {
    /// The image.
    pub path: PathBuf,
    /// The serial number the guest sees where the driver can set one; at most 20 characters.
    pub serial: String,
}

/// A kernel that is started without a boot loader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectBoot {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: PathBuf,
    /// The kernel's command line.
    pub cmdline: String,
}

/// What a port speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the host that leads to a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Forward {
    /// Where it listens on the host; always a loopback address (in the answer of a driver without forwards: the guest's own).
    pub host: SocketAddr,
    /// The guest's port.
    pub guest_port: u16,
    /// What is spoken there.
    #[serde(default)]
    pub protocol: Protocol,
}

impl Forward {
    /// A forward of connections.
    pub fn tcp(host: SocketAddr, guest_port: u16) -> Self {
        Self {
            host,
            guest_port,
            protocol: Protocol::Tcp,
        }
    }

    /// A forward of datagrams.
    pub fn udp(host: SocketAddr, guest_port: u16) -> Self {
        Self {
            host,
            guest_port,
            protocol: Protocol::Udp,
        }
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}->{}", self.protocol, self.host, self.guest_port)
    }
}
