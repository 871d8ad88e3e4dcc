//! The flags of every verb but `start` and `bundle`. Doc comments are the help.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{EventOutput, Format, TableOutput, TextOutput};

/// Say what a cluster is doing
///
/// The exit status is 0 when all is well; else the sum of 1 (the machine does not run), 2 (the kubelet or the apiserver does not)
/// and 4 (kubectl is not set up for it). 85: there is no such profile.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// text for people, or json
    #[arg(short, long, value_enum, hide_possible_values = true, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// A template with {{.Name}}, {{.Host}}, {{.Kubelet}}, {{.APIServer}}, {{.Kubeconfig}}, {{.Worker}}
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Shape of the JSON: nodes for an object with the node's state, cluster for one with codes for all parts
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "LAYOUT"
    )]
    pub layout: StatusLayout,
    /// The node to look at; there is one, named after the profile
    #[arg(short, long, value_name = "NAME")]
    pub node: Option<String>,
    /// Look again and again, every second or as often as said
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "1s", value_name = "EVERY")]
    pub watch: Option<String>,
}

/// Shapes of `status -o json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum StatusLayout {
    /// An object with the state of the node
    #[default]
    Nodes,
    /// An object with codes for the cluster and its parts
    Cluster,
}

/// Stop a cluster; everything in it stays
///
/// The machine is saved with its memory, which is freed: at the next start pods go on where they were. With --shutdown, or the setting
/// stop-mode = shutdown, the node powers off instead, and the next start boots it.
///
/// The kubeconfig entries are taken out, as the address leads nowhere; `sampan start` puts them back.
#[derive(Debug, Clone, Args)]
pub struct StopArgs {
    /// Stop all clusters
    #[arg(long)]
    pub all: bool,
    /// Power the node off instead of saving it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub shutdown: Option<bool>,
    /// Leave the kubeconfig as it is
    #[arg(long)]
    pub keep_context_active: bool,
    /// How it talks.
    #[command(flatten)]
    pub output: EventOutput,
}

/// Delete a cluster with all its data
///
/// Its machine, its files and its kubeconfig entries go. Deleting what is not there succeeds.
#[derive(Debug, Clone, Args)]
pub struct DeleteArgs {
    /// Delete all clusters
    #[arg(long)]
    pub all: bool,
    /// Remove settings, bundles and everything else of sampan's as well; needs --all when there are several clusters
    #[arg(long)]
    pub purge: bool,
    /// How it talks.
    #[command(flatten)]
    pub output: EventOutput,
}

/// Open a shell on the node, or run a command there
///
/// The exit status is that of the command. Standard input, output and error are passed through.
#[derive(Debug, Clone, Args)]
pub struct SshArgs {
    /// The command and its arguments; none opens a shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Run the kubectl that fits the cluster
///
/// Everything behind the verb goes to kubectl, as in `sampan kubectl -- get pods -A`. A program named kubectl that is a link to sampan
/// does the same.
#[derive(Debug, Clone, Args)]
pub struct KubectlArgs {
    /// Run it on the node instead
    #[arg(long)]
    pub ssh: bool,
    /// Arguments for kubectl
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub arguments: Vec<String>,
}

/// Show the logs of a cluster
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// Go on as lines come
    #[arg(short, long)]
    pub follow: bool,
    /// Only lines that look like a problem
    #[arg(long)]
    pub problems: bool,
    /// Lines of each log
    #[arg(short = 'n', long, default_value_t = 60, value_name = "LINES")]
    pub length: u32,
    /// Write them to a file
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Choose the cluster that commands mean, or list them
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ProfileArgs {
    /// list
    #[command(subcommand)]
    pub verb: Option<ProfileVerb>,
    /// The cluster to choose; none prints the one that is chosen
    #[arg(value_name = "NAME", add = clap_complete::ArgValueCandidates::new(super::profile_candidates))]
    pub name: Option<String>,
}

/// Verbs of `profile`.
#[derive(Debug, Clone, Subcommand)]
pub enum ProfileVerb {
    /// List all clusters
    #[command(visible_alias = "ls")]
    List(ProfileListArgs),
}

/// List all clusters.
#[derive(Debug, Clone, Args)]
pub struct ProfileListArgs {
    /// How they are listed.
    #[command(flatten)]
    pub output: TableOutput,
    /// Do not look what they are doing
    #[arg(short, long)]
    pub light: bool,
    /// More columns
    #[arg(short, long)]
    pub detailed: bool,
}

/// Print the version of sampan and of what it brings along
#[derive(Debug, Clone, Args)]
pub struct VersionArgs {
    /// Only the number
    #[arg(long)]
    pub short: bool,
    /// Versions of the components of the default bundle as well
    #[arg(long)]
    pub components: bool,
    /// text, json or yaml
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "FORMAT"
    )]
    pub output: VersionFormat,
}

/// Forms of `version`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum VersionFormat {
    /// For people
    #[default]
    Text,
    /// One object
    Json,
    /// One document
    Yaml,
}

/// Copy a file to or from the node
///
/// A path on the node is written NODE:/path. With a plain path on both sides the target is on the node. A target that ends in "/"
/// takes the name of the source.
#[derive(Debug, Clone, Args)]
pub struct CpArgs {
    /// What to copy: /path, or NODE:/path
    pub source: String,
    /// Where to: NODE:/absolute/path, or /path
    pub target: String,
}

/// Print the script that makes a shell complete commands, flags and profile names
///
/// bash: source <(sampan completion bash)
///
/// zsh: source <(sampan completion zsh)
///
/// fish: sampan completion fish | source
#[derive(Debug, Clone, Args)]
pub struct CompletionArgs {
    /// bash, zsh, fish, powershell or elvish
    #[arg(value_name = "SHELL", value_parser = ["bash", "zsh", "fish", "powershell", "elvish"], hide_possible_values = true)]
    pub shell: String,
}

/// Read and change the settings file
#[derive(Debug, Clone, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct ConfigArgs {
    /// What to do
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// Verbs of `config`.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigVerb {
    /// Set a value; it counts for clusters made from now on
    Set {
        /// The setting
        #[arg(value_name = "NAME")]
        name: String,
        /// Its value
        #[arg(value_name = "VALUE", allow_hyphen_values = true)]
        value: String,
    },
    /// Print a value
    Get {
        /// The setting
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Take a value out
    Unset {
        /// The setting
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Print all values that are set
    View {
        /// A template with {{.ConfigKey}} and {{.ConfigValue}}
        #[arg(
            long,
            default_value = "- {{.ConfigKey}}: {{.ConfigValue}}",
            value_name = "TEMPLATE"
        )]
        format: String,
    },
    /// Print what a setting is when nobody sets it
    Defaults {
        /// The setting; none prints all
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// How it is shown.
        #[command(flatten)]
        output: TextOutput,
    },
}
