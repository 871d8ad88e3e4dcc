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
/// Bytes; more than a record has.
const RESERVED: usize = 8192;

/// A saved state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) identity: Identity,
    pub(crate) memory: Memory,
    /// The layer that has memory and devices; none: they are beside this file.
    pub(crate) layer: Option<PathBuf>,
    /// Sizes in bytes; no memory file where the devices' file holds it too, and no devices where there is only a disk.
    pub(crate) memory_size: Option<u64>,
    pub(crate) devices_size: Option<u64>,
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
    /// Not at all: the machine was powered off, there is a disk and nothing else.
    None,
}

impl Memory {
    /// The files it consists of, but for the disk.
    pub(crate) fn parts(self) -> &'static [&'static str] {
        match self {
            Self::File => &[files::RAM, files::DEVICES],
            Self::Stream => &[files::DEVICES],
            Self::None => &[],
        }
    }
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
        let size = |name: &str| {
            let part = memory.parts().contains(&name);
            part.then(|| Stamp::of(&dir.join(name)).map(|stamp| stamp.size))
                .transpose()
        };
        Ok(Self {
            format: FORMAT,
            identity,
            memory,
            layer: None,
            memory_size: size(files::RAM)?,
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
        let parts = self.memory.parts().iter().map(|name| home.join(name));
        parts.chain([dir.join(files::DISK)]).collect()
    }

    /// Whether it is about this disk.
    pub(crate) fn is_about(&self, disk: &Path) -> bool {
        Stamp::of(disk).is_ok_and(|stamp| stamp == self.disk)
    }

    /// Whether the files are there and whole.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn check_files(&self, dir: &Path) -> Result<(), String> {
        let home = self.home(dir);
        let check = |path: PathBuf, size: Option<u64>| match (size, fs::metadata(&path)) {
            (None, _) => Ok(()),
            (Some(size), Ok(metadata)) if metadata.len() == size => Ok(()),
            (Some(size), Ok(metadata)) => Err(format!(
                "{} has {} bytes instead of {size}",
                path.display(),
                metadata.len()
            )),
            (_, Err(error)) => Err(format!("{}: {error}", path.display())),
        };
        check(home.join(files::RAM), self.memory_size)?;
        check(home.join(files::DEVICES), self.devices_size)?;
        if self.is_about(&dir.join(files::DISK_NEXT)) {
            return Ok(());
        }
        check(dir.join(files::DISK), Some(self.disk.size))
    }

    /// Whether a machine of this identity can continue from the state in its directory.
    ///
    /// # Errors
    /// In words, when it cannot.
    pub(crate) fn check(&self, dir: &Path, now: &Identity) -> Result<(), String> {
        self.identity.differs(now).map_or(Ok(()), Err)?;
        self.check_state(dir)
    }

    /// Whether the state in a machine's directory is whole and no disk has moved on from it.
    ///
    /// # Errors
    /// In words, when it is not so.
    pub(crate) fn check_state(&self, dir: &Path) -> Result<(), String> {
        self.check_files(dir)?;
        if self.is_about(&dir.join(files::DISK)) {
            return Ok(());
        }
        Err("its disk was changed after it was saved".to_owned())
    }

    /// How the machine in `dir` is started that continues from this. A private view keeps the file as it is and is never
    /// written back, but can only be saved where a process's own pages may be read; elsewhere the file becomes its memory.
    pub(crate) fn start(&self, dir: &Path, readable: bool) -> Start {
        match (self.memory, &self.layer) {
            (Memory::None, _) => Start::Boot,
            (Memory::Stream, _) => Start::Stream,
            (Memory::File, Some(layer)) => Start::View(layer.join(files::RAM)),
            (Memory::File, None) if readable => Start::View(files::real(dir).join(files::RAM)),
            (Memory::File, None) => Start::File,
        }
    }

    /// Takes the place on disk that [`Record::write`] needs: a full disk is noticed while there is a way back.
    pub(crate) fn reserve(dir: &Path) -> Result<()> {
        let new = dir.join(files::SAVED_NEW);
        let reserve = || {
            let mut file = Self::open_new(&new)?;
            file.write_all(&[b' '; RESERVED])?;
            file.sync_all()
        };
        reserve().map_err(DriverError::io(&new))
    }

    /// Not truncated: what is reserved stays.
    fn open_new(new: &Path) -> std::io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.open(new)
    }

    /// Puts the record into a directory whose other files are on disk already.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let (path, new) = (dir.join(files::SAVED), dir.join(files::SAVED_NEW));
        let write = || {
            let text = serde_json::to_vec_pretty(self)?;
            let mut file = Self::open_new(&new)?;
            file.write_all(&text)?;
            file.set_len(text.len() as u64)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(DriverError::io(&path))?;
        files::sync(dir)
    }

    /// Removes the record; what it spoke of is no saved state any more.
    pub(crate) fn forget(dir: &Path) -> Result<()> {
        let path = dir.join(files::SAVED);
        match fs::remove_file(&path) {
            Ok(()) => files::sync(dir),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(DriverError::io(path)(error)),
        }
    }
}

#[cfg(test)]
#[path = "saved_tests.rs"]
mod tests;
