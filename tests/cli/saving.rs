//! What `stop` keeps and `start` takes up again, and `pause`. In the test driver's guest, `/run` is memory: a boot forgets it.

use std::fs;

use serde_json::Value;

use crate::faults::{fault, heal};
use crate::life::alone;
use crate::support::TestEnvironment;

pub(crate) const START: &str = "start --driver fake --memory 3g";

/// Puts a text into a file on the node.
pub(crate) fn put(env: &TestEnvironment, cluster: &str, path: &str, text: &str) {
    env.write(&env.cwd().join("put.txt"), text);
    env.ok(&format!("cp -p {cluster} put.txt {cluster}:{path}"));
}

/// What is in a file on the node; nothing when it is not there.
pub(crate) fn get(env: &TestEnvironment, cluster: &str, path: &str) -> String {
    let output = env.output(&format!("ssh -p {cluster} -- cat {path}"));
    String::from_utf8(output.stdout).unwrap()
}

/// Writes to disk and to memory.
pub(crate) fn mark(env: &TestEnvironment, cluster: &str, text: &str) {
    put(env, cluster, "/etc/mark", text);
    put(env, cluster, "/run/mark", text);
}

/// What `mark` wrote: disk, then memory.
pub(crate) fn marks(env: &TestEnvironment, cluster: &str) -> [String; 2] {
    ["/etc/mark", "/run/mark"].map(|path| get(env, cluster, path))
}

fn memory(env: &TestEnvironment) -> Option<u64> {
    let status: Value = serde_json::from_slice(&env.output("status -o json").stdout).unwrap();
    status["Memory"].as_u64()
}

#[test]
fn stop_saves_and_start_goes_on() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    mark(&env, "sampan", "kept");
    let boot = get(&env, "sampan", "/proc/sys/kernel/random/boot_id");
    assert!(memory(&env).unwrap() > 100_000);
    insta::assert_snapshot!(env.run("stop"), @r#"
    status: 0
    --- stdout
    ✓ stopping the cluster (TIME)
    cluster "sampan" is saved; `sampan start -p sampan` goes on from here
    --- stderr
    "#);
    assert_eq!((env.status("status"), memory(&env)), (7, None));
    insta::assert_snapshot!(env.run("start"), @r#"
    status: 0
    --- stdout
    ✓ checking the driver (TIME)
    ✓ setting up the profile (TIME)
    ✓ making keys and certificates (TIME)
    using fake 0.1.0
    ✓ starting the machine (TIME)
    ✓ waiting for the machine (TIME)
    ✓ setting the clock (TIME)
    ✓ waiting until the cluster is healthy (TIME)
    cluster "sampan" is ready after TIME
    kubectl uses "sampan" now: kubectl get nodes
    --- stderr
    "#);
    assert_eq!(env.status("status"), 0);
    assert_eq!(marks(&env, "sampan"), ["kept", "kept"]);
    assert_eq!(get(&env, "sampan", "/proc/sys/kernel/random/boot_id"), boot);

    // Again, and stopping twice is as good as once.
    env.ok("stop");
    assert!(env.ok("stop").contains("was not running"));
    env.ok("start");
    assert_eq!(marks(&env, "sampan"), ["kept", "kept"]);
}

#[test]
fn a_cluster_that_was_shut_down_boots() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    mark(&env, "sampan", "kept");
    insta::assert_snapshot!(env.run("stop --shutdown"), @r#"
    status: 0
    --- stdout
    ✓ stopping the cluster (TIME)
    cluster "sampan" is shut down; its data are kept
    --- stderr
    "#);
    env.ok("start");
    assert_eq!(marks(&env, "sampan"), ["kept", ""]);

    env.ok("config set stop-mode shutdown");
    put(&env, "sampan", "/run/mark", "again");
    assert!(env.ok("stop").contains("is shut down"));
    env.ok("start");
    assert_eq!(marks(&env, "sampan"), ["kept", ""]);
    put(&env, "sampan", "/run/mark", "again");
    assert!(env.ok("stop --shutdown=false").contains("is saved"));
    env.ok("start");
    assert_eq!(marks(&env, "sampan"), ["kept", "again"]);

    // What was saved is given up by a shutdown that comes later.
    env.ok("stop --shutdown=false");
    env.ok("stop");
    env.ok("start");
    assert_eq!(marks(&env, "sampan"), ["kept", ""]);
    insta::assert_snapshot!(env.run("config set stop-mode sleep"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `stop-mode sleep` is not one of its values
    hint: choose one of save, shutdown
    ");
}

#[test]
fn what_cannot_be_resumed_boots_and_says_why() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    for trouble in ["version = \"99\"", "fail_at = \"resume\""] {
        mark(&env, "sampan", "kept");
        env.ok("stop");
        fault(&env, trouble);
        let seen = env.run("start");
        assert!(
            seen.starts_with("status: 0") && seen.contains("cannot be used, it boots from its disk: "),
            "{seen}"
        );
        assert_eq!(marks(&env, "sampan"), ["kept", ""], "{trouble}");
        heal(&env);
    }
}

#[test]
fn on_a_full_disk_a_cluster_is_not_saved_and_runs_on() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    mark(&env, "sampan", "kept");
    fault(&env, "full_at = \"save\"");
    let seen = env.run("stop");
    assert!(
        seen.starts_with("status: 26\n")
            && seen.contains("X Exiting due to RSRC_INSUFFICIENT_STORAGE: ")
            && seen.contains("hint: `sampan stop --shutdown` powers the machine off and needs no room"),
        "{seen}"
    );
    assert_eq!(env.status("status"), 0);
    assert_eq!(marks(&env, "sampan"), ["kept", "kept"]);
    env.ok("stop --shutdown");
}

#[test]
fn a_driver_that_cannot_save_shuts_down_with_a_warning() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    mark(&env, "sampan", "kept");
    fault(&env, "fail_at = \"save\"");
    let seen = env.run("stop");
    assert!(
        seen.starts_with("status: 0\n")
            && seen.contains("! the machine cannot be saved and is powered off: ")
            && seen.contains("is shut down; its data are kept"),
        "{seen}"
    );
    heal(&env);
    env.ok("start");
    assert_eq!(marks(&env, "sampan"), ["kept", ""]);
}

