//! `sampan::fetch` against a server on loopback that has good days and bad ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;
mod limits;
mod proxies;
mod refusals;
mod resuming;
mod support;
mod tls;
mod trust;
mod twice;
mod whole;
