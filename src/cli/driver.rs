//! `driver`: what runs the machines.

use clap::{Args, Subcommand};

use super::TableFormat;

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
        /// table, or json
        #[arg(
            short,
            long,
            value_enum,
            default_value_t,
            hide_possible_values = true,
            value_name = "FORMAT"
        )]
        output: TableFormat,
    },
}
