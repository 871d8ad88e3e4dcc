//! The optional ability of saving machines, in terms of `save`, `layer` and `resume`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use sampan_driver::{Driver, DriverError, Effort, MachineSpec, Result, Snapshot, Started};

use crate::args::MemoryBackend;
use crate::machine::Machine;
use crate::saved::{Memory, Record};
use crate::{Qemu, disk, files, ram};

impl Snapshot for Qemu {
    fn identity(&self, spec: &MachineSpec) -> Result<String> {
        let identity = Machine::new(spec).identity(self.find()?);
        Ok(format!(
            "{}\n{}\n{}",
            identity.qemu,
            identity.processor,
            identity.machine.join("\n")
        ))
    }

    fn freeze(&self, spec: &MachineSpec, into: &Path) -> Result<Effort> {
        let (machine, found, since) = (Machine::new(spec), self.find()?, Instant::now());
        let written = match machine.running()? {
            Some(_) => {
                machine.vacant(into)?;
                machine.put_away(found, true)?
            }
            None => Effort::default(),
        };
        let put_away = since.elapsed();
        machine.freeze(found, &self.image_tool()?, into)?;
        Ok(Effort {
            paused: written.paused + since.elapsed().saturating_sub(put_away),
            ..written
        })
    }

    fn checkpoint(&self, spec: &MachineSpec, into: &Path) -> Result<Effort> {
        let (machine, found, image_tool) = (Machine::new(spec), self.find()?, self.image_tool()?);
        if machine.running()?.is_some() {
            return machine.checkpoint(found, &image_tool, into);
        }
        machine.share(found, &image_tool, into)?;
        Ok(Effort::default())
    }

    fn fork(&self, spec: &MachineSpec, from: &Path) -> Result<()> {
        let machine = Machine::new(spec);
        files::make_dir(&spec.dir)?;
        if machine.created() {
            return Ok(());
        }
        machine.stand_on(&self.image_tool()?, from)
    }

    fn restore(&self, spec: &MachineSpec, from: &Path) -> Result<()> {
        let machine = Machine::new(spec);
        machine.layer(from)?;
        machine.kill()?;
        files::make_dir(&spec.dir)?;
        machine.settle()?;
        machine.stand_on(&self.image_tool()?, from)
    }

    fn save(&self, spec: &MachineSpec) -> Result<Effort> {
        let machine = Machine::new(spec);
        if machine.process()?.is_some() && machine.running()?.is_none() {
            return Ok(Effort::default());
        }
        machine.put_away(self.find()?, false)
    }

    fn resume(&self, spec: &MachineSpec) -> Result<Started> {
        let machine = Machine::new(spec);
        if !machine.created() {
            return Err(DriverError::NoMachine(spec.name.clone()));
        }
        if let Some(process) = machine.running()? {
            machine.wake(&process)?;
            return Ok(Started::Running);
        }
        machine.resume(self.find()?)
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
        // A machine that is about to stand on a layer without memory has nothing saved.
        let at_rest = record.memory == Memory::None && record.layer.is_some();
        Ok((!at_rest).then(|| record.files(dir)))
    }

    fn discard(&self, spec: &MachineSpec) -> Result<()> {
        let machine = Machine::new(spec);
        let runs = machine.running()?.is_some();
        if !runs && let Err(error) = machine.settle() {
            tracing::warn!(%error, machine = spec.name, "its state cannot be completed");
        }
        Record::forget(&spec.dir)?;
        if !runs {
            crate::process::clean(&spec.dir);
        }
        Ok(())
    }

    fn uses(&self, spec: &MachineSpec) -> Result<Vec<PathBuf>> {
        let machine = Machine::new(spec);
        let mut uses = disk::chain(&spec.dir.join(files::DISK));
        uses.extend(disk::chain(&spec.dir.join(files::DISK_NEXT)));
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
