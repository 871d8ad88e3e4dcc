//! The hyperkit driver, for Macs with an Intel processor: machines are hyperkit processes, all else of them are files in their directory.
//!
//! hyperkit is no longer maintained; QEMU with macOS's own hypervisor (HVF) follows it, and `check` says so. A machine is reached at its
//! own address in macOS's shared network (vmnet): there are no forwards, no publishing and no saved memory.
//!
//! | module    | responsible for                                              |
//! |-----------|--------------------------------------------------------------|
//! | `args`    | hyperkit's command line                                      |
//! | `console` | the guest's console as a text                                |
//! | `disk`    | the system disk                                              |
//! | `files`   | names in a machine's directory                               |
//! | `host`    | platform, program, version, the right to use the network     |
//! | `kernel`  | what hyperkit can boot                                       |
//! | `lease`   | the address that macOS gave the guest                        |
//! | `machine` | one machine's life                                           |
//! | `process` | starting, recognising and ending the hyperkit process        |

mod args;
mod console;
mod disk;
mod files;
mod host;
mod kernel;
mod lease;
mod machine;
mod process;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan_driver::{Driver, DriverError, Endpoint, Features, Health, MachineSpec, MachineState, Result};

pub use host::Platform;

use machine::Machine;

/// Where macOS's DHCP server writes down its leases.
const LEASES: &str = "/var/db/dhcpd_leases";

/// What the driver needs to know of its surroundings; it reads no environment itself.
#[derive(Debug, Clone, Default)]
pub struct HyperkitConfig {
    /// Directories programs are looked for in, as in PATH; none means the usual ones.
    pub search_path: Option<OsString>,
    /// hyperkit itself, instead of looking for it.
    pub program: Option<PathBuf>,
    /// The lease file, instead of macOS's.
    pub leases: Option<PathBuf>,
    /// The host, instead of looking.
    pub platform: Option<Platform>,
}

/// Runs machines with hyperkit.
#[derive(Debug, Clone)]
pub struct Hyperkit {
    config: HyperkitConfig,
}

impl Hyperkit {
    /// A driver that knows its surroundings.
    pub fn new(config: HyperkitConfig) -> Self {
        Self { config }
    }

    /// The program, on a host where it can be used.
    fn find(&self) -> Result<PathBuf> {
        let platform = self.config.platform.clone().unwrap_or_else(Platform::here);
        platform.check()?;
        let config = &self.config;
        let program = host::find(config.program.as_deref(), config.search_path.as_deref())?;
        platform.check_root(&program)?;
        Ok(program)
    }

    fn machine<'a>(&'a self, spec: &'a MachineSpec) -> Machine<'a> {
        let leases = self.config.leases.as_deref().unwrap_or(Path::new(LEASES));
        Machine::new(spec, leases)
    }
}

impl Driver for Hyperkit {
    fn name(&self) -> &'static str {
        "hyperkit"
    }

    fn features(&self) -> Features {
        Features {
            direct_boot: true,
            forwards: false,
            publishing: false,
            loopback_range: false,
            snapshots: false,
            ssh: true,
        }
    }

    fn check(&self) -> Result<Health> {
        let program = self.find()?;
        Ok(Health {
            version: host::version(&program)?,
            accelerator: "hypervisor.framework".to_owned(),
            reason: "hyperkit is deprecated and no longer maintained; the qemu driver with HVF follows it"
                .to_owned(),
        })
    }

    fn create(&self, spec: &MachineSpec) -> Result<()> {
        self.find()?;
        self.machine(spec).create()
    }

    fn start(&self, spec: &MachineSpec) -> Result<()> {
        let machine = self.machine(spec);
        if !machine.exists() {
            return Err(DriverError::NoMachine(spec.name.clone()));
        }
        machine.start(&self.find()?)
    }

    fn stop(&self, spec: &MachineSpec, deadline: Duration) -> Result<()> {
        self.machine(spec).stop(deadline)
    }

    fn kill(&self, spec: &MachineSpec) -> Result<()> {
        self.machine(spec).kill()
    }

    fn remove(&self, spec: &MachineSpec) -> Result<()> {
        self.machine(spec).remove()
    }

    fn state(&self, spec: &MachineSpec) -> Result<MachineState> {
        self.machine(spec).state()
    }

    fn endpoint(&self, spec: &MachineSpec) -> Result<Endpoint> {
        self.machine(spec).endpoint()
    }
}
