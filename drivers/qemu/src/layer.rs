//! Layers of machines at rest (saved, or powered off), and machines that stand on layers.
//!
//! A layer shares its files with the machine it is made of, by hard links, and the machine gets an empty disk over it. All
//! of that changes with one file: the machine's record, which speaks of the new disk while that still has its temporary
//! name. Killed before, the machine has not changed; killed afterwards, whoever comes next completes what the record says.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sampan_driver::{DriverError, Result};

use crate::Found;
use crate::machine::Machine;
use crate::saved::{Memory, Record};
use crate::{disk, files, process, ram};

impl Machine<'_> {
    /// Makes a layer of the machine, which has no process, and lets it stand on that.
    pub(crate) fn share(&self, found: &Found, image_tool: &Path, into: &Path) -> Result<()> {
        if !self.created() {
            return Err(DriverError::NoMachine(self.spec.name.clone()));
        }
        self.settle()?;
        let record = self.at_rest(found)?;
        let into = self.vacant(into)?;
        let record = self
            .link(&record, &into)
            .and_then(|()| Record::reserve(&into))
            .and_then(|()| files::sync(&into))
            .and_then(|()| self.point_to(image_tool, record, &into))
            .inspect_err(|_| self.abandon(&into))?;
        self.complete(&record, &into)
    }

    /// The same, and the machine goes; also when somebody was killed in the middle of it.
    pub(crate) fn freeze(&self, found: &Found, image_tool: &Path, into: &Path) -> Result<()> {
        let into = files::real(into);
        if self.created() {
            self.settle()?;
            let stands = |record: &Record| {
                record.layer.as_ref() == Some(&into) && record.is_about(&self.path(files::DISK))
            };
            if !matches!(Record::read(self.dir), Ok(Some(record)) if stands(&record)) {
                self.share(found, image_tool, &into)?;
            }
        } else if !matches!(Record::read(&into), Ok(Some(record)) if record.check_files(&into).is_ok()) {
            return Err(DriverError::NoMachine(self.spec.name.clone()));
        }
        files::remove(&self.path(files::DISK))?;
        Record::forget(self.dir)?;
        process::clean(self.dir);
        files::sync(self.dir)
    }

    /// Gives the machine, which has no process, a new disk over a layer's, and the layer's memory to start from.
    pub(crate) fn stand_on(&self, image_tool: &Path, layer: &Path) -> Result<()> {
        let layer = files::real(layer);
        let record = self.point_to(image_tool, self.layer(&layer)?, &layer)?;
        self.complete(&record, &layer)
    }

    /// Lets the machine's record speak of a new disk over a layer's. From then on all else can be completed.
    fn point_to(&self, image_tool: &Path, record: Record, layer: &Path) -> Result<Record> {
        let next = self.path(files::DISK_NEXT);
        files::remove(&next)?;
        disk::overlay(image_tool, &self.spec.name, &layer.join(files::DISK), &next)
            .and_then(|()| record.forked(layer, &next))
            .and_then(|record| record.write(self.dir).map(|()| record))
            .inspect_err(|_| {
                for path in [next, self.path(files::SAVED_NEW)] {
                    if let Err(error) = files::remove(&path) {
                        tracing::warn!(%error, "it stays");
                    }
                }
            })
    }

    /// Completes what somebody was killed in, when the machine has no process: its record is about a disk under its temporary
    /// name, or a layer that is not complete yet, or QEMU may have written to a new disk that had not got its name.
    pub(crate) fn settle(&self) -> Result<()> {
        let (disk, next) = (self.path(files::DISK), self.path(files::DISK_NEXT));
        match Record::read(self.dir) {
            Ok(Some(record)) if record.is_about(&next) || record.is_about(&disk) => match &record.layer {
                Some(layer) => self.complete(&record, layer),
                None => files::remove(&next),
            },
            // As good as the disk itself when nothing was written to it.
            _ if disk::is_over(&next, &disk) => files::rename(&next, &disk),
            _ => files::remove(&next),
        }
    }

    /// Does what the machine's record says; all of it can be done twice.
    fn complete(&self, record: &Record, layer: &Path) -> Result<()> {
        let next = self.path(files::DISK_NEXT);
        if record.is_about(&next) {
            files::rename(&next, &self.path(files::DISK))?;
        }
        files::remove(&next)?;
        for name in [files::RAM, files::DEVICES] {
            files::remove(&self.path(name))?;
        }
        files::sync(self.dir)?;
        if !layer.join(files::SAVED).exists() {
            record.check_files(self.dir).map_err(|what| self.failed(what))?;
            for name in record.memory.parts().iter().chain([&files::DISK]) {
                files::seal(&layer.join(name))?;
            }
            Record::of(layer, record.identity.clone(), record.memory)?.write(layer)?;
        }
        if record.memory == Memory::None {
            Record::forget(self.dir)?;
        }
        Ok(())
    }

    /// What a layer of the machine consists of: its saved state, if that is whole, else its disk alone.
    fn at_rest(&self, found: &Found) -> Result<Record> {
        match Record::read(self.dir) {
            Ok(Some(record)) => match record.check_state(self.dir) {
                Ok(()) => return Ok(record),
                Err(reason) => tracing::warn!(machine = self.spec.name, reason, "its memory cannot be used"),
            },
            Ok(None) => {}
            Err(reason) => tracing::warn!(machine = self.spec.name, reason, "its memory cannot be used"),
        }
        Record::of(self.dir, self.identity(found), Memory::None)
    }

    fn link(&self, record: &Record, into: &Path) -> Result<()> {
        for from in record.files(self.dir) {
            let to = into.join(from.file_name().unwrap_or_default());
            match fs::hard_link(&from, &to) {
                // The layer a fork has its memory from may be elsewhere; the machine's own files are not.
                Err(error) if error.kind() == ErrorKind::CrossesDevices && !from.starts_with(self.dir) => {
                    let copied = ram::copy_sparse(&from, &to).and_then(|(copy, _)| copy.sync_all());
                    copied.map_err(DriverError::io(&to))?;
                }
                linked => linked.map_err(DriverError::io(&to))?,
            }
        }
        Ok(())
    }

    /// A directory that a layer can be made in, under its one true name. A layer is made once: machines may stand on it.
    /// What an attempt left there that did not come far enough to matter is removed.
    pub(crate) fn vacant(&self, into: &Path) -> Result<PathBuf> {
        files::make_dir(into)?;
        let into = files::real(into);
        let disk = into.join(files::DISK);
        let used = disk.exists() && !files::same(&disk, &self.path(files::DISK));
        if used || into.join(files::SAVED).exists() {
            return Err(DriverError::io(disk)(ErrorKind::AlreadyExists.into()));
        }
        for name in [files::DISK, files::RAM, files::DEVICES, files::SAVED_NEW] {
            files::remove(&into.join(name))?;
        }
        Ok(into)
    }

    /// Removes what there is of a layer that nothing came of.
    pub(crate) fn abandon(&self, into: &Path) {
        let of_it = [files::DISK, files::RAM, files::DEVICES, files::SAVED_NEW].map(|name| into.join(name));
        for path in of_it.iter().chain([&self.path(files::DISK_NEXT)]) {
            if let Err(error) = files::remove(path) {
                tracing::warn!(%error, "it stays");
            }
        }
        // Not if somebody else has something there.
        let _ = fs::remove_dir(into);
    }

    /// The record of a layer that is complete.
    pub(crate) fn layer(&self, layer: &Path) -> Result<Record> {
        let damaged =
            |what: String| self.failed(format!("the layer {} cannot be used: {what}", layer.display()));
        let record = Record::read(layer)
            .map_err(damaged)?
            .ok_or_else(|| damaged("it is not complete".to_owned()))?;
        record.check_files(layer).map_err(damaged)?;
        if record.layer.is_some() {
            return Err(damaged("it is a machine's own state".to_owned()));
        }
        Ok(record)
    }
}
