//! What `VBoxManage showvminfo --machinereadable` and `list hdds` say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

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
    /// In VirtualBox's words; empty for a machine whose settings it cannot read.
    pub(crate) state: String,
    /// The settings file.
    pub(crate) settings: PathBuf,
    pub(crate) rules: Vec<Rule>,
    /// Controllers by their names.
    pub(crate) controllers: Vec<String>,
    /// All else that it said; "CONTROLLER-PORT-DEVICE" is a medium's path.
    others: BTreeMap<String, String>,
}

impl Vm {
    /// Reads `showvminfo --machinereadable`. Lines of another kind, such as warnings before them, are skipped; none when nothing of
    /// it tells a machine's state.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut vm = Self::default();
        for (key, value) in text.lines().filter_map(pair) {
            match key {
                "VMState" => vm.state = value.to_owned(),
                "CfgFile" => vm.settings = PathBuf::from(value),
                _ if key.starts_with("Forwarding(") => vm.rules.extend(rule(value)),
                _ if key.starts_with("storagecontrollername") => vm.controllers.push(value.to_owned()),
                _ => drop(vm.others.insert(key.to_owned(), value.to_owned())),
            }
        }
        (!vm.state.is_empty()).then_some(vm)
    }

    /// What is attached to a port of a controller; ports with nothing on them say "none".
    pub(crate) fn attached(&self, controller: &str, port: usize) -> Option<&Path> {
        let medium = self.others.get(&format!("{controller}-{port}-0"))?;
        medium.starts_with('/').then_some(Path::new(medium))
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
    Some((plain(key), plain(value)))
}

fn plain(text: &str) -> &str {
    let within = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    within.unwrap_or(text)
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
