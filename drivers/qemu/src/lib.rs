//! The QEMU driver: machines are QEMU processes, all else of them are files in their directory.
//!
//! | module    | responsible for                                              |
//! |-----------|--------------------------------------------------------------|
//! | `args`    | QEMU's command line                                          |
//! | `board`   | machines of each architecture, as data                        |
//! | `disk`    | the system disk, and whether all files are there             |
//! | `files`   | names in a machine's directory                               |
//! | `forwards` | ports of the host that lead into the guest                  |
//! | `init`    | the tiny guest that tries an accelerator                     |
//! | `layer`   | layers of machines at rest, machines on layers               |
//! | `machine` | one machine: start, stop, forwards                           |
//! | `memory`  | the guest's memory as an argument                            |
//! | `probe`   | which accelerator works here                                 |
//! | `process` | starting, recognising and ending the QEMU process            |
//! | `qmp`     | talking to QEMU                                              |
//! | `ram`     | the memory of a fork, put together again                     |
//! | `resume`  | starting a machine from what was saved of it                 |
//! | `save`    | what becomes of memory, devices and disk of a running machine |
//! | `saved`   | what is known of a saved state                               |
//! | `snapshot` | the optional ability, in terms of the three                 |
//! | `state`   | what a machine is doing; letting it go on                    |
//! | `version` | finding QEMU's programs                                      |

mod args;
mod board;
mod disk;
mod files;
mod forwards;
mod init;
mod layer;
mod machine;
mod memory;
mod probe;
mod process;
mod qmp;
mod ram;
mod resume;
mod save;
mod saved;
mod snapshot;
mod state;
mod version;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use sampan_driver::{
    Driver, DriverError, Endpoint, Features, Health, MachineSpec, MachineState, PortForward, Result, Snapshot,
};

pub use args::Accelerator;
pub use board::Arch;
pub use version::MINIMUM;

use args::Platform;
use machine::Machine;
use probe::{Facts, Probe, Verdict};

/// What the driver needs to know of its surroundings; it reads no environment itself.
#[derive(Debug, Clone, Default)]
pub struct QemuConfig {
    /// Where verdicts about the host are kept.
    pub cache_dir: PathBuf,
    /// An ordinary kernel (the bundle's) to try hardware virtualization with. Without one, it is not used.
    pub probe_kernel: Option<PathBuf>,
    /// Directories programs are looked for in, as in PATH; none means the usual ones.
    pub search_path: Option<OsString>,
    /// The guest's architecture, if it is not the host's; such a guest is emulated.
    pub arch: Option<Arch>,
    /// The emulator itself, instead of looking for it.
    pub program: Option<PathBuf>,
    /// `qemu-img`, instead of looking for it.
    pub image_tool: Option<PathBuf>,
    /// The accelerator, instead of finding out.
    pub accelerator: Option<Accelerator>,
}

/// Runs machines with QEMU.
#[derive(Debug, Clone)]
pub struct Qemu {
    config: QemuConfig,
    /// Asked for its version once: one start wants to know it four times, and asking takes 40 ms.
    found: OnceLock<Found>,
}

/// QEMU as found on this host.
#[derive(Debug, Clone)]
struct Found {
    program: PathBuf,
    version: version::Version,
    /// The line QEMU tells its version in.
    banner: String,
    arch: Arch,
    /// For boards that come without.
    firmware: Option<PathBuf>,
    verdict: Verdict,
}

impl Qemu {
    /// A driver that knows its surroundings.
    pub fn new(config: QemuConfig) -> Self {
        Self {
            config,
            found: OnceLock::new(),
        }
    }

    fn image_tool(&self) -> Result<PathBuf> {
        let config = &self.config;
        version::find(
            "qemu-img",
            config.image_tool.as_deref(),
            config.search_path.as_deref(),
        )
    }

