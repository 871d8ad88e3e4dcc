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
    /// Fetch a bundle of upstream's releases, unless it is there
    ///
    /// Programs, a cloud image and container images come from where their makers publish them, with the checksums that stand there; what
    /// was really fetched is written into the bundle's lock. An interrupted fetch goes on where it was.
    Fetch(FetchArgs),
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

/// What `bundle fetch` takes.
#[derive(Debug, Clone, Args)]
pub struct FetchArgs {
    /// The release of Kubernetes: v1.36.3, v1.35, stable, latest [default: stable]
    #[arg(long, value_name = "VERSION")]
    pub kubernetes_version: Option<String>,
    /// A mirror of upstream to fetch from: a directory or an address with a folder for each of upstream's hosts
    #[arg(long, value_name = "DIR|URL")]
    pub source: Option<String>,
    /// Where kubelet, kubeadm and kubectl are, instead of https://dl.k8s.io/release
    #[arg(long, value_name = "URL")]
    pub binary_mirror: Option<String>,
    /// Certificates (PEM) of authorities to be trusted besides the system's own
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<String>,
    /// text for people, or json for one event a line
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "FORMAT"
    )]
    pub output: Format,
}
