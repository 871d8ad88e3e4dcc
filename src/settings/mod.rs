//! Settings: defaults < `config.toml` < environment < flags, validated into a [`ClusterSpec`].
//!
//! [`KEYS`] is the one table of what can be set. [`Settings`] gathers what was said where, [`resolve()`] makes a spec of it. What is
//! known only at run time (drivers, versions, the host's size, the environment) is passed in.

mod existing;
pub(crate) mod extra_config;
mod file;
mod keys;
mod merge;
pub mod quantity;
pub(crate) mod registries;
mod resolve;
mod spec;
mod suggest;
mod versions;
mod wait;

pub use file::{ConfigFile, unset_anyway};
pub use keys::{KEYS, Key, ValueKind, label, list};
pub use merge::{Setting, Settings, Source};
pub use registries::image_repository;
pub use resolve::{
    Choices, MIN_CPUS, MIN_DISK_MIB, MIN_MEMORY_MIB, Resolved, default_memory_mib, default_text,
    kubernetes_version, resolve, wait, wrong_name,
};
pub use spec::{ClusterSpec, ContainerRuntime, ExtraConfig};
pub use suggest::{did_you_mean, nearest};
pub use versions::is_newer;
pub use wait::Wait;
