//! What is known of a saved state, and the two archives a layer is made of: the guest's disk and its memory.
//!
//! In a guest, `/run` and `/proc` are memory: a boot begins without them. A machine's own saved state is a record beside its
//! state, in which memory is still there; a record is used once.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;

/// The archives of a layer; of a machine that was powered off, only the first.
pub(crate) const DISK: &str = "disk.tar";
pub(crate) const MEMORY: &str = "memory.tar";
/// Written last, removed first.
const RECORD: &str = "saved.json";
/// The images a disk stands on, topmost first.
const BELOW: &str = "below.json";
/// What of the guest is memory.
const VOLATILE: [&str; 2] = ["guest/run", "guest/proc"];

/// A saved state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) identity: String,
    /// The layer that memory comes from; none: it is beside this file.
    pub(crate) layer: Option<PathBuf>,
    /// Bytes of each file of the layer.
    pub(crate) sizes: BTreeMap<String, u64>,
}

impl Record {
    /// The record in a directory.
    ///
    /// # Errors
    /// In words, when there is one that cannot be read.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join(RECORD);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| format!("{} is damaged: {error}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        files::write(&dir.join(RECORD), &serde_json::to_vec_pretty(self)?)
    }

    /// Its files, where `dir` is where the record is.
    pub(crate) fn files(&self, dir: &Path) -> Vec<PathBuf> {
        let home = self.layer.as_deref().unwrap_or(dir);
        self.sizes.keys().map(|name| home.join(name)).collect()
    }

    /// Whether it is of more than a disk.
    pub(crate) fn has_memory(&self) -> bool {
        self.sizes.contains_key(MEMORY)
    }

    /// What its files hold, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.sizes.values().sum()
    }

    /// Whether its files are there and whole.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn check(&self, dir: &Path) -> Result<(), String> {
        for (path, size) in self.files(dir).iter().zip(self.sizes.values()) {
            match fs::metadata(path) {
                Ok(metadata) if metadata.len() == *size => {}
                Ok(metadata) => {
                    let length = metadata.len();
                    return Err(format!("{} has {length} bytes instead of {size}", path.display()));
                }
                Err(error) => return Err(format!("{}: {error}", path.display())),
            }
        }
        Ok(())
    }
}

/// Whether there is a record, be it damaged.
pub(crate) fn is_there(dir: &Path) -> bool {
    dir.join(RECORD).exists()
}

/// Removes the record; what it spoke of is no saved state any more.
pub(crate) fn forget(dir: &Path) -> io::Result<()> {
    fs::remove_file(dir.join(RECORD)).or_else(crate::absent)
}

/// The images below the disk in a state directory.
pub(crate) fn below(state: &Path) -> Vec<PathBuf> {
    let text = fs::read(state.join(BELOW)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Puts the disk in a state directory on top of an image.
pub(crate) fn stand_on(state: &Path, image: PathBuf) -> io::Result<()> {
    let mut all = vec![image];
    all.extend(below(state));
    files::write(&state.join(BELOW), &serde_json::to_vec(&all)?)
}

/// Writes a state directory into the archives of a layer; gives their sizes.
pub(crate) fn pack(state: &Path, into: &Path, has_memory: bool) -> io::Result<BTreeMap<String, u64>> {
    let mut sizes = BTreeMap::new();
    for (name, volatile) in [(DISK, false), (MEMORY, true)] {
        if volatile && !has_memory {
            continue;
        }
        let path = into.join(name);
        // One that was left half-written is read-only.
        fs::remove_file(&path).or_else(crate::absent)?;
        let mut archive = tar::Builder::new(File::create(&path)?);
        add(&mut archive, state, Path::new(""), &|path| {
            VOLATILE.iter().any(|memory| path.starts_with(memory)) == volatile && path != Path::new(RECORD)
        })?;
        archive.into_inner()?.sync_all()?;
        fs::set_permissions(&path, Permissions::from_mode(0o400))?;
        sizes.insert(name.to_owned(), fs::metadata(&path)?.len());
    }
    Ok(sizes)
}

fn add(
    archive: &mut tar::Builder<File>,
    root: &Path,
    below: &Path,
    wanted: &dyn Fn(&Path) -> bool,
) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            add(archive, root, &path, wanted)?;
        } else if wanted(&path) {
            archive.append_path_with_name(entry.path(), &path)?;
        }
    }
    Ok(())
}

/// Makes a state directory of a layer's archives.
pub(crate) fn unpack(layer: &Path, state: &Path, record: &Record) -> io::Result<()> {
    fs::remove_dir_all(state).or_else(crate::absent)?;
    fs::create_dir_all(state)?;
    for name in record.sizes.keys() {
        tar::Archive::new(File::open(layer.join(name))?).unpack(state)?;
    }
    Ok(())
}
