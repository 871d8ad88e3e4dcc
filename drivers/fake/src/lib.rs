//! The test driver: a machine is a process of this program that answers on the forwarded API port like a small cluster.
//!
//! It exists for tests of everything above drivers: starts that fail, hang, are interrupted or killed. Its guest is a directory;
//! commands in it are answered by [`Runner`](sampan_driver::Runner) from what is in there, without running anything.
//! `fake.toml` in the driver's cache directory ([`FakeConfig`]) says what goes wrong where; it is read afresh each time.
//!
//! | module     | responsible for                                              |
//! |------------|--------------------------------------------------------------|
//! | `files`    | names in a machine's directory, the machine's description    |
//! | `process`  | starting, recognising and ending the machine's process       |
//! | `guest`    | what commands in the guest do                                |
//! | `machine`  | the body of the machine's process                            |
//! | `forwards` | ports that come and go while the machine runs                |
//! | `http`     | just enough of HTTP                                          |
//! | `cluster`  | just enough of the Kubernetes API                            |
//! | `objects`  | the states of objects that controllers would bring about     |
//! | `saved`    | what is known of a saved state, a layer's archives           |
//! | `snapshot` | the optional ability of saving machines                      |
//! | `watch`    | watching what is in the API                                  |

mod cluster;
mod files;
mod forwards;
mod guest;
mod http;
mod machine;
mod objects;
mod process;
mod saved;
mod snapshot;
mod watch;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{
    Driver, DriverError, Endpoint, Features, Forward, Health, MachineSpec, MachineState, PortForward, Result,
    Runner, Snapshot,
};
use serde::{Deserialize, Serialize};

pub use machine::run as run_machine;

use files::{Files, Machine};
use process::Process;

/// How long a process may take to listen.
const LISTEN_DEADLINE: Duration = Duration::from_secs(10);

/// What goes wrong, and where. Points are the names of driver calls ("check", "create", "start", "stop", "save", "freeze",
/// "checkpoint", "fork", "restore", "pause"), late ones of some ("save-end": recorded and not ended yet; "freeze-end",
/// "checkpoint-end", "fork-end"), the programs of guest commands ("tar", "systemctl", "ctr", "kubeadm", …), "api" (the apiserver
/// never answers), "resume" (failing there, a saved state is refused) and "sshd" (hanging there, the guest has no
/// [`Runner`](sampan_driver::Runner): it is one for SSH, which it never answers).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FakeConfig {
    /// Milliseconds that every guest command takes.
    pub delay: u64,
    /// The point that fails.
    pub fail_at: Option<String>,
    /// The point that never ends (a guest command: not before its deadline).
    pub hang_at: Option<String>,
    /// The point ("save", "freeze" or "checkpoint") at which the disk is full.
    pub full_at: Option<String>,
    /// The driver can do no more than every driver can: no saved machines, no ports at run time, no addresses but 127.0.0.1.
    pub plain: bool,
    /// Guests have this address of their own, and are reached there: as `plain`, and without forwards. (Ports below 1024, where only root
    /// may listen, are left out.)
    pub address: Option<Ipv4Addr>,
    /// The hypervisor's version; none means this crate's. What another version saved cannot be used.
    pub version: Option<String>,
}

impl FakeConfig {
    /// Reads `fake.toml` in a cache directory; without one nothing goes wrong.
    ///
    /// # Errors
    /// When the file cannot be read or says something else.
    pub fn load(cache: &Path) -> Result<Self> {
        let path = cache.join("fake.toml");
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| {
                DriverError::io(path)(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(DriverError::io(path)(error)),
        }
    }

    fn version(&self) -> &str {
        self.version.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"))
    }

    fn fails_at(&self, point: &str) -> bool {
        self.fail_at.as_deref() == Some(point)
    }

    fn hangs_at(&self, point: &str) -> bool {
        self.hang_at.as_deref() == Some(point)
    }
}

/// The test driver.
#[derive(Debug, Clone)]
pub struct Fake {
    cache: PathBuf,
    program: PathBuf,
}

impl Fake {
    /// A driver that reads `fake.toml` in `cache` and whose machines are `program __fake-machine DIR`, a program that then
    /// calls [`run_machine`].
    pub fn new(cache: PathBuf, program: PathBuf) -> Self {
        Self { cache, program }
    }

    /// Whether the guest is to be one that should answer by SSH.
    fn wants_ssh(&self) -> bool {
        FakeConfig::load(&self.cache).is_ok_and(|config| config.hangs_at("sshd"))
    }

    /// Whether it is to be a driver of few abilities.
    fn is_plain(&self) -> bool {
        FakeConfig::load(&self.cache).is_ok_and(|config| config.plain || config.address.is_some())
    }

    /// Where a guest's ports are.
    fn places(&self, spec: &MachineSpec) -> Result<Vec<Forward>> {
        let at = |own: Ipv4Addr, forward: &Forward| {
            let host = SocketAddr::from((own, forward.guest_port));
            (host.port() >= 1024).then_some(Forward { host, ..*forward })
        };
        let forwards = spec.forwards.iter();
        Ok(match FakeConfig::load(&self.cache)?.address {
            Some(own) => forwards.filter_map(|forward| at(own, forward)).collect(),
            None => forwards.copied().collect(),
        })
    }

