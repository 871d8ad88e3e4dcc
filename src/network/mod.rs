//! The profile's own address on the host, where its ports lead into the guest.
//!
//! On Linux all of 127.0.0.0/8 is loopback without any set-up, so each profile gets an address 127.77.0.N for itself and its ports
//! keep their own numbers. Elsewhere it is 127.0.0.1 with ports that happen to be free. Either way nothing listens on anything but loopback.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, Kind, Result};

/// The last byte of the addresses that profiles get. 127.77.0.1 stays free, since it looks like a gateway.
const RANGE: std::ops::RangeInclusive<u8> = 2..=254;

/// Where a profile's ports are reached on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// A loopback address.
    pub address: Ipv4Addr,
    /// Port in the guest, port on the host.
    ports: Vec<(u16, u16)>,
}

impl Chosen {
    /// The host's port for one of the wanted ports.
    ///
    /// # Errors
    /// [`Kind::Internal`] for a port that was not asked for.
    pub fn port(&self, wanted: u16) -> Result<u16> {
        let found = self.ports.iter().find(|(port, _)| *port == wanted);
        found
            .map(|(_, host)| *host)
            .ok_or_else(|| Error::new(Kind::Internal, format!("no place was chosen for port {wanted}")))
    }
}

/// Chooses an address, and a port on it for each wanted one: in the loopback range where there is one, the first address from
/// `first` on that `used` does not hold and on which all the ports can be listened on right now. The caller holds the addresses
/// lock until the choice is recorded.
///
/// # Errors
/// [`Kind::PortTaken`] when no address is left or no port is free.
pub fn choose(first: u8, used: &[Ipv4Addr], ports: &[u16], loopback_range: bool) -> Result<Chosen> {
    if !loopback_range {
        return free_ports(ports);
    }
    let mut refusal = None;
    let (before, from): (Vec<_>, Vec<_>) = range().partition(|address| address.octets()[3] < first);
    for address in from
        .into_iter()
        .chain(before)
        .filter(|address| !used.contains(address))
    {
        match ports.iter().find_map(|&port| refused(address, port)) {
            None => {
                return Ok(Chosen {
                    address,
                    ports: ports.iter().map(|&port| (port, port)).collect(),
                });
            }
            // This one is no other profile's doing: no address will be better.
            Some((at, error)) if error.kind() != ErrorKind::AddrInUse => return Err(unusable(at, error)),
            Some((at, _)) => refusal = Some(at),
        }
    }
    let why = refusal
        .map(|at| format!("; the last one tried was {at}"))
        .unwrap_or_default();
    Err(Error::new(
        Kind::PortTaken,
        format!("no loopback address from 127.77.0.2 to 127.77.0.254 is free{why}"),
    )
    .hint("delete a profile that is not needed, or see with `ss -ltnp` what listens on these addresses"))
}

/// Where the addresses of a home begin. Profiles of other homes and other users are in the same range, and one that is stopped holds
/// nothing that others would notice: so each home begins elsewhere.
pub fn first_of(home: &Path) -> u8 {
    let hash = home
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let count = u64::from(RANGE.end() - RANGE.start()) + 1;
    // Less than the range's end, so it fits.
    RANGE.start() + u8::try_from((hash >> 32) % count).unwrap_or_default()
}

/// Which of these ports of an address cannot be listened on right now.
pub fn taken(address: Ipv4Addr, ports: &[u16]) -> Vec<SocketAddr> {
    ports
        .iter()
        .filter_map(|&port| refused(address, port))
        .map(|(at, _)| at)
        .collect()
}

/// All addresses a profile may ever have: for certificates, which then stay good when it changes.
pub fn certificate_addresses() -> Vec<IpAddr> {
    std::iter::once(Ipv4Addr::LOCALHOST)
        .chain(range())
        .map(IpAddr::V4)
        .collect()
}

fn range() -> impl Iterator<Item = Ipv4Addr> {
    RANGE.map(|last| Ipv4Addr::new(127, 77, 0, last))
}

fn refused(address: Ipv4Addr, port: u16) -> Option<(SocketAddr, std::io::Error)> {
    let at = SocketAddr::from((address, port));
    TcpListener::bind(at).err().map(|error| (at, error))
}

