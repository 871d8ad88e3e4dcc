//! Story 8 without snapshots, story 9, and bad luck: what is stopped, killed or interrupted comes back whole.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Guard, PROFILE, World, eventually, shown, text};

const PATIENCE: Duration = Duration::from_secs(180);

/// A written ConfigMap, a pod and the data in its volume are there.
fn everything_is_there(world: &World) {
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

pub(crate) fn stop_and_start_keep_everything(world: &World) {
    world.ok(&["stop", "-p", PROFILE]);
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

pub(crate) fn a_killed_machine_is_noticed_and_recovers(world: &World) {
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

/// Ctrl-C in the middle of a start leaves no machine; the next start completes.
pub(crate) fn an_interrupted_start_goes_on(world: &World) {
    let mut start = world.sampan(&["start", "-p", "second", "--memory", "3g"]);
    let mut start = Guard(
        start
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    eventually("the second machine runs", PATIENCE, || {
        world.qemu("second").ok_or_else(|| "no QEMU".to_owned())
    });
    crate::support::signal(start.0.id().cast_signed(), Signal::INT);
    assert_eq!(start.0.wait().unwrap().code(), Some(11));
    assert_eq!(world.qemu("second"), None, "a machine was left behind");
}

/// Two clusters at once, each with its own address, context and objects.
pub(crate) fn two_profiles_side_by_side(world: &World) {
    world.ok(&["start", "-p", "second", "--memory", "3g"]);
    assert_ne!(
        world.ok(&["ip", "-p", "second"]),
        world.ok(&["ip", "-p", PROFILE])
    );
    for profile in [PROFILE, "second"] {
        assert_eq!(
            world.kubectl(&["--context", profile, "get", "nodes", "-o", "name"]),
            format!("node/{profile}")
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
