//! A cluster that boots again, after a shutdown or a power cut; story 9; and its end.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{PROFILE, World, eventually, shown, text};

const PATIENCE: Duration = Duration::from_secs(180);

/// A written ConfigMap, a pod and the data in its volume are there.
pub(crate) fn everything_is_there(world: &World) {
    assert_eq!(
        world.kubectl(&["get", "configmap", "written", "-o", "jsonpath={.data.key}"]),
        "value"
    );
    eventually("the pod and its data are back", PATIENCE, || {
        let output = world.kubectl_with(&["exec", "app", "--", "cat", "/data/file"], "");
        if output.status.success() && text(&output.stdout) == "kept" {
            Ok(())
        } else {
            Err(shown(&output))
        }
    });
}

pub(crate) fn a_shutdown_keeps_everything(world: &World) {
    world.ok(&["stop", "-p", PROFILE, "--shutdown"]);
    assert_eq!(world.qemu(PROFILE), None);
    let output = world.sampan(&["status", "-p", PROFILE]).output().unwrap();
    assert!(
        text(&output.stdout).contains("host: Stopped"),
        "{}",
        shown(&output)
    );
    assert_eq!(output.status.code(), Some(7));
    world.ok(&["start", "-p", PROFILE]);
    let before = world.ok(&[
        "ssh",
        "-p",
        PROFILE,
        "--",
        "journalctl --boot -1 --no-pager --lines 20",
    ]);
    assert!(
        before.contains("Journal stopped") || before.contains("Power"),
        "no orderly end:\n{before}"
    );
    everything_is_there(world);
}

pub(crate) fn a_killed_machine_recovers(world: &World) {
    signal_and_wait(world, Signal::KILL);
    let output = world.sampan(&["status", "-p", PROFILE]).output().unwrap();
    assert!(
        text(&output.stdout).contains("host: Stopped"),
        "{}",
        shown(&output)
    );
    world.ok(&["start", "-p", PROFILE]);
    everything_is_there(world);
}

fn signal_and_wait(world: &World, signal: Signal) {
    crate::support::signal(world.qemu(PROFILE).expect("QEMU runs"), signal);
    eventually("QEMU ends", Duration::from_secs(10), || {
        world
            .qemu(PROFILE)
            .map_or(Ok(()), |pid| Err(format!("{pid} is still there")))
    });
}

/// Two clusters at once, each with its own address, context and objects.
pub(crate) fn two_profiles_side_by_side(world: &World) {
    world.ok(&["start", "-p", "second"]);
    assert_ne!(
        world.ok(&["ip", "-p", "second"]),
        world.ok(&["ip", "-p", PROFILE])
    );
    for profile in [PROFILE, "second"] {
        let named = r"jsonpath={.items[*].metadata.labels.sampan\.dev/name}";
        assert_eq!(
            world.kubectl(&["--context", profile, "get", "nodes", "-o", named]),
            profile
        );
    }
    let missing = world.kubectl_with(&["--context", "second", "get", "configmap", "written"], "");
    assert!(!missing.status.success(), "{}", shown(&missing));
    world.ok(&["delete", "-p", "second"]);
    assert_eq!(world.status(PROFILE)["Host"], "Running");
}

pub(crate) fn delete_leaves_nothing(world: &World) {
    world.ok(&["delete", "-p", PROFILE]);
    assert_eq!(world.qemu(PROFILE), None);
    assert!(!world.home().join("data/profiles").join(PROFILE).exists());
    let kubeconfig = std::fs::read_to_string(world.kubeconfig()).unwrap();
    assert!(
        !kubeconfig.contains(PROFILE) && kubeconfig.contains("elsewhere.example"),
        "{kubeconfig}"
    );
    let output = world.sampan(&["status", "-p", PROFILE]).output().unwrap();
    assert_eq!(output.status.code(), Some(85), "{}", shown(&output));
    world.ok(&["delete", "-p", PROFILE]);
}
