//! Walks over directories.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Paths of all files and links below a directory, in their order. No directory has none.
///
/// # Errors
/// The I/O error with the path.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io(dir))?;
        if entry.file_type().map_err(Error::io(dir))?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// As [`files`], relative to the directory.
///
/// # Errors
/// As [`files`].
pub fn names(dir: &Path) -> Result<Vec<PathBuf>> {
    let relative = |path: PathBuf| path.strip_prefix(dir).map(Path::to_owned).ok();
    Ok(files(dir)?.into_iter().filter_map(relative).collect())
}

/// Space that a directory takes on the disk in bytes: holes do not count.
pub fn disk_usage(dir: &Path) -> u64 {
    let files = files(dir).unwrap_or_default();
    files
        .iter()
        .filter_map(|path| Some(path.symlink_metadata().ok()?.blocks() * 512))
        .sum()
}
