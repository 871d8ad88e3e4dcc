//! Saving a machine: what becomes of its process's memory, devices and disk.
//!
//! Where memory goes depends on what it is. An anonymous file is copied. A private view of the machine's own earlier memory
//! file leaves that file as it is: the pages the process has of its own are written to their places in it. A fork's layer
//! is copied while the guest still runs, then the fork's own pages. QEMU writes the devices beside it.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use sampan_driver::{DriverError, Effort, Result};
use serde_json::{Value, json};

use crate::Found;
use crate::args::MemoryBackend;
use crate::machine::{END_LIMIT, Machine, QMP_LIMIT};
use crate::process::{self, Process, Signal};
use crate::qmp::{Qmp, QmpError};
use crate::ram;
use crate::resume::migrated;
use crate::saved::{Identity, Memory, Record};
use crate::{disk, files};

/// For writing devices, and memory where it has to go with them.
const WRITE_LIMIT: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;
/// What the disk is called in QEMU.
const SYSTEM_DISK: &str = "disk0";

/// A running machine that is being saved.
struct Saving<'a> {
    machine: &'a Machine<'a>,
    process: Process,
    qmp: Qmp,
    source: MemoryBackend,
    /// Whether the guest ran when this began.
    ran: bool,
}

/// What has been written, and when the guest stood still.
struct Written {
    since: Instant,
    bytes: u64,
    memory: Memory,
}

