//! The optional ability of saving machines. Crashes are taken as seriously as by a real driver: a state is replaced as a whole,
//! a record appears last and goes first.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sampan_driver::{DriverError, Effort, MachineSpec, Result, Snapshot, Started};

use crate::files::Files;
use crate::process::Process;
use crate::saved::{self, Record};
use crate::{Fake, FakeConfig, absent};

impl Snapshot for Fake {
    fn identity(&self, spec: &MachineSpec) -> Result<String> {
        Ok(format!(
            "fake {}\ncpus={}\nmemory={}",
            FakeConfig::load(&self.cache)?.version(),
            spec.cpus,
            spec.memory_mib
        ))
    }

    fn freeze(&self, spec: &MachineSpec, into: &Path) -> Result<Effort> {
        let files = Files::new(&spec.dir);
        let is_complete = saved::is_there(into);
        if !files.exists() && !is_complete {
            return Err(DriverError::NoMachine(spec.name.clone()));
        }
        let mut effort = Effort::default();
        if Process::find(&spec.dir).is_some() {
            effort = self.put_away(spec, "freeze")?;
        }
        self.point(&spec.name, "freeze-end")?;
        if !is_complete {
            let record = self.write_layer(spec, into)?;
            record.write(into).map_err(DriverError::io(into))?;
        }
        let remove = || {
            fs::remove_file(files.machine()).or_else(absent)?;
            fs::remove_dir_all(files.state()).or_else(absent)
        };
        remove().map_err(DriverError::io(&spec.dir))?;
        Ok(effort)
    }

    fn checkpoint(&self, spec: &MachineSpec, into: &Path) -> Result<Effort> {
        if !Files::new(&spec.dir).exists() {
            return Err(DriverError::NoMachine(spec.name.clone()));
        }
        self.point(&spec.name, "checkpoint")?;
        let held = Held::begin(spec)?;
        let write = || {
            self.full(into, "checkpoint")?;
            if saved::is_there(into) {
                return Err(DriverError::io(into)(ErrorKind::AlreadyExists.into()));
            }
            let record = self.write_layer(spec, into)?;
            self.point(&spec.name, "checkpoint-end")?;
            record.write(into).map_err(DriverError::io(into))?;
            let below = real(into).join(saved::DISK);
            saved::stand_on(&Files::new(&spec.dir).state(), below).map_err(DriverError::io(&spec.dir))?;
            Ok(record)
        };
        let written = write();
        let paused = held.end()?;
        Ok(Effort {
            paused,
            written: written?.bytes(),
        })
    }

    fn fork(&self, spec: &MachineSpec, from: &Path) -> Result<()> {
        self.point(&spec.name, "fork")?;
        if Files::new(&spec.dir).exists() {
            return Ok(());
        }
        self.take_over(spec, from)?;
        self.point(&spec.name, "fork-end")?;
        self.describe(spec)
    }

    fn restore(&self, spec: &MachineSpec, from: &Path) -> Result<()> {
        self.point(&spec.name, "restore")?;
        if let Some(process) = Process::find(&spec.dir) {
            process.end(Duration::ZERO)?;
        }
        self.take_over(spec, from)?;
        self.describe(spec)
    }

    fn save(&self, spec: &MachineSpec) -> Result<Effort> {
        self.put_away(spec, "save")
    }

    fn resume(&self, spec: &MachineSpec) -> Result<Started> {
        let files = Files::new(&spec.dir);
        if !files.exists() {
            return Err(DriverError::NoMachine(spec.name.clone()));
        }
        self.point(&spec.name, "start")?;
        if let Some(process) = Process::find(&spec.dir) {
            if !saved::is_there(&files.state()) {
                process.go_on()?;
                return Ok(Started::Running);
            }
            // Whoever saved it did not get to its end.
            process.end(Duration::ZERO)?;
        }
        for image in saved::below(&files.state()) {
            File::open(&image).map_err(DriverError::io(image))?;
        }
        self.describe(spec)?;
        let how = match self.usable(spec) {
            Ok(true) => Started::Resumed,
            Ok(false) => Started::Booted(None),
            Err(why) => {
                self.discard(spec)?;
                Started::Booted(Some(why))
            }
        };
        self.launch(spec)?;
        Ok(how)
    }

    fn pause(&self, spec: &MachineSpec) -> Result<()> {
        self.point(&spec.name, "pause")?;
        running(spec)?.hold()
    }

    fn saved(&self, dir: &Path) -> Result<Option<Vec<PathBuf>>> {
        let own = Files::new(dir).state();
        let home = if saved::is_there(dir) { dir } else { &own };
        let damaged = |what| DriverError::Failed {
            name: dir.display().to_string(),
            what,
        };
        let Some(record) = Record::read(home).map_err(damaged)? else {
            return Ok(None);
        };
        record.check(home).map_err(damaged)?;
        Ok(Some(record.files(home)))
    }

    fn discard(&self, spec: &MachineSpec) -> Result<()> {
        saved::forget(&Files::new(&spec.dir).state()).map_err(DriverError::io(&spec.dir))
    }

    fn uses(&self, spec: &MachineSpec) -> Result<Vec<PathBuf>> {
        let state = Files::new(&spec.dir).state();
        let mut uses = saved::below(&state);
        if let Ok(Some(record)) = Record::read(&state) {
            uses.extend(record.files(&state));
        }
        uses.retain(|path| !path.starts_with(&spec.dir));
        uses.sort();
        uses.dedup();
        Ok(uses)
    }

