//! Starts that cannot be: each says why and what to do, and leaves nothing behind.

use crate::support::TestEnvironment;

#[test]
fn what_cannot_be_is_told_before_anything_is_done() {
    let env = TestEnvironment::new();
    insta::assert_snapshot!(env.run("start --driver qmeu"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--driver qmeu`: there is no such driver
    hint: did you mean `qemu`?
    ");
    insta::assert_snapshot!(env.run("start --driver xen"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--driver xen`: there is no such driver
    hint: choose one of qemu, virtualbox, hyperkit, fake
    ");
    insta::assert_snapshot!(env.run("start --kubernetes-version v1.33.9"), @r"
    status: 106
    --- stdout
    --- stderr
    X Exiting due to K8S_VERSION_UNSUPPORTED: Kubernetes v1.33.9 is too old
    hint: choose from v1.36.0 to v1.36.5, v1.35.0 to v1.35.8, v1.34.0 to v1.34.7
    ");
    insta::assert_snapshot!(env.run("start --kubernetes-version x"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--kubernetes-version x` is not a Kubernetes version
    hint: write it as v1.36.3, or stable
    ");
    insta::assert_snapshot!(env.run("start --memory 1g"), @r"
    status: 23
    --- stdout
    --- stderr
    X Exiting due to RSRC_INSUFFICIENT_REQ_MEMORY: 1024 MiB of memory asked for, and Kubernetes needs 1800 MiB
    hint: ask for more: --memory 3g
    ");
    insta::assert_snapshot!(env.run("start --cpus 1"), @r"
    status: 29
    --- stdout
    --- stderr
    X Exiting due to RSRC_INSUFFICIENT_CORES: 1 CPU asked for, and Kubernetes needs 2
    hint: ask for more: --cpus 2
    ");
    insta::assert_snapshot!(env.run("start --wait apiserver,system_pod"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--wait apiserver,system_pod` has `system_pod`, which cannot be waited for
    hint: did you mean `system_pods`?
    ");
    insta::assert_snapshot!(env.run("start --wait-timeout 6"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--wait-timeout 6` is not a duration
    hint: write 90s, 6m or 1m30s
    ");
    insta::assert_snapshot!(env.run("start --extra-config kubelt.maxPods=5"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `--extra-config kubelt.maxPods=5` names no known component with `kubelt`
    hint: did you mean `kubelet`?
    ");
    assert!(!env.layout().data.exists());
}

#[test]
fn too_much_memory_names_what_the_host_has() {
    let env = TestEnvironment::new();
    let seen = env.run("start --memory 900t");
    assert!(seen.starts_with("status: 23\n"), "{seen}");
    assert!(seen.contains("MiB\nhint: ask for less: --memory "), "{seen}");
}

#[test]
fn errors_are_events_too() {
    let env = TestEnvironment::new();
    let output = env.output("start -o json --memory 1g");
    assert_eq!((output.status.code(), output.stderr), (Some(23), Vec::new()));
    let event: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(event["type"], "io.k8s.sigs.minikube.error");
    assert_eq!(event["data"]["exitcode"], "23");
    assert_eq!(event["data"]["name"], "RSRC_INSUFFICIENT_REQ_MEMORY");
    assert_eq!(event["data"]["advice"], "ask for more: --memory 3g");
}

#[test]
fn a_profile_that_is_damaged_or_newer_is_told_and_can_be_deleted() {
    let env = TestEnvironment::new();
    let file = env.layout().profile("sampan").profile_toml();
    env.write(&file, "format = 99\nshape = \"new\"\n");
    insta::assert_snapshot!(env.run("start --driver fake"), @r"
    status: 38
    --- stdout
    --- stderr
    X Exiting due to HOST_CONFIG_LOAD: [DIR]/sampan/data/profiles/sampan/profile.toml: profile has format 99, this sampan reads up to 2
    hint: use the newer sampan that wrote it
    ");
    insta::assert_snapshot!(env.run("status"), @r"
    status: 38
    --- stdout
    --- stderr
    X Exiting due to HOST_CONFIG_LOAD: [DIR]/sampan/data/profiles/sampan/profile.toml: profile has format 99, this sampan reads up to 2
    hint: use the newer sampan that wrote it
    ");
    env.write(&file, "format = one");
    insta::assert_snapshot!(env.run("start --driver fake"), @r"
    status: 38
    --- stdout
    --- stderr
    X Exiting due to HOST_CONFIG_LOAD: [DIR]/sampan/data/profiles/sampan/profile.toml: profile is damaged
      because: TOML parse error at line 1, column 10
          |
        1 | format = one
          |          ^^^
        string values must be quoted, expected literal string
    hint: mend the file, or run `sampan delete -p sampan` to begin anew
    ");
    assert!(
        env.run("profile list")
            .contains("! profile \"sampan\" cannot be read: ")
    );
    insta::assert_snapshot!(env.run("delete"), @r#"
    status: 0
    --- stdout
    ✓ deleting the cluster (TIME)
    removed all traces of cluster "sampan"
    --- stderr
    "#);
    assert!(!file.exists());
}
