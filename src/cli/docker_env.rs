//! `docker-env` and `podman-env`.

use clap::{Args, ValueEnum};

/// Point docker to the cluster's Docker: what it builds, pods run
///
/// Prints what your shell has to evaluate: eval $(sampan docker-env). When there is nothing to point to, evaluating fails. With
/// --context nothing has to be evaluated: a Docker context named after the cluster is made, for `docker --context NAME`.
#[derive(Debug, Clone, Args)]
pub struct DockerEnvArgs {
    /// bash, zsh, sh, fish, powershell, cmd, tcsh, emacs or none [default: what SHELL names]
    #[arg(long, value_name = "SHELL")]
    pub shell: Option<String>,
    /// text, or json or yaml for programs, without a shell or with --shell none
    #[arg(short, long, value_enum, hide_possible_values = true, value_name = "FORMAT")]
    pub output: Option<EnvFormat>,
    /// Go back to what you had before
    #[arg(short, long)]
    pub unset: bool,
    /// Add the cluster's address to NO_PROXY
    #[arg(long)]
    pub no_proxy: bool,
    /// Have docker reach the node by ssh instead of TLS
    #[arg(long)]
    pub ssh_host: bool,
    /// Add the node's key to your SSH agent; for --ssh-host
    #[arg(long)]
    pub ssh_add: bool,
    /// Make a Docker context instead of variables; with --unset, remove it
    #[arg(long, conflicts_with_all = ["shell", "output", "no_proxy", "ssh_host", "ssh_add"])]
    pub context: bool,
}

/// Notations of variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EnvFormat {
    /// K=V
    Text,
    /// One object
    Json,
    /// One map
    Yaml,
}

/// There is no Podman in the cluster's machine: see `docker-env`.
#[derive(Debug, Clone, Args)]
pub struct PodmanEnvArgs {
    /// Whatever minikube takes.
    #[arg(num_args = 0.., trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub anything: Vec<String>,
}
