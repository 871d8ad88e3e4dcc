//! From one version of Kubernetes to a newer one, by `kubeadm upgrade apply`, in a guest that has booted with the new programs.
//!
//! Until all is done, kubeadm's configuration in the guest says the old version: that is how an upgrade is known, also by whoever
//! goes on with one that was interrupted. kubeadm gets the new configuration, ours, from the config maps that it looks for, and our
//! patches, so what it writes is what `kubeadm init` would have written. See docs/decisions/0028.

use std::time::Duration;

use sampan_driver::{Command, Output, Stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::guest::{self, Entry, Stamp};
use super::{Node, certs, control_plane, kubeadm};
use crate::error::{Kind, Result};

/// The new configuration, while the old one is still in its place.
const NEXT: &str = "/etc/kubernetes/sampan/kubeadm-next.yaml";

/// How to upgrade.
const UPGRADE: &str = "/etc/kubernetes/sampan/upgrade.yaml";

/// Where kubeadm leaves the manifests and etcd's data of before each upgrade.
const BACKUPS: &str = "/etc/kubernetes/tmp";

const MANIFESTS: &str = "/etc/kubernetes/manifests";
const HELD: &str = "/etc/kubernetes/sampan/held";

/// Static pods, and the phases of `kubeadm init` that write their manifests.
const COMPONENTS: [(&str, [&str; 2]); 4] = [
    ("etcd", ["etcd", "local"]),
    ("kube-apiserver", ["control-plane", "apiserver"]),
    ("kube-controller-manager", ["control-plane", "controller-manager"]),
    ("kube-scheduler", ["control-plane", "scheduler"]),
];

/// What `start` sees to by itself: versions, images and health before; tokens are for nodes that join; proxy and DNS are our own.
const SKIPPED: &str = "preflight,bootstrap-token,addon";

/// How long kubeadm may take in all, and for one component. An emulated guest restarts one in a minute or two.
const DEADLINE: Duration = Duration::from_secs(60 * 60);
const COMPONENT_DEADLINE: &str = "20m0s";

/// For one phase.
const PHASE_DEADLINE: Duration = Duration::from_secs(300);

/// How long the old control plane may take to come up in a guest that was just booted.
const API_DEADLINE: Duration = Duration::from_secs(900);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UpgradeConfiguration<'a> {
    api_version: &'static str,
    kind: &'static str,
    apply: Apply<'a>,
    timeouts: Timeouts,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Apply<'a> {
    kubernetes_version: &'a str,
    /// Nobody is asked.
    force_upgrade: bool,
    /// `certs` renews them when it is time.
    certificate_renewal: bool,
    etcd_upgrade: bool,
    patches: Patches,
}

