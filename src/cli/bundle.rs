//! `bundle`: the bits that nodes are made of.

use clap::{Args, Subcommand};

use super::{Format, TableFormat};

/// Make, list, show and remove bundles: all the bits that a node is made of
#[derive(Debug, Clone, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct BundleArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: BundleVerb,
}

/// Verbs of `bundle`.
#[derive(Debug, Clone, Subcommand)]
pub enum BundleVerb {
    /// Make the bundle of this sampan, unless it is there
    ///
    /// The base system comes from Debian packages, the programs are compiled from their Go modules. What was made before from the
    /// same inputs is taken from the cache, and an interrupted build goes on where it was.
    Build {
        /// text for people, or json for one event a line
        #[arg(
            short,
            long,
            value_enum,
            default_value_t,
            hide_possible_values = true,
            value_name = "FORMAT"
        )]
        output: Format,
    },
    /// List bundles
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
    /// Show what a bundle holds
    Show {
        /// Key of the bundle or its beginning; none means the one that new clusters get
        key: Option<String>,
        /// Read all files and compare their sums
        #[arg(long)]
        verify: bool,
        /// text for people, or json
        #[arg(
            short,
            long,
            value_enum,
            default_value_t,
            hide_possible_values = true,
            value_name = "FORMAT"
        )]
        output: Format,
    },
    /// Remove a bundle that no cluster stands on
    #[command(visible_alias = "rm")]
    Remove {
        /// Keys of bundles or their beginnings
        #[arg(required = true)]
        keys: Vec<String>,
        /// Also when a cluster stands on it: that cluster can no longer start
        #[arg(long)]
        force: bool,
    },
}
