//! Saving a machine: what becomes of its process's memory, devices and disk.
//!
//! Where memory goes depends on what it is. An anonymous file is copied. A private view of the machine's own earlier memory
//! file leaves that file as it is: the pages the process has of its own are written to their places in it. A fork's layer
//! is copied while the guest still runs, then the fork's own pages. QEMU writes the devices beside it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sampan_driver::{DriverError, Effort, Result};
use serde_json::json;

use crate::Found;
use crate::args::MemoryBackend;
use crate::machine::{END_LIMIT, Machine, QMP_LIMIT};
use crate::process::{self, Process};
use crate::qmp::{Qmp, QmpError};
use crate::ram;
use crate::resume::migrated;
use crate::saved::{Identity, Memory, Record, sync};
use crate::{disk, files};

/// For writing devices, and memory where it has to go with them.
const WRITE_LIMIT: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

/// A running machine that is being saved.
struct Saving<'a> {
    machine: &'a Machine<'a>,
    process: Process,
    qmp: Qmp,
    source: MemoryBackend,
}

/// What has been written, and when the guest stood still.
struct Written {
    since: Instant,
    bytes: u64,
    memory: Memory,
}

impl Machine<'_> {
    /// Saves the machine and ends it: in its own directory, or with its disk in a layer.
    pub(crate) fn put_away(&self, found: &Found, into: Option<&Path>) -> Result<Effort> {
        let identity = self.identity(found);
        let mut saving = Saving::new(self)?;
        if let Some(into) = into {
            make_dir(into)?;
            unused(into)?;
        }
        let written = saving.write(false, into.is_some())?;
        saving.end()?;
        let kept = self.keep(identity, &written, into);
        if kept.is_err() {
            tracing::warn!(machine = self.spec.name, "the machine is ended and was not saved");
            process::clean(self.dir);
        }
        kept.map(|()| written.effort())
    }

    fn keep(&self, identity: Identity, written: &Written, into: Option<&Path>) -> Result<()> {
        if self.path(files::RAM_NEW).exists() {
            rename(&self.path(files::RAM_NEW), &self.path(files::RAM))?;
        }
        rename(&self.path(files::DEVICES_NEW), &self.path(files::DEVICES))?;
        let parts: &[&str] = match written.memory {
            Memory::File => &[files::RAM, files::DEVICES, files::DISK],
            Memory::Stream => &[files::DEVICES, files::DISK],
        };
        for name in parts {
            sync(&self.path(name))?;
        }
        let Some(into) = into else {
            return Record::of(self.dir, identity, written.memory)?.write(self.dir);
        };
        for name in parts {
            seal(&self.path(name))?;
            rename(&self.path(name), &into.join(name))?;
        }
        Record::of(into, identity, written.memory)?.write(into)?;
        process::clean(self.dir);
        sync(self.dir)
    }

    /// Makes a layer of the machine, which runs on.
    pub(crate) fn checkpoint(&self, found: &Found, image_tool: &Path, into: &Path) -> Result<Effort> {
        let identity = self.identity(found);
        let mut saving = Saving::new(self)?;
        make_dir(into)?;
        unused(into)?;
        let (disk, below) = (self.path(files::DISK), files::real(into).join(files::DISK));
        let next = self.path(files::DISK_NEXT);
        remove(&next)?;
        fs::hard_link(&disk, &below).map_err(DriverError::io(&below))?;
        disk::overlay(image_tool, &self.spec.name, &below, &next)?;
        let written = saving.write(true, true)?;
        // First the name, then the change: whoever dies in between leaves an empty layer over the disk in use.
        let switched = rename(&next, &disk).and_then(|()| {
            let arguments = json!({"device": "disk0", "snapshot-file": files::DISK, "format": "qcow2", "mode": "existing"});
            let switched = saving.qmp.execute("blockdev-snapshot-sync", arguments, QMP_LIMIT);
            switched.or_else(|error| {
                rename(&below, &disk)?;
                Err(self.failed(error.to_string()))
            })
        });
        saving.run_on();
        let effort = written.effort();
        switched?;
        for (from, to) in [(files::RAM_NEW, files::RAM), (files::DEVICES_NEW, files::DEVICES)] {
            seal(&self.path(from))?;
            sync(&self.path(from))?;
            rename(&self.path(from), &into.join(to))?;
        }
        sync(&below)?;
        seal(&below)?;
        Record::of(into, identity, Memory::File)?.write(into)?;
        sync(self.dir)?;
        Ok(effort)
    }

    /// Gives the machine, which has no process, a new disk over a layer's, and the layer's memory to start from.
    pub(crate) fn stand_on(&self, image_tool: &Path, layer: &Path) -> Result<()> {
        let layer = files::real(layer);
        let record = self.layer(&layer)?;
        let next = self.path(files::DISK_NEXT);
        remove(&next)?;
        disk::overlay(image_tool, &self.spec.name, &layer.join(files::DISK), &next)?;
        // With its new disk still under another name, the record is about no disk that is there: it is not used before.
        record.forked(&layer, &next)?.write(self.dir)?;
        rename(&next, &self.path(files::DISK))?;
        sync(self.dir)
    }

    fn layer(&self, layer: &Path) -> Result<Record> {
        let damaged =
            |what: String| self.failed(format!("the layer {} cannot be used: {what}", layer.display()));
        let record = Record::read(layer)
            .map_err(damaged)?
            .ok_or_else(|| damaged("it is not complete".to_owned()))?;
        record.check_files(layer).map_err(damaged)?;
        if record.memory == Memory::Stream || record.layer.is_some() {
            return Err(damaged("it is a machine's own state".to_owned()));
        }
        Ok(record)
    }

    /// Holds the guest.
    pub(crate) fn pause(&self) -> Result<()> {
        let mut saving = Saving::new(self)?;
        saving
            .ask("stop", json!({}))
            .map_err(|error| self.failed(error.to_string()))
    }
}

