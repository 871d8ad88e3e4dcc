//! sampan: a small Linux VM made into a single-node Kubernetes cluster.
//!
//! The library never prints, never reads the environment or the home directory and never exits; `cli`, `commands` and `ui`
//! (which belong to the binary's side of the house) do. `docs/architecture.md` shows which module may call which.

pub mod addons;
pub mod bundle;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod docker_env;
pub mod error;
pub mod fetch;
pub mod images;
pub mod kubeconfig;
pub mod layout;
pub mod network;
pub mod pki;
pub mod progress;
pub mod provision;
pub mod registry;
pub mod remote;
pub mod services;
pub mod settings;
pub mod store;
pub mod supervisor;
pub mod ui;
