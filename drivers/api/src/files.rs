//! What drivers do with the files of machines.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::driver::{DriverError, Result};

/// Makes a directory for its owner alone: memory and disk of a cluster are secrets. One that is there is fine.
///
/// # Errors
/// The I/O error with the path.
pub fn make_dir(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(DriverError::io(dir))
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// The I/O error with the path.
pub fn remove(path: &Path) -> Result<()> {
    gone(path, fs::remove_file(path))
}

/// Removes a directory with all that is in it, or what stands in its place; nothing there is fine.
///
/// # Errors
/// The I/O error with the path.
pub fn remove_dir(dir: &Path) -> Result<()> {
    match fs::symlink_metadata(dir) {
        Ok(metadata) if metadata.is_dir() => gone(dir, fs::remove_dir_all(dir)),
        Ok(_) => remove(dir),
        Err(error) => gone(dir, Err(error)),
    }
}

/// Keeps a log under its name with `.1` appended, for a new one to begin; nothing there is fine.
///
/// # Errors
/// The I/O error with the path.
pub fn rotate(log: &Path) -> Result<()> {
    let mut old = log.as_os_str().to_owned();
    old.push(".1");
    gone(log, fs::rename(log, old))
}

fn gone(path: &Path, result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(DriverError::io(path)(error)),
        _ => Ok(()),
    }
}

/// The directory under its one true name, even when it or its parents are gone: a process is recognised by it.
pub fn real(dir: &Path) -> PathBuf {
    match (dir.canonicalize(), dir.parent(), dir.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        (Err(_), ..) => dir.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_is_not_there_is_fine_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, link, log) = (
            dir.path().join("kept"),
            dir.path().join("link"),
            dir.path().join("a.log"),
        );
        for _ in 0..2 {
            make_dir(&kept).unwrap();
            remove(&log).unwrap();
            rotate(&log).unwrap();
            remove_dir(&link).unwrap();
        }
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o700);
        symlink(&kept, &link).unwrap();
        assert_eq!(real(&link), real(&kept));
        remove_dir(&link).unwrap();
        assert!(kept.is_dir() && !link.exists());
        assert_eq!(real(&link.join("gone")), real(dir.path()).join("link/gone"));
        fs::write(&log, "old").unwrap();
        rotate(&log).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("a.log.1")).unwrap(), "old");
        remove_dir(&kept).unwrap();
        assert!(!kept.exists() && remove(dir.path()).is_err());
    }
}
