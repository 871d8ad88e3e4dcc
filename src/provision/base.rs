//! Base settings: parts disk mounted, host name and `/etc/hosts`, kernel modules and settings, programs linked from the parts
//! disk to where they are looked for. A base of sampan's own brings most of it; another base gets it here.

use sampan_driver::Command;
use serde_json::json;

use super::guest::{self, Entry, Stamp};
use super::{Node, cloud, render};
use crate::error::{Error, Kind, Result};

/// The step's name.
pub(super) const ID: &str = "base";

/// Where the parts disk is mounted in the guest.
pub(super) const PARTS: &str = "/opt/sampan/parts";

const HOSTNAME: &str = "/etc/hostname";
const MODULES: &str = "/etc/modules-load.d/sampan.conf";
const SYSCTL: &str = "/etc/sysctl.d/60-sampan.conf";

/// Programs of the node: name in /usr/local/bin, name on the parts disk.
const PROGRAMS: &[(&str, &str)] = &[
    ("kubelet", "kubernetes"),
    ("kubeadm", "kubernetes"),
    ("kubectl", "kubernetes"),
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd-shim-runc-v2"),
    ("ctr", "ctr"),
    ("runc", "runc"),
];

pub(super) fn is_done(node: &Node<'_>) -> Result<bool> {
    Ok(cloud::is_done(node)? && Stamp::new(node, ID).is(&guest::digest(&entries(node)?))? && mounted(node)?)
}

pub(super) fn apply(node: &Node<'_>) -> Result<()> {
    mount_parts(node)?;
    if !cloud::is_done(node)? {
        cloud::apply(node)?;
    }
    let entries = entries(node)?;
    let changed = guest::update(node, &entries)?;
    let hostname = Command::new("hostname").arg(node.name);
    let modules = Command::new("modprobe")
        .arg("--all")
        .args(render::base(&MODULES[1..])?.lines());
    let sysctl = Command::new("sysctl").args(["--quiet", "--load", SYSCTL]);
    for (file, command) in [(HOSTNAME, hostname), (MODULES, modules), (SYSCTL, sysctl)] {
        if changed.contains(&file) {
            guest::run(node, &command)?;
        }
    }
    Stamp::new(node, ID).write(&guest::digest(&entries))
}

fn entries(node: &Node<'_>) -> Result<Vec<Entry>> {
    let context = json!({ "name": node.name, "address": node.address, "host": node.host });
    let mut entries = vec![
        Entry::File(HOSTNAME, 0o644, format!("{}\n", node.name)),
        Entry::File("/etc/hosts", 0o644, render::render("base/hosts", context)?),
        Entry::File(MODULES, 0o644, render::base(&MODULES[1..])?.into()),
        Entry::File(SYSCTL, 0o644, render::base(&SYSCTL[1..])?.into()),
    ];
    entries.extend(
        PROGRAMS
            .iter()
            .map(|(name, part)| Entry::Link(format!("/usr/local/bin/{name}"), format!("{PARTS}/bin/{part}"))),
    );
    entries.push(Entry::Dir("/opt/cni", 0o755));
    entries.push(Entry::Link("/opt/cni/bin".into(), format!("{PARTS}/cni")));
    Ok(entries)
}

fn mounted(node: &Node<'_>) -> Result<bool> {
    Ok(node
        .runner
        .succeeds(&Command::new("mountpoint").args(["-q", PARTS]))?)
}

fn mount_parts(node: &Node<'_>) -> Result<()> {
    if mounted(node)? {
        return Ok(());
    }
    guest::run(node, &Command::new("mkdir").args(["-p", PARTS]))?;
    let mount = Command::new("mount").args(["-o", "ro,noatime", "LABEL=SAMPAN-PARTS", PARTS]);
    node.runner.run(&mount).map(drop).map_err(|error| {
        Error::new(
            Kind::Provision,
            format!("the guest does not see the disk with its programs: {error}"),
        )
        .hint("check the bundle with `sampan bundle show`, then delete the profile and start again")
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn the_node_knows_its_own_name() {
        let fixture = Fixture::new();
        let entries = entries(&fixture.node()).unwrap();
        assert!(entries.contains(&Entry::File(HOSTNAME, 0o644, "demo\n".into())));
        let hosts = entries.iter().find(|entry| {
            matches!(entry, Entry::File("/etc/hosts", _, text)
            if text.lines().any(|line| line == "10.0.2.15 demo")
                && text.contains("10.0.2.2 host.sampan.internal "))
        });
        assert!(hosts.is_some(), "{entries:?}");
    }
}
