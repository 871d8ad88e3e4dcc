//! `service`: where services are reached from the host.

use clap::{Args, Subcommand, ValueEnum};

use super::TableOutput;

/// Print where a service is reached, or open it
///
/// Services of type NodePort and LoadBalancer are published all the time. One that is not is published for as long as the command runs.
/// A browser is opened when standard output is a terminal and there is one; --url only prints.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ServiceArgs {
    /// What to do instead.
    #[command(subcommand)]
    pub verb: Option<ServiceVerb>,
    /// Names of services
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub names: Vec<String>,
    /// Namespace of the services
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// All services of the namespace
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    #[expect(missing_docs, reason = "flags of two verbs")]
    #[command(flatten)]
    pub reach: ReachArgs,
}

/// Verbs of `service`.
#[derive(Debug, Clone, Subcommand)]
pub enum ServiceVerb {
    /// List services: where they are reached, and what keeps them from being published
    #[command(visible_alias = "ls")]
    List {
        /// How they are listed.
        #[command(flatten)]
        output: TableOutput,
        /// Only services of this namespace
        #[arg(short, long, value_name = "NAME")]
        namespace: Option<String>,
    },
}

/// How URLs are made and told.
#[derive(Debug, Clone, Args)]
pub struct ReachArgs {
    /// Print URLs, one a line, and open nothing
    #[arg(long)]
    pub url: bool,
    /// https instead of http
    #[arg(long)]
    pub https: bool,
    /// Shape of URLs, with {{.IP}}, {{.Port}} and {{.Name}}
    #[arg(long, value_name = "TEMPLATE", default_value = "http://{{.IP}}:{{.Port}}")]
    pub format: String,
    /// Seconds to wait for the service
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub wait: u64,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    pub interval: u64,
}

/// How addons are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// A table
    #[default]
    #[value(alias = "table")]
    List,
    /// One object
    Json,
}
