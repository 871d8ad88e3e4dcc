//! Whether the disk has room, and what to say when it has not.

use std::path::Path;

use crate::error::{Error, Kind, Result};

/// The disk is not filled to the last byte.
const SPARE: u64 = 1 << 20;
const HINT: &str = "free some space, or move the cache to a larger disk (SAMPAN_CACHE); what was fetched is kept and gone on with";

/// Looks ahead whether so many more bytes fit.
pub(super) fn check(name: &str, dir: &Path, needed: u64) -> Result<()> {
    let disk = rustix::fs::statvfs(dir).map_err(|error| Error::io(dir)(error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if needed.saturating_add(SPARE) <= free {
        return Ok(());
    }
    let message = format!(
        "no space left on device for {name}: it takes {} more, and {} has {} free",
        megabytes(needed),
        dir.display(),
        megabytes(free)
    );
    Err(Error::new(Kind::Storage, message).hint(HINT))
}

/// A disk that became full in the middle: what is missing is said with it.
pub(super) fn explain(error: Error, name: &str, missing: Option<u64>) -> Error {
    if error.kind() != Kind::Storage {
        return error;
    }
    let missing = missing.map_or_else(String::new, |missing| {
        format!(", {} of it are missing", megabytes(missing))
    });
    Error::new(
        Kind::Storage,
        format!("no space left on device for {name}{missing}"),
    )
    .hint(HINT)
    .because(error)
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}
