//! What only minikube has: known by name, so that a user who switches over is told "not there yet" and not "no such thing".

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::error::{Error, Kind, Result};

/// A flag of minikube's.
struct Flag {
    name: &'static str,
    short: Option<char>,
    /// Takes a value; else it is true or false.
    value: bool,
    /// Values that ask for what sampan does anyway.
    accepts: &'static [&'static str],
}

const fn value(name: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        value: true,
        accepts: &[],
    }
}

const fn switch(name: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        value: false,
        accepts: &["false"],
    }
}

/// A switch that changes nothing here, either way.
const fn either(name: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        value: false,
        accepts: &["true", "false"],
    }
}

const fn only(name: &'static str, short: Option<char>, accepts: &'static [&'static str]) -> Flag {
    Flag {
        name,
        short,
        value: true,
        accepts,
    }
}

/// Flags of every verb.
const GLOBAL: &[Flag] = &[
    only("bootstrapper", Some('b'), &["kubeadm"]),
    value("user"),
    either("skip-audit"),
    switch("rootless"),
    either("alsologtostderr"),
    either("logtostderr"),
    value("vmodule"),
    value("log_dir"),
    value("log_file"),
    value("stderrthreshold"),
    switch("one_output"),
    switch("skip_headers"),
    switch("skip_log_headers"),
    switch("add_dir_header"),
    value("log_backtrace_at"),
    value("log_file_max_size"),
];

/// Flags of `start`.
const START: &[Flag] = &[
    either("vm"),
    either("auto-update-drivers"),
    either("native-ssh"),
    either("no-vtx-check"),
    value("qemu-firmware-path"),
    value("socket-vmnet-path"),
    value("socket-vmnet-client-path"),
    value("uuid"),
    value("hyperkit-vpnkit-sock"),
    value("hyperkit-vsock-ports"),
    value("nfs-share"),
    value("nfs-shares-root"),
    value("kvm-network"),
    value("kvm-qemu-uri"),
    switch("kvm-gpu"),
    switch("kvm-hidden"),
    value("kvm-numa-count"),
    value("hyperv-virtual-switch"),
    switch("hyperv-use-external-switch"),
    value("hyperv-external-adapter"),
    switch("rosetta"),
    switch("vmnet-offloading"),
    value("ssh-ip-address"),
    value("ssh-user"),
    value("ssh-key"),
    value("ssh-port"),
    value("gpus"),
    value("base-image"),
    value("extra-disks"),
    only("nodes", Some('n'), &["1"]),
    switch("ha"),
    switch("force-systemd"),
    switch("no-kubernetes"),
    only("namespace", None, &["default"]),
    switch("disable-optimizations"),
    switch("disable-metrics"),
    switch("disable-coredns-log"),
    value("auto-pause-interval"),
    value("cri-socket"),
    value("docker-env"),
    value("docker-opt"),
    only("network", None, &["builtin", "user"]),
    only("cni", None, &["auto", "bridge", "true", ""]),
    only("network-plugin", None, &["cni", ""]),
    either("enable-default-cni"),
    value("host-only-cidr"),
    value("host-only-nic-type"),
    value("nat-nic-type"),
    switch("dns-proxy"),
    either("host-dns-resolver"),
    value("dns-servers"),
    switch("mdns"),
    value("static-ip"),
    value("subnet"),
    value("ports"),
    only("listen-address", None, &["127.0.0.1", ""]),
    value("iso-url"),
    either("preload"),
    value("preload-source"),
    either("cache-images"),
    value("image-mirror-country"),
    value("apiserver-ips"),
    value("apiserver-name"),
    only("apiserver-port", None, &["8443"]),
    value("cert-expiration"),
    either("embed-certs"),
    switch("mount"),
    value("mount-string"),
    value("mount-9p-version"),
    value("mount-gid"),
    value("mount-ip"),
    value("mount-msize"),
    value("mount-options"),
    value("mount-port"),
    value("mount-type"),
    value("mount-uid"),
    either("disable-driver-mounts"),
    either("interactive"),
    either("install-addons"),
    value("trace"),
];

/// Flags of other verbs.
const OTHERS: &[(&str, &[Flag])] = &[
    ("start", START),
    ("stop", &[value("schedule"), switch("cancel-scheduled")]),
    (
        "ssh",
        &[either("native-ssh"), only("node", Some('n'), &["", "m01"])],
    ),
    ("ssh-key", &[only("node", Some('n'), &["", "m01"])]),
    ("ip", &[only("node", Some('n'), &["", "m01"])]),
    (
        "logs",
        &[
            only("node", None, &["", "m01"]),
            switch("audit"),
            switch("last-start-only"),
        ],
    ),
];

/// Flags that sampan has, with values that only minikube knows.
const VALUES: &[(&str, &[Flag])] = &[(
    "start",
    &[only(
        "container-runtime",
        None,
        &["containerd", "docker", "auto", ""],
    )],
)];

/// Verbs with other names they go by.
const VERBS: &[(&str, &[&str])] = &[
    ("dashboard", &[]),
    ("mount", &[]),
    ("node", &[]),
    ("ssh-host", &[]),
    ("update-check", &[]),
    ("license", &[]),
];

/// Verbs below verbs that sampan has.
const BELOW: &[(&str, &[&str])] = &[("cache", &["add", "delete", "reload"])];

/// A verb that is not there yet, whatever comes behind it.
fn unknown(name: &'static str) -> Command {
    let anything = Arg::new("anything")
        .num_args(0..)
        .trailing_var_arg(true)
        .allow_hyphen_values(true);
    Command::new(name)
        .hide(true)
        .disable_help_flag(true)
        .arg(anything)
}

fn argument(flag: &Flag, global: bool) -> Arg {
    let argument = Arg::new(flag.name)
        .long(flag.name)
        .hide(true)
        .global(global)
        .action(ArgAction::Append);
    let argument = match flag.short {
        Some(short) => argument.short(short),
        None => argument,
    };
    if flag.value {
        argument.num_args(1).allow_hyphen_values(true)
    } else {
        argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    }
}

/// Adds all of it, hidden from the help.
pub(super) fn add(mut command: Command) -> Command {
    for (name, aliases) in VERBS {
        command = command.subcommand(unknown(name).aliases(*aliases));
    }
    for (name, verbs) in BELOW {
        command = command.mut_subcommand(name, |verb| {
            verbs.iter().copied().map(unknown).fold(verb, Command::subcommand)
        });
    }
    command = GLOBAL
        .iter()
        .fold(command, |command, flag| command.arg(argument(flag, true)));
    for (name, flags) in OTHERS {
        command = command.mut_subcommand(name, |verb| {
            flags
                .iter()
                .fold(verb, |verb, flag| verb.arg(argument(flag, false)))
        });
    }
    command
}

/// Says no to what is not there yet.
///
/// # Errors
/// [`Kind::Unimplemented`].
pub(super) fn check(matches: &ArgMatches) -> Result<()> {
    refuse_flags(matches, GLOBAL, "")?;
    let Some((verb, matches)) = matches.subcommand() else {
        return Ok(());
    };
    if VERBS.iter().any(|(name, _)| *name == verb) {
        return Err(not_there(verb, ""));
    }
    if let Some((below, _)) = matches.subcommand()
        && BELOW
            .iter()
            .any(|(name, verbs)| *name == verb && verbs.contains(&below))
    {
        return Err(not_there(&format!("{verb} {below}"), &format!("{verb} ")));
    }
    let of_verb = OTHERS.iter().chain(VALUES).filter(|(name, _)| *name == verb);
    for (_, flags) in of_verb {
        refuse_flags(matches, flags, verb)?;
    }
    Ok(())
}

fn not_there(verb: &str, of: &str) -> Error {
    Error::new(Kind::Unimplemented, format!("`sampan {verb}` is not there yet"))
        .hint(format!("`sampan {of}--help` lists what there is"))
}

fn refuse_flags(matches: &ArgMatches, flags: &[Flag], verb: &str) -> Result<()> {
    for flag in flags {
        let id = flag.name;
        if !matches!(matches.try_contains_id(id), Ok(true))
            || matches.value_source(id) != Some(ValueSource::CommandLine)
        {
            continue;
        }
        let values = matches.get_many::<String>(id).unwrap_or_default();
        if let Some(text) = values
            .into_iter()
            .find(|text| !flag.accepts.contains(&text.as_str()))
        {
            return Err(refusal(flag, text, verb));
        }
    }
    Ok(())
}

fn refusal(flag: &Flag, text: &str, verb: &str) -> Error {
    let written = if flag.value {
        format!("--{} {text}", flag.name)
    } else {
        format!("--{}", flag.name)
    };
    let error = Error::new(
        Kind::Unimplemented,
        format!("`{written}` of minikube is not there yet"),
    );
    let accepted: Vec<&str> = flag
        .accepts
        .iter()
        .copied()
        .filter(|text| !text.is_empty())
        .collect();
    if flag.value && !accepted.is_empty() {
        return error.hint(format!("leave it out, or use {}", accepted.join(" or ")));
    }
    error.hint(format!("leave it out; `sampan {verb} --help` lists the flags there are").replace("  ", " "))
}
