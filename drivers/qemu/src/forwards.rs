//! Forwards of the user-mode network: what listens, and how that changes while the machine runs. Each question takes a short
//! connection to the socket for those who only ask, so nobody waits for whoever publishes ports.

use std::net::SocketAddr;

use sampan_driver::{DriverError, Forward, MachineSpec, PortForward, Protocol, Result, refused};

use crate::Qemu;
use crate::args::NETDEV;
use crate::files;
use crate::machine::{Machine, QMP_LIMIT};
use crate::qmp::Qmp;

impl PortForward for Qemu {
    fn add(&self, spec: &MachineSpec, forward: &Forward) -> Result<()> {
        check(forward)?;
        let machine = Machine::new(spec);
        let mut qmp = machine.monitor()?;
        let said = human(
            &machine,
            &mut qmp,
            &format!("hostfwd_add {NETDEV} {}", rule(forward)),
        )?;
        if said.is_empty() {
            return Ok(());
        }
        // QEMU does not tell why.
        if table(&machine, &mut qmp)?.contains(forward) {
            return Ok(());
        }
        Err(refused(forward.protocol, forward.host).unwrap_or_else(|| machine.failed(said)))
    }

    fn remove(&self, spec: &MachineSpec, forward: &Forward) -> Result<()> {
        let machine = Machine::new(spec);
        let mut qmp = machine.monitor()?;
        let Forward { host, protocol, .. } = forward;
        let said = human(
            &machine,
            &mut qmp,
            &format!("hostfwd_remove {NETDEV} {protocol}:{host}"),
        )?;
        tracing::debug!(%forward, said, "removed");
        let stays = table(&machine, &mut qmp)?
            .iter()
            .any(|listed| (listed.host, listed.protocol) == (*host, *protocol));
        if stays {
            return Err(machine.failed(format!("{protocol} {host} is not given up: {said}")));
        }
        Ok(())
    }

    fn list(&self, spec: &MachineSpec) -> Result<Vec<Forward>> {
        let machine = Machine::new(spec);
        table(&machine, &mut machine.monitor()?)
    }
}

impl Machine<'_> {
    /// A connection for those who do not change the machine itself.
    fn monitor(&self) -> Result<Qmp> {
        Qmp::connect(&self.path(files::QUERY), QMP_LIMIT).map_err(|error| match self.process() {
            Ok(None) => DriverError::NoMachine(self.spec.name.clone()),
            _ => self.failed(error.to_string()),
        })
    }
}

fn human(machine: &Machine<'_>, qmp: &mut Qmp, command: &str) -> Result<String> {
    qmp.human(command, QMP_LIMIT)
        .map(|said| said.trim().to_owned())
        .map_err(|error| machine.failed(error.to_string()))
}

fn table(machine: &Machine<'_>, qmp: &mut Qmp) -> Result<Vec<Forward>> {
    Ok(in_order(
        &human(machine, qmp, "info usernet")?,
        &machine.spec.forwards,
    ))
}

/// A forward as QEMU writes it.
pub(crate) fn rule(forward: &Forward) -> String {
    let Forward {
        host,
        guest_port,
        protocol,
    } = forward;
    format!("{protocol}:{host}-:{guest_port}")
}

/// Forwards have to be what QEMU can do and what we allow.
pub(crate) fn check(forward: &Forward) -> Result<()> {
    let host = forward.host;
    if host.is_ipv4() && host.ip().is_loopback() {
        return Ok(());
    }
    Err(DriverError::Unsupported {
        what: format!("qemu cannot forward from {host}"),
        hint: "forward from a loopback address such as 127.0.0.1".to_owned(),
    })
}

/// Forwards as `info usernet` lists them, in the order they were asked for; others come last.
///
/// ```text
///   Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
///   TCP[HOST_FORWARD]  13      127.77.0.1  8443       10.0.2.15  8443     0     0
/// ```
pub(crate) fn in_order(table: &str, wanted: &[Forward]) -> Vec<Forward> {
    let mut found: Vec<Forward> = table.lines().filter_map(listed).collect();
    let place = |forward: &Forward| {
        let asked = |wanted: &Forward| {
            wanted.guest_port == forward.guest_port
                && wanted.protocol == forward.protocol
                && (wanted.host == forward.host || wanted.host.port() == 0)
        };
        wanted.iter().position(asked).unwrap_or(usize::MAX)
    };
    found.sort_by_key(place);
    found
}

fn listed(line: &str) -> Option<Forward> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [what, _, ip, port, _, guest_port, ..] = words[..] else {
        return None;
    };
    let protocol = match what {
        "TCP[HOST_FORWARD]" => Protocol::Tcp,
        "UDP[HOST_FORWARD]" => Protocol::Udp,
        _ => return None,
    };
    Some(Forward {
        host: SocketAddr::new(ip.parse().ok()?, port.parse().ok()?),
        guest_port: guest_port.parse().ok()?,
        protocol,
    })
}

#[cfg(test)]
#[path = "forwards_tests.rs"]
mod tests;