impl<'a> Saving<'a> {
    fn new(machine: &'a Machine<'a>) -> Result<Self> {
        let gone = || DriverError::NoMachine(machine.spec.name.clone());
        let process = machine.process()?.ok_or_else(gone)?;
        let failed = |error: QmpError| machine.failed(error.to_string());
        let mut qmp = Qmp::connect(&machine.path(files::QMP), QMP_LIMIT).map_err(failed)?;
        let status = qmp
            .execute("query-status", json!({}), QMP_LIMIT)
            .map_err(failed)?;
        if status["status"] == "inmigrate" {
            return Err(machine.failed("its start is not complete"));
        }
        let line = fs::read(format!("/proc/{}/cmdline", process.pid())).unwrap_or_default();
        let source = MemoryBackend::of_process(&String::from_utf8_lossy(&line))
            .ok_or_else(|| machine.failed("its process does not tell where its memory comes from"))?;
        Ok(Self {
            machine,
            process,
            qmp,
            source,
        })
    }

    fn ask(&mut self, command: &str, arguments: serde_json::Value) -> Result<(), QmpError> {
        self.qmp.execute(command, arguments, QMP_LIMIT).map(drop)
    }

    /// Holds the guest and writes memory and devices; if that fails, lets it run on. `copy`: into files of their own even
    /// if the memory is in one. `file`: memory has to be in a file.
    fn write(&mut self, copy: bool, file: bool) -> Result<Written> {
        let written = self.try_write(copy, file);
        if written.is_err() {
            self.run_on();
            for name in [files::RAM_NEW, files::DEVICES_NEW] {
                remove(&self.machine.path(name))?;
            }
        }
        written
    }

