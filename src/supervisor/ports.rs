//! The user's own forwards (`sampan port`): kept in the profile's `ports.toml`, so they are there again after every start.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use sampan_driver::{Forward, Protocol};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::layout::ProfileLayout;
use crate::store::atomic;

/// A port of the host that leads to one of the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// What is spoken there.
    #[serde(default)]
    pub protocol: Protocol,
    /// The loopback address; none means the profile's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The host's port.
    pub host: u16,
    /// The guest's port.
    pub guest: u16,
}

/// A rule, and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleState {
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// Where it listens; none while it does not.
    pub at: Option<SocketAddr>,
    /// Why it does not, in words for people.
    pub trouble: Option<String>,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "port")]
    ports: Vec<Rule>,
}

impl Rule {
    /// The forward of it, in a profile at this address.
    pub(super) fn forward(&self, own: IpAddr) -> Forward {
        Forward {
            host: SocketAddr::new(self.address.unwrap_or(own), self.host),
            guest_port: self.guest,
            protocol: self.protocol,
        }
    }

    /// Whether both want the same place on the host.
    pub fn collides(&self, other: &Self) -> bool {
        (self.protocol, self.address, self.host) == (other.protocol, other.address, other.host)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Place::from(*self))?;
        write!(f, ":{}", self.guest)
    }
}

/// A place on the host: `[tcp:|udp:][ADDRESS:]PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// What is spoken there.
    pub protocol: Protocol,
    /// The address; none means the profile's own.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

impl From<Rule> for Place {
    fn from(rule: Rule) -> Self {
        Self {
            protocol: rule.protocol,
            address: rule.address,
            port: rule.host,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.protocol)?;
        match self.address {
            Some(address) => write!(f, "{}", SocketAddr::new(address, self.port)),
            None => write!(f, "{}", self.port),
        }
    }
}

/// The words of one rule, in parts.
struct Words<'a> {
    protocol: Protocol,
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Self {
        let (protocol, rest) = match (text.strip_prefix("tcp:"), text.strip_prefix("udp:")) {
            (Some(rest), _) => (Protocol::Tcp, rest),
            (_, Some(rest)) => (Protocol::Udp, rest),
            _ => (Protocol::Tcp, text),
        };
        Self { protocol, rest }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Words { protocol, rest } = Words::of(text);
        let (address, port) = match rest.rsplit_once(':') {
            Some((address, port)) => (Some(loopback(address)?), port),
            None => (None, rest),
        };
        Ok(Self {
            protocol,
            address,
            port: number(port)?,
        })
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((place, guest)) = text
            .rsplit_once(':')
            .filter(|(place, _)| !matches!(*place, "tcp" | "udp"))
        else {
            return Err("a port of the host and one of the node are needed, as in 8080:30080".to_owned());
        };
        let place: Place = place.parse()?;
        Ok(Self {
            protocol: place.protocol,
            address: place.address,
            host: place.port,
            guest: number(guest)?,
        })
    }
}

fn number(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("\"{text}\" is not a port from 1 to 65535")),
        Ok(port) => Ok(port),
    }
}

fn loopback(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() && address.is_ipv4() => Ok(address),
        Ok(_) => Err(format!(
            "{text} is not a loopback address: nothing else ever listens"
        )),
        Err(_) => Err(format!("\"{text}\" is not an address such as 127.0.0.1")),
    }
}

/// The rules of a profile, sorted.
///
/// # Errors
/// [`Kind::HostConfig`] when the file is damaged.
pub fn load(files: &ProfileLayout) -> Result<Vec<Rule>> {
    let path = files.ports();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(&path)(error)),
    };
    let file: File = toml::from_str(&text).map_err(|error| {
        Error::new(Kind::HostConfig, format!("{}: it is damaged", path.display()))
            .hint("mend the file, or delete it and add the ports again")
            .because(error)
    })?;
    let mut rules = file.ports;
    rules.sort();
    rules.dedup();
    Ok(rules)
}

/// Writes the rules of a profile.
///
/// # Errors
/// When the file cannot be written.
pub fn save(files: &ProfileLayout, rules: &[Rule]) -> Result<()> {
    let file = File {
        ports: rules.to_vec(),
    };
    let text = toml::to_string(&file)
        .map_err(|error| Error::new(Kind::Internal, "cannot describe ports").because(error))?;
    atomic::write(&files.ports(), 0o600, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_written() {
        for text in ["tcp:8080:30080", "udp:53:30053", "tcp:127.0.0.1:8080:80"] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        assert_eq!("8080:80".parse::<Rule>(), "tcp:8080:80".parse());
        for (wrong, why) in [
            ("8080", "a port of the host and one of the node"),
            ("tcp:8080", "a port of the host and one of the node"),
            ("0:80", "\"0\" is not a port"),
            ("80:70000", "\"70000\" is not a port"),
            ("0.0.0.0:80:80", "not a loopback address"),
            ("web:80:80", "\"web\" is not an address"),
        ] {
            let error = wrong.parse::<Rule>().unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
        assert_eq!(
            "udp:127.0.0.1:53".parse::<Place>().unwrap().to_string(),
            "udp:127.0.0.1:53"
        );
    }

    #[test]
    fn rules_are_kept_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = crate::layout::Layout::under(dir.path()).profile("a");
        assert_eq!(load(&files).unwrap(), []);
        let rules: Vec<Rule> = vec!["udp:53:30053".parse().unwrap(), "127.0.0.1:1:2".parse().unwrap()];
        save(&files, &rules).unwrap();
        assert_eq!(load(&files).unwrap(), [rules[1], rules[0]]);
        std::fs::write(files.ports(), "port = 1").unwrap();
        assert_eq!(load(&files).unwrap_err().kind(), Kind::HostConfig);
    }
}