    fn resident(&self, spec: &MachineSpec) -> Result<u64> {
        let process = running(spec)?;
        let path = PathBuf::from(format!("/proc/{}/smaps_rollup", process.pid()));
        let text = fs::read_to_string(&path).map_err(DriverError::io(&path))?;
        let pss = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = pss.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib << 10)
            .ok_or_else(|| DriverError::io(path)(ErrorKind::InvalidData.into()))
    }
}

/// A machine that stands still while it is saved.
struct Held {
    /// Goes on afterwards; none when there is none, or it was held before.
    process: Option<Process>,
    since: Instant,
}

impl Held {
    fn begin(spec: &MachineSpec) -> Result<Self> {
        let process = Process::find(&spec.dir).filter(|process| !process.is_held());
        if let Some(process) = &process {
            process.hold()?;
        }
        Ok(Self {
            process,
            since: Instant::now(),
        })
    }

    /// Lets it go on, and tells how long it stood still.
    fn end(self) -> Result<Duration> {
        let Some(process) = self.process else {
            return Ok(Duration::ZERO);
        };
        process.go_on()?;
        Ok(self.since.elapsed())
    }
}

impl Fake {
    /// Fails where the disk is told to be full.
    fn full(&self, path: &Path, point: &str) -> Result<()> {
        if FakeConfig::load(&self.cache)?.full_at.as_deref() == Some(point) {
            return Err(DriverError::io(path)(ErrorKind::StorageFull.into()));
        }
        Ok(())
    }

    /// Saves a running machine and ends its process; if it fails, it runs on. The record is there before the process ends: a
    /// machine with both was saved.
    fn put_away(&self, spec: &MachineSpec, point: &str) -> Result<Effort> {
        let (files, process) = (Files::new(&spec.dir), running(spec)?);
        self.point(&spec.name, point)?;
        let held = Held::begin(spec)?;
        let write = || {
            let record = Record {
                identity: self.identity(spec)?,
                layer: None,
                sizes: [("objects.json", files.objects()), ("node", files.node())]
                    .into_iter()
                    .filter_map(|(name, path)| Some((name.to_owned(), fs::metadata(path).ok()?.len())))
                    .collect(),
            };
            self.full(&files.state(), point)?;
            record
                .write(&files.state())
                .map_err(DriverError::io(files.state()))?;
            Ok(record)
        };
        let record = match write() {
            Ok(record) => record,
            Err(error) => {
                held.end()?;
                return Err(error);
            }
        };
        self.point(&spec.name, "save-end")?;
        process.end(Duration::ZERO)?;
        Ok(Effort {
            paused: held.since.elapsed(),
            written: record.bytes(),
        })
    }

    /// Writes the archives of a layer, and gives the record that makes them one. There is memory in it unless the machine is
    /// powered off.
    fn write_layer(&self, spec: &MachineSpec, into: &Path) -> Result<Record> {
        let state = Files::new(&spec.dir).state();
        let damaged = |what| DriverError::Failed {
            name: spec.name.clone(),
            what,
        };
        let saved = Record::read(&state).map_err(damaged)?;
        let has_memory = saved.is_some() || Process::find(&spec.dir).is_some();
        let identity = match saved {
            Some(record) => record.identity,
            None => self.identity(spec)?,
        };
        let pack = || {
            fs::create_dir_all(into)?;
            saved::pack(&state, into, has_memory)
        };
        Ok(Record {
            identity,
            layer: None,
            sizes: pack().map_err(DriverError::io(into))?,
        })
    }

    /// Gives the machine, which has no process, the state of a layer.
    fn take_over(&self, spec: &MachineSpec, layer: &Path) -> Result<()> {
        let layer = real(layer);
        let damaged = |what: String| DriverError::Failed {
            name: spec.name.clone(),
            what: format!("the layer {} cannot be used: {what}", layer.display()),
        };
        let record = Record::read(&layer)
            .map_err(damaged)?
            .ok_or_else(|| damaged("it is not complete".to_owned()))?;
        record.check(&layer).map_err(damaged)?;
        let (state, new) = (Files::new(&spec.dir).state(), spec.dir.join("state.new"));
        let make = || {
            saved::unpack(&layer, &new, &record)?;
            saved::stand_on(&new, layer.join(saved::DISK))?;
            if record.has_memory() {
                let layer = Some(layer.clone());
                Record { layer, ..record }.write(&new)?;
            }
            if state.exists() {
                renameat_with(CWD, &new, CWD, &state, RenameFlags::EXCHANGE)?;
                fs::remove_dir_all(&new).or_else(absent)
            } else {
                fs::rename(&new, &state)
            }
        };
        make().map_err(DriverError::io(&spec.dir))
    }

    /// Whether there is a saved state to go on from.
    ///
    /// # Errors
    /// In words, when there is one that cannot be used.
    fn usable(&self, spec: &MachineSpec) -> Result<bool, String> {
        let state = Files::new(&spec.dir).state();
        let Some(record) = Record::read(&state)? else {
            return Ok(false);
        };
        let now = self.identity(spec).map_err(|error| error.to_string())?;
        if record.identity != now {
            let line = |text: &str| text.replace('\n', ", ");
            let (was, is) = (line(&record.identity), line(&now));
            return Err(format!("it was saved by {was}, and this is {is}"));
        }
        record.check(&state)?;
        if FakeConfig::load(&self.cache).is_ok_and(|config| config.fails_at("resume")) {
            return Err("told to refuse it".to_owned());
        }
        Ok(true)
    }
}

fn running(spec: &MachineSpec) -> Result<Process> {
    Process::find(&spec.dir).ok_or_else(|| DriverError::NoMachine(spec.name.clone()))
}

/// A path without links in it, as far as it is there.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