    /// Fails or hangs where `fake.toml` says so.
    fn point(&self, name: &str, point: &str) -> Result<()> {
        let config = FakeConfig::load(&self.cache)?;
        while config.hangs_at(point) && FakeConfig::load(&self.cache)? == config {
            thread::sleep(Duration::from_millis(20));
        }
        if config.fails_at(point) {
            return Err(DriverError::Failed {
                name: name.to_owned(),
                what: format!("told to fail at {point}"),
            });
        }
        Ok(())
    }

    /// Writes down what the machine is; from then on it exists.
    fn describe(&self, spec: &MachineSpec) -> Result<()> {
        let machine = Machine {
            name: spec.name.clone(),
            cache: self.cache.clone(),
            cpus: spec.cpus,
            memory_mib: spec.memory_mib,
            forwards: self.places(spec)?,
            parts: spec
                .extra_disks
                .iter()
                .find(|disk| disk.serial == "sampan-parts")
                .map(|disk| disk.path.clone()),
        };
        Files::new(&spec.dir).create(&machine)
    }

    /// Starts the machine's process and waits until it listens.
    fn launch(&self, spec: &MachineSpec) -> Result<()> {
        let files = Files::new(&spec.dir);
        sampan_driver::files::remove(&files.listening())?;
        let mut starting = process::spawn(&self.program, &spec.dir)?;
        let end = Instant::now() + LISTEN_DEADLINE;
        loop {
            match fs::read_to_string(files.listening()) {
                Ok(text) if text.trim() == "ok" => break,
                Ok(text) => {
                    if let Ok(port) = text.trim().parse() {
                        return Err(DriverError::PortTaken { port });
                    }
                }
                Err(_) => {}
            }
            if starting.ended().is_some() || Instant::now() >= end {
                // On a full disk a machine has no last words, and this fails as the machine did.
                files::write(&files.listening(), b"ended").map_err(DriverError::io(files.listening()))?;
                let what = fs::read_to_string(files.log()).unwrap_or_default();
                return Err(DriverError::Failed {
                    name: spec.name.clone(),
                    what: what.trim().to_owned(),
                });
            }
            thread::sleep(Duration::from_millis(2));
        }
        starting.release();
        Ok(())
    }
}

impl Driver for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn features(&self) -> Features {
        Features {
            direct_boot: true,
            forwards: FakeConfig::load(&self.cache).is_ok_and(|config| config.address.is_none()),
            publishing: !self.is_plain(),
            loopback_range: cfg!(target_os = "linux") && !self.is_plain(),
            snapshots: cfg!(target_os = "linux") && !self.is_plain(),
            ssh: self.wants_ssh(),
        }
    }

    fn check(&self) -> Result<Health> {
        if FakeConfig::load(&self.cache)?.fails_at("check") {
            return Err(DriverError::Unhealthy {
                what: "the fake driver was told to be unhealthy".to_owned(),
                hint: "change fake.toml".to_owned(),
            });
        }
        self.point("host", "check")?;
        Ok(Health {
            version: FakeConfig::load(&self.cache)?.version().to_owned(),
            accelerator: String::new(),
            reason: String::new(),
        })
    }

    fn create(&self, spec: &MachineSpec) -> Result<()> {
        self.point(&spec.name, "create")?;
        let state = Files::new(&spec.dir).state();
        if saved::below(&state).is_empty() {
            saved::stand_on(&state, spec.disk.base.clone()).map_err(DriverError::io(&state))?;
        }
        self.describe(spec)
    }

    fn start(&self, spec: &MachineSpec) -> Result<()> {
        self.resume(spec).map(drop)
    }

    fn stop(&self, spec: &MachineSpec, deadline: Duration) -> Result<()> {
        self.point(&spec.name, "stop")?;
        match Process::find(&spec.dir) {
            Some(process) => process.end(deadline),
            None => Ok(()),
        }
    }

    fn kill(&self, spec: &MachineSpec) -> Result<()> {
        match Process::find(&spec.dir) {
            Some(process) => process.end(Duration::ZERO),
            None => Ok(()),
        }
    }

    fn remove(&self, spec: &MachineSpec) -> Result<()> {
        self.kill(spec)?;
        sampan_driver::files::remove_dir(&spec.dir)
    }

    fn state(&self, spec: &MachineSpec) -> Result<MachineState> {
        Ok(match Process::find(&spec.dir) {
            Some(process) if process.is_held() => MachineState::Paused,
            Some(_) => MachineState::Running,
            None if Files::new(&spec.dir).exists() => MachineState::Stopped,
            None => MachineState::Absent,
        })
    }

    fn endpoint(&self, spec: &MachineSpec) -> Result<Endpoint> {
        let process = Process::find(&spec.dir).ok_or_else(|| DriverError::NoMachine(spec.name.clone()))?;
        let files = Files::new(&spec.dir);
        let guest = guest::Guest::new(&spec.dir, &spec.name, &self.cache);
        let runner: Option<Arc<dyn Runner>> = (!self.wants_ssh()).then(|| Arc::new(guest) as _);
        Ok(Endpoint {
            forwards: files.load()?.forwards,
            serial_log: Some(files.log()),
            pid: Some(process.pid()),
            runner,
        })
    }

    fn snapshots(&self) -> Option<&dyn Snapshot> {
        self.features().snapshots.then_some(self)
    }

    fn port_forward(&self) -> Option<&dyn PortForward> {
        self.features().publishing.then_some(self)
    }
}

/// Something to be removed that is not there is fine.
fn absent(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}
