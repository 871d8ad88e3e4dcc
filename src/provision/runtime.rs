//! The container runtime: containerd with runc and the bridge network of pods, running.

use std::net::Ipv4Addr;

use serde_json::json;

use super::guest::{self, Entry, Stamp};
use super::{Node, render};
use crate::error::{Error, Kind, Result};

/// The step's name.
pub(super) const ID: &str = "runtime";

/// What containerd listens on.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";

const UNIT: &str = "containerd.service";
const SERVICE: &str = "/etc/systemd/system/containerd.service";
const CONFIG: &str = "/etc/containerd/config.toml";

pub(super) fn is_done(node: &Node<'_>) -> Result<bool> {
    Ok(Stamp::new(node, ID).is(&guest::digest(&entries(node)?))? && guest::active(node, &[UNIT])?)
}

pub(super) fn apply(node: &Node<'_>) -> Result<()> {
    let entries = entries(node)?;
    let changed = guest::update(node, &entries)?;
    if changed.contains(&SERVICE) {
        guest::systemctl(node, &["daemon-reload"], Kind::Runtime)?;
    }
    // The unit is of type notify: once systemctl is back, the socket answers. The base has started it already, as a rule.
    let verb = if changed.contains(&SERVICE) || changed.contains(&CONFIG) {
        "restart"
    } else {
        "start"
    };
    guest::systemctl(node, &[verb, UNIT], Kind::Runtime)?;
    Stamp::new(node, ID).write(&guest::digest(&entries))
}

fn entries(node: &Node<'_>) -> Result<Vec<Entry>> {
    let network = json!({ "pod_subnet": pod_subnet(&node.spec.pod_cidr)? });
    Ok(vec![
        Entry::File(CONFIG, 0o644, config(node)?),
        Entry::File(SERVICE, 0o644, render::base(&SERVICE[1..])?.into()),
        enabled(UNIT),
        Entry::File(
            "/etc/cni/net.d/10-sampan.conflist",
            0o644,
            render::render("runtime/10-sampan.conflist", network)?,
        ),
    ])
}

/// The base's own configuration, with the pause image that the bundle brings, and where it is said how registries are asked.
fn config(node: &Node<'_>) -> Result<String> {
    let pause = format!("sandbox = '{}'", node.parts.image("pause")?);
    let line = |line: &str| {
        let is_sandbox = line.trim_start().starts_with("sandbox = ");
        if is_sandbox {
            format!("    {pause}\n")
        } else {
            format!("{line}\n")
        }
    };
    let own: String = render::base(&CONFIG[1..])?.lines().map(line).collect();
    Ok(own + render::file("runtime/registries.toml")?)
}

/// What `systemctl enable` would make, without running it.
pub(super) fn enabled(unit: &str) -> Entry {
    Entry::Link(
        format!("/etc/systemd/system/multi-user.target.wants/{unit}"),
        format!("/etc/systemd/system/{unit}"),
    )
}

/// The first /24 of the pods' addresses, which is what the only node gets from the controller manager; all of them where there
/// are fewer.
fn pod_subnet(cidr: &str) -> Result<String> {
    let wrong = || {
        Error::new(Kind::Usage, format!("pod addresses {cidr}: not an IPv4 range"))
            .hint("give one like 10.244.0.0/16")
    };
    let (address, bits) = cidr.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let bits: u8 = bits
        .parse()
        .ok()
        .filter(|bits| (8..=28).contains(bits))
        .ok_or_else(wrong)?;
    Ok(format!("{address}/{}", bits.max(24)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn containerd_and_the_network_of_pods_are_configured() {
        let fixture = Fixture::new();
        let entries = entries(&fixture.node()).unwrap();
        let file = |wanted: &str| {
            entries.iter().find_map(|entry| match entry {
                Entry::File(path, _, text) if *path == wanted => Some(text.as_str()),
                _ => None,
            })
        };
        // The base's own file, but for the pause image and the registries.
        let config = file(CONFIG).unwrap();
        assert!(
            config
                .lines()
                .any(|line| line.trim() == "sandbox = 'registry.k8s.io/pause:3.10.2'"),
            "{config}"
        );
        let more = render::file("runtime/registries.toml").unwrap();
        assert_eq!(
            config.lines().count(),
            render::base(&CONFIG[1..]).unwrap().lines().count() + more.lines().count()
        );
        let config: toml::Table = config.parse().unwrap();
        let images = &config["plugins"]["io.containerd.cri.v1.images"];
        assert_eq!(
            images["registry"]["config_path"].as_str(),
            Some("/etc/containerd/certs.d")
        );
        insta::assert_snapshot!("cni", file("/etc/cni/net.d/10-sampan.conflist").unwrap());
    }

    #[test]
    fn the_node_takes_the_first_24_of_the_pods_addresses() {
        assert_eq!(pod_subnet("10.244.0.0/16").unwrap(), "10.244.0.0/24");
        assert_eq!(pod_subnet("10.1.2.0/26").unwrap(), "10.1.2.0/26");
        for wrong in ["10.244.0.0", "fd00::/64", "10.244.0.0/33", "x/16"] {
            assert!(pod_subnet(wrong).is_err(), "{wrong}");
        }
    }
}
