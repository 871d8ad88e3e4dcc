//! What `VBoxManage showvminfo --machinereadable` and `list hdds` say.

use std::net::SocketAddr;
use std::path::PathBuf;

use sampan_driver::{Forward, MachineState, Protocol};

/// A rule of the NAT network, as VirtualBox knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Its name: what it is removed by.
    pub(crate) name: String,
    pub(crate) forward: Forward,
}

/// What VirtualBox knows of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Vm {
    pub(crate) name: String,
    /// In VirtualBox's words; empty for a machine whose settings it cannot read.
    pub(crate) state: String,
    /// The settings file.
    pub(crate) settings: PathBuf,
    pub(crate) rules: Vec<Rule>,
    /// Controllers by their names.
    pub(crate) controllers: Vec<String>,
    /// What is attached: "CONTROLLER-PORT-DEVICE" and the medium.
    pub(crate) media: Vec<(String, PathBuf)>,
}

impl Vm {
    /// Reads `showvminfo --machinereadable`. Lines of another kind, such as warnings before them, are skipped; none when nothing of
    /// it tells a machine's state.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut vm = Self::default();
        for (key, value) in text.lines().filter_map(pair) {
            if key.starts_with("Forwarding(") {
                vm.rules.extend(rule(value));
            } else if key.starts_with("storagecontrollername") {
                vm.controllers.push(value.to_owned());
            } else {
                match key {
                    "name" => vm.name = value.to_owned(),
                    "VMState" => vm.state = value.to_owned(),
                    "CfgFile" => vm.settings = PathBuf::from(value),
                    _ => vm.media.extend(medium(key, value)),
                }
            }
        }
        (!vm.state.is_empty()).then_some(vm)
    }

    /// What is attached to a port of a controller.
    pub(crate) fn attached(&self, controller: &str, port: usize) -> Option<&PathBuf> {
        let place = format!("{controller}-{port}-0");
        let found = self.media.iter().find(|(at, _)| *at == place);
        found.map(|(_, path)| path)
    }

    /// VirtualBox's many states as our few. What is on its way somewhere has a process, so it runs. A guest that made the virtual
    /// machine itself stumble ("guru meditation") is held until somebody ends it.
    pub(crate) fn state(&self) -> MachineState {
        match self.state.as_str() {
            "" | "poweroff" | "aborted" | "aborted-saved" | "saved" | "teleported" => MachineState::Stopped,
            "paused" | "teleportingpausedvm" | "gurumeditation" | "stuck" => MachineState::Paused,
            _ => MachineState::Running,
        }
    }

    pub(crate) fn is_stuck(&self) -> bool {
        matches!(self.state.as_str(), "gurumeditation" | "stuck")
    }

    /// Whether its memory was saved: then its settings cannot be changed.
    pub(crate) fn is_saved(&self) -> bool {
        matches!(self.state.as_str(), "saved" | "aborted-saved")
    }

    /// Forwards in the order they were asked for; others come last.
    pub(crate) fn forwards(&self, wanted: &[Forward]) -> Vec<Forward> {
        let mut found: Vec<Forward> = self.rules.iter().map(|rule| rule.forward).collect();
        let place = |forward: &Forward| {
            wanted.iter().position(|wanted| {
                wanted.guest_port == forward.guest_port
                    && wanted.protocol == forward.protocol
                    && (wanted.host == forward.host || wanted.host.port() == 0)
            })
        };
        found.sort_by_key(|forward| place(forward).unwrap_or(usize::MAX));
        found
    }
}

/// `key=value`, either of them perhaps in quotes. (Quotes within are escaped; what has them is of no use here.)
fn pair(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.trim_end().split_once('=')?;
    let plain = |text: &str| -> Option<(usize, usize)> {
        let quoted = text.len() > 1 && text.starts_with('"') && text.ends_with('"');
        Some(if quoted {
            (1, text.len() - 1)
        } else {
            (0, text.len())
        })
    };
    let (from, to) = plain(key)?;
    let (start, end) = plain(value)?;
    Some((key.get(from..to)?, value.get(start..end)?))
}

/// `tcp-1,tcp,127.0.0.1,6443,10.0.2.15,8443`. Rules that name no address of the host are nobody's of ours.
fn rule(value: &str) -> Option<Rule> {
    let fields: Vec<&str> = value.split(',').collect();
    let [name, protocol, ip, port, _, guest_port] = fields[..] else {
        return None;
    };
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    Some(Rule {
        name: name.to_owned(),
        forward: Forward {
            host: SocketAddr::new(ip.parse().ok()?, port.parse().ok()?),
            guest_port: guest_port.parse().ok()?,
            protocol,
        },
    })
}

/// `"disks-1-0"="/a/b.vdi"`; ports with nothing on them say "none".
fn medium(key: &str, value: &str) -> Option<(String, PathBuf)> {
    let mut parts = key.rsplitn(3, '-');
    let numbers = [parts.next()?, parts.next()?];
    let is_place = numbers.iter().all(|part| part.parse::<u32>().is_ok()) && !parts.next()?.contains('-');
    (is_place && value.starts_with('/')).then(|| (key.to_owned(), PathBuf::from(value)))
}

/// A disk that VirtualBox has in its books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Medium {
    pub(crate) uuid: String,
    pub(crate) location: PathBuf,
}

/// Reads `list hdds`: blocks of `Word: value` with blank lines between, each beginning with the UUID.
pub(crate) fn media(text: &str) -> Vec<Medium> {
    let mut found = Vec::new();
    let mut uuid = "";
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("UUID:") {
            uuid = value.trim();
        } else if let Some(value) = line.strip_prefix("Location:") {
            found.push(Medium {
                uuid: uuid.to_owned(),
                location: PathBuf::from(value.trim()),
            });
        }
    }
    found
}

#[cfg(test)]
#[path = "info_tests.rs"]
mod tests;
