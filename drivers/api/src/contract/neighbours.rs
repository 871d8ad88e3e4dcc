//! What the suite asks of two machines.

use std::panic::resume_unwind;
use std::thread;

use super::ports::free;
use super::{Life, STOP_DEADLINE};
use crate::{MachineSpec, MachineState, Result};

impl Life<'_> {
    /// Two machines of one driver know nothing of each other.
    pub(super) fn beside_another(&self) -> Result<()> {
        let Some(spec) = self.neighbour(2)? else {
            return Ok(());
        };
        let other = Life {
            driver: self.driver,
            spec: &spec,
        };
        let pid = self.start()?;
        other.create()?;
        let theirs = other.start()?;
        assert!(pid.is_none() || pid != theirs, "two machines in one process");
        self.driver.kill(self.spec)?;
        self.stopped("after a kill beside another machine")?;
        other.expect(MachineState::Running, "after another machine was killed")?;
        self.start()?;
        let theirs = self.driver.endpoint(&spec)?.pid;
        self.driver.remove(&spec)?;
        other.removed(theirs, "after remove beside another machine")?;
        self.expect(MachineState::Running, "after another machine was removed")
    }

    /// Two machines are made, run and go while the other one is.
    pub(super) fn at_once(&self) -> Result<()> {
        let (Some(one), Some(two)) = (self.neighbour(3)?, self.neighbour(4)?) else {
            return Ok(());
        };
        let live = |spec| {
            let driver = self.driver;
            let life = Life { driver, spec };
            life.create()?;
            let pid = life.start()?;
            driver.stop(spec, STOP_DEADLINE)?;
            life.stopped("after a stop beside another machine")?;
            life.start()?;
            driver.remove(spec)?;
            life.removed(pid, "after remove beside another machine")
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| live(&two));
            live(&one)?;
            other.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Another machine's specification, on ports of its own; none where guests have addresses of their own, as a stand-in's have all
    /// the same one.
    fn neighbour(&self, number: u32) -> Result<Option<MachineSpec>> {
        if !self.driver.features().forwards {
            return Ok(None);
        }
        let name = format!("{}-{number}", self.spec.name);
        let mut spec = MachineSpec {
            dir: self.spec.dir.with_file_name(&name),
            name,
            ..self.spec.clone()
        };
        for forward in &mut spec.forwards {
            forward.host = free(forward.protocol)?;
        }
        Ok(Some(spec))
    }
}
