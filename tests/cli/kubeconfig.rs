//! The user's kubeconfig as their own kubectl sees it: several files, and damaged ones.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::life::alone;
use crate::support::TestEnvironment;

const FIRST: &str = "apiVersion: v1\nkind: Config\nclusters:\n- name: work\n  cluster:\n    server: https://work.example\n\
                     users: []\ncontexts: []\n";
const SECOND: &str = "apiVersion: v1\nkind: Config\nusers:\n- name: me\n  user:\n    token: secret\ncontexts:\n- name: work\n  \
                      context:\n    cluster: work\n    user: me\ncurrent-context: work\n";

/// The user's own kubectl, of which only `config` is used.
fn has_kubectl() -> bool {
    Command::new("kubectl")
        .args(["config", "view", "--kubeconfig=/dev/null"])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// What kubectl makes of all the files together.
fn view(files: &str) -> Value {
    let output = Command::new("kubectl")
        .args(["config", "view", "--raw", "-o", "json"])
        .env("KUBECONFIG", files)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(config: &Value, list: &str) -> Vec<String> {
    let items = config[list].as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> = items
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// A world whose KUBECONFIG names two foreign files with one between them that is not there; all of it, and the files.
fn with_several_files() -> (TestEnvironment, String, [PathBuf; 3]) {
    let mut env = TestEnvironment::with_bundle();
    let files = ["first", "missing", "second"].map(|name| env.home().join(name));
    env.write(&files[0], FIRST);
    env.write(&files[2], SECOND);
    let all = files
        .clone()
        .map(|path| path.to_string_lossy().into_owned())
        .join(":");
    env.set("KUBECONFIG", &all);
    (env, all, files)
}

#[test]
fn of_several_files_kubectl_sees_ours_and_all_that_was_there() {
    let _alone = alone();
    if !has_kubectl() {
        eprintln!("skipped: there is no kubectl in PATH");
        return;
    }
    let (env, all, files) = with_several_files();
    let before = view(&all);
    env.ok("start --driver fake --memory 3g");
    let with = view(&all);
    assert_eq!(names(&with, "clusters"), ["sampan", "work"]);
    assert_eq!(names(&with, "users"), ["me", "sampan"]);
    assert_eq!(names(&with, "contexts"), ["sampan", "work"]);
    assert_eq!(with["current-context"], "sampan");
    assert_eq!(fs::read_to_string(&files[2]).unwrap(), SECOND);
    assert!(!files[1].exists());
    // What is new is where kubectl would have put it: in the first file that is there.
    let first = fs::read_to_string(&files[0]).unwrap();
    assert!(
        first.contains("sampan") && first.contains("https://work.example"),
        "{first}"
    );

    env.ok("delete");
    let after = view(&all);
    for list in ["clusters", "users", "contexts"] {
        assert_eq!(after[list], before[list], "{list}");
    }
    assert_eq!(fs::read_to_string(&files[2]).unwrap(), SECOND);
    assert_eq!(
        after["current-context"], "work",
        "the other file's is in force again"
    );
}

#[test]
fn a_damaged_one_is_told_before_any_work_and_stays_as_it_is() {
    let (env, _, files) = with_several_files();
    let damaged = "apiVersion: v1\nclusters: [\n";
    env.write(&files[2], damaged);
    insta::assert_snapshot!(env.run("start --driver fake --memory 3g"), @r#"
    status: 38
    --- stdout
    making cluster "sampan": fake, 2 CPUs, 3072 MiB memory, 20000 MiB disk, Kubernetes v1.36.3
    --- stderr
    X Exiting due to HOST_KUBECONFIG_UPDATE: [DIR]/home/second is not a kubeconfig: did not find expected node content at line 3 column 1, while parsing a flow node
    hint: repair the file or move it away; it was not changed. `kubectl config view` shows what is read from it
    "#);
    assert_eq!(fs::read_to_string(&files[2]).unwrap(), damaged);
    assert_eq!(fs::read_to_string(&files[0]).unwrap(), FIRST);
    assert!(!env.layout().profile("sampan").dir.exists());
}
