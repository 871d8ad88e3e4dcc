//! Story 1: from nothing to a healthy cluster, and what must work in it.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Guard, PROFILE, World, eventually, text};

/// Emulated guests are slow and the host may be busy; a cluster that is not there by then never comes.
const PATIENCE: Duration = Duration::from_secs(180);

/// `start` on a machine that has the bundle and nothing else; interrupted at first, it leaves no machine and goes on when told
/// again. Where the ready snapshot of this very sampan is there, from an earlier run, the cluster is forked from it.
pub(crate) fn first_cluster(world: &World) {
    let cold = interrupted_start(world);
    let output = world
        .sampan(&["start", "-p", PROFILE, "--driver", "qemu", "--wait=all"])
        .output()
        .unwrap();
    println!("{}", crate::support::shown(&output));
    assert!(output.status.success());
    let said = text(&output.stdout) + &text(&output.stderr);
    let expected = if cold {
        "making the ready snapshot"
    } else {
        "running already"
    };
    assert!(said.contains(expected), "{said}");
    assert_eq!(
        world.template_qemu(),
        None,
        "the machine of the snapshot is still there"
    );
    assert_eq!(world.kubectl(&["config", "current-context"]), PROFILE);
    assert!(world.kubectl(&["cluster-info"]).contains("is running at"));
    let ready = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
    assert_eq!(world.kubectl(&["get", "nodes", "-o", ready]), "True");
    let named = r"jsonpath={.items[*].metadata.labels.sampan\.dev/name}";
    assert_eq!(world.kubectl(&["get", "nodes", "-o", named]), PROFILE);
    let kubeconfig = std::fs::read_to_string(world.kubeconfig()).unwrap();
    assert!(
        kubeconfig.contains("elsewhere.example") && kubeconfig.contains("x-own-field"),
        "{kubeconfig}"
    );
}

/// Ctrl-C while the machine of the snapshot boots; false when there was no need for one, and the start went through.
fn interrupted_start(world: &World) -> bool {
    let mut start = world.sampan(&["start", "-p", PROFILE, "--driver", "qemu"]);
    let mut start = Guard(
        start
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let forked = eventually("a machine runs", PATIENCE, || {
        match (world.template_qemu(), start.0.try_wait().unwrap()) {
            (Some(_), _) => Ok(None),
            (None, Some(status)) => Ok(Some(status)),
            (None, None) => Err("no QEMU".to_owned()),
        }
    });
    if let Some(status) = forked {
        assert!(status.success(), "{status}");
        return false;
    }
    crate::support::signal(start.0.id().cast_signed(), Signal::INT);
    assert_eq!(start.0.wait().unwrap().code(), Some(11));
    assert_eq!(world.template_qemu(), None, "a machine was left behind");
    true
}

/// Every pod came up at its first try: nothing was started before what it needs.
pub(crate) fn nothing_restarted_on_the_way(world: &World) {
    let pods: Value = serde_json::from_str(&world.kubectl(&["get", "pods", "-A", "-o", "json"])).unwrap();
    let pods = pods["items"].as_array().unwrap();
    assert!(
        pods.len() >= 7,
        "control plane, proxy, DNS and storage: {}",
        pods.len()
    );
    for pod in pods {
        for container in pod["status"]["containerStatuses"].as_array().unwrap() {
            assert_eq!(
                container["restartCount"], 0,
                "{} restarted",
                pod["metadata"]["name"]
            );
        }
    }
}

/// `start` again, also in minikube's old spelling, says that it runs.
pub(crate) fn second_start_changes_nothing(world: &World) {
    let qemu = world.qemu(PROFILE).expect("QEMU runs");
    let output = world
        .sampan(&["start", "-p", PROFILE, "--vm-driver", "qemu"])
        .output()
        .unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(
        output.status.success() && said.contains("running already"),
        "{said}"
    );
    assert_eq!(world.qemu(PROFILE), Some(qemu));
}

/// Cluster DNS, pod networking and storage, as an application uses them.
pub(crate) fn a_pod_resolves_services_and_a_claim_binds(world: &World) {
    world.apply(include_str!("files/app.yaml"));
    world.kubectl(&["create", "configmap", "written", "--from-literal=key=value"]);
    eventually("the pod runs", PATIENCE, || {
        match world
            .kubectl(&["get", "pod", "app", "-o", "jsonpath={.status.phase}"])
            .as_str()
        {
            "Running" => Ok(()),
            phase => Err(phase.to_owned() + "\n" + &world.kubectl(&["describe", "pod", "app"])),
        }
    });
    let name = "kubernetes.default.svc.cluster.local";
    let answer = world.kubectl(&["exec", "app", "--", "nslookup", name]);
    assert!(answer.contains("10.96.0.1"), "{answer}");
    world.kubectl(&["exec", "app", "--", "sh", "-c", "echo kept > /data/file && sync"]);
    assert_eq!(
        world.kubectl(&["get", "pvc", "data", "-o", "jsonpath={.status.phase}"]),
        "Bound"
    );
}
