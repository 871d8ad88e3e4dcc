//! Upgrades of Kubernetes: what is refused, what is kept, and what comes of one that fails or is killed.

use serde_json::Value;

use crate::faults::{fault, heal, processes_of, signal, until};
use crate::life::alone;
use crate::saving::{START, get, mark, marks};
use crate::support::TestEnvironment;

/// A bundle with the next version, by its key.
const NEW: &str = "0123456789abcdef";
const UPGRADE: &str = "start --kubernetes-version v1.36.4 --source 0123456789abcdef";

/// A world with a cluster, and a bundle to upgrade it to.
fn world() -> TestEnvironment {
    let env = TestEnvironment::with_bundle();
    env.make_bundle_of(NEW, "v1.36.4");
    env.ok(START);
    env
}

/// The version that a profile says, and the keys of the bundles that its programs and its disk are from.
fn profile(env: &TestEnvironment, name: &str) -> (String, String, String) {
    let profile = sampan::cluster::load(&env.layout(), name).unwrap();
    (
        profile.spec.kubernetes_version.clone(),
        profile.parts().to_owned(),
        profile.bundle,
    )
}

fn upgraded(old: &str) -> (String, String, String) {
    ("v1.36.4".to_owned(), NEW.to_owned(), old.to_owned())
}

fn own_key() -> String {
    sampan::bundle::current_key().unwrap()
}

/// The version of the apiserver's manifest in the guest.
fn apiserver(env: &TestEnvironment, cluster: &str) -> String {
    let manifest = get(env, cluster, "/etc/kubernetes/manifests/kube-apiserver.yaml");
    manifest.trim().rsplit(':').next().unwrap().to_owned()
}