#[test]
fn a_stop_that_is_killed_leaves_a_cluster_that_starts() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    for point in ["save", "save-end"] {
        mark(&env, "sampan", point);
        fault(&env, &format!("hang_at = \"{point}\""));
        let mut stop = env.spawn("stop");
        let events = env.layout().profile("sampan").events();
        crate::faults::until("the stop", || {
            fs::read_to_string(&events).is_ok_and(|text| text.contains("Stopping"))
        });
        if point == "save-end" {
            let saved = env.layout().profile("sampan").machine().join("state/saved.json");
            crate::faults::until("the record", || saved.exists());
        }
        crate::faults::signal(&stop, "-KILL");
        stop.wait().unwrap();
        heal(&env);
        env.ok("start");
        assert_eq!(env.status("status"), 0, "{point}");
        assert_eq!(marks(&env, "sampan"), [point, point]);
    }
}

#[test]
fn a_paused_cluster_answers_nobody_and_goes_on() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    mark(&env, "sampan", "kept");
    insta::assert_snapshot!(env.run("pause"), @r#"
    status: 0
    --- stdout
    ✓ holding the machine (TIME)
    cluster "sampan" is paused; `sampan unpause -p sampan` lets it go on
    --- stderr
    "#);
    insta::assert_snapshot!(env.run("pause -A"), @r#"
    status: 0
    --- stdout
    ✓ holding the machine (TIME)
    cluster "sampan" was paused already
    --- stderr
    "#);
    insta::assert_snapshot!(env.run("status"), @r"
    status: 3
    --- stdout
    sampan
    type: Control Plane
    host: Paused
    kubelet: Stopped
    apiserver: Paused
    kubeconfig: Configured

    --- stderr
    ");
    insta::assert_snapshot!(env.run("ssh -- true"), @r#"
    status: 83
    --- stdout
    --- stderr
    X Exiting due to GUEST_NOT_RUNNING: cluster "sampan" is paused
    hint: run `sampan unpause -p sampan`
    "#);
    assert!(env.run("logs").contains("is paused"));
    assert!(memory(&env).unwrap() > 100_000);
    let list: Value = serde_json::from_str(&env.ok("profile list -o json")).unwrap();
    assert_eq!(list["valid"][0]["Status"], "Paused");
    assert!(list["valid"][0]["Memory"].as_u64().unwrap() > 100_000);
    insta::assert_snapshot!(env.run("unpause"), @r#"
    status: 0
    --- stdout
    using fake 0.1.0
    ✓ starting the machine (TIME)
    ✓ waiting for the machine (TIME)
    ✓ setting the clock (TIME)
    cluster "sampan" goes on
    --- stderr
    "#);
    assert_eq!(env.status("status"), 0);
    assert_eq!(marks(&env, "sampan"), ["kept", "kept"]);
    insta::assert_snapshot!(env.run("unpause"), @r#"
    status: 0
    --- stdout
    cluster "sampan" was not paused
    --- stderr
    "#);

    // A start lets it go on as well; a stop saves it.
    env.ok("pause");
    env.ok("start");
    assert_eq!(env.status("status"), 0);
    env.ok("pause");
    assert!(env.ok("stop").contains("is saved"));
    insta::assert_snapshot!(env.run("pause"), @r#"
    status: 83
    --- stdout
    ✗ holding the machine (TIME)
    --- stderr
    X Exiting due to GUEST_NOT_RUNNING: cluster "sampan" is not running
    hint: run `sampan start -p sampan`
    "#);
    env.ok("start");
    assert_eq!(marks(&env, "sampan"), ["kept", "kept"]);
    insta::assert_snapshot!(env.run("pause -n kube-system,default"), @r"
    status: 16
    --- stdout
    --- stderr
    X Exiting due to MK_UNIMPLEMENTED: `--namespaces kube-system,default` of minikube is not there: the whole machine is held, not single namespaces
    hint: leave it out; for single workloads: kubectl scale deployment NAME --replicas 0 -n NAMESPACE
    ");
    let events = env.ok("pause -o json");
    assert!(
        events.contains("io.k8s.sigs.minikube.step") && events.contains("\"Pausing\""),
        "{events}"
    );
    env.ok("resume");
}
