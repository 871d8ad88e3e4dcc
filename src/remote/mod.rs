//! The guest over SSH: waits for its sshd, runs commands, carries files, describes the user's own `ssh`.
//!
//! libssh2 is driven without blocking, so that a guest that hangs cannot hang us: every wait polls the socket with a
//! deadline and looks at [`Cancel`](crate::progress::Cancel). A [`Session`] is one connection; its commands run one after
//! the other, so give each thread its own. Both sides prove who they are with ed25519 keys that [`keys`] made: the guest's
//! host key is ours too, put into the guest before its first start, and any other is refused.

mod client;
mod connect;
mod forward;
pub mod keys;
mod line;
mod session;
mod transfer;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use client::openssh;
pub use connect::connect;
pub use forward::forward;
pub use session::Session;

/// Where a guest is and how both sides prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where the guest's sshd is reached from the host.
    pub address: SocketAddr,
    /// Login name in the guest.
    pub user: String,
    /// Our private key, as [`keys::ensure`] made it.
    pub key: PathBuf,
    /// The public half of the guest's host key: the file ending in `.pub`.
    pub host_key: PathBuf,
    /// The machine's name, for messages.
    pub place: String,
}
