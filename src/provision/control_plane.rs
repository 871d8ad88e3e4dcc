//! The control plane: kubelet, and etcd, apiserver, controller manager and scheduler as its static pods, made by one run of
//! kubeadm.
//!
//! Our certificate authority is there before kubeadm runs, so that the host has its credentials without asking. Of kubeadm's
//! phases only those up to the start of kubelet run; what follows (configuration of proxy and DNS, labels) the host does over
//! the API, which is cheaper than starting kubeadm again in an emulated guest. Another version is an [`upgrade`]. The controller manager and the scheduler start
//! once the apiserver answers: `files/kubelet/hold` and `release` see to that, also when the guest reboots by itself.

use std::time::{Duration, Instant};

use sampan_driver::Command;

use super::guest::{self, Entry, Stamp};
use super::runtime::enabled;
use super::{Node, certs, kubeadm, render, upgrade};
use crate::error::{Error, Kind, Result};

/// The step's name.
pub(super) const ID: &str = "control_plane";

/// kubeadm's configuration in the guest.
pub(super) const CONFIG: &str = "/etc/kubernetes/sampan/kubeadm.yaml";

pub(super) const UNIT: &str = "kubelet.service";

/// What kubeadm leaves to the other steps.
const SKIPPED: &str = "preflight,wait-control-plane,upload-config,upload-certs,mark-control-plane,bootstrap-token,\
                       kubelet-finalize,addon,show-join-command";

/// What an earlier run with other settings may have left, and kubeadm would keep or `release` put over what kubeadm wrote.
const STALE: &[&str] = &[
    "/etc/kubernetes/pki/apiserver.crt",
    "/etc/kubernetes/pki/apiserver.key",
    "/etc/kubernetes/sampan/held/kube-controller-manager.yaml",
    "/etc/kubernetes/sampan/held/kube-scheduler.yaml",
];

/// Lets the controller manager and the scheduler start.
const RELEASE: &str = "/usr/local/lib/sampan/release";

/// How long one answer of the apiserver may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// How long the apiserver may take from kubelet's start: an emulated guest on a busy host is slow.
const API_DEADLINE: Duration = Duration::from_secs(600);

pub(super) fn is_done(node: &Node<'_>) -> Result<bool> {
    Ok(Stamp::new(node, ID).is(&digest(node)?)?
        && guest::active(node, &[UNIT])?
        && node.api.is_ok("/readyz", Duration::from_secs(5)))
}

pub(super) fn apply(node: &Node<'_>) -> Result<()> {
    let stamp = Stamp::new(node, ID);
    let digest = digest(node)?;
    let before = stamp.read()?;
    if before.as_ref() == Some(&digest) {
        guest::systemctl(node, &["start", UNIT], Kind::ControlPlane)?;
        certs::check(node)?;
    } else if before.is_some() && upgrade::is_due(node)? {
        upgrade::apply(node, &entries(node)?)?;
        stamp.write(&digest)?;
    } else {
        guest::run(node, &Command::new("rm").arg("-f").args(STALE.iter().copied()))?;
        guest::install(node, &entries(node)?)?;
        guest::install(node, &authority(node)?)?;
        guest::systemctl(node, &["daemon-reload"], Kind::ControlPlane)?;
        init(node)?;
        stamp.write(&digest)?;
    }
    wait_for_api(node, API_DEADLINE)
}

/// Waits until the apiserver lives, lets the rest of the control plane start, and waits until `/readyz` says ok.
pub(super) fn wait_for_api(node: &Node<'_>, deadline: Duration) -> Result<()> {
    node.reporter.detail("waiting for the apiserver");
    let end = Instant::now() + deadline;
    let until_ok = |path: &str| {
        let left = end.saturating_duration_since(Instant::now());
        guest::poll(
            node,
            left,
            || Ok(node.api.is_ok(path, ANSWER_DEADLINE)),
            || {
                let message = format!("the apiserver did not answer within {}s", deadline.as_secs());
                Error::new(
                    Kind::ControlPlaneTimeout,
                    format!("{message}{}", super::last_words(node)),
                )
                .hint("see `sampan logs`; on a busy host run the command again")
            },
        )
    };
    until_ok("/livez")?;
    guest::run(node, &Command::new(RELEASE).arg("now"))?;
    until_ok("/readyz")
}

fn init(node: &Node<'_>) -> Result<()> {
    let command = Command::new("kubeadm")
        .args(["init", "--config", CONFIG, "--skip-phases", SKIPPED])
        .deadline(Duration::from_secs(600));
    node.cancel.check()?;
    node.reporter.detail("certificates and manifests");
    node.runner.run(&command).map(drop).map_err(|error| {
        guest::of_kind(Kind::ControlPlane)(error)
            .hint("a wrong value of --extra-config is the usual reason; start again with another")
    })
}

fn digest(node: &Node<'_>) -> Result<String> {
    Ok(guest::digest(&entries(node)?))
}

fn entries(node: &Node<'_>) -> Result<Vec<Entry>> {
    let file = |path, mode, name| Ok::<_, Error>(Entry::File(path, mode, render::file(name)?.to_owned()));
    let services = serde_json::json!({ "services": node.spec.service_cidr });
    Ok(vec![
        Entry::Dir("/etc/kubernetes/sampan", 0o700),
        Entry::File(CONFIG, 0o600, kubeadm::configuration(node)?),
        file(
            "/etc/kubernetes/sampan/patches/etcd0+strategic.yaml",
            0o600,
            "control-plane/patches/etcd.yaml",
        )?,
        file(
            "/etc/kubernetes/sampan/patches/kube-apiserver0+strategic.yaml",
            0o600,
            "control-plane/patches/kube-apiserver.yaml",
        )?,
        file(
            "/etc/kubernetes/sampan/patches/kube-controller-manager0+strategic.yaml",
            0o600,
            "control-plane/patches/kube-controller-manager.yaml",
        )?,
        file(
            "/etc/kubernetes/sampan/patches/kube-scheduler0+strategic.yaml",
            0o600,
            "control-plane/patches/kube-scheduler.yaml",
        )?,
        Entry::File(
            "/etc/sampan/guard.nft",
            0o644,
            render::render("kubelet/guard.nft", services)?,
        ),
        file(
            "/etc/systemd/system/sampan-guard.service",
            0o644,
            "kubelet/sampan-guard.service",
        )?,
        file("/usr/local/lib/sampan/hold", 0o755, "kubelet/hold")?,
        file(RELEASE, 0o755, "kubelet/release")?,
        Entry::File(
            "/etc/systemd/system/kubelet.service",
            0o644,
            render::base("etc/systemd/system/kubelet.service")?.into(),
        ),
        file(
            "/etc/systemd/system/kubelet.service.d/10-sampan.conf",
            0o644,
            "kubelet/10-sampan.conf",
        )?,
        file(
            "/etc/systemd/system/sampan-release.service",
            0o644,
            "kubelet/sampan-release.service",
        )?,
        enabled(UNIT),
    ])
}

/// The cluster's authority, made on the host.
fn authority(node: &Node<'_>) -> Result<Vec<Entry>> {
    let read = |path: &std::path::Path| std::fs::read_to_string(path).map_err(Error::io(path));
    Ok(vec![
        Entry::Dir("/etc/kubernetes/pki", 0o755),
        Entry::File("/etc/kubernetes/pki/ca.crt", 0o644, read(&node.pki.ca_cert)?),
        Entry::File("/etc/kubernetes/pki/ca.key", 0o600, read(&node.pki.ca_key)?),
    ])
}
