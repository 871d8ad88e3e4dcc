//! `bundle`: the bits that nodes are made of.

use clap::{Args, Subcommand};

use super::TableFormat;

/// Make, list and remove bundles: all the bits that a node is made of
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
    Build,
    /// List bundles
    #[command(visible_alias = "ls")]
    List {
        /// A table, or JSON
        #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
        output: TableFormat,
    },
}
