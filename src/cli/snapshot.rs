//! Verbs about a moment of a cluster: hold it, let it go on, keep it, go back to it, go on from it twice.

use clap::{Args, Subcommand};

use super::{EventOutput, TableOutput, TextOutput};

/// Hold a cluster still: it uses no CPU and answers nobody
///
/// The whole machine is held between two instructions and keeps its memory; `sampan unpause` lets it go on. `sampan stop` frees the
/// memory as well, and resuming takes seconds instead of none.
#[derive(Debug, Clone, Args)]
pub struct PauseArgs {
    /// What it shares with `unpause`.
    #[command(flatten)]
    pub hold: HoldArgs,
}

/// Let a cluster that is held go on
#[derive(Debug, Clone, Args)]
pub struct UnpauseArgs {
    /// What it shares with `pause`.
    #[command(flatten)]
    pub hold: HoldArgs,
}

/// Flags of `pause` and `unpause`.
#[derive(Debug, Clone, Args)]
pub struct HoldArgs {
    /// All namespaces, which is what happens anyway
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Some namespaces, as minikube does.
    #[arg(short, long, hide = true, value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// How it talks.
    #[command(flatten)]
    pub output: EventOutput,
}

/// Keep moments of a cluster and go back to them
///
/// A snapshot is the cluster at one moment: its disk, and its memory if it was running. Going back to one that has memory, pods go on
/// where they were, counters in memory included.
#[derive(Debug, Clone, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct SnapshotArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: SnapshotVerb,
}

/// Verbs of `snapshot`.
#[derive(Debug, Clone, Subcommand)]
pub enum SnapshotVerb {
    /// Keep this moment; a running cluster runs on
    Save {
        /// What to call it [default: date and time]
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// How it talks.
        #[command(flatten)]
        output: EventOutput,
    },
    /// Go back to a snapshot: what the cluster did since is lost
    ///
    /// A running cluster runs on from there, a stopped one stays stopped.
    Restore {
        /// The snapshot [default: the newest]
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// How long to wait until it is healthy, as 6m or 90s [default: 6m]
        #[arg(long, value_name = "TIME")]
        wait_timeout: Option<String>,
        /// How it talks.
        #[command(flatten)]
        output: EventOutput,
    },
    /// List the snapshots of a cluster
    #[command(visible_alias = "ls")]
    List {
        /// How they are listed.
        #[command(flatten)]
        output: TableOutput,
    },
    /// Show one snapshot
    Show {
        /// The snapshot [default: the newest]
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// How it is shown.
        #[command(flatten)]
        output: TextOutput,
    },
    /// Delete snapshots; the cluster and its forks stay
    #[command(visible_alias = "rm")]
    Delete {
        /// The snapshots
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// How it talks.
        #[command(flatten)]
        output: EventOutput,
    },
}

/// Make a second cluster that goes on from this moment of a first one
///
/// Everything is there twice from then on: pods, data, what they had in memory. The first one runs on, and either can be deleted
/// without the other. Both know each other's certificates: whoever may administer one may administer the other.
#[derive(Debug, Clone, Args)]
pub struct ForkArgs {
    /// The cluster to go on from, running or stopped
    #[arg(value_name = "SRC", add = clap_complete::ArgValueCandidates::new(super::profile_candidates))]
    pub source: String,
    /// The name of the new one
    #[arg(value_name = "DST")]
    pub target: String,
    /// Leave the current kubectl context as it is
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub keep_context: Option<bool>,
    /// How long to wait until it is healthy, as 6m or 90s [default: 6m]
    #[arg(long, value_name = "TIME")]
    pub wait_timeout: Option<String>,
    /// How it talks.
    #[command(flatten)]
    pub output: EventOutput,
}
