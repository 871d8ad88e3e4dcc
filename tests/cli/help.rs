//! Help: of sampan, and of every verb.

use crate::support::TestEnvironment;

#[test]
fn no_arguments_print_the_help_in_groups() {
    let env = TestEnvironment::new();
    insta::assert_snapshot!(env.run(""), @r#"
    status: 0
    --- stdout
    A local Kubernetes cluster in a small virtual machine

    Usage: sampan [OPTIONS] <COMMAND>

    Basic commands:
      start           Make a cluster, or bring it back up
      status          Say what a cluster is doing
      stop            Stop a cluster; everything in it stays
      delete          Delete a cluster with all its data
      kubectl         Run the kubectl that fits the cluster

    Moments of a cluster:
      pause           Hold a cluster still: it uses no CPU and answers nobody
      unpause         Let a cluster that is held go on
      snapshot        Keep moments of a cluster and go back to them
      fork            Make a second cluster that goes on from this moment of a first one

    Configuration:
      profile         Choose the cluster that commands mean, or list them
      config          Read and change the settings file
      update-context  Point kubectl to the cluster, and make it the current context
      driver          Show what can run clusters on this host
      bundle          Make, carry, check and remove bundles: all the bits that a node is made of
      cache           Show, check and clear what clusters are made of and what can be made again

    Images:
      docker-env      Point docker to the cluster's Docker: what it builds, pods run
      image           Bring images into the cluster, see and remove them

    Reaching it:
      service         Print where a service is reached, or open it
      addons          Add things to the cluster, and take them out again: ingress, metrics, a registry
      port            Lead ports of this host into the node, beyond those that services publish by themselves
      tunnel          Print what services publish on this host, and wait
      ip              Print the address at which the host reaches the cluster

    The node:
      ssh             Open a shell on the node, or run a command there
      cp              Copy a file to or from the node
      ssh-key         Print the path of the key that the node accepts

    Troubleshooting:
      logs            Show the logs of a cluster
      version         Print the version of sampan and of what it brings along

    Other:
      completion      Print the script that makes a shell complete commands, flags and profile names
      help            Print help for a command

    Options:
      -p, --profile <NAME>  The cluster to work with [default: the one chosen with `sampan profile`,
                            else sampan]
      -v, --verbose...      Tell what is being done, on standard error; -vv tells every command, -vvv
                            everything
      -q, --quiet           Tell only what was asked for, warnings and errors
      -h, --help            Print help
      -V, --version         Print version

    Settings and more: `sampan help start`, `sampan help config`.
    --- stderr
    "#);
    assert_eq!(env.run(""), env.run("--help"));
}

#[test]
fn every_verb_has_help_and_says_what_it_is_for() {
    let env = TestEnvironment::new();
    for verb in [
        "start",
        "status",
        "stop",
        "delete",
        "kubectl",
        "profile",
        "config",
        "update-context",
        "bundle",
        "cache",
        "pause",
        "unpause",
        "snapshot",
        "fork",
        "ssh",
        "cp",
        "ssh-key",
        "ip",
        "logs",
        "version",
        "completion",
        "profile list",
        "snapshot save",
        "snapshot restore",
        "snapshot list",
        "snapshot show",
        "snapshot delete",
        "port",
        "port add",
        "port list",
        "port remove",
        "tunnel",
        "cache list",
        "cache prune",
        "cache verify",
        "config set",
        "config get",
        "config unset",
        "config view",
        "config defaults",
    ] {
        let long = env.ok(&format!("{verb} --help"));
        assert!(long.contains(&format!("Usage: sampan {verb}")), "{verb}: {long}");
        assert!(long.contains("Global options:"), "{verb}: {long}");
        assert!(!long.lines().next().unwrap().is_empty(), "{verb}");
        assert!(!long.contains("--nodes"), "{verb} shows what is not there yet");
        if !verb.contains(' ') {
            assert_eq!(env.ok(&format!("help {verb}")), long, "{verb}");
        }
    }
}

#[test]
fn version_is_for_people_and_scripts() {
    let env = TestEnvironment::new();
    insta::assert_snapshot!(env.run("version"), @r"
    status: 0
    --- stdout
    sampan version: v0.1.0
    kubernetesVersion: v1.36.3
    --- stderr
    ");
    insta::assert_snapshot!(env.run("version --short"), @r"
    status: 0
    --- stdout
    v0.1.0
    --- stderr
    ");
    insta::assert_snapshot!(env.run("version -o yaml"), @r"
    status: 0
    --- stdout
    sampanVersion: v0.1.0
    commit: ''
    kubernetesVersion: v1.36.3
    --- stderr
    ");
    let json: serde_json::Value = serde_json::from_str(&env.ok("version -o json --components")).unwrap();
    assert_eq!(json["sampanVersion"], "v0.1.0");
    assert_eq!(json["containerd"], "v2.4.2");
}

#[test]
fn completion_knows_verbs_flags_and_profiles() {
    let env = TestEnvironment::new();
    assert!(env.ok("completion bash").contains("SAMPAN_COMPLETE=\"bash\""));
    insta::assert_snapshot!(env.run("completion bsh"), @r"
    status: 14
    --- stdout
    --- stderr
    X Exiting due to MK_USAGE: `bsh` is not a value that <SHELL> can have
    hint: did you mean `bash`?
    ");
    let complete = |words: &[&str]| {
        let output = env
            .command(&[&["--", "sampan"], words].concat())
            .env("SAMPAN_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
            .env("_CLAP_IFS", "\n")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete(&["sta"]), "start\nstatus");
    assert_eq!(complete(&["start", "--mem"]), "--memory");
    std::fs::create_dir_all(env.layout().profile("blue").dir).unwrap();
    std::fs::create_dir_all(env.layout().profile("black").dir).unwrap();
    assert_eq!(complete(&["status", "-p", "bl"]), "black\nblue");
    assert_eq!(complete(&["profile", "bla"]), "black");
    std::fs::remove_dir_all(env.layout().profiles()).unwrap();
}

#[test]
fn a_reader_who_had_enough_is_no_failure() {
    let env = TestEnvironment::new();
    let mut child = env.spawn("completion zsh");
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn colours_are_for_terminals_and_those_who_ask() {
    let mut env = TestEnvironment::new();
    assert!(!env.ok("--help").contains('\u{1b}'));
    env.set("CLICOLOR_FORCE", "1");
    assert!(env.ok("--help").contains("\u{1b}[1m"));
    env.set("NO_COLOR", "1");
    assert!(!env.ok("--help").contains('\u{1b}'));
}
