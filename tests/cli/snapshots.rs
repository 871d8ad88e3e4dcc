//! Snapshots and forks.

use std::fs;

use serde_json::Value;

use crate::faults::{fault, heal};
use crate::life::alone;
use crate::saving::{START, mark, marks};
use crate::support::TestEnvironment;

fn json(env: &TestEnvironment, line: &str) -> Value {
    serde_json::from_str(&env.ok(line)).unwrap()
}

fn names(env: &TestEnvironment) -> Vec<String> {
    let list = json(env, "snapshot list -o json");
    let name = |info: &Value| info["name"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn a_snapshot_is_saved_shown_restored_and_deleted() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    insta::assert_snapshot!(env.run("snapshot list"), @r#"
    status: 0
    --- stdout
    cluster "sampan" has no snapshots; `sampan snapshot save -p sampan` makes one
    --- stderr
    "#);
    mark(&env, "sampan", "before");
    let saved = env.ok("snapshot save good");
    assert!(
        saved.contains("✓ saving the snapshot (")
            && saved.contains("snapshot \"good\" of cluster \"sampan\" is saved (disk and memory, ")
            && saved.contains("the cluster stood still for "),
        "{saved}"
    );
    assert_eq!(env.status("status"), 0, "it runs on");
    mark(&env, "sampan", "after");
    let info = json(&env, "snapshot show good -o json");
    assert_eq!(
        (&info["name"], &info["profile"], &info["with_memory"]),
        (&"good".into(), &"sampan".into(), &true.into())
    );
    assert!(info["bytes"].as_u64().unwrap() > 0);
    let shown = env.ok("snapshot show");
    assert!(
        shown.starts_with("name: good\nprofile: sampan\ncreated: 20"),
        "{shown}"
    );
    assert!(env.ok("snapshot list").contains("│ good "));

    insta::assert_snapshot!(env.run("snapshot restore good"), @r#"
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
    cluster "sampan" is back at snapshot "good"
    --- stderr
    "#);
    assert_eq!(env.status("status"), 0);
    assert_eq!(marks(&env, "sampan"), ["before", "before"]);
    // A snapshot can be gone back to more than once, and while the cluster is stopped.
    mark(&env, "sampan", "after");
    env.ok("stop");
    env.ok("snapshot restore");
    assert_eq!(env.status("status"), 7, "it stays stopped");
    env.ok("start");
    assert_eq!(marks(&env, "sampan"), ["before", "before"]);

    insta::assert_snapshot!(env.run("snapshot delete good"), @r#"
    status: 0
    --- stdout
    ✓ deleting the snapshot (TIME)
    snapshot "good" of cluster "sampan" is deleted
    --- stderr
    "#);
    assert_eq!(names(&env), Vec::<String>::new());
    assert_eq!(marks(&env, "sampan"), ["before", "before"]);
    env.ok("stop --shutdown");
    env.ok("start");
    assert_eq!(marks(&env, "sampan"), ["before", ""]);
}

#[test]
fn names_of_snapshots_are_checked() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    env.ok("snapshot save one");
    insta::assert_snapshot!(env.run("snapshot save one"), @r#"
    status: 81
    --- stdout
    ✗ saving the snapshot (TIME)
    --- stderr
    X Exiting due to GUEST_EXISTS: profile "sampan" has a snapshot "one" already
    hint: choose another name, or delete it first: `sampan snapshot delete -p sampan one`
    "#);
    insta::assert_snapshot!(env.run("snapshot restore two"), @r#"
    status: 85
    --- stdout
    --- stderr
    X Exiting due to GUEST_NOT_FOUND: profile "sampan" has no snapshot "two"
    hint: there is: one
    "#);
    for verb in ["show", "delete"] {
        assert_eq!(env.status(&format!("snapshot {verb} two")), 85, "{verb}");
    }
    insta::assert_snapshot!(env.run("snapshot save ../one"), @r#"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: "../one" is not a name for a snapshot
    hint: use at most 63 lower-case letters, digits, inner dashes and dots
    "#);
    env.ok("snapshot save");
    let names = names(&env);
    assert_eq!(names.len(), 2);
    assert!(names[1].starts_with("20"), "{names:?}");
    env.ok(&format!("snapshot delete one {}", names[1]));
    insta::assert_snapshot!(env.run("snapshot restore"), @r#"
    status: 85
    --- stdout
    --- stderr
    X Exiting due to GUEST_NOT_FOUND: cluster "sampan" has no snapshots
    hint: `sampan snapshot save -p sampan` makes one
    "#);
}

#[test]
fn a_snapshot_of_a_stopped_cluster_is_one_too() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    mark(&env, "sampan", "saved");
    env.ok("stop");
    env.ok("snapshot save asleep");
    env.ok("start");
    assert_eq!(marks(&env, "sampan"), ["saved", "saved"]);
    mark(&env, "sampan", "off");
    env.ok("stop --shutdown");
    env.ok("snapshot save off");
    assert_eq!(json(&env, "snapshot show off -o json")["with_memory"], false);
    env.ok("snapshot restore asleep");
    env.ok("start");
    assert_eq!(marks(&env, "sampan"), ["saved", "saved"]);
    env.ok("snapshot restore off");
    assert_eq!(env.status("status"), 0, "it ran, so it runs");
    assert_eq!(marks(&env, "sampan"), ["off", ""]);
}

#[test]
fn a_snapshot_stays_whole_while_a_machine_stands_on_its_disk_alone() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    env.ok("snapshot save before");
    // As large as a machine's memory, which the machine needs no more once it was powered off.
    let layers = env.sampan_home().join("data/layers");
    let layer = fs::read_dir(layers).unwrap().next().unwrap().unwrap().path();
    let memory = layer.join("state/memory-of-a-machine");
    fs::File::create(&memory).unwrap().set_len(5 << 20).unwrap();
    env.ok("cache prune");
    env.ok("fork sampan twin");
    env.ok("delete -p twin");
    assert!(memory.exists());
    // Without its name it is no more than what somebody's disk stands on.
    env.ok("snapshot delete before");
    assert!(layer.exists() && !memory.exists());
}

#[test]
fn a_snapshot_on_a_full_disk_leaves_the_cluster_running_and_no_snapshot() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(START);
    mark(&env, "sampan", "kept");
    fault(&env, "full_at = \"checkpoint\"");
    assert_eq!(env.status("snapshot save one"), 26);
    heal(&env);
    assert_eq!(env.status("status"), 0);
    assert_eq!(marks(&env, "sampan"), ["kept", "kept"]);
    assert_eq!(names(&env), Vec::<String>::new());
    env.ok("snapshot save one");
}

#[test]
fn forks_diverge_and_live_without_each_other() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(&format!("{START} -p a"));
    mark(&env, "a", "shared");
    insta::assert_snapshot!(env.run("fork a b --keep-context"), @r#"
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
    cluster "b" goes on from cluster "a", after TIME
    kubectl keeps its context; for this cluster: kubectl --context b get nodes
    --- stderr
    "#);
    for cluster in ["a", "b"] {
        assert_eq!(env.status(&format!("status -p {cluster}")) & 3, 0, "{cluster}");
        assert_eq!(marks(&env, cluster), ["shared", "shared"], "{cluster}");
    }
    mark(&env, "b", "own");
    assert_eq!(marks(&env, "a"), ["shared", "shared"]);
    assert_ne!(env.ok("ip -p a"), env.ok("ip -p b"));

    // Of a stopped one, under the other name of the verb.
    env.ok("stop -p b");
    env.ok("clone b c");
    assert_eq!(marks(&env, "c"), ["own", "own"]);
    assert_eq!(env.status("status -p b") & 1, 1, "it stays stopped");

    // Either goes without the other.
    env.ok("delete -p b");
    env.ok("delete -p a");
    assert_eq!(marks(&env, "c"), ["own", "own"]);
    env.ok("stop -p c");
    env.ok("start -p c");
    assert_eq!(marks(&env, "c"), ["own", "own"]);
    env.ok("stop --shutdown -p c");
    env.ok("start -p c");
    assert_eq!(marks(&env, "c"), ["own", ""]);
}

/// Its own machine ID and name are what a fork gets when it first goes on, whenever that is.
#[test]
fn a_fork_whose_first_start_fails_is_told_who_it_is_by_the_next() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(&format!("{START} -p a"));
    let config = env.layout().driver_cache("fake").join("fake.toml");
    env.write(&config, "fail_at = \"sh\"");
    assert_eq!(env.status("fork a b"), 80);
    std::fs::remove_file(&config).unwrap();
    let told = |line: &str| {
        let said = String::from_utf8(env.output(line).stderr).unwrap();
        let wake = said.lines().find(|line| line.contains("sh -s -- "));
        let id = wake.and_then(|line| line.split("sh -s -- ").nth(1)?.split_whitespace().nth(2));
        id.map(|id| id.trim_matches('\'').len())
    };
    assert_eq!(told("start -p b -vv"), Some(32));
    env.ok("stop -p b");
    assert_eq!(told("start -p b -vv"), Some(0));
}

#[test]
fn what_cannot_be_forked_is_told() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(&format!("{START} -p a"));
    insta::assert_snapshot!(env.run("fork a a"), @r#"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: cluster "a" cannot be forked into itself
    hint: choose another name for the new cluster
    "#);
    insta::assert_snapshot!(env.run("fork a B"), @r#"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: "B" is not a name for a cluster
    hint: use at most 63 lower-case letters, digits and inner dashes
    "#);
    insta::assert_snapshot!(env.run("fork nope b"), @r#"
    status: 85
    --- stdout
    --- stderr
    X Exiting due to GUEST_NOT_FOUND: profile "nope" not found
    hint: run `sampan start -p nope` to make it, or `sampan profile list` to see what is there
    "#);
    env.ok("fork a b");
    insta::assert_snapshot!(env.run("fork a b"), @r#"
    status: 81
    --- stdout
    --- stderr
    X Exiting due to GUEST_EXISTS: there is a profile "b" already
    hint: choose another name, or delete it first: `sampan delete -p b`
    "#);
    fault(&env, "full_at = \"checkpoint\"");
    assert_eq!(env.status("fork a c"), 26);
    heal(&env);
    assert_eq!(env.status("status -p c"), 85, "nothing is left of it");
    assert_eq!(env.status("status -p a") & 3, 0);
    env.ok("fork a c");
}

#[test]
fn deleting_a_cluster_takes_its_snapshots_and_leaves_its_forks() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(&format!("{START} -p a"));
    mark(&env, "a", "shared");
    env.ok("snapshot save -p a one");
    env.ok("fork a b");
    env.ok("delete -p a");
    env.ok(&format!("{START} -p a"));
    assert_eq!(json(&env, "snapshot list -p a -o json"), Value::Array(Vec::new()));
    assert_eq!(marks(&env, "b"), ["shared", "shared"]);
    env.ok("delete --all");
    let left: Vec<_> = std::fs::read_dir(env.layout().user_layers())
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
}
