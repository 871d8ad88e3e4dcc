//! One machine: what VirtualBox knows of it brought in line with what it is to be, started and ended.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::process::{Mark, Process, Signal};
use sampan_driver::{DriverError, Forward, MachineSpec, MachineState, Result, files, refused};

use crate::advice::{explain, said};
use crate::args::{self, CONTROLLER};
use crate::disk::{self, Files};
use crate::info::Vm;
use crate::manage::Manage;
use crate::version::Version;

/// How long VirtualBox may take to start a machine: until the virtual processor runs.
const START: Duration = Duration::from_secs(120);
/// How long it may take to cut a machine's power, before its process is killed.
const POWER_OFF: Duration = Duration::from_secs(20);
/// How long a process may take to be gone after that.
const GONE: Duration = Duration::from_secs(20);
/// How often is looked while something is waited for.
const TICK: Duration = Duration::from_millis(100);

/// A machine, whether VirtualBox knows it or not.
pub(crate) struct Machine<'a> {
    pub(crate) manage: &'a Manage,
    pub(crate) version: Version,
    pub(crate) spec: &'a MachineSpec,
    pub(crate) uuid: String,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(manage: &'a Manage, version: Version, spec: &'a MachineSpec) -> Self {
        Self {
            manage,
            version,
            spec,
            uuid: args::uuid("machine", &spec.dir),
        }
    }

    fn files(&self) -> Files<'_> {
        Files(&self.spec.dir)
    }

    /// Whether there is a machine, as far as its own directory tells.
    fn exists(&self) -> bool {
        self.files().disk().is_file()
    }

    fn info(&self) -> Result<Option<Vm>> {
        self.manage.info(&self.uuid)
    }

    /// The state; a machine that VirtualBox was made to forget, or whose settings are lost, still has its disk.
    pub(crate) fn state(&self) -> Result<MachineState> {
        if !self.exists() {
            return Ok(MachineState::Absent);
        }
        Ok(self.info()?.map_or(MachineState::Stopped, |vm| vm.state()))
    }

    /// What VirtualBox knows of a machine that runs.
    pub(crate) fn running(&self) -> Result<Vm> {
        let vm = if self.exists() { self.info()? } else { None };
        vm.filter(|vm| vm.state() != MachineState::Stopped)
            .ok_or_else(|| DriverError::NoMachine(self.spec.name.clone()))
    }

    /// Makes what is not there of the machine. One that runs, or whose memory somebody saved, is left as it is.
    pub(crate) fn create(&self) -> Result<()> {
        let files = self.files();
        let vm = self.info()?.filter(|vm| vm.settings.is_file() && self.exists());
        if let Some(vm) = &vm
            && (vm.state() != MachineState::Stopped || vm.is_saved())
        {
            return Ok(());
        }
        files::make_dir(&self.spec.dir)?;
        let rewritten = self.describe_disks()?;
        let vm = match vm {
            Some(vm) if !rewritten && vm.controllers.iter().any(|name| name == CONTROLLER) => vm,
            _ => self.register()?,
        };
        let made = !self.exists();
        if made {
            self.manage.run(&args::layer(&files.disk(), &files.base()))?;
        }
        self.attach_disks(&vm, made)?;
        let modify = args::modify(&self.uuid, self.spec, &files.serial_log(), self.version);
        self.manage.run(&modify).map(drop)
    }

    /// Says where the bytes of all disks are; true when that has changed.
    fn describe_disks(&self) -> Result<bool> {
        let (spec, files) = (self.spec, self.files());
        let uuid = |what: &str| args::uuid(what, &spec.dir);
        let system = &spec.disk;
        let mut rewritten =
            disk::describe(&files.base(), &system.base, Some(system.size_mib), &uuid("base"))?;
        for (number, extra) in spec.extra_disks.iter().enumerate() {
            let at = files.extra(number);
            rewritten |= disk::describe(&at, &extra.path, None, &uuid(&format!("extra {number}")))?;
        }
        Ok(rewritten)
    }

    /// Makes VirtualBox know the machine, from nothing: whatever it knew before is forgotten.
    fn register(&self) -> Result<Vm> {
        self.forget()?;
        let (name, folder) = (args::vm_name(self.spec), self.files().settings());
        self.manage.run(&args::create(&name, &self.uuid, &folder))?;
        self.manage.run(&args::controller(&self.uuid))?;
        self.info()?
            .ok_or_else(|| self.failed("VirtualBox does not know it right after it was made"))
    }

    /// Puts the disks on their ports. A layer can only be opened once VirtualBox knows what is below it, so that is put there first.
    fn attach_disks(&self, vm: &Vm, made: bool) -> Result<()> {
        let (files, uuid) = (self.files(), self.uuid.as_str());
        if vm.attached(CONTROLLER, 0) != Some(files.disk().as_path()) {
            if !made {
                self.manage.run(&args::attach(uuid, 0, &files.base(), None))?;
                self.manage.run(&args::detach(uuid, 0))?;
            }
            self.manage.run(&args::attach(uuid, 0, &files.disk(), None))?;
        }
        for number in 0..self.spec.extra_disks.len() {
            if vm.attached(CONTROLLER, number + 1).is_none() {
                let at = files.extra(number);
                // Immutable is the only kind of hard disk that VirtualBox never writes to.
                self.manage
                    .run(&args::attach(uuid, number + 1, &at, Some("immutable")))?;
            }
        }
        Ok(())
    }

    /// Starts the machine, or lets it go on.
    pub(crate) fn start(&self) -> Result<()> {
        if !self.exists() {
            return Err(DriverError::NoMachine(self.spec.name.clone()));
        }
        let vm = self.info()?.unwrap_or_default();
        match vm.state() {
            MachineState::Running => return Ok(()),
            MachineState::Paused if vm.is_stuck() => self.end()?,
            MachineState::Paused => return self.manage.run(&args::control(&self.uuid, "resume")).map(drop),
            _ => {}
        }
        let forwards = self.free_forwards()?;
        if !vm.is_saved() {
            self.create()?;
            let rules = self.info()?.unwrap_or_default().rules;
            if let Some(modify) = args::forwards(&self.uuid, &rules, &forwards) {
                self.manage.run(&modify)?;
            }
            files::rotate(&self.files().serial_log())?;
        }
        let started = self.manage.attempt(&args::start(&self.uuid), START);
        started.map(drop).map_err(|error| {
            // Half a machine would be in the way of the next try. Why it cannot be ended does not matter now.
            let _ = self.end();
            explain(error)
        })
    }

    /// The forwards, each on a port that is free. VirtualBox itself would start the machine and say nothing.
    fn free_forwards(&self) -> Result<Vec<Forward>> {
        let mut forwards = self.spec.forwards.clone();
        for forward in &mut forwards {
            crate::forwards::check(forward)?;
            if forward.host.port() == 0 {
                let free = TcpListener::bind(forward.host).and_then(|listener| listener.local_addr());
                forward.host = free.map_err(DriverError::io("a free port"))?;
            } else if let Some(error) = refused(forward.protocol, forward.host) {
                return Err(error);
            }
        }
        Ok(forwards)
    }

    /// Presses the power button and waits; cuts the power after that.
    pub(crate) fn stop(&self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        let runs =
            || Ok::<_, DriverError>(self.info()?.is_some_and(|vm| vm.state() == MachineState::Running));
        if runs()? {
            let button = args::control(&self.uuid, "acpipowerbutton");
            // A guest that is not listening to it does not get better by an error here.
            if let Err(error) = self.manage.attempt(&button, deadline.max(TICK)) {
                tracing::debug!(%error, "the power button cannot be pressed");
            }
            while Instant::now() < end && runs()? {
                thread::sleep(TICK);
            }
        }
        self.end()
    }

    /// VirtualBox's process that runs the machine.
    pub(crate) fn process(&self) -> Result<Option<Process>> {
        Process::find(&Mark::new(["--startvm", &self.uuid]), None)
    }

    fn is_stopped(&self) -> Result<bool> {
        let vm = self.info()?;
        Ok(vm.is_none_or(|vm| vm.state() == MachineState::Stopped))
    }

    /// Cuts the power. When this is done, the machine's process and its ports are gone.
    pub(crate) fn end(&self) -> Result<()> {
        let process = self.process()?;
        let ran = !self.is_stopped()?;
        if ran {
            let off = args::control(&self.uuid, "poweroff");
            if let Err(error) = self.manage.attempt(&off, POWER_OFF)
                && !said(&error).contains("not currently running")
            {
                tracing::warn!(%error, "VirtualBox cannot cut the machine's power: its process is killed");
                process.iter().for_each(|process| process.signal(Signal::KILL));
            }
        }
        // VirtualBox says "powered off" a moment before the process has ended.
        let end = Instant::now() + GONE;
        if process.is_some_and(|process| !process.ended_within(GONE)) {
            return Err(self.failed("its process does not end"));
        }
        while ran && !self.is_stopped()? {
            if Instant::now() >= end {
                return Err(self.failed("VirtualBox does not end it"));
            }
            thread::sleep(TICK);
        }
        Ok(())
    }

    /// Takes the machine and its disks out of VirtualBox's books. The disks' files stay.
    fn forget(&self) -> Result<()> {
        if self.info()?.is_some() {
            self.end()?;
            self.manage.run(&args::unregister(&self.uuid))?;
        }
        self.close_media()?;
        files::remove_dir(&self.files().settings())
    }

    /// Disks that are still in the books though their machine is not: layers first, and what is below them in the next round.
    fn close_media(&self) -> Result<()> {
        let mut left = usize::MAX;
        loop {
            let media = self.manage.media_below(&self.spec.dir)?;
            let mut refusal = None;
            for medium in &media {
                let closed = self.manage.run(&args::close(&medium.uuid));
                refusal = closed.err().or(refusal);
            }
            match refusal {
                None => return Ok(()),
                Some(error) if media.len() >= left => return Err(error),
                Some(_) => left = media.len(),
            }
        }
    }

    /// Ends the machine and removes all of it.
    pub(crate) fn remove(&self) -> Result<()> {
        self.forget()?;
        files::remove_dir(&self.spec.dir)
    }

    fn failed(&self, what: &str) -> DriverError {
        DriverError::Failed {
            name: self.spec.name.clone(),
            what: what.to_owned(),
        }
    }
}

/// Whether a directory is another driver's machine's: there are files in it, and none of ours.
pub(crate) fn is_anothers(spec: &MachineSpec) -> bool {
    let files = Files(&spec.dir);
    let is_ours = files.base().exists() || files.disk().exists() || files.settings().exists();
    !is_ours && fs::read_dir(&spec.dir).is_ok_and(|mut entries| entries.next().is_some())
}
