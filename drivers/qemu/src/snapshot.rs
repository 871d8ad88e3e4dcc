//! The optional ability of saving machines, in terms of `save` and `resume`.

use std::path::{Path, PathBuf};

use sampan_driver::{Driver, DriverError, Effort, MachineSpec, Result, Snapshot, Started};

use crate::args::MemoryBackend;
use crate::machine::Machine;
use crate::saved::Record;
use crate::{Qemu, disk, files, ram};

impl Snapshot for Qemu {
    fn identity(&self, spec: &MachineSpec) -> Result<String> {
        let identity = Machine::new(spec).identity(&self.find()?);
        Ok(format!(
            "{}\n{}\n{}",
            identity.qemu,
            identity.processor,
            identity.machine.join("\n")
        ))
    }

    fn freeze(&self, spec: &MachineSpec, into: &Path) -> Result<Effort> {
        Machine::new(spec).put_away(&self.find()?, Some(into))
    }

    fn checkpoint(&self, spec: &MachineSpec, into: &Path) -> Result<Effort> {
        Machine::new(spec).checkpoint(&self.find()?, &self.image_tool()?, into)
    }

    fn fork(&self, spec: &MachineSpec, from: &Path) -> Result<()> {
        let machine = Machine::new(spec);
        machine.make_dir()?;
        if machine.created() {
            return Ok(());
        }
        machine.stand_on(&self.image_tool()?, from)
    }

    fn restore(&self, spec: &MachineSpec, from: &Path) -> Result<()> {
        let machine = Machine::new(spec);
        machine.kill()?;
        machine.make_dir()?;
        machine.stand_on(&self.image_tool()?, from)
    }

    fn save(&self, spec: &MachineSpec) -> Result<Effort> {
        Machine::new(spec).put_away(&self.find()?, None)
    }

    fn resume(&self, spec: &MachineSpec) -> Result<Started> {
        let machine = Machine::new(spec);
        if !machine.created() {
            return Err(DriverError::NoMachine(spec.name.clone()));
        }
        if let Some(process) = machine.process()? {
            if !spec.dir.join(files::SAVED).exists() {
                machine.wake(&process)?;
                return Ok(Started::Running);
            }
            // Whoever resumed it did not get to the point where it may run.
            machine.kill()?;
        }
        machine.resume(&self.find()?)
    }

    fn pause(&self, spec: &MachineSpec) -> Result<()> {
        Machine::new(spec).pause()
    }

    fn saved(&self, dir: &Path) -> Result<Option<Vec<PathBuf>>> {
        let damaged = |what| DriverError::Failed {
            name: dir.display().to_string(),
            what,
        };
        let Some(record) = Record::read(dir).map_err(damaged)? else {
            return Ok(None);
        };
        record.check_files(dir).map_err(damaged)?;
        Ok(Some(record.files(dir)))
    }

    fn discard(&self, spec: &MachineSpec) -> Result<()> {
        Record::forget(&spec.dir)?;
        if Machine::new(spec).process()?.is_none() {
            crate::process::clean(&spec.dir);
        }
        Ok(())
    }

    fn uses(&self, spec: &MachineSpec) -> Result<Vec<PathBuf>> {
        let machine = Machine::new(spec);
        let mut uses = disk::chain(&spec.dir.join(files::DISK));
        if let Some(process) = machine.process()? {
            let line = std::fs::read(format!("/proc/{}/cmdline", process.pid())).unwrap_or_default();
            if let Some(MemoryBackend::View(path)) =
                MemoryBackend::of_process(&String::from_utf8_lossy(&line))
            {
                uses.push(path);
            }
        }
        if let Ok(Some(record)) = Record::read(&spec.dir) {
            uses.extend(record.files(&spec.dir));
        }
        let own = files::real(&spec.dir);
        uses.retain(|path| !path.starts_with(&spec.dir) && !path.starts_with(&own));
        uses.sort();
        uses.dedup();
        Ok(uses)
    }

    fn resident(&self, spec: &MachineSpec) -> Result<u64> {
        let endpoint = self.endpoint(spec)?;
        let pid = endpoint.pid.unwrap_or_default();
        ram::proportional(pid).map_err(DriverError::io(format!("/proc/{pid}/smaps_rollup")))
    }
}
