//! client-go's lock: whoever makes `FILE.lock` may change FILE, and removes it afterwards.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};

const PAUSE: Duration = Duration::from_millis(20);

/// A held lock; dropping it removes the file.
#[derive(Debug)]
pub(super) struct Lock(PathBuf);

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a kubeconfig's lock could not be removed");
        }
    }
}

/// Locks all these files, in client-go's order, so that two of us never wait for each other. Files whose directory is missing
/// or cannot be written to are left out: they cannot be changed either, and a write tells so.
pub(super) fn all(paths: &[PathBuf], deadline: Duration) -> Result<Vec<Lock>> {
    let mut sorted: Vec<&PathBuf> = paths.iter().collect();
    sorted.sort();
    let end = Instant::now() + deadline;
    let mut held = Vec::new();
    for path in sorted {
        held.extend(one(path, end, deadline)?);
    }
    Ok(held)
}

fn one(path: &Path, end: Instant, deadline: Duration) -> Result<Option<Lock>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = PathBuf::from(name);
    loop {
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&lock)
        {
            Ok(_) => return Ok(Some(Lock(lock))),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && Instant::now() < end => {
                thread::sleep(PAUSE)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let (path, lock, seconds) = (path.display(), lock.display(), deadline.as_secs());
                return Err(Error::new(
                    Kind::Kubeconfig,
                    format!("{path} is locked by another program: {lock} is still there after {seconds}s"),
                )
                .hint(format!(
                    "if no kubectl or other tool is changing it, remove the lock: rm {lock}"
                )));
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(Error::io(&lock)(error).with_kind(Kind::Kubeconfig)),
        }
    }
}
