//! A profile on disk: what the cluster is, where the host reaches it and which bundle it stands on.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use sampan_driver::{Endpoint, Forward};
use serde::{Deserialize, Serialize};

use super::Context;
use crate::bundle::Bundle;
use crate::error::{Error, Kind, Result};
use crate::layout::{BundleLayout, Layout};
use crate::provision;
use crate::settings::ClusterSpec;
use crate::store::atomic;
use crate::store::lock::Lock;

/// The newest format there is; a file with a higher one is from a newer sampan.
const FORMAT: u32 = 2;

/// That of a profile whose programs are those of the bundle below its disk: sampans that knew no upgrades read it, too.
const FIRST_FORMAT: u32 = 1;

/// The apiserver's port in the guest, and on the host where the profile has an address of its own.
pub(super) const API_PORT: u16 = 8443;

/// One profile, as `profile.toml` holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Version of this file's format.
    pub format: u32,
    /// Key of the bundle that the machine's disk is a layer over, and that its kernel is from.
    pub bundle: String,
    /// sha256 of that bundle's base disk: a bundle built anew has the same key and, file for file, the same content, but the
    /// machine's own layer fits only the very blocks it was made over.
    pub base: String,
    /// Key of the bundle that programs and container images are from, where an upgrade brought another one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) parts: String,
    /// The node's name in the cluster: a fork keeps that of the machine it was forked from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) node: String,
    /// The host's loopback address of this cluster.
    pub address: IpAddr,
    /// Port of `address` that leads to the apiserver.
    pub api_port: u16,
    /// Port of `address` that leads to sshd.
    pub ssh_port: u16,
    /// Port of `address` that leads to Docker; 0 in a profile of a sampan that knew no Docker.
    #[serde(default)]
    pub docker_port: u16,
    /// What the cluster is.
    pub spec: ClusterSpec,
}

/// Where the host reaches a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// A loopback address.
    pub address: IpAddr,
    /// Its port that leads to the apiserver.
    pub api_port: u16,
    /// Its port that leads to sshd.
    pub ssh_port: u16,
    /// Its port that leads to Docker; 0 for none.
    pub docker_port: u16,
}

/// Only what says whether the rest can be read.
#[derive(Deserialize)]
struct Header {
    format: u32,
}

impl Profile {
    /// A profile of this format.
    pub fn new(spec: ClusterSpec, bundle: &Bundle, place: Place) -> Self {
        Self {
            format: FIRST_FORMAT,
            bundle: bundle.key.clone(),
            base: bundle.base_sum(),
            parts: String::new(),
            node: String::new(),
            address: place.address,
            api_port: place.api_port,
            ssh_port: place.ssh_port,
            docker_port: place.docker_port,
            spec,
        }
    }

    /// Key of the bundle that the node's programs and container images are from.
    pub fn parts(&self) -> &str {
        if self.parts.is_empty() {
            &self.bundle
        } else {
            &self.parts
        }
    }

    /// The files of that bundle.
    pub fn parts_bundle(&self, layout: &Layout) -> BundleLayout {
        layout.bundle(self.parts())
    }

    /// Takes programs and container images from a bundle from the machine's next boot on.
    pub(super) fn take_parts(&mut self, key: &str) {
        (self.parts, self.format) = if key == self.bundle {
            (String::new(), FIRST_FORMAT)
        } else {
            (key.to_owned(), FORMAT)
        };
    }

    /// Stands wholly on a bundle from now on; its machine must not exist.
    pub(super) fn move_to(&mut self, bundle: &Bundle) {
        (self.bundle, self.base) = (bundle.key.clone(), bundle.base_sum());
        self.take_parts(&bundle.key);
    }

    /// Whether a bundle may not go because of this profile.
    pub fn stands_on(&self, key: &str) -> bool {
        [self.bundle.as_str(), self.parts()].contains(&key)
    }

    /// The node's name in the cluster.
    pub fn node(&self) -> &str {
        if self.node.is_empty() {
            &self.spec.name
        } else {
            &self.node
        }
    }

    /// Gives the node the name it has in the layer that the machine is forked from.
    pub(super) fn name_node(&mut self, name: &str) {
        self.node = if name == self.spec.name {
            String::new()
        } else {
            name.to_owned()
        };
    }

    /// Where the host reaches the cluster.
    pub(super) fn place(&self) -> Place {
        Place {
            address: self.address,
            api_port: self.api_port,
            ssh_port: self.ssh_port,
            docker_port: self.docker_port,
        }
    }

    /// Puts the cluster elsewhere on the host; its machine must not run.
    pub(super) fn put(&mut self, place: Place) {
        (self.address, self.api_port) = (place.address, place.api_port);
        (self.ssh_port, self.docker_port) = (place.ssh_port, place.docker_port);
    }

    /// Takes over where a running guest is reached that has an address of its own, which only its driver knows.
    pub(super) fn follow(&mut self, endpoint: &Endpoint) {
        let Some(api) = endpoint.reach(API_PORT) else {
            return;
        };
        let port = |guest_port| endpoint.reach(guest_port).map_or(0, |at| at.port());
        self.put(Place {
            address: api.ip(),
            api_port: api.port(),
            ssh_port: port(22),
            docker_port: port(provision::DOCKER_PORT),
        });
    }

