//! `kubectl`: the bundle's own, so that it always fits the cluster.

use std::process::Command as Process;

use crate::cli::KubectlArgs;
use crate::cluster;
use crate::error::{Error, Kind, Result};
use crate::layout::{BundleLayout, Layout};

use super::{App, host, ssh};

/// kubectl's flags that say which cluster is meant. Their values follow after "=" or as the next word.
const CHOOSING: [&str; 6] = [
    "--context",
    "--cluster",
    "--kubeconfig",
    "--server",
    "-s",
    "--user",
];

pub(super) fn run(app: &App, args: &KubectlArgs) -> Result<u8> {
    let name = app.profile()?;
    if args.ssh {
        let words = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf"].map(str::to_owned);
        let words: Vec<String> = words.into_iter().chain(args.arguments.iter().cloned()).collect();
        return ssh::command(app, &name, &words);
    }
    let program = program(&app.layout()?, &name)?;
    let mut process = Process::new(program);
    process.args(with_context(&args.arguments, &name));
    Err(host::become_program(process))
}

/// The kubectl of the cluster's bundle. Without a cluster that of this sampan will do, as it does for `kubectl version --client`.
fn program(layout: &Layout, name: &str) -> Result<std::path::PathBuf> {
    let key = match cluster::load(layout, name) {
        Ok(profile) => profile.parts().to_owned(),
        Err(error) if error.kind() == Kind::NotFound => super::bundle::own(layout)?,
        Err(error) => return Err(error),
    };
    let program = BundleLayout(layout.bundles().join(key)).kubectl();
    if program.exists() {
        return Ok(program);
    }
    Err(Error::new(
        Kind::HostPath,
        format!("{}: there is no kubectl yet", program.display()),
    )
    .hint("run `sampan start`, or `sampan bundle build`, to make it"))
}

/// The arguments with `--context=NAME` before the first flag, unless they choose a cluster themselves. Behind the verb, since
/// kubectl finds its plugins only when no flag stands before their name.
fn with_context(arguments: &[String], name: &str) -> Vec<String> {
    let own = arguments.split(|word| word == "--").next().unwrap_or_default();
    let flag_of = |word: &String| word.split('=').next().unwrap_or_default().to_owned();
    let chosen = own.iter().any(|word| CHOOSING.contains(&flag_of(word).as_str()));
    let mut all = arguments.to_vec();
    if !chosen && !arguments.is_empty() {
        let at = all
            .iter()
            .position(|word| word.starts_with('-'))
            .unwrap_or(all.len());
        all.insert(at, format!("--context={name}"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_stands_before_the_first_flag_unless_one_is_chosen() {
        for (line, expected) in [
            ("get pods", "get pods --context=a"),
            ("get pods -A", "get pods --context=a -A"),
            ("exec x -- ls -l", "exec x --context=a -- ls -l"),
            ("--context=b get pods", "--context=b get pods"),
            ("get pods --kubeconfig x", "get pods --kubeconfig x"),
            (
                "exec x -- tool --context y",
                "exec x --context=a -- tool --context y",
            ),
            ("", ""),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(with_context(&words, "a").join(" "), expected);
        }
    }
}
