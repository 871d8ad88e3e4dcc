//! What is known of a saved state: `saved.json`, in the directory of a machine or of a layer. It appears when all other
//! files are complete and on disk, and goes before the machine runs again.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sampan_driver::{DriverError, Result};
use serde::{Deserialize, Serialize};

use crate::args::Start;
use crate::files;

/// Changes when older versions of this program would misunderstand the file.
const FORMAT: u32 = 1;

/// A saved state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) identity: Identity,
    pub(crate) memory: Memory,
    /// The layer that has memory and devices; none: they are beside this file.
    pub(crate) layer: Option<PathBuf>,
    /// Sizes in bytes; no memory file where the devices' file holds it too.
    pub(crate) memory_size: Option<u64>,
    pub(crate) devices_size: u64,
    /// The disk beside this file as it was then: another disk has moved on.
    pub(crate) disk: Stamp,
}

/// How memory was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Memory {
    /// In a file that is the memory.
    File,
    /// In one stream with the devices.
    Stream,
}

/// What has to be the same for saved devices to be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// QEMU, as it calls itself.
    pub(crate) qemu: String,
    /// The processor where the guest sees it; empty under emulation.
    pub(crate) processor: String,
    /// The machine as the guest sees it, in QEMU's arguments.
    pub(crate) machine: Vec<String>,
}

/// One file at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(DriverError::io(path))?;
        Ok(Self {
            inode: metadata.ino(),
            size: metadata.size(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        })
    }
}

impl Identity {
    /// Why a machine of identity `now` cannot continue from this, if so.
    fn differs(&self, now: &Self) -> Option<String> {
        if self.qemu != now.qemu {
            return Some(format!("it was saved by {}, and this is {}", self.qemu, now.qemu));
        }
        if self.processor != now.processor {
            return Some("it was saved on another processor".to_owned());
        }
        let only_in = |these: &[String], those: &[String]| {
            let rest: Vec<&str> = these
                .iter()
                .filter(|arg| !those.contains(arg))
                .map(String::as_str)
                .collect();
            if rest.is_empty() {
                "nothing".to_owned()
            } else {
                rest.join(" ")
            }
        };
        (self.machine != now.machine).then(|| {
            format!(
                "the machine was changed: {} instead of {}",
                only_in(&now.machine, &self.machine),
                only_in(&self.machine, &now.machine)
            )
        })
    }
}

impl Record {
    /// The record of a state whose files are all in `dir`.
    pub(crate) fn of(dir: &Path, identity: Identity, memory: Memory) -> Result<Self> {
        let size = |name| Stamp::of(&dir.join(name)).map(|stamp| stamp.size);
        Ok(Self {
            format: FORMAT,
            identity,
            memory,
            layer: None,
            memory_size: (memory == Memory::File).then(|| size(files::RAM)).transpose()?,
            devices_size: size(files::DEVICES)?,
            disk: Stamp::of(&dir.join(files::DISK))?,
        })
    }

    /// The record of a fork of the layer `from`, which this is the record of, with this disk.
    pub(crate) fn forked(self, from: &Path, disk: &Path) -> Result<Self> {
        Ok(Self {
            layer: Some(from.to_owned()),
            disk: Stamp::of(disk)?,
            ..self
        })
    }

    /// The record in a directory.
    ///
    /// # Errors
    /// In words, when there is one that cannot be used.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join(files::SAVED);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let record: Self =
            serde_json::from_str(&text).map_err(|error| format!("{} is damaged: {error}", path.display()))?;
        if record.format != FORMAT {
            return Err(format!(
                "{} has the unknown format {}",
                path.display(),
                record.format
            ));
        }
        Ok(Some(record))
    }

    /// The directory of memory and devices.
    pub(crate) fn home<'a>(&'a self, dir: &'a Path) -> &'a Path {
        self.layer.as_deref().unwrap_or(dir)
    }

    /// The files of the state in `dir`.
    pub(crate) fn files(&self, dir: &Path) -> Vec<PathBuf> {
        let home = self.home(dir);
        let memory = self.memory_size.map(|_| home.join(files::RAM));
        memory
            .into_iter()
            .chain([home.join(files::DEVICES), dir.join(files::DISK)])
            .collect()
    }

    /// Whether the files are there and whole.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn check_files(&self, dir: &Path) -> Result<(), String> {
        let home = self.home(dir);
        let check = |name: &str, size: u64| match fs::metadata(home.join(name)) {
            Ok(metadata) if metadata.len() == size => Ok(()),
            Ok(metadata) => Err(format!(
                "{} has {} bytes instead of {size}",
                home.join(name).display(),
                metadata.len()
            )),
            Err(error) => Err(format!("{}: {error}", home.join(name).display())),
        };
        self.memory_size.map_or(Ok(()), |size| check(files::RAM, size))?;
        check(files::DEVICES, self.devices_size)
    }

    /// Whether a machine of this identity can continue from the state in its directory.
    ///
    /// # Errors
    /// In words, when it cannot.
    pub(crate) fn check(&self, dir: &Path, now: &Identity) -> Result<(), String> {
        self.identity.differs(now).map_or(Ok(()), Err)?;
        self.check_files(dir)?;
        match Stamp::of(&dir.join(files::DISK)) {
            Ok(disk) if disk == self.disk => Ok(()),
            Ok(_) => Err("its disk was changed after it was saved".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// How the machine in `dir` is started that continues from this. A private view keeps the file as it is and is never
    /// written back, but can only be saved where a process's own pages may be read; elsewhere the file becomes its memory.
    pub(crate) fn start(&self, dir: &Path, readable: bool) -> Start {
        match (self.memory, &self.layer) {
            (Memory::Stream, _) => Start::Stream,
            (Memory::File, Some(layer)) => Start::View(layer.join(files::RAM)),
            (Memory::File, None) if readable => Start::View(files::real(dir).join(files::RAM)),
            (Memory::File, None) => Start::File,
        }
    }

    /// Puts the record into a directory whose other files are on disk already.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let (path, new) = (dir.join(files::SAVED), dir.join(files::SAVED_NEW));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(DriverError::io(&path))?;
        sync(dir)
    }

    /// Removes the record; what it spoke of is no saved state any more.
    pub(crate) fn forget(dir: &Path) -> Result<()> {
        let path = dir.join(files::SAVED);
        match fs::remove_file(&path) {
            Ok(()) => sync(dir),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(DriverError::io(path)(error)),
        }
    }
}

/// Sees to it that a file, or the names in a directory, are on disk.
pub(crate) fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(DriverError::io(path))
}

#[cfg(test)]
#[path = "saved_tests.rs"]
mod tests;