fn snapshots(env: &TestEnvironment) -> Vec<String> {
    let list: Value = serde_json::from_str(&env.ok("snapshot list -o json")).unwrap();
    let name = |info: &Value| info["name"].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn an_upgrade_keeps_the_disk_and_can_be_gone_back_from() {
    let _alone = alone();
    let env = world();
    let old = own_key();
    mark(&env, "sampan", "kept");
    insta::assert_snapshot!(env.run(UPGRADE), @r#"
    status: 0
    --- stdout
    upgrading cluster "sampan" from Kubernetes v1.36.3 to v1.36.4
    snapshot "before-v1.36.4" is taken; `sampan snapshot restore -p sampan before-v1.36.4` goes back to it
    ✓ preparing the upgrade (TIME)
    ✓ setting up the profile (TIME)
    ✓ making keys and certificates (TIME)
    using fake 0.1.0
    ✓ starting the machine (TIME)
    ✓ waiting for the machine (TIME)
    ✓ importing container images (TIME)
    upgrading the control plane from Kubernetes v1.36.3 to v1.36.4
    ✓ starting the control plane (TIME)
    ✓ setting up network and DNS (TIME)
    ✓ starting Docker (TIME)
    ✓ waiting until the cluster is healthy (TIME)
    the cluster was upgraded from Kubernetes v1.36.3 to v1.36.4; `sampan snapshot delete -p sampan before-v1.36.4` frees the room of what it was before
    cluster "sampan" is ready after TIME
    kubectl uses "sampan" now: kubectl get nodes
    --- stderr
    "#);
    assert_eq!(profile(&env, "sampan"), upgraded(&old));
    assert_eq!(apiserver(&env, "sampan"), "v1.36.4");
    assert_eq!(marks(&env, "sampan"), ["kept", ""]);
    assert_eq!(snapshots(&env), ["before-v1.36.4"]);
    assert!(!env.layout().profile("sampan").upgrade_toml().exists());
    assert!(env.ok(UPGRADE).contains("is running already"));
    assert!(env.ok("start").contains("is running already"));

    // Neither of its bundles goes.
    let list: Value = serde_json::from_str(&env.ok("cache list -o json")).unwrap();
    for item in list
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["kind"] == "bundle")
    {
        assert!(
            item["used_by"].as_array().unwrap().contains(&"sampan".into()),
            "{list}"
        );
    }
    for key in [old.as_str(), NEW] {
        assert_eq!(env.status(&format!("bundle remove {key}")), 14, "{key}");
    }
    env.ok("bundle prune --all");
    env.ok("cache prune --all");
    assert_eq!(env.layout().bundles().read_dir().unwrap().count(), 2);
    env.ok("stop");
    env.ok("start");
    assert_eq!(env.status("status"), 0);

    // A fork goes its own way, in the new version.
    mark(&env, "sampan", "after");
    env.ok("fork sampan other");
    assert_eq!(profile(&env, "other"), upgraded(&old));
    assert_eq!(marks(&env, "other"), ["after", "after"]);

    // Back: disk, memory, version and programs.
    env.ok("snapshot restore before-v1.36.4");
    assert_eq!(profile(&env, "sampan"), ("v1.36.3".to_owned(), old.clone(), old));
    assert_eq!(apiserver(&env, "sampan"), "v1.36.3");
    assert_eq!(marks(&env, "sampan"), ["kept", "kept"]);
    assert_eq!(env.status("status"), 0);
    assert_eq!(env.status(&format!("bundle remove {NEW}")), 14, "the fork's");
    env.ok("delete -p other");
    env.ok(&format!("bundle remove {NEW}"));
}

#[test]
fn snapshots_of_the_new_version_hold_its_bundle() {
    let _alone = alone();
    let env = world();
    env.ok("stop");
    env.ok(UPGRADE);
    mark(&env, "sampan", "new");
    env.ok("snapshot save new");
    env.ok("snapshot restore before-v1.36.4");
    assert_eq!(profile(&env, "sampan").0, "v1.36.3");
    let seen = env.run(&format!("bundle remove {NEW}"));
    assert!(seen.contains("is in use by snapshot new of sampan"), "{seen}");
    env.ok("bundle prune --all");
    env.ok("cache prune --all");
    env.ok("snapshot restore new");
    assert_eq!(profile(&env, "sampan"), upgraded(&own_key()));
    assert_eq!(marks(&env, "sampan"), ["new", "new"]);
    env.ok("stop --shutdown");
    env.ok("start");
    assert_eq!(apiserver(&env, "sampan"), "v1.36.4");
    // A second one of the same name has a number.
    env.ok("snapshot restore before-v1.36.4");
    env.ok(UPGRADE);
    assert_eq!(snapshots(&env), ["before-v1.36.4", "new", "before-v1.36.4-2"]);
}

#[test]
fn what_is_no_step_up_is_106() {
    let _alone = alone();
    let env = world();
    env.make_bundle_of("fedcba9876543210", "v1.38.0");
    insta::assert_snapshot!(env.run("start --kubernetes-version v1.38.0 --source fedcba9876543210"), @r#"
    status: 106
    --- stdout
    --- stderr
    X Exiting due to K8S_VERSION_UNSUPPORTED: cluster "sampan" runs Kubernetes v1.36.3; an upgrade goes one minor version at a time, and v1.38.0 is further away
    hint: upgrade to a v1.37 first; this sampan knows none, --source names a bundle that has it
    "#);
    let unknown = env.run("start --kubernetes-version v1.36.99");
    assert!(
        unknown.starts_with("status: 106\n")
            && unknown.contains("v1.36.99 is not known to this sampan\nhint: choose from "),
        "{unknown}"
    );
    env.ok(UPGRADE);
    insta::assert_snapshot!(env.run("start --kubernetes-version v1.36.3"), @r#"
    status: 106
    --- stdout
    --- stderr
    X Exiting due to K8S_VERSION_UNSUPPORTED: cluster "sampan" runs Kubernetes v1.36.4; going back to v1.36.3 is not possible
    hint: go on with it: sampan start -p sampan --kubernetes-version v1.36.4
    hint: a snapshot from before an upgrade brings all of that time back: see `sampan snapshot list`
    "#);
    assert_eq!(env.status("status"), 0);
    assert_eq!(snapshots(&env), ["before-v1.36.4"]);
}

#[test]
fn a_dry_run_and_a_download_change_nothing() {
    let _alone = alone();
    let env = world();
    let seen = env.ok(&format!("{UPGRADE} --dry-run"));
    assert!(
        seen.contains("upgrading cluster \"sampan\" from Kubernetes v1.36.3 to v1.36.4"),
        "{seen}"
    );
    env.ok(&format!("{UPGRADE} --download-only"));
    assert_eq!(profile(&env, "sampan").0, "v1.36.3");
    assert!(env.ok("start").contains("is running already"));
}

#[test]
fn an_upgrade_that_cannot_be_gone_back_from_is_not_begun() {
    let _alone = alone();
    let env = world();
    mark(&env, "sampan", "kept");
    fault(&env, "full_at = \"checkpoint\"");
    let seen = env.run(UPGRADE);
    assert!(
        seen.starts_with("status: 26\n")
            && seen.contains("hint: no upgrade was begun, the cluster is as it was\n"),
        "{seen}"
    );
    heal(&env);
    assert!(env.ok("start").contains("is running already"));
    assert_eq!(profile(&env, "sampan").0, "v1.36.3");
    assert_eq!(marks(&env, "sampan"), ["kept", "kept"]);
}

#[test]
fn a_driver_that_cannot_save_says_that_there_is_no_way_back() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.make_bundle_of(NEW, "v1.36.4");
    fault(&env, "plain = true");
    env.ok(START);
    mark(&env, "sampan", "kept");
    let seen = env.run(UPGRADE);
    assert!(
        seen.starts_with("status: 0\n")
            && seen.contains("the driver fake cannot save machines: there is no way back from this upgrade"),
        "{seen}"
    );
    assert_eq!(profile(&env, "sampan"), upgraded(&own_key()));
    assert_eq!(apiserver(&env, "sampan"), "v1.36.4");
    assert_eq!(marks(&env, "sampan"), ["kept", ""]);
}

#[test]
fn a_failure_says_how_to_go_on_and_how_to_go_back() {
    let _alone = alone();
    let env = world();
    mark(&env, "sampan", "kept");
    fault(&env, "fail_at = \"kubeadm\"");
    for line in [UPGRADE, "start"] {
        let seen = env.run(line);
        assert!(
            seen.starts_with("status: 100\n")
                && seen.contains("hint: `sampan start -p sampan` goes on with the upgrade\n")
                && seen.contains(
                    "hint: `sampan snapshot restore -p sampan before-v1.36.4` goes back to Kubernetes v1.36.3\n"
                ),
            "{seen}"
        );
        assert_eq!(processes_of(&env.layout().data), Vec::<String>::new());
    }
    heal(&env);
    env.ok("snapshot restore before-v1.36.4");
    let seen = env.ok("start");
    assert!(!seen.contains("upgrad"), "{seen}");
    assert_eq!(marks(&env, "sampan"), ["kept", "kept"]);
    assert_eq!(apiserver(&env, "sampan"), "v1.36.3");
}

#[test]
fn a_killed_upgrade_goes_on_or_was_none() {
    let _alone = alone();
    // Where it is killed, and whether the next start finds it begun.
    for (point, begun) in [
        ("checkpoint", false),
        ("stop", false),
        ("start", true),
        ("ctr", true),
        ("kubeadm", true),
        ("api", true),
    ] {
        let env = world();
        mark(&env, "sampan", "kept");
        fault(&env, &format!("hang_at = \"{point}\""));
        let mut child = env.spawn(UPGRADE);
        let step = match point {
            "checkpoint" | "stop" => "Upgrading Kubernetes",
            "start" => "Creating VM",
            "ctr" => "Loading Images",
            _ => "Booting control plane",
        };
        let events = env.layout().profile("sampan").events();
        until(step, || {
            std::fs::read_to_string(&events).is_ok_and(|text| text.contains(step))
        });
        std::thread::sleep(std::time::Duration::from_millis(100));
        signal(&child, "-KILL");
        child.wait().unwrap();
        heal(&env);
        let seen = env.ok("start");
        assert_eq!(
            seen.contains("the cluster was upgraded from"),
            begun,
            "{point}: {seen}"
        );
        let version = if begun { "v1.36.4" } else { "v1.36.3" };
        assert_eq!(profile(&env, "sampan").0, version, "{point}");
        assert_eq!(apiserver(&env, "sampan"), version, "{point}");
        assert_eq!(marks(&env, "sampan")[0], "kept", "{point}");
        assert!(!env.layout().profile("sampan").upgrade_toml().exists(), "{point}");
        assert_eq!(env.status("status"), 0, "{point}");
        env.ok(UPGRADE);
        assert_eq!(apiserver(&env, "sampan"), "v1.36.4", "{point}");
    }
}

#[test]
fn a_killed_restore_to_the_old_version_is_done_again() {
    let _alone = alone();
    let env = world();
    mark(&env, "sampan", "kept");
    env.ok(UPGRADE);
    fault(&env, "hang_at = \"restore\"");
    let mut child = env.spawn("snapshot restore before-v1.36.4");
    until("the restore", || {
        env.layout().profile("sampan").restoring().exists()
    });
    signal(&child, "-KILL");
    child.wait().unwrap();
    heal(&env);
    env.ok("stop --shutdown");
    insta::assert_snapshot!(env.run("start"), @r#"
    status: 38
    --- stdout
    ✓ checking the driver (TIME)
    ✗ setting up the profile (TIME)
    --- stderr
    X Exiting due to HOST_CONFIG_LOAD: profile "sampan" is half restored: `sampan snapshot restore` was killed
    hint: run it again: sampan snapshot restore -p sampan before-v1.36.4
    "#);
    env.ok("snapshot restore before-v1.36.4");
    env.ok("start");
    assert_eq!(apiserver(&env, "sampan"), "v1.36.3");
    assert_eq!(marks(&env, "sampan"), ["kept", "kept"]);
}

#[test]
fn a_paused_cluster_is_upgraded() {
    let _alone = alone();
    let env = world();
    mark(&env, "sampan", "kept");
    env.ok("pause");
    env.ok(UPGRADE);
    assert_eq!(apiserver(&env, "sampan"), "v1.36.4");
    assert_eq!(marks(&env, "sampan"), ["kept", ""]);
}

#[test]
fn a_machine_that_is_gone_is_made_of_the_new_bundle() {
    let _alone = alone();
    let env = world();
    env.ok(UPGRADE);
    env.ok("stop --shutdown");
    std::fs::remove_dir_all(env.layout().profile("sampan").machine()).unwrap();
    env.ok("start");
    assert_eq!(
        profile(&env, "sampan"),
        ("v1.36.4".to_owned(), NEW.to_owned(), NEW.to_owned())
    );
    assert_eq!(apiserver(&env, "sampan"), "v1.36.4");
}