    /// QEMU and what accelerates it.
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
        let config = &self.config;
        let arch = config
            .arch
            .or_else(Arch::of_host)
            .ok_or_else(|| DriverError::Unsupported {
                what: format!("the qemu driver does not know {} hosts", std::env::consts::ARCH),
                hint: "use a host with an x86_64 or arm64 processor".to_owned(),
            })?;
        let program = version::find(
            arch.board().program,
            config.program.as_deref(),
            config.search_path.as_deref(),
        )?;
        let (version, banner) = version::describe(&program)?;
        let verdict = match config.accelerator {
            Some(accelerator) => Verdict {
                accelerator,
                reason: "chosen by configuration".to_owned(),
            },
            None => {
                let probe = Probe {
                    program: &program,
                    version: version.to_string(),
                    arch,
                    kernel: config.probe_kernel.as_deref(),
                    cache_dir: &config.cache_dir,
                };
                probe.verdict(&Facts::of_host(&program))?
            }
        };
        Ok(Found {
            firmware: arch.board().find_firmware(&program),
            program,
            version,
            banner,
            arch,
            verdict,
        })
    }
}

impl Found {
    fn platform(&self) -> Platform<'_> {
        Platform {
            arch: self.arch,
            accelerator: self.verdict.accelerator,
            firmware: self.firmware.as_deref(),
        }
    }

    /// Whether a machine that boots its disk finds firmware to do so.
    fn check_firmware(&self, spec: &MachineSpec) -> Result<()> {
        if spec.boot.is_some() || self.firmware.is_some() || self.arch.board().firmware.is_empty() {
            return Ok(());
        }
        Err(DriverError::NotInstalled {
            what: "firmware for Arm machines (edk2-aarch64-code.fd), which this machine's disk needs to boot,".to_owned(),
            hint: "install it: `apt install qemu-efi-aarch64` (Debian, Ubuntu), `dnf install edk2-aarch64` (Fedora)".to_owned(),
        })
    }

    /// The host's processor as far as guests see it.
    fn processor(&self) -> String {
        if self.verdict.accelerator == Accelerator::Tcg {
            return String::new();
        }
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let seen = |line: &&str| {
            ["model name", "flags", "Features", "CPU part"]
                .iter()
                .any(|key| line.starts_with(key))
        };
        let first = text.split("\n\n").next().unwrap_or_default();
        first.lines().filter(seen).collect::<Vec<_>>().join("; ")
    }
}

impl Driver for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn features(&self) -> Features {
        Features {
            direct_boot: true,
            forwards: true,
            publishing: true,
            loopback_range: cfg!(target_os = "linux"),
            snapshots: cfg!(target_os = "linux"),
            ssh: true,
        }
    }

    fn check(&self) -> Result<Health> {
        let found = self.find()?;
        version::check(&self.image_tool()?)?;
        Ok(Health {
            version: found.version.to_string(),
            accelerator: found.verdict.accelerator.name().to_owned(),
            reason: found.verdict.reason.clone(),
        })
    }

    fn create(&self, spec: &MachineSpec) -> Result<()> {
        let (machine, image_tool) = (Machine::new(spec), self.image_tool()?);
        files::make_dir(&spec.dir)?;
        if !machine.created() {
            saved::Record::forget(&spec.dir)?;
        }
        let in_use = machine.process()?.is_some() || spec.dir.join(files::SAVED).exists();
        disk::ensure(&image_tool, spec, in_use)
    }

    fn start(&self, spec: &MachineSpec) -> Result<()> {
        self.resume(spec).map(drop)
    }

    fn stop(&self, spec: &MachineSpec, deadline: Duration) -> Result<()> {
        Machine::new(spec).stop(deadline)
    }

    fn kill(&self, spec: &MachineSpec) -> Result<()> {
        Machine::new(spec).kill()
    }

    fn remove(&self, spec: &MachineSpec) -> Result<()> {
        Machine::new(spec).remove()
    }

    fn state(&self, spec: &MachineSpec) -> Result<MachineState> {
        Machine::new(spec).state()
    }

    fn trouble(&self, spec: &MachineSpec) -> Result<Option<String>> {
        Machine::new(spec).trouble()
    }

    fn endpoint(&self, spec: &MachineSpec) -> Result<Endpoint> {
        Machine::new(spec).endpoint()
    }

    fn snapshots(&self) -> Option<&dyn Snapshot> {
        self.features().snapshots.then_some(self)
    }

    fn port_forward(&self) -> Option<&dyn PortForward> {
        Some(self)
    }
}