fn unusable(at: SocketAddr, error: std::io::Error) -> Error {
    Error::new(Kind::Network, format!("cannot listen on {at}: {error}"))
        .hint("run as a user who may listen there, or look at the host's loopback interface")
        .because(error)
}

/// Ports on 127.0.0.1 that the system says are free: their own numbers where possible. All are held until the last is chosen, so no two
/// are the same.
fn free_ports(wanted: &[u16]) -> Result<Chosen> {
    let address = Ipv4Addr::LOCALHOST;
    let mut held = Vec::new();
    for &port in wanted {
        let listener = TcpListener::bind((address, port)).or_else(|_| TcpListener::bind((address, 0)));
        let listener = listener.map_err(|error| unusable(SocketAddr::from((address, port)), error))?;
        let at = listener
            .local_addr()
            .map_err(|error| unusable(SocketAddr::from((address, port)), error))?;
        held.push((port, at.port(), listener));
    }
    Ok(Chosen {
        address,
        ports: held.iter().map(|(port, host, _)| (*port, *host)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports of these tests alone: the tests run at the same time, and other profiles may be up on this machine.
    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 77, 0, last)
    }

    #[test]
    fn the_first_address_nobody_has_is_chosen() {
        let used: Vec<_> = (2..200).map(address).collect();
        let chosen = choose(2, &used, &[47_101, 47_102], true).unwrap();
        assert_eq!(chosen.address, address(200));
        assert_eq!(
            (chosen.port(47_101).unwrap(), chosen.port(47_102).unwrap()),
            (47_101, 47_102)
        );
        assert_eq!(chosen.port(1).unwrap_err().kind(), Kind::Internal);
    }

    #[test]
    fn an_address_with_a_taken_port_is_left_to_whoever_has_it() {
        let used: Vec<_> = (2..210).map(address).collect();
        let listener = TcpListener::bind((address(210), 47_112)).unwrap();
        assert_eq!(
            taken(address(210), &[47_111, 47_112]),
            [listener.local_addr().unwrap()]
        );
        assert_eq!(
            choose(2, &used, &[47_111, 47_112], true).unwrap().address,
            address(211)
        );
        drop(listener);
        assert_eq!(
            choose(2, &used, &[47_111, 47_112], true).unwrap().address,
            address(210)
        );
    }

    #[test]
    fn homes_begin_at_different_addresses_and_go_round() {
        let home = |name: &str| first_of(Path::new(name));
        assert_eq!(home("/home/a/x"), home("/home/a/x"));
        assert_ne!(home("/home/a/x"), home("/home/b/x"));
        assert!((0..2000).all(|n| RANGE.contains(&home(&format!("/home/{n}")))));
        let used: Vec<_> = (250..=254).map(address).collect();
        assert_eq!(choose(250, &used, &[47_141], true).unwrap().address, address(2));
    }

    #[test]
    fn a_full_range_is_told_with_a_way_out() {
        let used: Vec<_> = (2..254).map(address).collect();
        let listener = TcpListener::bind((address(254), 47_121)).unwrap();
        let error = choose(2, &used, &[47_121], true).unwrap_err();
        assert_eq!(error.kind(), Kind::PortTaken);
        assert!(
            error
                .to_string()
                .ends_with("the last one tried was 127.77.0.254:47121"),
            "{error}"
        );
        drop(listener);
    }

    #[test]
    fn without_the_range_taken_ports_are_replaced() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let chosen = choose(2, &[], &[port, 47_131], false).unwrap();
        assert_eq!(chosen.address, Ipv4Addr::LOCALHOST);
        assert_ne!(chosen.port(port).unwrap(), port);
        assert_ne!(chosen.port(port).unwrap(), chosen.port(47_131).unwrap());
    }

    #[test]
    fn certificates_hold_for_every_address() {
        let all = certificate_addresses();
        assert_eq!(all.len(), 254);
        assert!(
            all.contains(&"127.0.0.1".parse().unwrap()) && all.contains(&"127.77.0.254".parse().unwrap())
        );
    }
}
