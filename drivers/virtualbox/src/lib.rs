//! The VirtualBox driver: machines are VirtualBox's, spoken to through VBoxManage; their files are in their directory.
//!
//! | module     | responsible for                                              |
//! |------------|--------------------------------------------------------------|
//! | `advice`   | what VirtualBox's words mean, and what to do about it        |
//! | `args`     | VBoxManage's command lines                                   |
//! | `disk`     | disks that are read where they are, without copies           |
//! | `forwards` | ports of the host that lead into the guest                   |
//! | `info`     | reading what VBoxManage says                                 |
//! | `machine`  | one machine: made, started, ended, removed                   |
//! | `manage`   | running VBoxManage, with deadlines                           |
//! | `version`  | finding VBoxManage, and which versions are used              |
//!
//! There is no [`Snapshot`](sampan_driver::Snapshot) here: docs/virtualbox.md says why.

mod advice;
mod args;
mod disk;
mod forwards;
mod info;
mod machine;
mod manage;
mod version;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sampan_driver::{
    Driver, DriverError, Endpoint, Features, Health, Host, MachineSpec, MachineState, PortForward, Result,
    Runner, files,
};

pub use version::{MINIMUM, NEWEST, Version};

use disk::Files;
use machine::{Machine, is_anothers};
use manage::Manage;
use version::Banner;

/// What the driver needs to know of its surroundings; it reads no environment itself.
#[derive(Debug, Clone, Default)]
pub struct VirtualBoxConfig {
    /// Directories VBoxManage is looked for in, as in PATH; none means the usual ones.
    pub search_path: Option<OsString>,
    /// VBoxManage itself, instead of looking for it.
    pub program: Option<PathBuf>,
}

/// Runs machines with VirtualBox.
pub struct VirtualBox {
    config: VirtualBoxConfig,
    runner: Arc<dyn Runner>,
    /// Asked for its version once.
    found: OnceLock<Found>,
}

/// VirtualBox as found on this host.
#[derive(Clone)]
struct Found {
    manage: Manage,
    banner: Banner,
    /// Its words about what is wrong with the host, said along with its version.
    warnings: String,
}

impl VirtualBox {
    /// A driver that knows its surroundings.
    pub fn new(config: VirtualBoxConfig) -> Self {
        Self::with_runner(config, Arc::new(Host))
    }

    /// A driver whose calls of VBoxManage somebody else runs, such as one who writes them down.
    pub fn with_runner(config: VirtualBoxConfig, runner: Arc<dyn Runner>) -> Self {
        Self {
            config,
            runner,
            found: OnceLock::new(),
        }
    }

    /// VBoxManage, of a version that can be used.
    fn find(&self) -> Result<&Found> {
        match self.found.get() {
            Some(found) => Ok(found),
            None => {
                let found = self.look()?;
                Ok(self.found.get_or_init(|| found))
            }
        }
    }

    fn look(&self) -> Result<Found> {
        let program = version::find(self.config.program.as_deref(), self.config.search_path.as_deref())?;
        if std::env::consts::ARCH != "x86_64" {
            return Err(DriverError::Unsupported {
                what: format!(
                    "the virtualbox driver does not know {} hosts",
                    std::env::consts::ARCH
                ),
                hint: "use a host with an x86_64 processor, or `--driver qemu`".to_owned(),
            });
        }
        let manage = Manage::new(&program, Arc::clone(&self.runner));
        let (banner, warnings) = manage.version()?;
        banner.check()?;
        Ok(Found {
            manage,
            banner,
            warnings,
        })
    }

    /// The machine as VirtualBox has it; none where there is no VirtualBox, which then has no machines.
    fn machine<'a>(&'a self, spec: &'a MachineSpec) -> Result<Option<Machine<'a>>> {
        match self.find() {
            Ok(found) => Ok(Some(Machine::new(&found.manage, found.banner.version, spec))),
            Err(DriverError::NotInstalled { .. } | DriverError::Unsupported { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`Self::machine`], for what only works on one that runs.
    fn there<'a>(&'a self, spec: &'a MachineSpec) -> Result<Machine<'a>> {
        self.machine(spec)?
            .ok_or_else(|| DriverError::NoMachine(spec.name.clone()))
    }
}

impl Driver for VirtualBox {
    fn name(&self) -> &'static str {
        "virtualbox"
    }

    fn features(&self) -> Features {
        Features {
            direct_boot: false,
            forwards: true,
            publishing: true,
            loopback_range: cfg!(target_os = "linux"),
            snapshots: false,
            ssh: true,
        }
    }

    fn check(&self) -> Result<Health> {
        let found = self.find()?;
        let number = &found.banner.number;
        if let Some((what, hint)) = advice::known(&found.warnings) {
            return Err(DriverError::Unhealthy {
                what: format!("{what} (VirtualBox {number})"),
                hint: hint.to_owned(),
            });
        }
        Ok(Health {
            version: number.clone(),
            accelerator: String::new(),
            reason: found.banner.note(),
        })
    }

    fn create(&self, spec: &MachineSpec) -> Result<()> {
        let found = self.find()?;
        Machine::new(&found.manage, found.banner.version, spec).create()
    }

    fn start(&self, spec: &MachineSpec) -> Result<()> {
        if !Files(&spec.dir).disk().is_file() {
            return Err(DriverError::NoMachine(spec.name.clone()));
        }
        let found = self.find()?;
        Machine::new(&found.manage, found.banner.version, spec).start()
    }

    fn stop(&self, spec: &MachineSpec, deadline: Duration) -> Result<()> {
        self.machine(spec)?
            .map_or(Ok(()), |machine| machine.stop(deadline))
    }

    fn kill(&self, spec: &MachineSpec) -> Result<()> {
        self.machine(spec)?.map_or(Ok(()), |machine| machine.end())
    }

    fn remove(&self, spec: &MachineSpec) -> Result<()> {
        // Whoever lost track of a machine's driver asks all of them, also where VirtualBox does not work.
        if is_anothers(spec) {
            return Ok(());
        }
        match self.machine(spec)? {
            Some(machine) => machine.remove(),
            None => files::remove_dir(&spec.dir),
        }
    }

    fn state(&self, spec: &MachineSpec) -> Result<MachineState> {
        if !Files(&spec.dir).disk().is_file() {
            return Ok(MachineState::Absent);
        }
        self.machine(spec)?
            .map_or(Ok(MachineState::Stopped), |machine| machine.state())
    }

    fn trouble(&self, spec: &MachineSpec) -> Result<Option<String>> {
        let stuck = self
            .machine(spec)?
            .and_then(|machine| machine.running().ok())
            .is_some_and(|vm| vm.is_stuck());
        Ok(stuck.then(|| {
            "the guest brought the virtual machine down (guru meditation); its next start boots it".to_owned()
        }))
    }

    fn endpoint(&self, spec: &MachineSpec) -> Result<Endpoint> {
        let machine = self.there(spec)?;
        let vm = machine.running()?;
        Ok(Endpoint {
            forwards: vm.forwards(&spec.forwards),
            serial_log: Some(Files(&spec.dir).serial_log()),
            pid: machine.process()?.map(|process| process.pid()),
            runner: None,
        })
    }

    fn port_forward(&self) -> Option<&dyn PortForward> {
        Some(self)
    }
}
