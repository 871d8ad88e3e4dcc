//! The optional ability of saving machines. Crashes are taken as seriously as by a real driver: a state is replaced as a whole,
//! a record appears last and goes first.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Instant;

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
        let held = self.hold(spec, "freeze", into)?;
        let written = self.write_layer(spec, into);
        let record = written.or_else(|error| held.fail(error))?;
        held.process.end(std::time::Duration::ZERO)?;
        self.point(&spec.name, "freeze-end")?;
        record.write(into).map_err(DriverError::io(into))?;
        let files = Files::new(&spec.dir);
        let remove = || {
            fs::remove_file(files.machine())?;
            fs::remove_dir_all(files.state())
        };
        remove().map_err(DriverError::io(&spec.dir))?;
        Ok(held.effort(&record))
    }

    fn checkpoint(&self, spec: &MachineSpec, into: &Path) -> Result<Effort> {
        let held = self.hold(spec, "checkpoint", into)?;
        let write = || {
            let record = self.write_layer(spec, into)?;
            self.point(&spec.name, "checkpoint-end")?;
            let below = real(into).join(saved::DISK);
            saved::stand_on(&Files::new(&spec.dir).state(), below).map_err(DriverError::io(&spec.dir))?;
            record.write(into).map_err(DriverError::io(into))?;
            Ok(record)
        };
        let record = write().or_else(|error| held.fail(error))?;
        held.process.go_on()?;
        Ok(held.effort(&record))
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
            process.end(std::time::Duration::ZERO)?;
        }
        self.take_over(spec, from)?;
        self.describe(spec)
    }

    fn save(&self, spec: &MachineSpec) -> Result<Effort> {
        let files = Files::new(&spec.dir);
        let identity = self.identity(spec)?;
        let held = self.hold(spec, "save", &files.state())?;
        let record = Record {
            identity,
            layer: None,
            sizes: [("objects.json", files.objects()), ("node", files.node())]
                .into_iter()
                .filter_map(|(name, path)| Some((name.to_owned(), fs::metadata(path).ok()?.len())))
                .collect(),
        };
        held.process.end(std::time::Duration::ZERO)?;
        self.point(&spec.name, "save-end")?;
        record
            .write(&files.state())
            .map_err(DriverError::io(files.state()))?;
        Ok(held.effort(&record))
    }

    fn resume(&self, spec: &MachineSpec) -> Result<Started> {
        let files = Files::new(&spec.dir);
        if !files.exists() {
            return Err(DriverError::NoMachine(spec.name.clone()));
        }
        self.point(&spec.name, "start")?;
        if let Some(process) = Process::find(&spec.dir) {
            if process.is_held() {
                process.go_on()?;
            }
            return Ok(Started::Running);
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
        Process::find(&spec.dir)
            .ok_or_else(|| DriverError::NoMachine(spec.name.clone()))?
            .hold()
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
        let process = Process::find(&spec.dir).ok_or_else(|| DriverError::NoMachine(spec.name.clone()))?;
        let path = PathBuf::from(format!("/proc/{}/smaps_rollup", process.pid()));
        let text = fs::read_to_string(&path).map_err(DriverError::io(&path))?;
        let pss = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = pss.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib << 10)
            .ok_or_else(|| DriverError::io(path)(ErrorKind::InvalidData.into()))
    }
}

/// A machine that is held to be saved.
struct Held {
    process: Process,
    since: Instant,
}

impl Held {
    /// Lets it run on after a failure.
    fn fail<T>(&self, error: DriverError) -> Result<T> {
        self.process.go_on()?;
        Err(error)
    }

    fn effort(&self, record: &Record) -> Effort {
        Effort {
            paused: self.since.elapsed(),
            written: record.sizes.values().sum(),
        }
    }
}

impl Fake {
    /// Holds the machine. On a disk that is told to be full at this point, it runs on.
    fn hold(&self, spec: &MachineSpec, point: &str, into: &Path) -> Result<Held> {
        let process = Process::find(&spec.dir).ok_or_else(|| DriverError::NoMachine(spec.name.clone()))?;
        self.point(&spec.name, point)?;
        let held = Held {
            process,
            since: Instant::now(),
        };
        held.process.hold()?;
        if FakeConfig::load(&self.cache)?.full_at.as_deref() == Some(point) {
            return held.fail(DriverError::io(into)(ErrorKind::StorageFull.into()));
        }
        Ok(held)
    }

    /// Writes the archives of a layer, and gives the record that makes them one.
    fn write_layer(&self, spec: &MachineSpec, into: &Path) -> Result<Record> {
        let identity = self.identity(spec)?;
        let pack = || {
            fs::create_dir_all(into)?;
            if saved::is_there(into) {
                return Err(io::Error::from(ErrorKind::AlreadyExists));
            }
            saved::pack(&Files::new(&spec.dir).state(), into)
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
            saved::unpack(&layer, &new)?;
            saved::stand_on(&new, layer.join(saved::DISK))?;
            let layer = Some(layer.clone());
            Record { layer, ..record }.write(&new)?;
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

/// A path without links in it, as far as it is there.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
