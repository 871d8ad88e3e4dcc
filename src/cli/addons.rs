//! `addons`: what can be added to a cluster.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::service::{ListFormat, ReachArgs};

/// Add things to the cluster, and take them out again: ingress, metrics, a registry
///
/// Addons come with sampan, images included; nothing is fetched. Your own go into a directory each beside the settings, see
/// docs/addons.md. For a stopped cluster a change is made by its next start.
#[derive(Debug, Clone, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct AddonsArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: AddonsVerb,
}

/// Verbs of `addons`.
#[derive(Debug, Clone, Subcommand)]
pub enum AddonsVerb {
    /// List addons, and which are enabled
    #[command(visible_alias = "ls")]
    List {
        /// list for a table, or json
        #[arg(
            short,
            long,
            value_enum,
            default_value_t,
            hide_possible_values = true,
            value_name = "FORMAT"
        )]
        output: ListFormat,
        /// Tell where to read more
        #[arg(short, long)]
        docs: bool,
    },
    /// Enable addons, and wait until they are healthy
    Enable {
        /// Their names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// Other images.
        #[arg(long, hide = true)]
        images: Option<String>,
        /// Other registries.
        #[arg(long, hide = true)]
        registries: Option<String>,
        /// Nothing is held back here.
        #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
        force: Option<Option<String>>,
        /// Always done.
        #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
        refresh: Option<Option<String>>,
    },
    /// Disable addons: all that they made is removed
    Disable {
        /// Their names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Set options of an addon; without any, print those it has
    Configure {
        /// Its name
        name: String,
        /// Options
        #[arg(value_name = "KEY=VALUE")]
        options: Vec<String>,
        /// A file of them, as KEY: VALUE in YAML or JSON
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print which images an addon uses
    Images {
        /// Its name
        name: String,
    },
    /// Print where an addon is reached, or open it
    Open {
        /// Its name
        name: String,
        #[expect(missing_docs, reason = "flags of two verbs")]
        #[command(flatten)]
        reach: ReachArgs,
    },
}
