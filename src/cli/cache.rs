//! `cache`: the layers that clusters are made of.

use clap::{Args, Subcommand};

use super::TableOutput;

/// Show, check and clear what clusters are made of and what can be made again
///
/// Layers are bundles, ready snapshots that new clusters are forked from, and moments of clusters that snapshots and forks stand on.
/// What is in use is never removed.
#[derive(Debug, Clone, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct CacheArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: CacheVerb,
}

/// Verbs of `cache`.
#[derive(Debug, Clone, Subcommand)]
pub enum CacheVerb {
    /// List layers: their size, and who uses them
    #[command(visible_alias = "ls")]
    List {
        /// How they are listed.
        #[command(flatten)]
        output: TableOutput,
    },
    /// Remove layers that nobody uses, those first that were used least recently
    ///
    /// With a quota, given here or as the setting cache-quota, no more go than it takes to keep to it.
    Prune {
        /// Keep to this size, as 20g
        #[arg(long, value_name = "SIZE", conflicts_with = "all")]
        quota: Option<String>,
        /// Everything that nobody uses, whatever the setting cache-quota says
        #[arg(long)]
        all: bool,
        /// Tell what would go, and remove nothing
        #[arg(long)]
        dry_run: bool,
        /// How they are listed.
        #[command(flatten)]
        output: TableOutput,
    },
    /// Read all layers and compare their sums
    ///
    /// The exit status is 30 when one is damaged. Damaged ready snapshots, and bundles that no cluster uses, are set aside and made again
    /// when they are needed.
    Verify {
        /// How they are listed.
        #[command(flatten)]
        output: TableOutput,
    },
}