impl Machine<'_> {
    /// Saves the machine in its own directory and ends it. `file`: memory has to be in a file, as layers share it.
    pub(crate) fn put_away(&self, found: &Found, file: bool) -> Result<Effort> {
        let identity = self.identity(found);
        let mut saving = Saving::new(self)?;
        let written = saving.write(false, file)?;
        // The record is complete before the machine ends: whoever dies in between leaves a saved machine, not a lost one.
        let kept = self
            .secure(&written)
            .and_then(|()| self.keep(&identity, &written));
        if let Err(error) = kept {
            Record::forget(self.dir)?;
            saving.give_up()?;
            return Err(error);
        }
        saving.end()?;
        let record = Record::of(self.dir, identity, written.memory)?;
        if Record::read(self.dir).as_ref() != Ok(&Some(record.clone())) {
            tracing::debug!(machine = self.spec.name, "qemu wrote to the disk when it ended");
            record.write(self.dir)?;
        }
        process::clean(self.dir);
        Ok(written.effort())
    }

    /// What a full disk prevents, it prevents here.
    fn secure(&self, written: &Written) -> Result<()> {
        let new = self.path(files::RAM_NEW);
        match written.memory {
            Memory::File if new.exists() => files::sync(&new)?,
            Memory::File => files::sync(&self.path(files::RAM))?,
            Memory::Stream | Memory::None => {}
        }
        files::sync(&self.path(files::DEVICES_NEW))?;
        files::sync(&self.path(files::DISK))?;
        Record::reserve(self.dir)
    }

    fn keep(&self, identity: &Identity, written: &Written) -> Result<()> {
        if self.path(files::RAM_NEW).exists() {
            files::rename(&self.path(files::RAM_NEW), &self.path(files::RAM))?;
        }
        files::rename(&self.path(files::DEVICES_NEW), &self.path(files::DEVICES))?;
        Record::of(self.dir, identity.clone(), written.memory)?.write(self.dir)
    }

    /// Makes a layer of the machine, which runs on.
    pub(crate) fn checkpoint(&self, found: &Found, image_tool: &Path, into: &Path) -> Result<Effort> {
        let identity = self.identity(found);
        let mut saving = Saving::new(self)?;
        let into = self.vacant(into)?;
        let (disk, below, next) = (
            self.path(files::DISK),
            into.join(files::DISK),
            self.path(files::DISK_NEXT),
        );
        files::remove(&next)?;
        let prepared = fs::hard_link(&disk, &below)
            .map_err(DriverError::io(&below))
            .and_then(|()| disk::overlay(image_tool, &self.spec.name, &below, &next))
            .and_then(|()| Record::reserve(&into))
            .and_then(|()| saving.write(true, true));
        let written = prepared.inspect_err(|_| self.abandon(&into))?;
        let effort = written.effort();
        if let Err(error) = saving.switch(&next) {
            saving.give_up()?;
            self.abandon(&into);
            return Err(error);
        }
        // Whoever dies here leaves a new disk with its temporary name, over the one it is to take the place of.
        files::rename(&next, &disk).inspect_err(|_| saving.run_on())?;
        saving.run_on();
        for (from, to) in [(files::RAM_NEW, files::RAM), (files::DEVICES_NEW, files::DEVICES)] {
            files::seal(&self.path(from))?;
            files::rename(&self.path(from), &into.join(to))?;
        }
        files::seal(&below)?;
        Record::of(&into, identity, Memory::File)?.write(&into)?;
        files::sync(self.dir)?;
        Ok(effort)
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
        let mut saving = Self {
            machine,
            process,
            qmp,
            source,
            ran: status["status"] == "running",
        };
        saving.settle()?;
        Ok(saving)
    }

    /// Completes what somebody was killed in: QEMU has changed to a new disk that still has its temporary name, or has not.
    fn settle(&mut self) -> Result<()> {
        let (disk, next) = (
            self.machine.path(files::DISK),
            self.machine.path(files::DISK_NEXT),
        );
        if !next.exists() {
            return Ok(());
        }
        let failed = |error: QmpError| self.machine.failed(error.to_string());
        let nodes = self
            .qmp
            .execute("query-named-block-nodes", json!({"flat": true}), QMP_LIMIT)
            .map_err(failed)?;
        let is_next = |node: &Value| {
            let file = node["file"].as_str().filter(|_| node["drv"] == "file");
            file.is_some_and(|file| files::same(&self.machine.path(file), &next))
        };
        let in_use = nodes.as_array().into_iter().flatten().any(is_next);
        if in_use {
            files::rename(&next, &disk)
        } else {
            files::remove(&next)
        }
    }

    /// Lets QEMU write to a new disk from now on, under a name that it keeps while QEMU runs.
    fn switch(&mut self, next: &Path) -> Result<()> {
        let names = (1..).map(|number| format!("{}{number}", files::DISK_OF_A_RUN));
        let free = |name: &String| !self.machine.path(name).exists();
        let name = names.into_iter().find(free).unwrap_or_default();
        let path = self.machine.path(&name);
        fs::hard_link(next, &path).map_err(DriverError::io(&path))?;
        let arguments =
            json!({"device": SYSTEM_DISK, "snapshot-file": name, "format": "qcow2", "mode": "existing"});
        let switched = self.qmp.execute("blockdev-snapshot-sync", arguments, QMP_LIMIT);
        switched.map(drop).map_err(|error| {
            let _ = fs::remove_file(&path);
            self.machine.failed(error.to_string())
        })
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Result<(), QmpError> {
        self.qmp.execute(command, arguments, QMP_LIMIT).map(drop)
    }

    /// Holds the guest and writes memory and devices; if that fails, lets it run on. `copy`: into files of their own even
    /// if the memory is in one. `file`: memory has to be in a file.
    fn write(&mut self, copy: bool, file: bool) -> Result<Written> {
        // A save that was killed may have left some, and this machine's memory may need no new file.
        self.clear()?;
        let written = self.try_write(copy, file);
        if written.is_err() {
            self.give_up()?;
        }
        written
    }

    /// Nothing came of it: lets the guest run on.
    fn give_up(&mut self) -> Result<()> {
        self.run_on();
        self.clear()
    }

    fn clear(&self) -> Result<()> {
        [files::RAM_NEW, files::DEVICES_NEW, files::SAVED_NEW]
            .iter()
            .try_for_each(|name| files::remove(&self.machine.path(name)))
    }

    fn try_write(&mut self, copy: bool, file: bool) -> Result<Written> {
        let (machine, pid) = (self.machine, self.process.pid());
        let (new, ram) = (machine.path(files::RAM_NEW), machine.path(files::RAM));
        let (from, own) = match self.source.clone() {
            MemoryBackend::Memfd => (ram::memfd(pid).map_err(DriverError::io("/proc"))?, None),
            MemoryBackend::File(_) if !copy => {
                let since = self.hold()?;
                self.devices(copy)?;
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
                    self.devices(copy)?;
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
        self.devices(copy)?;
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

    /// Unless it was held before.
    fn run_on(&mut self) {
        if !self.ran {
            return;
        }
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
    /// Unless the guest goes on (`on`), QEMU writes to its disks no more.
    fn devices(&mut self, on: bool) -> Result<()> {
        self.machine.make_private(files::DEVICES_NEW)?;
        let arguments = json!({"filename": files::DEVICES_NEW, "live": !on});
        let saved = self.qmp.execute("xen-save-devices-state", arguments, WRITE_LIMIT);
        saved.map(drop).map_err(|error| {
            // QEMU does not tell why.
            match disk::free(self.machine.dir) {
                Ok(0) => {
                    DriverError::io(self.machine.path(files::DEVICES_NEW))(ErrorKind::StorageFull.into())
                }
                _ => self.machine.failed(error.to_string()),
            }
        })
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
