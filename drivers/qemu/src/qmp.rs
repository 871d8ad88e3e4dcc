//! A small QMP client: one connection, one command at a time, a deadline for each.
//!
//! The protocol is one JSON object per line. QEMU greets first, accepts commands after `qmp_capabilities`, and sends
//! events whenever it likes; those are kept apart from replies. A reply carries the id of its command, so the late reply of
//! a command that was given up on is not taken for the next one's.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest socket path that every platform takes (macOS: 104 bytes with the final zero).
const PATH_LIMIT: usize = 103;

/// Longest line QEMU may send; its longest honest ones (`query-qmp-schema`) have a fifth of that.
const LINE_LIMIT: usize = 1 << 20;

/// Why a QMP command has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QmpError {
    /// Nobody listens there.
    #[error("{path}: {source}", path = .path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// QEMU said nothing in time.
    #[error("qemu did not answer {what} within {} ms", .after.as_millis())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// QEMU closed the connection.
    #[error("qemu closed the connection while asked for {0}")]
    Closed(String),
    /// The connection failed.
    #[error("connection to qemu: {0}")]
    Io(#[from] io::Error),
    /// Something that is not QMP.
    #[error("qemu sent something that is not qmp: {0}")]
    Protocol(String),
    /// QEMU refused.
    #[error("qemu refused {command}: {desc}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        desc: String,
    },
}

/// Something QEMU told unasked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// Its name, such as `SHUTDOWN`.
    pub(crate) name: String,
    /// What comes with it.
    pub(crate) data: Value,
}

/// One line from QEMU.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    event: Option<String>,
    data: Option<Value>,
    #[serde(rename = "return")]
    result: Option<Value>,
    error: Option<Refusal>,
    id: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    desc: String,
}

/// A connection that has been greeted.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: UnixStream,
    /// Bytes read and not yet used.
    buffer: Vec<u8>,
    events: Vec<Event>,
    last_id: u64,
}

impl Qmp {
    /// Connects, takes the greeting and ends the handshake.
    pub(crate) fn connect(path: &Path, timeout: Duration) -> Result<Self, QmpError> {
        let limit = Limit::new("its greeting", timeout);
        let stream = connect(path, &limit)?;
        let mut qmp = Self {
            stream,
            buffer: Vec::new(),
            events: Vec::new(),
            last_id: 0,
        };
        let greeting = qmp.message(&limit)?;
        if greeting.greeting.is_none() {
            return Err(QmpError::Protocol("no greeting".to_owned()));
        }
        qmp.execute("qmp_capabilities", json!({}), limit.left()?)?;
        Ok(qmp)
    }

    /// Runs one command and returns its result.
    pub(crate) fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        timeout: Duration,
    ) -> Result<Value, QmpError> {
        let limit = Limit::new(command, timeout);
        self.last_id += 1;
        let mut line = json!({"execute": command, "arguments": arguments, "id": self.last_id}).to_string();
        line.push('\n');
        self.stream.set_write_timeout(Some(limit.left()?))?;
        self.stream
            .write_all(line.as_bytes())
            .map_err(|error| limit.explain(error))?;
        tracing::trace!(command, "qmp");
        loop {
            let message = self.message(&limit)?;
            if let Some(name) = message.event {
                self.events.push(Event {
                    name,
                    data: message.data.unwrap_or_default(),
                });
            } else if message.id.is_some_and(|id| id != self.last_id) {
                tracing::debug!(command, "dropped a late qmp reply");
            } else if let Some(Refusal { desc }) = message.error {
                return Err(QmpError::Refused {
                    command: command.to_owned(),
                    desc,
                });
            } else if let Some(result) = message.result {
                return Ok(result);
            } else {
                return Err(QmpError::Protocol("neither reply nor event".to_owned()));
            }
        }
    }

    /// Runs a command of the human monitor and returns what it prints.
    pub(crate) fn human(&mut self, command: &str, timeout: Duration) -> Result<String, QmpError> {
        let reply = self.execute("human-monitor-command", json!({"command-line": command}), timeout)?;
        Ok(reply.as_str().unwrap_or_default().to_owned())
    }

    /// Events that came since this was last asked.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The next line that is not empty.
    fn message(&mut self, limit: &Limit) -> Result<Message, QmpError> {
        loop {
            let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
                self.fill(limit)?;
                continue;
            };
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line);
            let text = text.trim();
            if !text.is_empty() {
                let shown: String = text.chars().take(80).collect();
                return serde_json::from_str(text).map_err(|_| QmpError::Protocol(shown));
            }
        }
    }

    fn fill(&mut self, limit: &Limit) -> Result<(), QmpError> {
        if self.buffer.len() > LINE_LIMIT {
            return Err(QmpError::Protocol(format!(
                "a line of more than {LINE_LIMIT} bytes"
            )));
        }
        let mut piece = [0; 4096];
        self.stream.set_read_timeout(Some(limit.left()?))?;
        match self.stream.read(&mut piece) {
            Ok(0) => Err(QmpError::Closed(limit.what.to_owned())),
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(limit.explain(error)),
        }
    }
}

/// How long something may take, and what.
struct Limit<'a> {
    what: &'a str,
    end: Instant,
    timeout: Duration,
}

impl<'a> Limit<'a> {
    fn new(what: &'a str, timeout: Duration) -> Self {
        Self {
            what,
            end: Instant::now() + timeout,
            timeout,
        }
    }

    fn over(&self) -> QmpError {
        QmpError::Timeout {
            what: self.what.to_owned(),
            after: self.timeout,
        }
    }

    /// What is left of it; never zero, which would mean no limit to the system.
    fn left(&self) -> Result<Duration, QmpError> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(self.over())
        } else {
            Ok(left)
        }
    }

    fn explain(&self, error: io::Error) -> QmpError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.over(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                QmpError::Closed(self.what.to_owned())
            }
            _ => QmpError::Io(error),
        }
    }
}

/// Connects without ever blocking: a QEMU that hangs leaves its queue full, and then connecting would hang as well.
fn connect(path: &Path, limit: &Limit<'_>) -> Result<UnixStream, QmpError> {
    let failed = |source| QmpError::Connect {
        path: path.to_owned(),
        source,
    };
    let (short, _link) = short(path).map_err(failed)?;
    let address = SocketAddrUnix::new(&short).map_err(|errno| failed(errno.into()))?;
    let socket = socket().map_err(|errno| failed(errno.into()))?;
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::AGAIN | Errno::INTR) => {
                limit.left()?;
                thread::sleep(Duration::from_millis(5));
            }
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn socket() -> Result<OwnedFd, Errno> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// A path of the socket that is short enough for an address: its own, or one through a temporary link to its directory.
fn short(path: &Path) -> io::Result<(PathBuf, Option<tempfile::TempDir>)> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok((path.to_owned(), None));
    };
    if path.as_os_str().len() <= PATH_LIMIT {
        return Ok((path.to_owned(), None));
    }
    let temporary = tempfile::Builder::new().prefix("sampan-").tempdir_in("/tmp")?;
    let link = temporary.path().join("m");
    std::os::unix::fs::symlink(dir, &link)?;
    Ok((link.join(name), Some(temporary)))
}

#[cfg(test)]
#[path = "qmp_tests.rs"]
mod tests;
