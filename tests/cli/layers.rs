//! Ready snapshots: made once, checked, made again, and what of the cache may go.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::faults::{fault, heal, signal, until};
use crate::life::alone;
use crate::saving::{START, mark, marks};
use crate::support::TestEnvironment;

const MAKING: &str = "making the ready snapshot";

/// Directories of complete ready layers.
fn ready(env: &TestEnvironment) -> Vec<PathBuf> {
    let entries = fs::read_dir(env.layout().ready_layers()).unwrap().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.join("layer.toml").exists())
        .collect()
}

fn layers(env: &TestEnvironment, line: &str) -> Vec<(String, String, Vec<Value>)> {
    let list: Value = serde_json::from_slice(&env.output(line).stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |layer: &Value| {
        (
            text(&layer["kind"]),
            text(&layer["key"]),
            layer["used_by"].as_array().unwrap().clone(),
        )
    };
    list.as_array().unwrap().iter().map(one).collect()
}

fn kinds(layers: &[(String, String, Vec<Value>)]) -> Vec<&str> {
    layers.iter().map(|(kind, ..)| kind.as_str()).collect()
}

#[test]
fn one_ready_snapshot_serves_all_clusters_of_a_size() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    assert!(env.ok(&format!("{START} -p a")).contains(MAKING));
    let second = env.ok(&format!("{START} -p b"));
    assert!(!second.contains(MAKING), "{second}");
    assert_eq!(ready(&env).len(), 1);
    let fresh = env.ok(&format!("{START} -p c --fresh"));
    assert!(
        fresh.contains("starting the control plane") && !fresh.contains(MAKING),
        "{fresh}"
    );
    // Another size is another machine, and the user is told.
    let other = env.ok("start --driver fake --memory 4g -p d");
    assert!(other.contains(MAKING), "{other}");
    assert_eq!(ready(&env).len(), 2);
    for cluster in ["a", "b", "c", "d"] {
        mark(&env, cluster, cluster);
    }
    for cluster in ["a", "b", "c", "d"] {
        assert_eq!(marks(&env, cluster), [cluster, cluster]);
        assert_eq!(env.status(&format!("status -p {cluster}")) & 3, 0, "{cluster}");
    }
}

#[test]
fn ten_starts_at_once_make_one_ready_snapshot() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    let children: Vec<_> = (0..10)
        .map(|number| env.spawn(&format!("{START} -p c{number}")))
        .collect();
    let mut making = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", env.seen(&output));
        making += usize::from(String::from_utf8_lossy(&output.stdout).contains(MAKING));
    }
    assert_eq!((making, ready(&env).len()), (1, 1));
    let mut addresses = Vec::new();
    for number in 0..10 {
        assert_eq!(env.status(&format!("status -p c{number}")) & 3, 0, "c{number}");
        addresses.push(env.ok(&format!("ip -p c{number}")));
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 10);
}

#[test]
fn a_damaged_ready_snapshot_is_told_and_made_again() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(&format!("{START} -p a"));
    let state = ready(&env)[0].join("state");
    let memory = fs::read(state.join("memory.tar")).unwrap();
    fs::remove_file(state.join("memory.tar")).unwrap();
    fs::write(state.join("memory.tar"), &memory[..memory.len() / 2]).unwrap();
    let seen = env.run(&format!("{START} -p b"));
    assert!(
        seen.starts_with("status: 0") && seen.contains("is damaged (") && seen.contains(MAKING),
        "{seen}"
    );
    assert_eq!(ready(&env).len(), 1);
    for cluster in ["a", "b"] {
        env.ok(&format!("stop --shutdown -p {cluster}"));
        env.ok(&format!("start -p {cluster}"));
        assert_eq!(env.status(&format!("status -p {cluster}")) & 3, 0, "{cluster}");
    }
}

#[test]
fn verify_finds_what_a_look_does_not() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(&format!("{START} -p a"));
    insta::assert_snapshot!(env.run("cache verify"), @r"
    status: 0
    --- stdout
    all layers are whole
    --- stderr
    ");
    let path = ready(&env)[0].join("state/disk.tar");
    let mut disk = fs::read(&path).unwrap();
    let middle = disk.len() / 2;
    disk[middle] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, disk).unwrap();
    let seen = env.run("cache verify");
    assert!(
        seen.starts_with("status: 30\n") && seen.contains("is damaged\n") && seen.contains("disk.tar"),
        "{seen}"
    );
    assert!(env.ok(&format!("{START} -p b")).contains(MAKING));
}

#[test]
fn a_cache_that_was_removed_by_hand_harms_nobody() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(&format!("{START} -p a"));
    mark(&env, "a", "kept");
    env.ok("stop -p a");
    fs::remove_dir_all(env.layout().ready_layers()).unwrap();
    env.ok("start -p a");
    assert_eq!(marks(&env, "a"), ["kept", "kept"]);
}

#[test]
fn nothing_in_use_is_pruned_and_all_else_is() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok(&format!("{START} -p a"));
    mark(&env, "a", "kept");
    let list = layers(&env, "cache list -o json");
    assert_eq!(kinds(&list), ["bundle", "ready"]);
    assert_eq!(list[1].2, ["a"]);
    assert!(env.ok("cache list").contains("│ ready"));
    insta::assert_snapshot!(env.run("cache prune"), @r"
    status: 0
    --- stdout
    there is nothing to remove
    --- stderr
    ");

    env.ok("start --driver fake --memory 4g -p b");
    env.ok("delete -p b");
    let would = layers(&env, "cache prune --dry-run -o json");
    assert_eq!(kinds(&would), ["ready"]);
    assert_eq!(layers(&env, "cache prune --quota 20g -o json"), []);
    env.ok("config set cache-quota 20g");
    assert_eq!(layers(&env, "cache prune -o json"), []);
    assert_eq!(ready(&env).len(), 2);
    assert_eq!(layers(&env, "cache prune --all -o json"), would);
    assert_eq!(ready(&env).len(), 1);
    for _ in 0..2 {
        env.ok("stop -p a");
        env.ok("cache prune --all");
        env.ok("start -p a");
        assert_eq!(marks(&env, "a"), ["kept", "kept"]);
    }
    env.ok("snapshot save -p a one");
    env.ok("cache prune --all");
    env.ok("snapshot restore -p a one");
    assert_eq!(marks(&env, "a"), ["kept", "kept"]);
    env.ok("delete -p a");
    env.ok("cache prune --all");
    assert_eq!(layers(&env, "cache list -o json"), []);
}

#[test]
fn an_interrupted_ready_snapshot_goes_on() {
    let _alone = alone();
    for point in ["kubeadm", "freeze", "freeze-end"] {
        let env = TestEnvironment::with_bundle();
        fault(&env, &format!("hang_at = \"{point}\""));
        let mut child = env.spawn(START);
        let template = || fs::read_dir(env.layout().ready_layers()).is_ok_and(|dir| dir.count() > 0);
        until("the template", template);
        // Far enough that the machine is there.
        until("the machine", || {
            !crate::faults::processes_of(&env.layout().ready_layers()).is_empty()
        });
        signal(&child, "-KILL");
        child.wait().unwrap();
        heal(&env);
        env.ok(START);
        assert_eq!(env.status("status"), 0, "{point}");
        assert_eq!(ready(&env).len(), 1, "{point}");
        assert_eq!(
            crate::faults::processes_of(&env.layout().ready_layers()),
            Vec::<String>::new(),
            "{point}"
        );
    }
}
