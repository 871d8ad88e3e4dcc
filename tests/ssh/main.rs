//! `sampan::remote` against a real sshd on a loopback port.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connecting;
mod forwarding;
mod running;
mod server;
mod transfers;