#[derive(Serialize)]
struct Patches {
    directory: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Timeouts {
    upgrade_manifests: &'static str,
    #[serde(rename = "kubernetesAPICall")]
    kubernetes_api_call: &'static str,
    #[serde(rename = "etcdAPICall")]
    etcd_api_call: &'static str,
}

/// Whether the control plane in the guest, which is complete, is of another version than it is to be.
pub(super) fn is_due(node: &Node<'_>) -> Result<bool> {
    let before = Stamp::at(node, control_plane::CONFIG).read()?;
    Ok(before.is_some_and(|config| version_in(&config) != node.spec.kubernetes_version))
}

/// Upgrades the control plane and kubelet. `entries` are all files of the step. Doing it again after an interruption is fine.
pub(super) fn apply(node: &Node<'_>, entries: &[Entry]) -> Result<()> {
    let before = Stamp::at(node, control_plane::CONFIG).read()?.unwrap_or_default();
    node.reporter.info(&format!(
        "upgrading the control plane from Kubernetes {} to {}",
        version_in(&before),
        node.spec.kubernetes_version
    ));
    let next = kubeadm::configuration(node)?;
    // One that was left behind by an interrupted start would work beside us. Status 1 means that there is none.
    node.runner
        .succeeds(&Command::new("pkill").args(["--exact", "kubeadm"]))?;
    let etcd = etcd_changes(node, &before, &next)?;
    let is_config = |entry: &&Entry| matches!(entry, Entry::File(path, ..) if *path == control_plane::CONFIG);
    let mut files: Vec<Entry> = entries
        .iter()
        .filter(|entry| !is_config(entry))
        .cloned()
        .collect();
    files.push(Entry::File(NEXT, 0o600, next));
    files.push(Entry::File(UPGRADE, 0o600, configuration(node, etcd)?));
    guest::install(node, &files)?;
    mend(node)?;
    guest::systemctl(node, &["daemon-reload"], Kind::ControlPlane)?;
    guest::systemctl(node, &["start", control_plane::UNIT], Kind::ControlPlane)?;
    certs::check(node)?;
    control_plane::wait_for_api(node, API_DEADLINE)?;

    phase(node, &["upload-config", "all"])?;
    guest::run(node, &Command::new("rm").args(["-rf", BACKUPS]))?;
    upgrade(node)?;
    // kubeadm upgrades kubelet's configuration, but neither its flags nor the process.
    phase(node, &["kubelet-start"])?;
    guest::install(node, entries)?;
    guest::run(node, &Command::new("rm").args(["-f", NEXT, UPGRADE]))
}

/// `kubeadm upgrade apply`, and what it says on the way.
fn upgrade(node: &Node<'_>) -> Result<()> {
    let command = Command::new("kubeadm")
        .args([
            "upgrade",
            "apply",
            "--config",
            UPGRADE,
            "--yes",
            "--skip-phases",
            SKIPPED,
        ])
        .deadline(DEADLINE);
    node.cancel.check()?;
    node.reporter.detail("kubeadm upgrade apply");
    let mut output = Output::default();
    let result = node.runner.run_streamed(&command, &mut |stream, bytes| {
        if stream == Stream::Stderr {
            return output.stderr.extend_from_slice(bytes);
        }
        output.stdout.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(bytes);
        if let Some(line) = text.lines().rfind(|line| !line.trim().is_empty()) {
            node.reporter.detail(line.trim());
        }
    });
    result.map_err(|mut error| {
        error.output = output;
        guest::of_kind(Kind::ControlPlane)(error)
    })
}

/// Writes the manifests that are missing: whoever was killed may have moved one away and not put the new one into its place yet.
fn mend(node: &Node<'_>) -> Result<()> {
    let list = Command::new("ls").args([MANIFESTS, HELD]);
    // There need not be any that are held.
    let there = match node.runner.run(&list) {
        Ok(output) => output.text(),
        Err(error) if error.status().is_some() => error.output.text(),
        Err(error) => return Err(error.into()),
    };
    let missing = |name: &str| !there.lines().any(|line| line == format!("{name}.yaml"));
    for (name, words) in COMPONENTS {
        if missing(name) {
            phase(node, &words)?;
        }
    }
    Ok(())
}

/// A phase of `kubeadm init`, with the new configuration.
fn phase(node: &Node<'_>, words: &[&str]) -> Result<()> {
    let command = Command::new("kubeadm")
        .args(["init", "phase"])
        .args(words.iter().copied())
        .args(["--config", NEXT])
        .deadline(PHASE_DEADLINE);
    node.cancel.check()?;
    node.reporter
        .detail(&format!("kubeadm init phase {}", words.join(" ")));
    node.runner
        .run(&command)
        .map(drop)
        .map_err(guest::of_kind(Kind::ControlPlane))
}

/// Whether etcd changes: otherwise kubeadm would restart it all the same, with the apiserver.
fn etcd_changes(node: &Node<'_>, before: &str, next: &str) -> Result<bool> {
    let manifest = Stamp::at(node, format!("{MANIFESTS}/etcd.yaml")).read()?;
    let image = node.parts.image("etcd")?;
    let same_image =
        manifest.is_some_and(|text| text.lines().any(|line| line.trim() == format!("image: {image}")));
    Ok(!same_image || etcd_in(before) != etcd_in(next))
}

/// What a configuration of kubeadm says of etcd.
fn etcd_in(config: &str) -> Option<Value> {
    let documents = yaml_serde::Deserializer::from_str(config).map(Value::deserialize);
    let mut documents = documents.filter_map(Result::ok);
    let cluster = documents.find(|document| document["kind"] == "ClusterConfiguration")?;
    Some(cluster["etcd"].clone())
}

/// The version of Kubernetes that a configuration of kubeadm is for.
fn version_in(config: &str) -> &str {
    let mut lines = config.lines();
    let version = lines.find_map(|line| line.strip_prefix("kubernetesVersion: "));
    version.unwrap_or_default().trim().trim_matches(['"', '\''])
}

fn configuration(node: &Node<'_>, etcd: bool) -> Result<String> {
    kubeadm::to_yaml(&UpgradeConfiguration {
        api_version: "kubeadm.k8s.io/v1beta4",
        kind: "UpgradeConfiguration",
        apply: Apply {
            kubernetes_version: &node.spec.kubernetes_version,
            force_upgrade: true,
            certificate_renewal: false,
            etcd_upgrade: etcd,
            patches: Patches {
                directory: kubeadm::PATCHES,
            },
        },
        timeouts: Timeouts {
            upgrade_manifests: COMPONENT_DEADLINE,
            kubernetes_api_call: "10m0s",
            etcd_api_call: "10m0s",
        },
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use sampan_driver::{CommandError, Failure, Host, Runner};

    use super::super::testing::Fixture;
    use super::*;

    /// A guest with a few files, which remembers its commands.
    struct Files {
        files: Vec<(&'static str, String)>,
        commands: Mutex<Vec<String>>,
    }

    impl Runner for Files {
        fn place(&self) -> String {
            "test".into()
        }

        fn run_streamed(
            &self,
            command: &Command,
            on_output: &mut dyn FnMut(Stream, &[u8]),
        ) -> Result<(), CommandError> {
            self.commands.lock().unwrap().push(command.to_string());
            let asked = command.args.first().map_or("", String::as_str);
            if command.program == "ls" {
                on_output(Stream::Stdout, b"etcd.yaml\nkube-apiserver.yaml\n");
            }
            let text = self.files.iter().find(|(path, _)| *path == asked);
            match (command.program.as_str(), text) {
                ("cat", Some((_, text))) => on_output(Stream::Stdout, text.as_bytes()),
                ("cat", None) => {
                    return Err(Host::error(command, Failure::Status(1)));
                }
                _ => {}
            }
            Ok(())
        }
    }

    fn guest(files: &[(&'static str, String)]) -> Files {
        Files {
            files: files.to_vec(),
            commands: Mutex::default(),
        }
    }

    #[test]
    fn an_upgrade_is_due_when_the_configuration_in_the_guest_is_older() {
        let mut fixture = Fixture::new();
        let old = kubeadm::configuration(&fixture.node()).unwrap();
        assert_eq!(version_in(&old), "v1.36.3");
        let guest = guest(&[(control_plane::CONFIG, old)]);
        let is_due = |fixture: &Fixture| {
            is_due(&Node {
                runner: &guest,
                ..fixture.node()
            })
            .unwrap()
        };
        assert!(!is_due(&fixture));
        fixture.spec.kubernetes_version = "v1.36.4".into();
        assert!(is_due(&fixture));
    }

    #[test]
    fn etcd_is_left_alone_unless_it_changes() {
        let mut fixture = Fixture::new();
        fixture.parts.images.push(super::super::ImageRef {
            name: "registry.k8s.io/etcd".into(),
            tag: "3.6.8-0".into(),
            addon: false,
        });
        let old = kubeadm::configuration(&fixture.node()).unwrap();
        let manifest = |tag: &str| {
            format!("spec:\n  containers:\n  - image: x\n    image: registry.k8s.io/etcd:{tag}\n")
        };
        let changes = |fixture: &Fixture, tag: &str| {
            let guest = guest(&[("/etc/kubernetes/manifests/etcd.yaml", manifest(tag))]);
            let node = Node {
                runner: &guest,
                ..fixture.node()
            };
            etcd_changes(&node, &old, &kubeadm::configuration(&node).unwrap()).unwrap()
        };
        fixture.spec.kubernetes_version = "v1.36.4".into();
        assert!(!changes(&fixture, "3.6.8-0"));
        assert!(changes(&fixture, "3.6.7-0"));
        let other = fixture.extra("etcd", "heartbeat-interval", "100");
        assert!(changes(&other, "3.6.8-0"));
    }

    #[test]
    fn manifests_that_an_interruption_took_are_written_again() {
        let (fixture, guest) = (Fixture::new(), guest(&[]));
        mend(&Node {
            runner: &guest,
            ..fixture.node()
        })
        .unwrap();
        let commands = guest.commands.into_inner().unwrap();
        assert_eq!(
            commands[1..],
            [
                format!("kubeadm init phase control-plane controller-manager --config {NEXT}"),
                format!("kubeadm init phase control-plane scheduler --config {NEXT}"),
            ]
        );
    }

    #[test]
    fn how_kubeadm_is_to_upgrade() {
        insta::assert_snapshot!(configuration(&Fixture::new().node(), true).unwrap(), @r"
        apiVersion: kubeadm.k8s.io/v1beta4
        kind: UpgradeConfiguration
        apply:
          kubernetesVersion: v1.36.3
          forceUpgrade: true
          certificateRenewal: false
          etcdUpgrade: true
          patches:
            directory: /etc/kubernetes/sampan/patches
        timeouts:
          upgradeManifests: 20m0s
          kubernetesAPICall: 10m0s
          etcdAPICall: 10m0s
        ");
    }
}
