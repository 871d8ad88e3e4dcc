//! A cluster's whole life with the test driver.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::support::TestEnvironment;

/// Clusters choose their addresses by what is free: one test at a time, or they take each other's.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn start_again_status_stop_start_delete() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    insta::assert_snapshot!(env.run("start --driver fake --memory 3g"), @r#"
    status: 0
    --- stdout
    making cluster "sampan": fake, 2 CPUs, 3072 MiB memory, 20000 MiB disk, Kubernetes v1.36.3
    ✓ checking the driver (TIME)
    taking the bundle that is here, built from source
    ✓ setting up the profile (TIME)
    making the ready snapshot for 2 CPUs and 3072 MiB memory: this is done once, later clusters of this kind start in seconds
      checking the driver (TIME)
      setting up the profile (TIME)
      making keys and certificates (TIME)
      using fake 0.1.0
      starting the machine (TIME)
      waiting for the machine (TIME)
      preparing the node (TIME)
      starting containerd (TIME)
      importing container images (TIME)
      starting the control plane (TIME)
      setting up network and DNS (TIME)
      setting up storage (TIME)
      starting Docker (TIME)
      registering the node (TIME)
      waiting until the cluster is healthy (TIME)
      importing the images of addons (TIME)
    ✓ taking the ready snapshot (TIME)
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
    insta::assert_snapshot!(env.run("start"), @r#"
    status: 0
    --- stdout
    cluster "sampan" is running already
    kubectl uses "sampan" now: kubectl get nodes
    --- stderr
    "#);
    insta::assert_snapshot!(env.run("status"), @r"
    status: 0
    --- stdout
    sampan
    type: Control Plane
    host: Running
    kubelet: Running
    apiserver: Running
    kubeconfig: Configured

    --- stderr
    ");
    insta::assert_snapshot!(env.run("status -o json"), @r#"
    status: 0
    --- stdout
    {"Name":"sampan","Host":"Running","Kubelet":"Running","APIServer":"Running","Kubeconfig":"Configured","Worker":false,"Memory":BYTES}--- stderr
    "#);
    insta::assert_snapshot!(env.run("stop"), @r#"
    status: 0
    --- stdout
    ✓ stopping the cluster (TIME)
    cluster "sampan" is saved; `sampan start -p sampan` goes on from here
    --- stderr
    "#);
    insta::assert_snapshot!(env.run("status"), @r"
    status: 7
    --- stdout
    sampan
    type: Control Plane
    host: Stopped
    kubelet: Stopped
    apiserver: Stopped
    kubeconfig: Stopped

    --- stderr
    ");
    insta::assert_snapshot!(env.run("stop"), @r#"
    status: 0
    --- stdout
    ✓ stopping the cluster (TIME)
    cluster "sampan" was not running
    --- stderr
    "#);
    assert_eq!(env.status("start"), 0);
    assert_eq!(env.status("status"), 0);
    deleted_it_leaves_nothing(&env);
}

fn deleted_it_leaves_nothing(env: &TestEnvironment) {
    insta::assert_snapshot!(env.run("delete"), @r#"
    status: 0
    --- stdout
    ✓ deleting the cluster (TIME)
    removed all traces of cluster "sampan"
    --- stderr
    "#);
    insta::assert_snapshot!(env.run("delete"), @r#"
    status: 0
    --- stdout
    there is no cluster "sampan"
    --- stderr
    "#);
    assert_eq!(env.status("status"), 85);
    assert!(!env.layout().profile("sampan").dir.exists());
}

#[test]
fn a_running_cluster_is_reached_in_every_way() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok("start --driver fake --memory 3g -p one --keep-context");
    env.ok("profile one");

    // ssh: output, both streams, exit status.
    assert_eq!(env.ok("ssh -- echo hello"), "hello\n");
    assert_eq!(env.status("ssh -- exit 3"), 3);
    // The bundle's kubectl, told which cluster, its exit status passed up.
    insta::assert_snapshot!(env.run("kubectl -- get pods -A"), @r"
    status: 7
    --- stdout
    kubectl get pods --context=one -A
    --- stderr
    ");
    // cp: there and back.
    env.write(&env.cwd().join("a.txt"), "text");
    env.ok("cp a.txt one:/tmp/dir/");
    env.ok("cp one:/tmp/dir/a.txt b.txt");
    assert_eq!(fs::read_to_string(env.cwd().join("b.txt")).unwrap(), "text");
    insta::assert_snapshot!(env.run("cp missing.txt /tmp/x"), @r"
    status: 35
    --- stdout
    --- stderr
    X Exiting due to HOST_PATH_MISSING: missing.txt: no such file or directory
    hint: check the path
    ");
    insta::assert_snapshot!(env.run("cp a.txt relative"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `relative` is not an absolute path on the node
    hint: write it as one:/path/of/file
    ");
    assert_eq!(env.filtered(&env.ok("ip")), "ADDRESS\n");
    assert!(
        env.ok("ssh-key")
            .trim_end()
            .ends_with("/profiles/one/ssh/id_ed25519")
    );
    insta::assert_snapshot!(env.run("status -f {{.Name}}:{{.Host}}\\n"), @r"
    status: 0
    --- stdout
    one:Running
    --- stderr
    ");
    insta::assert_snapshot!(env.run("status -f {{.Hots}}"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: there is no field `.Hots`
    hint: did you mean `Host`?
    ");
    insta::assert_snapshot!(env.run("status -o json -l cluster"), @r#"
    status: 0
    --- stdout
    {"Name":"one","StatusCode":200,"StatusName":"OK","BinaryVersion":"v0.1.0","Components":{"kubeconfig":{"Name":"kubeconfig","StatusCode":200,"StatusName":"OK"}},"Nodes":[{"Name":"one","StatusCode":200,"StatusName":"OK","Components":{"apiserver":{"Name":"apiserver","StatusCode":200,"StatusName":"OK"},"kubelet":{"Name":"kubelet","StatusCode":200,"StatusName":"OK"}}}]}--- stderr
    "#);
    for section in ["==> kubelet <==", "==> containerd <==", "==> describe nodes <=="] {
        assert!(env.ok("logs -n 5").contains(section), "{section}");
    }
    env.ok("logs --file logs.txt");
    assert!(
        fs::read_to_string(env.cwd().join("logs.txt"))
            .unwrap()
            .contains("==> kubelet <==")
    );

    insta::assert_snapshot!(env.run("update-context"), @r#"
    status: 0
    --- stdout
    "one" context has been updated to point to ADDRESS:6443
    --- stderr
    "#);
    insta::assert_snapshot!(env.run("update-context"), @r#"
    status: 0
    --- stdout
    No changes required for the "one" context
    --- stderr
    "#);
}

#[test]
fn an_existing_cluster_keeps_what_it_was_made_with() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok("start --driver fake --memory 3g");
    insta::assert_snapshot!(env.run("start --memory 4g --cpus 2"), @r#"
    status: 0
    --- stdout
    cluster "sampan" is running already
    kubectl uses "sampan" now: kubectl get nodes
    --- stderr
    ! `--memory 4g` is ignored: cluster "sampan" keeps 3072 MiB; delete it first to change that
    "#);
    insta::assert_snapshot!(env.run("start --driver qemu"), @r#"
    status: 81
    --- stdout
    --- stderr
    X Exiting due to GUEST_DRIVER_MISMATCH: cluster "sampan" was made with the driver fake, not qemu
    hint: go on with it: sampan start -p sampan --driver fake
    hint: or make it anew, its data is lost then: sampan delete -p sampan
    "#);
    insta::assert_snapshot!(env.run("start --kubernetes-version v1.35.0"), @r#"
    status: 106
    --- stdout
    --- stderr
    X Exiting due to K8S_VERSION_UNSUPPORTED: cluster "sampan" runs Kubernetes v1.36.3; going back to v1.35.0 is not possible
    hint: go on with it: sampan start -p sampan --kubernetes-version v1.36.3
    hint: a snapshot from before an upgrade brings all of that time back: see `sampan snapshot list`
    "#);
}

#[test]
fn two_clusters_live_side_by_side() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok("start --driver fake --memory 3g -p a");
    env.ok("start --driver fake --memory 3g -p b");
    env.ok("stop -p a");
    env.ok("profile b");
    // How wide the columns are depends on the addresses.
    let mut table = env.run("profile list");
    table.retain(|c| !"─═┬┼┴╪┌┐└┘╞╡".contains(c));
    let table: Vec<_> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    insta::assert_snapshot!(table.join("\n"), @r"
    status: 0
    --- stdout

    │ Profile ┆ Driver ┆ Runtime ┆ IP ┆ Version ┆ Status ┆ Memory ┆ Nodes ┆ Active Profile ┆ Active Kubecontext │

    │ a ┆ fake ┆ containerd ┆ ADDRESS ┆ v1.36.3 ┆ Stopped ┆ ┆ 1 ┆ ┆ │
    │ b ┆ fake ┆ containerd ┆ ADDRESS ┆ v1.36.3 ┆ OK ┆ N MiB ┆ 1 ┆ * ┆ * │

    --- stderr
    ");
    let list: Value = serde_json::from_str(&env.ok("profile list -o json")).unwrap();
    let states: Vec<_> = list["valid"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["Status"])
        .collect();
    assert_eq!(states, ["Stopped", "OK"]);
    assert_eq!(list["valid"][1]["Config"]["Nodes"][0]["ControlPlane"], true);
    let light: Value = serde_json::from_str(&env.ok("profile list -l -o json")).unwrap();
    assert_eq!(light["valid"][0]["Status"], "Skipped");

    insta::assert_snapshot!(env.run("delete --purge"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: there are 2 clusters: a, b
    hint: --purge takes all of sampan away; say --all as well if you mean it
    ");
    env.ok("delete -p a");
    assert_eq!(env.status("status -p b"), 0);
    insta::assert_snapshot!(env.run("delete --all --purge"), @r#"
    status: 0
    --- stdout
    ✓ deleting the cluster (TIME)
    removed all traces of cluster "b"
    removed sampan's settings, profiles and bundles
    --- stderr
    "#);
    assert!(!env.layout().data.exists() && !env.layout().cache.exists());
}

#[test]
fn the_kubeconfig_gets_one_cluster_and_keeps_the_rest() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    let foreign = "apiVersion: v1\nkind: Config\nclusters: []\nusers:\n- name: me\n  user:\n    token: x\ncontexts: []\n\
                   current-context: mine\npreferences:\n  colors: true\n";
    env.write(&env.kubeconfig(), foreign);
    env.ok("start --driver fake --memory 3g --keep-context");
    let config = |env: &TestEnvironment| -> Value {
        yaml_serde::from_str(&fs::read_to_string(env.kubeconfig()).unwrap()).unwrap()
    };
    let with = config(&env);
    assert_eq!(with["current-context"], "mine");
    assert_eq!(with["clusters"][0]["name"], "sampan");
    assert!(
        with["clusters"][0]["cluster"]["server"]
            .as_str()
            .unwrap()
            .starts_with("https://127.")
    );
    assert_eq!(with["preferences"]["colors"], true);
    env.ok("start");
    assert_eq!(config(&env)["current-context"], "sampan");
    env.ok("stop --keep-context-active");
    assert_eq!(config(&env)["current-context"], "sampan");
    env.ok("stop");
    let without = config(&env);
    assert_eq!(without["users"][0]["name"], "me");
    assert_eq!(without["clusters"].as_array().map(Vec::len), Some(0));
    env.ok("delete");
}

#[test]
fn json_is_an_event_for_every_step() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    let events = |line: &str| -> Vec<Value> {
        env.ok(line)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    // Making the ready snapshot has steps of its own.
    env.ok("start --driver fake --memory 3g -p other");
    env.ok("delete -p other");
    let first = events("start --driver fake --memory 3g -o json");
    let steps = |events: &[Value]| -> Vec<String> {
        let is_step = |event: &&Value| event["type"] == "io.k8s.sigs.minikube.step";
        events
            .iter()
            .filter(is_step)
            .map(|event| event["data"]["currentstep"].as_str().unwrap().to_owned())
            .collect()
    };
    let total: usize = first
        .iter()
        .find_map(|event| event["data"]["totalsteps"].as_str())
        .unwrap()
        .parse()
        .unwrap();
    let all: Vec<String> = (1..=total).map(|number| number.to_string()).collect();
    assert_eq!(steps(&first), all);
    assert!(
        first
            .iter()
            .all(|event| event["source"] == "https://sampan.dev/" && event["specversion"] == "1.0")
    );
    assert!(
        first
            .iter()
            .flat_map(|event| event["data"].as_object().unwrap().values())
            .all(Value::is_string)
    );
    assert_eq!(
        steps(&events("start -o json")),
        all,
        "also when there is nothing to do"
    );
    assert_eq!(steps(&events("stop -o json")), ["1"]);
    assert_eq!(steps(&events("delete -o json")), ["1"]);
}

#[test]
fn of_two_starts_at_once_one_waits_and_both_succeed() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    let children = [0, 1].map(|_| env.spawn("start --driver fake --memory 3g"));
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", env.seen(&output));
    }
    assert_eq!(env.status("status"), 0);
}

#[test]
fn a_failed_first_start_can_take_itself_away() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.write(
        &env.layout().driver_cache("fake").join("fake.toml"),
        "fail_at = \"kubeadm\"\n",
    );
    let seen = env.run("start --driver fake --memory 3g --delete-on-failure");
    assert!(
        seen.contains("! deleted cluster \"sampan\", as its start failed"),
        "{seen}"
    );
    assert!(!seen.starts_with("status: 0"), "{seen}");
    assert_eq!(env.status("status"), 85);
}
