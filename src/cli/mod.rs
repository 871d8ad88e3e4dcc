//! The command line: flags and their help, nothing else. `commands` does what they say.

pub mod addons;
pub mod bundle;
pub mod cache;
pub mod docker_env;
pub mod driver;
mod foreign;
pub mod image;
mod output;
pub mod publish;
pub mod service;
pub mod snapshot;
mod start;
mod usage;
mod verbs;

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::{ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::{ArgValueCandidates, CompletionCandidate};

pub use output::{EventOutput, Format, TableFormat, TableOutput, TextOutput};
pub use start::StartArgs;
pub use usage::Rejected;
pub use verbs::{
    CompletionArgs, ConfigArgs, ConfigVerb, CpArgs, DeleteArgs, KubectlArgs, LogsArgs, ProfileArgs,
    ProfileListArgs, ProfileVerb, SshArgs, StatusArgs, StatusLayout, StopArgs, VersionArgs, VersionFormat,
};

/// A local Kubernetes cluster in a small virtual machine
#[derive(Debug, Clone, Parser)]
#[command(
    name = "sampan",
    version,
    arg_required_else_help = true,
    subcommand_required = true
)]
pub struct Cli {
    /// Flags of every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The cluster to work with [default: the one chosen with `sampan profile`, else sampan]
    #[arg(short, long, global = true, value_name = "NAME", help_heading = "Global options",
          add = ArgValueCandidates::new(profile_candidates))]
    pub profile: Option<String>,
    /// Tell what is being done, on standard error; -vv tells every command, -vvv everything
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
    /// Tell only what was asked for, warnings and errors
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        help_heading = "Global options"
    )]
    pub quiet: bool,
}

/// The verbs.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    #[expect(
        missing_docs,
        reason = "the documentation of the arguments is the help of the verb"
    )]
    Start(Box<StartArgs>),
    #[expect(missing_docs, reason = "as above")]
    Status(StatusArgs),
    #[expect(missing_docs, reason = "as above")]
    Stop(StopArgs),
    #[expect(missing_docs, reason = "as above")]
    Delete(DeleteArgs),
    #[expect(missing_docs, reason = "as above")]
    Pause(snapshot::PauseArgs),
    #[expect(missing_docs, reason = "as above")]
    #[command(alias = "resume")]
    Unpause(snapshot::UnpauseArgs),
    #[expect(missing_docs, reason = "as above")]
    Snapshot(snapshot::SnapshotArgs),
    #[expect(missing_docs, reason = "as above")]
    #[command(visible_alias = "clone")]
    Fork(snapshot::ForkArgs),
    #[expect(missing_docs, reason = "as above")]
    Kubectl(KubectlArgs),
    #[expect(missing_docs, reason = "as above")]
    Profile(ProfileArgs),
    #[expect(missing_docs, reason = "as above")]
    Config(ConfigArgs),
    #[expect(missing_docs, reason = "as above")]
    DockerEnv(docker_env::DockerEnvArgs),
    #[expect(missing_docs, reason = "as above")]
    #[command(hide = true)]
    PodmanEnv(docker_env::PodmanEnvArgs),
    #[expect(missing_docs, reason = "as above")]
    #[command(alias = "images")]
    Image(image::ImageArgs),
    #[expect(missing_docs, reason = "as above")]
    Service(service::ServiceArgs),
    #[expect(missing_docs, reason = "as above")]
    #[command(alias = "addon")]
    Addons(addons::AddonsArgs),
    /// Point kubectl to the cluster, and make it the current context
    UpdateContext,
    #[expect(missing_docs, reason = "as above")]
    Bundle(bundle::BundleArgs),
    #[expect(missing_docs, reason = "as above")]
    Cache(cache::CacheArgs),
    #[expect(missing_docs, reason = "as above")]
    #[command(alias = "drivers")]
    Driver(driver::DriverArgs),
    #[expect(missing_docs, reason = "as above")]
    Ssh(SshArgs),
    #[expect(missing_docs, reason = "as above")]
    Cp(CpArgs),
    /// Print the path of the key that the node accepts
    SshKey,
    /// Print the address at which the host reaches the cluster
    Ip,
    #[expect(missing_docs, reason = "as above")]
    Port(publish::PortArgs),
    #[expect(missing_docs, reason = "as above")]
    Tunnel(publish::TunnelArgs),
    #[expect(missing_docs, reason = "as above")]
    #[command(hide = true)]
    Supervise(publish::SuperviseArgs),
    #[expect(missing_docs, reason = "as above")]
    Logs(LogsArgs),
    #[expect(missing_docs, reason = "as above")]
    Version(VersionArgs),
    #[expect(missing_docs, reason = "as above")]
    Completion(CompletionArgs),
    /// The machine of the test driver.
    #[command(name = "__fake-machine", hide = true)]
    FakeMachine {
        /// The machine's directory.
        dir: std::path::PathBuf,
    },
}

