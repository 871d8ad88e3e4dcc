//! `driver`: what runs the machines.

use clap::{Args, Subcommand};

use super::TableOutput;

/// Show what can run clusters on this host
#[derive(Debug, Clone, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct DriverArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: DriverVerb,
}

/// Verbs of `driver`.
#[derive(Debug, Clone, Subcommand)]
pub enum DriverVerb {
    /// List drivers, best first: whether they work here, and what to do if not
    ///
    /// A new cluster gets the first one that works, unless `start --driver` or the setting driver names another.
    #[command(visible_alias = "ls")]
    List {
        /// How they are listed.
        #[command(flatten)]
        output: TableOutput,
    },
}
