//! The program as people and scripts see it: what it prints, where, and how it ends. Clusters are those of the test driver.

mod config;
mod help;
mod life;
mod start_errors;
mod support;
mod usage;