    fn try_write(&mut self, copy: bool, file: bool) -> Result<Written> {
        let (machine, pid) = (self.machine, self.process.pid());
        let (new, ram) = (machine.path(files::RAM_NEW), machine.path(files::RAM));
        let (from, own) = match self.source.clone() {
            MemoryBackend::Memfd => (ram::memfd(pid).map_err(DriverError::io("/proc"))?, None),
            MemoryBackend::File(_) if !copy => {
                let since = self.hold()?;
                self.devices()?;
                return self.written(since, 0, Memory::File);
            }
            MemoryBackend::File(_) => (ram, None),
            MemoryBackend::View(below) => match ram::Memory::open(pid, &below) {
                Ok(memory) if !copy && below == files::real(machine.dir).join(files::RAM) => {
                    let since = self.hold()?;
                    let file = OpenOptions::new()
                        .write(true)
                        .open(&ram)
                        .map_err(DriverError::io(&ram))?;
                    let bytes = memory.write_own(&file).map_err(DriverError::io(&ram))?;
                    self.devices()?;
                    return self.written(since, bytes, Memory::File);
                }
                Ok(memory) => (below, Some(memory)),
                Err(error) if file => return Err(DriverError::io(&below)(error)),
                Err(error) => {
                    tracing::info!(%error, "memory is written as a stream");
                    let since = self.hold()?;
                    self.stream().map_err(|error| machine.failed(error.to_string()))?;
                    return self.written(since, 0, Memory::Stream);
                }
            },
        };
        self.room(&from)?;
        let shared = own.is_none();
        let mut since = if shared { Some(self.hold()?) } else { None };
        let (file, mut bytes) = ram::copy_sparse(&from, &new).map_err(DriverError::io(&new))?;
        if let Some(own) = own {
            since = Some(self.hold()?);
            bytes += own.write_own(&file).map_err(DriverError::io(&new))?;
        }
        self.devices()?;
        self.written(since.unwrap_or_else(Instant::now), bytes, Memory::File)
    }

    fn written(&self, since: Instant, bytes: u64, memory: Memory) -> Result<Written> {
        let devices = self.machine.path(files::DEVICES_NEW);
        let length = fs::metadata(&devices).map_err(DriverError::io(&devices))?.len();
        Ok(Written {
            since,
            bytes: bytes + length,
            memory,
        })
    }

    /// A copy of this file needs this much.
    fn room(&self, file: &Path) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(file).map_err(DriverError::io(file))?;
        disk::check_room(self.machine.spec, metadata.blocks() * 512 / MIB)
    }

    fn hold(&mut self) -> Result<Instant> {
        let since = Instant::now();
        self.ask("stop", json!({}))
            .map_err(|error| self.machine.failed(error.to_string()))?;
        Ok(since)
    }

    fn run_on(&mut self) {
        if let Err(error) = self.ask("cont", json!({})) {
            tracing::warn!(%error, machine = self.machine.spec.name, "the machine does not go on");
        }
    }

    /// Devices and memory in one stream: slow to write and slower to load, but QEMU does all of it.
    fn stream(&mut self) -> Result<(), QmpError> {
        self.machine
            .make_private(files::DEVICES_NEW)
            .map_err(|error| QmpError::Protocol(error.to_string()))?;
        self.ask("migrate-set-parameters", json!({"max-bandwidth": 0}))?;
        self.ask("migrate", json!({"uri": format!("file:{}", files::DEVICES_NEW)}))?;
        migrated(&mut self.qmp, WRITE_LIMIT)
    }

    /// Devices without memory, whatever kind it is of. (Xen's name is on the command because Xen was the first to need it.)
    fn devices(&mut self) -> Result<()> {
        self.machine.make_private(files::DEVICES_NEW)?;
        let arguments = json!({"filename": files::DEVICES_NEW});
        let saved = self.qmp.execute("xen-save-devices-state", arguments, WRITE_LIMIT);
        saved
            .map(drop)
            .map_err(|error| self.machine.failed(error.to_string()))
    }

    /// Ends QEMU, which holds the guest.
    fn end(mut self) -> Result<()> {
        if let Err(error) = self.ask("quit", json!({})) {
            tracing::debug!(%error, "quit");
        }
        if self.process.ended_within(END_LIMIT) {
            return Ok(());
        }
        self.process.signal(Signal::KILL);
        if self.process.ended_within(END_LIMIT) {
            return Ok(());
        }
        let what = format!("its process {} cannot be ended", self.process.pid());
        Err(self.machine.failed(what))
    }
}

impl Written {
    fn effort(&self) -> Effort {
        Effort {
            paused: self.since.elapsed(),
            written: self.bytes,
        }
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(DriverError::io(to))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(DriverError::io(path)(error)),
        _ => Ok(()),
    }
}

/// A layer is made once: machines may stand on the disk that is there.
fn unused(into: &Path) -> Result<()> {
    let disk = into.join(files::DISK);
    if disk.exists() {
        return Err(DriverError::io(disk)(std::io::ErrorKind::AlreadyExists.into()));
    }
    Ok(())
}

/// Nobody writes to it any more.
fn seal(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o400)))
        .map_err(DriverError::io(path))
}

fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(DriverError::io(dir))
}
