//! What the kubelet talks to: containerd itself, or a cri-dockerd where pods are to run on Docker. Then Docker is started before the control
//! plane, and is given the cluster's images. See docs/decisions/0029.

use serde_json::json;

use super::guest::{self, Entry, Stamp};
use super::{Node, docker, render, runtime};
use crate::error::{Kind, Result};
use crate::settings::{ClusterSpec, ContainerRuntime};

/// The step's name.
pub(super) const ID: &str = "cri";

/// What cri-dockerd listens on.
const SOCKET: &str = "/run/cri-dockerd.sock";

const UNIT: &str = "cri-dockerd.service";
const SERVICE: &str = "/etc/systemd/system/cri-dockerd.service";

/// Where the kubelet finds it, as an address.
pub(super) fn endpoint(spec: &ClusterSpec) -> String {
    let socket = match spec.container_runtime {
        ContainerRuntime::Containerd => runtime::SOCKET,
        ContainerRuntime::Docker => SOCKET,
    };
    format!("unix://{socket}")
}

pub(super) fn is_done(node: &Node<'_>) -> Result<bool> {
    if node.spec.container_runtime == ContainerRuntime::Containerd {
        return Ok(true);
    }
    Ok(docker::is_done(node)?
        && Stamp::new(node, ID).is(&guest::digest(&entries(node)?))?
        && guest::active(node, &[UNIT])?)
}

pub(super) fn apply(node: &Node<'_>) -> Result<()> {
    if node.spec.container_runtime == ContainerRuntime::Containerd {
        return Ok(());
    }
    docker::apply(node)?;
    let entries = entries(node)?;
    let changed = guest::update(node, &entries)?;
    let verb = match changed.contains(&SERVICE) {
        true => {
            guest::systemctl(node, &["daemon-reload"], Kind::Runtime)?;
            "restart"
        }
        false => "start",
    };
    // Of type notify: once systemctl is back, the socket answers.
    guest::systemctl(node, &[verb, UNIT], Kind::Runtime)?;
    Stamp::new(node, ID).write(&guest::digest(&entries))
}

fn entries(node: &Node<'_>) -> Result<Vec<Entry>> {
    let values = json!({ "socket": SOCKET, "pause": node.parts.image("pause")? });
    let unit = render::render("docker/cri-dockerd.service", values)?;
    Ok(vec![Entry::File(SERVICE, 0o644, unit), runtime::enabled(UNIT)])
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn pods_run_on_containerd_unless_docker_is_asked_for() {
        let mut fixture = Fixture::new();
        assert!(is_done(&fixture.node()).unwrap());
        assert_eq!(endpoint(&fixture.spec), "unix:///run/containerd/containerd.sock");
        fixture.spec.container_runtime = ContainerRuntime::Docker;
        assert!(!is_done(&fixture.node()).unwrap());
        assert_eq!(endpoint(&fixture.spec), "unix:///run/cri-dockerd.sock");
        let config = super::super::kubeadm::configuration(&fixture.node()).unwrap();
        assert_eq!(
            config.matches("unix:///run/cri-dockerd.sock").count(),
            2,
            "{config}"
        );
        assert!(!config.contains("containerd.sock"), "{config}");
    }

    #[test]
    fn cri_dockerd_has_the_pause_image_of_the_bundle() {
        let fixture = Fixture::new();
        let entries = entries(&fixture.node()).unwrap();
        let Entry::File(path, _, unit) = &entries[0] else {
            panic!("no file")
        };
        assert_eq!(*path, SERVICE);
        for wanted in [
            "--container-runtime-endpoint unix:///run/cri-dockerd.sock",
            "--pod-infra-container-image registry.k8s.io/pause:3.10.2",
        ] {
            assert!(unit.contains(wanted), "{unit}");
        }
    }
}
