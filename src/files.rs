//! Files that must be whole or not there: written to a temporary name beside the target, synced, then renamed.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::error::{Error, Kind, Result};

/// Makes a directory for secrets, with its parents; an existing one of ours is narrowed to 0700.
///
/// # Errors
/// When it cannot be made or its mode not be set.
pub fn private_dir(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::io(dir))?;
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(Error::io(dir))
}

/// Writes a file whole, with these permission bits. Its directory must exist. Whoever reads the path sees the old contents or the
/// new, also after a power cut.
///
/// # Errors
/// When the directory is not writable or the disk is full; the old file is then untouched.
pub fn write(path: &Path, mode: u32, contents: &[u8]) -> Result<()> {
    let dir = parent(path)?;
    let mut file = tempfile::Builder::new()
        .prefix(".sampan-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(dir)
        .map_err(Error::io(path))?;
    file.write_all(contents).map_err(Error::io(path))?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).map_err(Error::io(path))?;
    file.as_file().sync_all().map_err(Error::io(path))?;
    file.persist(path).map_err(|error| Error::io(path)(error.error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io(dir))
}

/// The directory a file is in.
fn parent(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(dir) => Ok(dir),
        None => Err(Error::new(Kind::HostPath, format!("{}: not a file", path.display())).hint("name a file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write(&path, 0o600, b"one").unwrap();
        write(&path, 0o644, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("target");
        fs::create_dir(&path).unwrap();
        let error = write(&path, 0o600, b"x").unwrap_err();
        assert!(error.to_string().contains("target"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_for_secrets_is_narrowed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        fs::create_dir_all(&path).unwrap();
        private_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
