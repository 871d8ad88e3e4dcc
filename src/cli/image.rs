//! `image`: what is in the cluster for pods to run.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Bring images into the cluster, see and remove them
///
/// With `eval $(sampan docker-env)` your own docker does the same and more: what it builds is there for pods without being copied.
#[derive(Debug, Clone, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct ImageArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: ImageVerb,
}

/// Verbs of `image`.
#[derive(Debug, Clone, Subcommand)]
pub enum ImageVerb {
    /// List images, each once with its names
    #[command(visible_alias = "list")]
    Ls {
        /// short for names, table for people, json or yaml for programs
        #[arg(
            long,
            value_enum,
            default_value_t,
            hide_possible_values = true,
            value_name = "FORMAT"
        )]
        format: ImageFormat,
    },
    /// Load images from archives or from the Docker of this host; only what the cluster lacks is sent
    Load {
        /// Files, - for standard input, or names that your docker knows
        #[arg(value_name = "FILE|-|NAME", required = true)]
        images: Vec<String>,
        /// Take names from your docker, which is what happens anyway
        #[arg(long, conflicts_with = "remote")]
        daemon: bool,
        /// Have the cluster pull names from their registry
        #[arg(long, visible_alias = "pull")]
        remote: bool,
        /// Replace what has the name, which is what happens anyway.
        #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
        overwrite: Option<Option<String>>,
    },
    /// Build an image from a directory with a Dockerfile, an address, or - for a Dockerfile or an archive on standard input
    Build {
        /// The context
        #[arg(value_name = "PATH|URL|-")]
        context: String,
        /// Name of the image
        #[arg(short, long, value_name = "NAME")]
        tag: Vec<String>,
        /// The Dockerfile [default: Dockerfile in the context]
        #[arg(short, long, value_name = "PATH")]
        file: Option<PathBuf>,
        /// A build argument, NAME=VALUE
        #[arg(long, visible_alias = "build-arg", value_name = "NAME=VALUE")]
        build_env: Vec<String>,
        /// An option of docker build's: no-cache, pull, target=NAME, platform=NAME
        #[arg(long, value_name = "OPTION")]
        build_opt: Vec<String>,
        /// Push the image to its registry afterwards
        #[arg(long)]
        push: bool,
        /// On all nodes, of which there is one.
        #[arg(long, hide = true)]
        all: bool,
        /// On this node, of which there is one.
        #[arg(short, long, hide = true)]
        node: Option<String>,
    },
    /// Write an image to an archive
    Save {
        /// The image
        #[arg(value_name = "NAME")]
        image: String,
        /// The file, or - for standard output [default: your docker, if there is one]
        #[arg(value_name = "FILE|-")]
        file: Option<String>,
        /// Give it to your docker
        #[arg(long, conflicts_with = "file")]
        daemon: bool,
    },
    /// Remove names of images, and images with their last name
    #[command(visible_aliases = ["remove", "unload"])]
    Rm {
        /// The images
        #[arg(value_name = "NAME", required = true)]
        images: Vec<String>,
    },
    /// Give an image another name
    Tag {
        /// The image
        #[arg(value_name = "NAME")]
        image: String,
        /// Its new name
        #[arg(value_name = "NEW")]
        new: String,
    },
    /// Have the cluster fetch images from their registries
    Pull {
        /// The images
        #[arg(value_name = "NAME", required = true)]
        images: Vec<String>,
    },
    /// Send images of the cluster to their registries
    Push {
        /// The images
        #[arg(value_name = "NAME", required = true)]
        images: Vec<String>,
    },
}

/// Shapes of `image ls`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ImageFormat {
    /// Names, one a line
    #[default]
    Short,
    /// For people
    Table,
    /// An array
    Json,
    /// The same
    Yaml,
}
