//! `port`, `tunnel` and the hidden `supervise`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::TableOutput;
use crate::supervisor::ports::{Place, Rule};

/// Lead ports of this host into the node, beyond those that services publish by themselves
///
/// They are kept over stop and start. Nothing but loopback addresses ever listens.
#[derive(Debug, Clone, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct PortArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: PortVerb,
}

/// Verbs of `port`.
#[derive(Debug, Clone, Subcommand)]
pub enum PortVerb {
    /// Lead a port of the cluster's address on this host to a port of the node
    ///
    /// In a cluster that runs it is there at once; where somebody else has the port, the exit status is 71, and it is there as soon as the
    /// port is free.
    Add {
        /// [tcp:|udp:][ADDRESS:]HOST:GUEST, as 8080:30080; the address is the cluster's own [`sampan ip`] unless another of loopback is named
        #[arg(value_name = "HOST:GUEST")]
        rule: Rule,
    },
    /// List them and the ports of Docker's own containers, and where they listen
    #[command(visible_alias = "ls")]
    List {
        /// How they are listed.
        #[command(flatten)]
        output: TableOutput,
    },
    /// Take one away
    #[command(visible_alias = "rm")]
    Remove {
        /// [tcp:|udp:][ADDRESS:]HOST, as it was added, with or without what it leads to
        #[arg(value_name = "HOST", value_parser = place)]
        place: Place,
    },
}

/// A place, also as part of a whole rule. "127.0.0.1:80" is a place, "8080:80" a rule.
fn place(text: &str) -> Result<Place, String> {
    text.parse::<Place>()
        .or_else(|why| text.parse::<Rule>().map(Place::from).map_err(|_| why))
}

/// Print what services publish on this host, and wait
///
/// NodePort and LoadBalancer services are there without this command. It is for scripts that are made for a tunnel: it prints what is
/// published, tells what changes, and ends with Ctrl-C.
#[derive(Debug, Clone, Args)]
pub struct TunnelArgs {
    /// For minikube's scripts: there is never anything to clean up
    #[arg(short, long)]
    pub cleanup: bool,
}

/// The process that publishes ports
#[derive(Debug, Clone, Args)]
pub struct SuperviseArgs {
    /// Where settings are.
    #[arg(long)]
    pub config: PathBuf,
    /// Where profiles are.
    #[arg(long)]
    pub data: PathBuf,
    /// Where layers are.
    #[arg(long)]
    pub cache: PathBuf,
}
