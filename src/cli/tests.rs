//! Command lines as people and scripts write them.

use super::*;
use crate::error::{Error, Kind};

fn read(line: &str) -> Cli {
    match parse(line.split_whitespace().map(OsString::from).collect()) {
        Ok(cli) => cli,
        Err(rejected) => panic!("{line}: {rejected:?}"),
    }
}

fn wrong(line: &str) -> Error {
    match parse(line.split_whitespace().map(OsString::from).collect()) {
        Err(Rejected::Wrong(error)) => error,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_command_tree_is_sound_and_every_verb_is_in_the_help() {
    command().debug_assert();
    let grouped: Vec<&str> = GROUPS
        .iter()
        .flat_map(|(_, verbs)| verbs.iter().copied())
        .collect();
    for verb in command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        assert!(
            grouped.contains(&verb.get_name()),
            "{} is in no group",
            verb.get_name()
        );
    }
}

#[test]
fn minikubes_spellings_of_start_are_understood() {
    let line = "sampan start --vm-driver=qemu --cpus 2 -m 4g --dry-run --keep-context=false --wait=a,b --wait c \
                --container-runtime=containerd --cni auto -n 1 --vm=true --interactive=false --alsologtostderr -v=5 -p x";
    let cli = read(line);
    assert_eq!(
        (cli.global.profile.as_deref(), cli.global.verbose),
        (Some("x"), 3)
    );
    let Verb::Start(args) = cli.verb else {
        panic!("not start")
    };
    assert_eq!(
        (args.driver.as_deref(), args.memory.as_deref()),
        (Some("qemu"), Some("4g"))
    );
    assert_eq!(
        (args.dry_run, args.keep_context, args.force),
        (Some(true), Some(false), None)
    );
    assert!(args.settings().contains(&("wait", Some("a,b,c".to_owned()))));
}

#[test]
fn what_only_minikube_has_is_not_there_yet() {
    for line in [
        "sampan start --nodes 3",
        "sampan start --container-runtime cri-o",
        "sampan start --ha",
        "sampan stop --schedule 5m",
        "sampan cache add busybox",
        "sampan cache delete busybox --all",
    ] {
        assert_eq!(wrong(line).kind(), Kind::Unimplemented, "{line}");
    }
    assert_eq!(
        wrong("sampan start --nodes 3").hints(),
        ["leave it out, or use 1"]
    );
}

#[test]
fn slips_get_the_nearest_right_word() {
    for (line, message, hint) in [
        ("sampan strat", "unknown command `strat`", "did you mean `start`?"),
        (
            "sampan start --memroy 4g",
            "unknown flag `--memroy`",
            "did you mean `--memory`?",
        ),
        (
            "sampan start -o jsn",
            "`--output jsn` is not a value it can have",
            "did you mean `json`?",
        ),
        (
            "sampan status -o yaml",
            "`--output yaml` is not a value it can have",
            "choose one of text, json",
        ),
        (
            "sampan completion bsh",
            "`bsh` is not a value that <SHELL> can have",
            "did you mean `bash`?",
        ),
        (
            "sampan start --dry-run=maybe",
            "`--dry-run maybe` is not a value it can have",
            "choose one of true, false",
        ),
        (
            "sampan start --memory",
            "`--memory` needs a value",
            "`sampan help`, or `--help` behind a command, tells what there is",
        ),
    ] {
        let error = wrong(line);
        assert_eq!(
            (error.kind(), error.to_string().as_str(), error.hints()),
            (Kind::Usage, message, &[hint.to_owned()][..]),
            "{line}"
        );
    }
    assert_eq!(wrong("sampan cp a").kind(), Kind::Usage);
}

#[test]
fn kubectl_and_ssh_take_everything_behind_them() {
    for (line, profile, arguments) in [
        ("sampan kubectl -- get pods -A", None, "get pods -A"),
        ("sampan kubectl get pods -p -v=6", None, "get pods -p -v=6"),
        ("sampan -p a kubectl -- -n x get pods", Some("a"), "-n x get pods"),
        ("sampan kubectl -p a -- get pods", Some("a"), "get pods"),
        ("/usr/bin/kubectl get pods -o wide", None, "get pods -o wide"),
        (
            "kubectl --context b exec x -- ls --context c",
            Some("b"),
            "exec x -- ls --context c",
        ),
        ("kubectl --context=b version", Some("b"), "version"),
    ] {
        let cli = read(line);
        let Verb::Kubectl(args) = cli.verb else {
            panic!("{line}")
        };
        assert_eq!(
            (cli.global.profile.as_deref(), args.arguments.join(" ")),
            (profile, arguments.to_owned()),
            "{line}"
        );
    }
    let Verb::Ssh(args) = read("sampan ssh -- ls -l /").verb else {
        panic!("not ssh")
    };
    assert_eq!(args.command, ["ls", "-l", "/"]);
}

#[test]
fn a_profile_is_chosen_by_name_or_listed() {
    let Verb::Profile(args) = read("sampan profile work").verb else {
        panic!("not profile")
    };
    assert_eq!((args.name.as_deref(), args.verb.is_none()), (Some("work"), true));
    let Verb::Profile(args) = read("sampan profile list -o json").verb else {
        panic!("not profile")
    };
    assert!(matches!(args.verb, Some(ProfileVerb::List(list)) if list.output.format == TableFormat::Json));
}
