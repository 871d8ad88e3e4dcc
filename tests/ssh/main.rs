//! `sampan::remote` against a real sshd on a loopback port.

mod connecting;
mod running;
mod server;
mod transfers;
