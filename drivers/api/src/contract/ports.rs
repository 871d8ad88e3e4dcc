//! What the suite asks of forwards that come and go.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use super::{Life, SOON, soon};
use crate::{DriverError, Forward, PortForward, Protocol, Result};

impl Life<'_> {
    /// Forwards come and go while the machine runs, and none of them outlives its process.
    pub(super) fn publish(&self) -> Result<()> {
        let (driver, spec) = (self.driver, self.spec);
        self.start()?;
        let Some(ports) = driver.port_forward() else {
            return Ok(());
        };
        let own = ports.list(spec)?;
        assert_eq!(own, spec.forwards, "before anything was added");
        let tcp = Forward::tcp(free(Protocol::Tcp)?, 30_080);
        let udp = Forward::udp(free(Protocol::Udp)?, 30_053);
        for forward in [tcp, udp] {
            ports.add(spec, &forward)?;
            ports.add(spec, &forward)?;
            let listed = ports.list(spec)?;
            assert!(listed.contains(&forward), "{forward} is not among {listed:?}");
            assert!(!is_free(&forward), "{forward} is not listened on");
        }
        let reached = TcpStream::connect_timeout(&tcp.host, SOON);
        assert!(reached.is_ok(), "{tcp}: {reached:?}");
        self.refuse_to_publish(ports, &tcp)?;
        for forward in [tcp, udp] {
            ports.remove(spec, &forward)?;
            ports.remove(spec, &forward)?;
            assert!(soon(|| is_free(&forward)), "{forward} is still listened on");
        }
        assert_eq!(ports.list(spec)?, own, "after all was removed");
        ports.add(spec, &tcp)?;
        driver.kill(spec)?;
        assert!(soon(|| is_free(&tcp)), "{tcp} outlives the machine");
        for done in [
            ports.add(spec, &tcp),
            ports.remove(spec, &tcp),
            ports.list(spec).map(drop),
        ] {
            assert!(matches!(done, Err(DriverError::NoMachine(_))), "{done:?}");
        }
        self.start()?;
        assert_eq!(ports.list(spec)?, own, "after another start");
        Ok(())
    }

    /// Ports of others, and of this machine's own other forwards, are taken; and only loopback will do.
    fn refuse_to_publish(&self, ports: &dyn PortForward, added: &Forward) -> Result<()> {
        let elsewhere = Forward {
            guest_port: added.guest_port + 1,
            ..*added
        };
        let tcp = TcpListener::bind("127.0.0.1:0").map_err(DriverError::io("a free port"))?;
        let udp = UdpSocket::bind("127.0.0.1:0").map_err(DriverError::io("a free port"))?;
        let of_others = [
            Forward::tcp(tcp.local_addr().map_err(DriverError::io("a port"))?, 30_081),
            Forward::udp(udp.local_addr().map_err(DriverError::io("a port"))?, 30_054),
        ];
        for taken in of_others.into_iter().chain([elsewhere]) {
            match ports.add(self.spec, &taken) {
                Err(DriverError::PortTaken { port }) => assert_eq!(port, taken.host),
                other => panic!("{taken} while its port is in use: {other:?}"),
            }
        }
        assert!(ports.list(self.spec)?.contains(added), "{added} was lost");
        let open = Forward::tcp(SocketAddr::from(([0, 0, 0, 0], added.host.port())), 30_080);
        assert!(ports.add(self.spec, &open).is_err(), "it listens on {open}");
        Ok(())
    }
}

pub(super) fn free(protocol: Protocol) -> Result<SocketAddr> {
    let address = match protocol {
        Protocol::Tcp => TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()),
        Protocol::Udp => UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()),
    };
    address.map_err(DriverError::io("a free port"))
}

fn is_free(forward: &Forward) -> bool {
    crate::refused(forward.protocol, forward.host).is_none()
}
