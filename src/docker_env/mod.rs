//! What points a `docker` client to a cluster's Docker: variables in the words of every shell, and Docker contexts.

mod context;
mod format;
mod shell;

pub use context::{Store, Written};
pub use format::{Notation, notate};
pub use shell::Shell;

use std::net::SocketAddr;
use std::path::Path;

use crate::error::{Error, Kind, Result};

/// Says which cluster's Docker a shell points to.
pub const ACTIVE: &str = "SAMPAN_ACTIVE_DOCKERD";

/// What variables that the user had are kept under.
const EXISTING: &str = "SAMPAN_EXISTING_";

/// The variables of `docker` itself, in the order they are told.
const DOCKER: [&str; 3] = ["DOCKER_TLS_VERIFY", "DOCKER_HOST", "DOCKER_CERT_PATH"];

/// Both spellings; whichever the user has is changed, else the first.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The user's variables; empty ones count as not there.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where a cluster's Docker is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// Over TLS, with the certificates of a directory.
    Tls {
        /// Host and port.
        address: SocketAddr,
        /// Has ca.pem, cert.pem and key.pem.
        certificates: &'a Path,
    },
    /// By the user's `ssh`.
    Ssh {
        /// Host and port.
        address: SocketAddr,
        /// Login name.
        user: &'a str,
    },
}

/// A change of one variable: its new value, or none to remove it.
pub type Change = (String, Option<String>);

/// What a shell has to set to point to the Docker of a cluster. What the user had is kept in variables of ours, unless these are there
/// from before.
pub fn set(profile: &str, endpoint: &Endpoint<'_>, no_proxy: bool, user: Environment<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut set = |name: &str, value: String| changes.push((name.to_owned(), Some(value)));
    match endpoint {
        Endpoint::Ssh { address, user } => {
            set("DOCKER_HOST", format!("ssh://{user}@{address}"));
        }
        Endpoint::Tls {
            address,
            certificates,
        } => {
            set("DOCKER_TLS_VERIFY", "1".to_owned());
            set("DOCKER_HOST", format!("tcp://{address}"));
            set("DOCKER_CERT_PATH", certificates.to_string_lossy().into_owned());
        }
    }
    if user(ACTIVE).is_none() {
        for name in DOCKER {
            if let Some(value) = user(name) {
                set(&format!("{EXISTING}{name}"), value);
            }
        }
    }
    set(ACTIVE, profile.to_owned());
    if no_proxy && let Endpoint::Tls { address, .. } = endpoint {
        let (name, before) = no_proxy_variable(user);
        let host = address.ip().to_string();
        let kept = format!("{EXISTING}{name}");
        if let Some(before) = &before
            && user(&kept).is_none()
        {
            set(&kept, before.clone());
        }
        set(name, with_host(before.as_deref().unwrap_or_default(), &host));
    }
    changes
}

/// What a shell has to do to have again what the user had.
pub fn unset(no_proxy: bool, user: Environment<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut kept = Vec::new();
    let mut restore = |name: &str| {
        let existing = format!("{EXISTING}{name}");
        let value = user(&existing);
        if value.is_some() {
            kept.push((existing, None));
        }
        changes.push((name.to_owned(), value));
    };
    DOCKER.into_iter().for_each(&mut restore);
    for name in NO_PROXY {
        if user(&format!("{EXISTING}{name}")).is_some() || (no_proxy && name == no_proxy_variable(user).0) {
            restore(name);
        }
    }
    changes.push((ACTIVE.to_owned(), None));
    changes.extend(kept);
    // `eval $(…)` without quotes makes one line of it, where "export" takes the words up to the next semicolon.
    changes.sort_by_key(|(_, value)| value.is_some());
    changes
}

fn no_proxy_variable(user: Environment<'_>) -> (&'static str, Option<String>) {
    NO_PROXY
        .into_iter()
        .find_map(|name| Some((name, Some(user(name)?))))
        .unwrap_or((NO_PROXY[0], None))
}

fn with_host(list: &str, host: &str) -> String {
    if list.split(',').any(|one| one.trim() == host) {
        list.to_owned()
    } else if list.is_empty() {
        host.to_owned()
    } else {
        format!("{list},{host}")
    }
}

/// Looks whether `docker` will be able to read its certificates.
///
/// # Errors
/// [`Kind::HostConfig`] with the file that cannot be read.
pub fn check_certificates(dir: &Path) -> Result<()> {
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        let path = dir.join(name);
        let readable = std::fs::File::open(&path).and_then(|file| match file.metadata()?.is_file() {
            true => Ok(()),
            false => Err(std::io::Error::other("it is no file")),
        });
        if let Err(error) = readable {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "they are made when the machine starts: run `sampan stop`, then `sampan start`".to_owned()
                }
                _ => format!(
                    "they are yours alone to read: `chmod 700 {0}`, `chmod 600 {0}/*.pem`",
                    dir.display()
                ),
            };
            return Err(Error::new(
                Kind::HostConfig,
                format!("{}: docker's certificates cannot be read", path.display()),
            )
            .because(error)
            .hint(hint));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
