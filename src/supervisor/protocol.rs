//! What is said through the socket: one JSON object per line. A connection asks once; [`Ask::Follow`] is answered again and again.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ports::RuleState;
use super::{ContainerPort, Publication};

/// Which sampan this is. One of another version is replaced.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The longest line either side takes.
pub(super) const LINE_LIMIT: u64 = 16 << 20;

/// What is asked for. Every version understands `hello` and `quit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Ask {
    /// Who is there?
    Hello,
    /// End.
    Quit,
    /// The guest has slept, or somebody else has reason to look anew at everything.
    Refresh,
    /// What is published, once nothing is to be done any more.
    Published,
    /// The user's own forwards, read anew, and those of Docker's containers.
    Rules,
    /// All of it now, and again whenever it changes.
    Follow,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) ask: Ask,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The supervisor's version.
    pub(super) version: String,
    /// Ports of Services.
    #[serde(default)]
    pub(super) published: Vec<Publication>,
    /// Ports of Docker's own containers.
    #[serde(default)]
    pub(super) containers: Vec<ContainerPort>,
    /// The user's own forwards.
    #[serde(default)]
    pub(super) rules: Vec<RuleState>,
    /// Why nothing is known of Services.
    #[serde(default)]
    pub(super) trouble: Option<String>,
}

/// Asks over a fresh connection; nothing is waited for longer than `limit`.
pub(super) fn put(stream: &UnixStream, ask: Ask, limit: Duration) -> io::Result<()> {
    use std::io::Write as _;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut line = serde_json::to_vec(&Question { ask })?;
    line.push(b'\n');
    let mut stream = stream;
    stream.write_all(&line)
}
