//! The program as people and scripts see it: what it prints, where, and how it ends. Clusters are those of the test driver.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod addons;
mod bundles;
mod config;
mod disk;
mod docker;
mod driver;
mod faults;
mod help;
mod kubeconfig;
mod layers;
mod life;
mod locks;
mod ports;
mod publishing;
mod qemu;
mod registries;
mod saving;
mod service;
mod snapshots;
mod start_errors;
mod support;
mod upgrade;
mod usage;
