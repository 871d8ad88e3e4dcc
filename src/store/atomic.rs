//! Files and directories that appear whole or not at all, however the process ends: written under a temporary name on the
//! same file system, synced, renamed, and the directory that holds them synced.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What temporary names begin with, before the final name.
const PREFIX: &str = ".new-";

/// Makes a directory and its parents, with the rights the user's umask gives.
///
/// # Errors
/// The I/O error with the path.
pub fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io(path))
}

/// Makes a directory and its parents for the user alone (0700), whatever the umask is. A directory that is there stays as it is.
///
/// # Errors
/// The I/O error with the path.
pub fn make_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io(path))
}

/// Writes a file whole, with these permission bits. Parent directories are made. A symbolic link at `path` stays, and what it
/// points to is replaced.
///
/// # Errors
/// The I/O error with the path; what was there before is untouched then.
pub fn write(path: &Path, mode: u32, contents: &[u8]) -> Result<()> {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let parent = parent(&target);
    make_dir(parent)?;
    let mut temporary = tempfile::Builder::new()
        .prefix(&prefix(&target))
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(parent)
        .map_err(Error::io(&target))?;
    temporary.write_all(contents).map_err(Error::io(&target))?;
    let file = temporary.as_file();
    // Not through the open call, which the umask would narrow.
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(Error::io(&target))?;
    file.sync_all().map_err(Error::io(&target))?;
    temporary
        .persist(&target)
        .map_err(|error| Error::io(&target)(error.error))?;
    sync_dir(parent)
}

/// A directory under construction beside its final place. Dropped without [`Dir::commit`], it is removed.
#[derive(Debug)]
pub struct Dir {
    temporary: PathBuf,
    target: PathBuf,
    done: bool,
}

impl Dir {
    /// Begins a directory that is to stand at `target`. What killed processes left of earlier tries is removed, so the caller
    /// must hold the lock of `target`.
    ///
    /// # Errors
    /// The I/O error with the path.
    pub fn begin(target: &Path) -> Result<Self> {
        let parent = parent(target);
        make_dir(parent)?;
        clean(target)?;
        let temporary = parent.join(format!("{}{}", prefix(target), std::process::id()));
        fs::create_dir(&temporary).map_err(Error::io(&temporary))?;
        Ok(Self {
            temporary,
            target: target.to_owned(),
            done: false,
        })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Syncs everything and puts the directory at its final place, which must be free.
    ///
    /// # Errors
    /// The I/O error with the path.
    pub fn commit(mut self) -> Result<()> {
        sync_tree(&self.temporary)?;
        fs::rename(&self.temporary, &self.target).map_err(Error::io(&self.target))?;
        self.done = true;
        sync_dir(parent(&self.target))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed now is removed at the next try.
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// Removes what killed processes left of their tries to write `target`. The caller must hold the lock of `target`.
///
/// # Errors
/// The I/O error with the path.
pub fn clean(target: &Path) -> Result<()> {
    let (parent, prefix) = (parent(target), prefix(target));
    let Ok(entries) = fs::read_dir(parent) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry.map_err(Error::io(parent))?.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file or a whole directory; nothing there is fine.
///
/// # Errors
/// The I/O error with the path.
pub fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(Error::io(path)),
    }
}

/// Moves something out of the way, to a name beside it that nothing looks at; an earlier one there is removed. Returns where it
/// is now.
///
/// # Errors
/// The I/O error with the path.
pub fn set_aside(path: &Path) -> Result<PathBuf> {
    let aside = parent(path).join(format!(".damaged-{}", name(path)));
    remove(&aside)?;
    fs::rename(path, &aside).map_err(Error::io(path))?;
    Ok(aside)
}

fn sync_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let entry = entry.map_err(Error::io(dir))?;
        let kind = entry.file_type().map_err(Error::io(dir))?;
        let path = entry.path();
        if kind.is_dir() {
            sync_tree(&path)?;
        } else if kind.is_file() {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(Error::io(&path))?;
        }
    }
    sync_dir(dir)
}

/// Makes the names in a directory last.
///
/// # Errors
/// The I/O error with the path.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io(dir))
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn prefix(path: &Path) -> String {
    format!("{PREFIX}{}-", name(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| name(&entry.unwrap().path()))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/key");
        write(&path, 0o644, b"one").unwrap();
        write(&path, 0o600, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(&dir.path().join("a")), ["key"]);
    }

    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "one").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write(&link, 0o600, b"two").unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_file_that_cannot_be_written_names_itself() {
        let error = write(Path::new("/proc/sampan/x"), 0o600, b"").unwrap_err();
        assert!(error.to_string().starts_with("/proc/sampan"), "{error}");
        assert_ne!(error.kind(), Kind::Internal);
    }

    #[test]
    fn a_directory_appears_at_commit_only_and_leaves_nothing_when_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("key");
        let begun = Dir::begin(&target).unwrap();
        fs::write(begun.path().join("file"), "x").unwrap();
        assert!(!target.exists());
        drop(begun);
        assert!(names(dir.path()).is_empty());
        let begun = Dir::begin(&target).unwrap();
        fs::create_dir(begun.path().join("sub")).unwrap();
        begun.commit().unwrap();
        assert_eq!(names(dir.path()), ["key"]);
    }

    #[test]
    fn leftovers_of_killed_processes_go_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".new-key-999999/sub")).unwrap();
        fs::create_dir(dir.path().join(".new-other-1")).unwrap();
        fs::create_dir(dir.path().join("key2")).unwrap();
        drop(Dir::begin(&dir.path().join("key")).unwrap());
        assert_eq!(names(dir.path()), [".new-other-1", "key2"]);
    }

    #[test]
    fn what_is_damaged_is_set_aside_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for text in ["one", "two"] {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("file"), text).unwrap();
            set_aside(&path).unwrap();
        }
        assert_eq!(names(dir.path()), [".damaged-key"]);
        assert_eq!(
            fs::read_to_string(dir.path().join(".damaged-key/file")).unwrap(),
            "two"
        );
    }
}