/// Verbs in the order of the help.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Basic commands",
        &["start", "status", "stop", "delete", "kubectl"],
    ),
    ("Moments of a cluster", &["pause", "unpause", "snapshot", "fork"]),
    (
        "Configuration",
        &["profile", "config", "update-context", "driver", "bundle", "cache"],
    ),
    ("Images", &["docker-env", "image"]),
    ("Reaching it", &["service", "addons", "port", "tunnel", "ip"]),
    ("The node", &["ssh", "cp", "ssh-key"]),
    ("Troubleshooting", &["logs", "version"]),
    ("Other", &["completion", "help"]),
];

/// The whole command line, with what only minikube has.
pub fn command() -> Command {
    let command = foreign::add(Cli::command().infer_long_args(false));
    let template = root_help(&command);
    command.help_template(template)
}

/// The help of `sampan` itself: verbs in groups.
fn root_help(command: &Command) -> String {
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    let heading = |text: &str| format!("\u{1b}[1m\u{1b}[4m{text}:\u{1b}[0m");
    for (group, verbs) in GROUPS {
        let _ = write!(text, "\n{}\n", heading(group));
        for verb in *verbs {
            let about = match command.find_subcommand(verb).and_then(Command::get_about) {
                Some(about) => about.to_string(),
                None => "Print help for a command".to_owned(),
            };
            let _ = writeln!(text, "  \u{1b}[1m{verb:<16}\u{1b}[0m{about}");
        }
    }
    let _ = write!(text, "\n{}\n{{options}}\n\n", heading("Options"));
    text.push_str("Settings and more: `sampan help start`, `sampan help config`.");
    text
}

/// Reads a command line; the first word is the name the program was called by.
///
/// # Errors
/// [`Rejected`]: help was asked for, or what is wrong.
pub fn parse(words: Vec<OsString>) -> Result<Cli, Rejected> {
    let root = command();
    let words = as_kubectl(words);
    let words = with_levels(words);
    let matches = root
        .clone()
        .try_get_matches_from(words)
        .map_err(|error| usage::explain(&error, &root))?;
    foreign::check(&matches).map_err(Rejected::Wrong)?;
    Cli::from_arg_matches(&matches).map_err(|error| usage::explain(&error, &root))
}

/// A program named kubectl is `sampan kubectl --`; the context names the profile.
fn as_kubectl(words: Vec<OsString>) -> Vec<OsString> {
    let program = words.first().map(std::path::PathBuf::from).unwrap_or_default();
    if program.file_stem().is_none_or(|stem| stem != "kubectl") {
        return words;
    }
    let mut profile = None;
    let mut rest = Vec::new();
    let mut words = words.into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--") => {
                rest.push(word);
                rest.extend(words.by_ref());
            }
            Some("--context") => profile = words.next(),
            Some(text) if text.starts_with("--context=") => profile = text.get(10..).map(OsString::from),
            _ => rest.push(word),
        }
    }
    let mut all: Vec<OsString> = vec!["sampan".into()];
    if let Some(profile) = profile {
        all.extend(["--profile".into(), profile]);
    }
    all.extend(["kubectl".into(), "--".into()]);
    all.extend(rest);
    all
}

/// minikube's "-v=7", "--v=7" and "-v 7" as so many "-v". What is meant for kubectl or the node is left alone.
fn with_levels(words: Vec<OsString>) -> Vec<OsString> {
    let mut all = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if matches!(&*text, "--" | "kubectl" | "ssh") {
            all.push(word);
            break;
        }
        let number = ["-v=", "--v=", "-v"]
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix)?.parse::<usize>().ok());
        match number {
            Some(level) => all.extend(vec![OsString::from("-v"); level.min(3)]),
            None if matches!(&*text, "-v" | "--v") => {
                let level = words.peek().and_then(|next| next.to_str()?.parse::<usize>().ok());
                if level.is_some() {
                    words.next();
                }
                all.extend(vec![OsString::from("-v"); level.unwrap_or(1).min(3)]);
            }
            None => all.push(word),
        }
    }
    all.extend(words);
    all
}

/// Profile names for completion.
fn profile_candidates() -> Vec<CompletionCandidate> {
    crate::commands::profile_names()
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

#[cfg(test)]
mod tests;