    /// Where the host reaches the apiserver.
    pub fn api(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.api_port)
    }

    /// The forwards a machine has from its start on.
    pub fn forwards(&self) -> Vec<Forward> {
        let ports = [
            (self.api_port, API_PORT),
            (self.ssh_port, 22),
            (self.docker_port, provision::DOCKER_PORT),
        ];
        let forward = |(port, guest_port)| Forward::tcp(SocketAddr::new(self.address, port), guest_port);
        ports
            .into_iter()
            .filter(|&(port, _)| port != 0)
            .map(forward)
            .collect()
    }

    /// Writes the profile whole.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, layout: &Layout) -> Result<()> {
        let path = layout.profile(&self.spec.name).profile_toml();
        let text = toml::to_string(self).map_err(|error| {
            Error::new(
                Kind::Internal,
                format!("cannot describe profile {}", self.spec.name),
            )
            .because(error)
        })?;
        atomic::write(&path, 0o600, text.as_bytes())
    }
}

/// Takes the lock that every verb holds while it changes a profile; waits for another verb until the deadline.
///
/// # Errors
/// [`Kind::Locked`] with who holds it, [`Kind::Interrupted`], or the I/O error of the file.
pub(super) fn lock(ctx: &Context, name: &str, deadline: Duration) -> Result<Lock> {
    let path = ctx.layout.profile(name).lock;
    Lock::acquire(
        &path,
        &format!("profile {name}"),
        deadline,
        &ctx.cancel,
        &*ctx.reporter,
    )
}

/// Whether anything of the profile is on disk, be it damaged.
pub fn exists(layout: &Layout, name: &str) -> bool {
    layout.profile(name).dir.exists()
}

/// Reads a profile.
///
/// # Errors
/// [`Kind::NotFound`] when there is none; [`Kind::HostConfig`] when it is damaged or from a newer sampan.
pub fn load(layout: &Layout, name: &str) -> Result<Profile> {
    let path = layout.profile(name).profile_toml();
    match fs::read_to_string(&path) {
        Ok(text) => parse(&path, name, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(
                Error::new(Kind::NotFound, format!("profile \"{name}\" not found")).hint(format!(
                    "run `sampan start -p {name}` to make it, or `sampan profile list` to see what is there"
                )),
            )
        }
        Err(error) => Err(Error::io(&path)(error)),
    }
}

fn parse(path: &Path, name: &str, text: &str) -> Result<Profile> {
    let damaged = |error: toml::de::Error| {
        Error::new(
            Kind::HostConfig,
            format!("{}: profile is damaged", path.display()),
        )
        .hint(format!(
            "mend the file, or run `sampan delete -p {name}` to begin anew"
        ))
        .because(error)
    };
    let header: Header = toml::from_str(text).map_err(damaged)?;
    if header.format > FORMAT {
        let message = format!(
            "{}: profile has format {}, this sampan reads up to {FORMAT}",
            path.display(),
            header.format
        );
        return Err(Error::new(Kind::HostConfig, message).hint("use the newer sampan that wrote it"));
    }
    toml::from_str(text).map_err(damaged)
}

/// Names of all profiles, sorted; damaged ones too.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(layout: &Layout) -> Result<Vec<String>> {
    let dir = layout.profiles();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(&dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io(&dir))?;
        if entry.file_type().map_err(Error::io(&entry.path()))?.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

/// The profile that commands mean when none is named, if the user chose one.
pub fn current(layout: &Layout) -> Option<String> {
    let name = fs::read_to_string(layout.current_profile()).ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Chooses the profile that commands mean when none is named.
///
/// # Errors
/// When the choice cannot be written.
pub fn set_current(layout: &Layout, name: &str) -> Result<()> {
    atomic::write(&layout.current_profile(), 0o600, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_with_an_address_of_its_own_is_followed() {
        let text = "format = 1\nbundle = \"b\"\nbase = \"s\"\naddress = \"127.0.0.1\"\napi_port = 6443\nssh_port = 2222\ndocker_port = 2376\n\
            [spec]\nname = \"a\"\ndriver = \"hyperkit\"\ncpus = 2\nmemory_mib = 2000\ndisk_mib = 5000\n\
            kubernetes_version = \"v1\"\ndns_domain = \"d\"\nservice_cidr = \"s\"\npod_cidr = \"p\"\n";
        let mut profile: Profile = toml::from_str(text).unwrap();
        let mut endpoint = Endpoint {
            forwards: Vec::new(),
            serial_log: None,
            pid: None,
            runner: None,
        };
        let before = profile.clone();
        profile.follow(&endpoint);
        assert_eq!(profile, before, "a driver that does not know yet");
        let own = |port: u16| Forward::tcp(SocketAddr::from(([192, 168, 64, 7], port)), port);
        endpoint.forwards = profile
            .forwards()
            .iter()
            .map(|forward| own(forward.guest_port))
            .collect();
        profile.follow(&endpoint);
        assert_eq!(profile.api().to_string(), "192.168.64.7:8443");
        assert_eq!((profile.ssh_port, profile.docker_port), (22, 2376));
        // What is asked of the driver next time is what it answered.
        assert_eq!(profile.forwards(), endpoint.forwards);
    }
}
