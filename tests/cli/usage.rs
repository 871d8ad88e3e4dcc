//! Command lines that are wrong: exit status 14, what is wrong, the nearest right word.

use crate::support::TestEnvironment;

#[test]
fn slips_end_with_14_and_a_suggestion() {
    let env = TestEnvironment::new();
    insta::assert_snapshot!(env.run("strat"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: unknown command `strat`
    hint: did you mean `start`?
    ");
    insta::assert_snapshot!(env.run("start --memroy 4g"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: unknown flag `--memroy`
    hint: did you mean `--memory`?
    ");
    insta::assert_snapshot!(env.run("status -o xml"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--output xml` is not a value it can have
    hint: choose one of text, json
    ");
    insta::assert_snapshot!(env.run("cp one"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: the following required arguments were not provided: <TARGET>
    hint: `sampan help`, or `--help` behind a command, tells what there is
    ");
    insta::assert_snapshot!(env.run("-p My_Cluster status"), @r#"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: "My_Cluster" is not a name for a cluster
    hint: use at most 63 lower-case letters, digits and inner dashes
    "#);
    insta::assert_snapshot!(env.run("status -o json -f x"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: --output and --format exclude each other
    hint: leave one out
    ");
    insta::assert_snapshot!(env.run("status --layout cluster"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: --layout cluster is a layout of JSON
    hint: add -o json
    ");
    insta::assert_snapshot!(env.run("__fake-machine"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: the following required arguments were not provided: <DIR>
    hint: `sampan help`, or `--help` behind a command, tells what there is
    ");
}

#[test]
fn what_only_minikube_has_ends_with_16() {
    let env = TestEnvironment::new();
    insta::assert_snapshot!(env.run("mount a:b"), @r"
    status: 16
    --- stdout
    --- stderr
    X Exiting due to MK_UNIMPLEMENTED: `sampan mount` is not there yet
    hint: `sampan --help` lists what there is
    ");
    insta::assert_snapshot!(env.run("start --nodes 3"), @r"
    status: 16
    --- stdout
    --- stderr
    X Exiting due to MK_UNIMPLEMENTED: `--nodes 3` of minikube is not there yet
    hint: leave it out, or use 1
    ");
    insta::assert_snapshot!(env.run("start --ha"), @r"
    status: 16
    --- stdout
    --- stderr
    X Exiting due to MK_UNIMPLEMENTED: `--ha` of minikube is not there yet
    hint: leave it out; `sampan start --help` lists the flags there are
    ");
    for verb in [
        "dashboard --url",
        "mount a:b",
        "node list",
        "cache add busybox",
        "cache reload",
    ] {
        assert_eq!(env.status(verb), 16, "{verb}");
    }
}

#[test]
fn a_cluster_that_is_not_there_is_85() {
    let env = TestEnvironment::new();
    insta::assert_snapshot!(env.run("status -p nope"), @r#"
    status: 85
    --- stdout
    --- stderr
    X Exiting due to GUEST_NOT_FOUND: profile "nope" not found
    hint: run `sampan start -p nope` to make it, or `sampan profile list` to see what is there
    "#);
    for verb in [
        "stop",
        "pause",
        "unpause",
        "snapshot save",
        "snapshot list",
        "snapshot show x",
        "snapshot restore",
        "snapshot delete x",
        "fork sampan other",
        "ip",
        "ssh-key",
        "logs",
        "update-context",
        "ssh -- true",
        "status -o json",
    ] {
        assert_eq!(env.status(verb), 85, "{verb}");
    }
    insta::assert_snapshot!(env.run("delete -p nope"), @r#"
    status: 0
    --- stdout
    there is no cluster "nope"
    --- stderr
    "#);
    insta::assert_snapshot!(env.run("profile nope"), @r#"
    status: 0
    --- stdout
    --- stderr
    ! there is no cluster "nope"; `sampan start -p nope` makes it
    "#);
    insta::assert_snapshot!(env.run("profile list"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: there are no clusters
    hint: run `sampan start` to make one
    ");
    insta::assert_snapshot!(env.run("profile list -o json"), @r#"
    status: 0
    --- stdout
    {"valid":[],"invalid":[]}
    --- stderr
    "#);
}
