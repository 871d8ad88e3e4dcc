//! `bundle`: the bits that nodes are made of.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{EventOutput, TableOutput, TextOutput};

/// Make, carry, check and remove bundles: all the bits that a node is made of
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
        /// How it talks.
        #[command(flatten)]
        output: EventOutput,
    },
    /// Fetch a bundle of upstream's releases, unless it is there
    ///
    /// Programs, a cloud image and container images come from where their makers publish them, with the checksums that stand there; what
    /// was really fetched is written into the bundle's lock. An interrupted fetch goes on where it was.
    Fetch(FetchArgs),
    /// Write a bundle into one file, to be carried to another machine
    ///
    /// The file holds all that a cluster needs, images of all addons included: on the other machine `sampan bundle import FILE` and
    /// `sampan start` need no network. The same bundle always gives the same file.
    Export {
        /// The file, as stick/k8s.sampan; - for standard output
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Key of the bundle or its beginning; none means the one that new clusters get
        key: Option<String>,
        /// Replace a file of that name
        #[arg(short, long)]
        force: bool,
    },
    /// Take a bundle from a file that `bundle export` wrote
    ///
    /// Every sum is compared before anything of it is used, and an import that fails leaves nothing behind.
    Import {
        /// The file; - for standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Read all files of a bundle and compare their sums
    Verify {
        /// Key of the bundle or its beginning; none means the one that new clusters get
        key: Option<String>,
    },
    /// List bundles
    #[command(visible_alias = "ls")]
    List {
        /// How they are listed.
        #[command(flatten)]
        output: TableOutput,
    },
    /// Show what a bundle holds
    Show {
        /// Key of the bundle or its beginning; none means the one that new clusters get
        key: Option<String>,
        /// Read all files and compare their sums
        #[arg(long)]
        verify: bool,
        /// How it is shown.
        #[command(flatten)]
        output: TextOutput,
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
    /// Remove bundles that nobody uses, what is left of downloads, and leftovers of builds
    ///
    /// This sampan's own bundle stays, and so do whole downloads and what a next build would take from the cache. `sampan cache prune`
    /// is about ready snapshots too.
    Prune {
        /// Also this sampan's own bundle unless a cluster stands on it, all downloads and the whole build cache
        #[arg(short, long)]
        all: bool,
        /// Remove nothing, and say what would go
        #[arg(long)]
        dry_run: bool,
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
    /// Where images are fetched from by the last part of their names, as registry.example/k8s; in the bundle they keep their names
    #[arg(long, value_name = "REPO")]
    pub image_repository: Option<String>,
    /// A registry that does without TLS, as registry.example:5000, or a network of them; can be repeated
    #[arg(long, value_name = "HOST[:PORT]|CIDR")]
    pub insecure_registry: Vec<String>,
    /// Certificates (PEM) of authorities to be trusted besides the system's own
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<String>,
    /// How it talks.
    #[command(flatten)]
    pub output: EventOutput,
}
