//! File locks between sampan processes: taken with a deadline, and a wait or a failure says who holds the lock.
//!
//! The operating system lets go of a lock when its process ends, however it ends, so there are no stale locks. What the file
//! holds is only for people: who has it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::atomic;
use crate::error::{Error, Kind, Result};
use crate::progress::{Cancel, Reporter};

/// How often a waiting process looks again.
const POLL: Duration = Duration::from_millis(50);

/// A held lock; dropping it lets go. The file stays: removing it would let two processes hold "the same" lock.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// Who holds a lock, as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// When it took the lock: seconds since 1970.
    pub since: u64,
}

impl Lock {
    /// Takes the lock at `path`, waiting for at most `deadline` while another process holds it. `what` is what the lock protects
    /// ("profile demo"). Parent directories are made.
    ///
    /// # Errors
    /// [`Kind::Locked`] with the holder when the deadline passes, [`Kind::Interrupted`], or the I/O error of the file.
    pub fn acquire(
        path: &Path,
        what: &str,
        deadline: Duration,
        cancel: &Cancel,
        reporter: &dyn Reporter,
    ) -> Result<Self> {
        let end = Instant::now() + deadline;
        let mut told = false;
        loop {
            if let Some(lock) = Self::try_acquire(path)? {
                return Ok(lock);
            }
            if Instant::now() >= end {
                return Err(held(path, what, deadline));
            }
            if !told {
                told = true;
                // Not as a step's detail: the wait is often before the first step, and may be long.
                reporter.info(&format!(
                    "waiting for {what}: {} holds it",
                    describe(holder(path).as_ref())
                ));
            }
            cancel.check()?;
            thread::sleep(POLL.min(end.saturating_duration_since(Instant::now())));
        }
    }

    /// Takes the lock if nobody holds it.
    ///
    /// # Errors
    /// The I/O error of the file.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>> {
        if let Some(parent) = path.parent() {
            atomic::make_dir(parent)?;
        }
        Self::try_acquire_in(path)
    }

    /// As [`Self::try_acquire`], in a directory that must be there.
    ///
    /// # Errors
    /// The I/O error of the file.
    pub fn try_acquire_in(path: &Path) -> Result<Option<Self>> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(Error::io(path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(Error::io(path)(error)),
            }
            // Somebody may have removed the file (`delete --purge`) between open and lock: then this lock protects nothing.
            if same_file(&file, path) {
                let mut lock = Self {
                    file,
                    path: path.to_owned(),
                };
                lock.sign();
                return Ok(Some(lock));
            }
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down who holds it. A failure (a full disk) costs only a poorer message in another process.
    fn sign(&mut self) {
        let me = Holder {
            pid: std::process::id(),
            command: command_line(),
            since: now(),
        };
        if let Ok(text) = serde_json::to_string(&me) {
            let _ = self.file.set_len(0);
            let _ = self.file.rewind();
            let _ = self.file.write_all(text.as_bytes());
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

/// Who holds the lock at `path` right now; `None` when nobody does or it cannot be told.
pub fn holder(path: &Path) -> Option<Holder> {
    let mut file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        _ => return None,
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn held(path: &Path, what: &str, waited: Duration) -> Error {
    let holder = holder(path);
    let way_out = match &holder {
        Some(holder) => format!(
            "wait until it has ended, or end it with `kill {}`; then try again",
            holder.pid
        ),
        None => format!(
            "see who has {} open (`fuser {0}`), wait until it has ended and try again",
            path.display()
        ),
    };
    let waited = if waited.as_secs() > 0 {
        format!(" (waited {} s)", waited.as_secs())
    } else {
        String::new()
    };
    Error::new(
        Kind::Locked,
        format!(
            "{what} is in use: {} holds {}{waited}",
            describe(holder.as_ref()),
            path.display()
        ),
    )
    .hint(way_out)
}

fn describe(holder: Option<&Holder>) -> String {
    match holder {
        Some(Holder { pid, command, since }) => {
            format!(
                "process {pid} (`{command}`, for {} s)",
                now().saturating_sub(*since)
            )
        }
        None => "another process".to_owned(),
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn command_line() -> String {
    let mut words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if let Some(program) = words.first_mut()
        && let Some(name) = Path::new(program).file_name()
    {
        *program = name.to_string_lossy().into_owned();
    }
    words.join(" ")
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn acquire(path: &Path, deadline: Duration) -> Result<Lock> {
        Lock::acquire(path, "profile demo", deadline, &Cancel::default(), &Silent)
    }

    #[test]
    fn a_second_taker_learns_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profiles/demo.lock");
        let lock = acquire(&path, Duration::ZERO).unwrap();
        let error = acquire(&path, Duration::from_millis(60)).unwrap_err();
        assert_eq!(error.kind(), Kind::Locked);
        let pid = std::process::id();
        assert!(
            error
                .to_string()
                .contains(&format!("profile demo is in use: process {pid} (`")),
            "{error}"
        );
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(
            error.hints()[0].contains(&format!("kill {pid}")),
            "{:?}",
            error.hints()
        );
        drop(lock);
        acquire(&path, Duration::ZERO).unwrap();
        assert_eq!(holder(&path), None);
    }

    #[test]
    fn a_waiter_gets_it_when_the_holder_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = acquire(&path, Duration::ZERO).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| acquire(&path, Duration::from_secs(20)));
            thread::sleep(Duration::from_millis(80));
            assert!(!waiter.is_finished());
            drop(lock);
            waiter.join().unwrap().unwrap();
        });
    }

    #[test]
    fn waiting_ends_when_the_user_interrupts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _lock = acquire(&path, Duration::ZERO).unwrap();
        let cancel = Cancel::default();
        cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        let error = Lock::acquire(&path, "x", Duration::from_secs(60), &cancel, &Silent).unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted);
    }

    #[test]
    fn a_removed_file_is_no_longer_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let old = acquire(&path, Duration::ZERO).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _new = acquire(&path, Duration::ZERO).unwrap();
        drop(old);
        assert!(Lock::try_acquire(&path).unwrap().is_none());
    }

    #[test]
    fn a_lock_where_nothing_can_be_written_says_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let error = acquire(&dir.path().join("file/lock"), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
        assert_eq!(error.kind(), Kind::HostPath);
    }
}
