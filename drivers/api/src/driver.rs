//! The contract between sampan and whatever runs its machines.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::command::{CommandError, Runner};
use crate::forward::PortForward;
use crate::snapshot::Snapshot;
use crate::spec::{Forward, MachineSpec};

/// What a driver's methods return.
pub type Result<T, E = DriverError> = std::result::Result<T, E>;

/// Runs machines. All state is in the machine's directory ([`MachineSpec::dir`]) and in the process or the
/// hypervisor itself, so any process of sampan's can take over from another; callers hold the profile's lock.
pub trait Driver: Send + Sync {
    /// The name users choose it by: lower case, no spaces.
    fn name(&self) -> &str;

    /// What machines of this driver can do on this host.
    fn features(&self) -> Features;

    /// Looks at the host: is the driver installed, recent enough and usable? May take a few seconds the first time;
    /// verdicts that cost time are remembered by the driver.
    ///
    /// # Errors
    /// [`DriverError::NotInstalled`], [`DriverError::Unsupported`] or [`DriverError::Unhealthy`].
    fn check(&self) -> Result<Health>;

    /// Makes the machine's files. Creating a machine that exists keeps its disk and succeeds.
    ///
    /// # Errors
    /// When files cannot be written or a tool fails.
    fn create(&self, spec: &MachineSpec) -> Result<()>;

    /// Starts a created machine (a saved one continues where it was) and returns once the virtual machine runs (not: once the guest answers). Starting a running
    /// machine succeeds and changes nothing. If it fails, no process is left behind.
    ///
    /// # Errors
    /// [`DriverError::PortTaken`] when a forward's port is in use; [`DriverError::NoMachine`] when it was not created.
    fn start(&self, spec: &MachineSpec) -> Result<()>;

    /// Asks the guest to power off and waits for it; after `deadline` the machine is killed. Stopping a stopped or absent
    /// machine succeeds.
    ///
    /// # Errors
    /// When the machine can be neither stopped nor killed.
    fn stop(&self, spec: &MachineSpec, deadline: Duration) -> Result<()>;

    /// Ends the machine at once, as a power cut would. Killing a stopped or absent machine succeeds.
    ///
    /// # Errors
    /// When its process cannot be ended.
    fn kill(&self, spec: &MachineSpec) -> Result<()>;

    /// Kills the machine and removes all its files and whatever the hypervisor holds of it. Removing an absent machine succeeds.
    ///
    /// # Errors
    /// When something of it stays.
    fn remove(&self, spec: &MachineSpec) -> Result<()>;

    /// The machine's state, seen afresh: never from memory. Cheap (milliseconds).
    ///
    /// # Errors
    /// When the state cannot be determined.
    fn state(&self, spec: &MachineSpec) -> Result<MachineState>;

    /// Why a machine is held ([`MachineState::Paused`]) though nobody asked for it, such as a full disk of the host, in words for
    /// people. [`Driver::start`] lets it go on once the reason is gone. Cheap.
    ///
    /// # Errors
    /// When it cannot be determined.
    fn trouble(&self, _spec: &MachineSpec) -> Result<Option<String>> {
        Ok(None)
    }

    /// How the host reaches the guest: where forwards of this running machine really listen (always on loopback; for a driver
    /// without [`Features::forwards`], the guest's own address with its own ports), where its last words are.
    ///
    /// # Errors
    /// [`DriverError::NoMachine`] when it is not running.
    fn endpoint(&self, spec: &MachineSpec) -> Result<Endpoint>;

    /// The ability to save machines with their memory; there when [`Features::snapshots`] says so.
    fn snapshots(&self) -> Option<&dyn Snapshot> {
        None
    }

    /// The ability to add and remove forwards while the machine runs; there when [`Features::publishing`] says so.
    fn port_forward(&self) -> Option<&dyn PortForward> {
        None
    }
}

/// What a driver can do, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Features {
    /// Boots [`crate::DirectBoot`] instead of the disk's own loader.
    pub direct_boot: bool,
    /// Forwards are listening from the start, without root. Without it, [`Driver::endpoint`] tells the guest's own address.
    pub forwards: bool,
    /// Forwards can be added to and removed from a running machine.
    pub publishing: bool,
    /// Machines can listen on any 127.x address (Linux), not only on 127.0.0.1.
    pub loopback_range: bool,
    /// Machines can be saved and resumed with their memory.
    pub snapshots: bool,
    /// A real guest that sampan provisions over SSH; false for the test driver, which brings its own runner.
    pub ssh: bool,
}

/// A driver that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The hypervisor's version.
    pub version: String,
    /// What speeds machines up ("kvm", "hvf") or "tcg" for emulation; empty where it means nothing.
    pub accelerator: String,
    /// Why this accelerator and no better one, in a sentence for people; empty when there is nothing to say.
    pub reason: String,
}

/// What a machine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineState {
    /// No such machine.
    Absent,
    /// It exists and does not run.
    Stopped,
    /// It runs.
    Running,
    /// It exists, held between two instructions.
    Paused,
}

/// How the host reaches a running machine.
#[derive(Clone)]
pub struct Endpoint {
    /// Forwards as they listen now.
    pub forwards: Vec<Forward>,
    /// The guest's console, if the driver writes it to a file.
    pub serial_log: Option<PathBuf>,
    /// Process id of the machine, where it has one of its own.
    pub pid: Option<u32>,
    /// The driver's own way to run commands in the guest; none means SSH over the forward of port 22.
    pub runner: Option<std::sync::Arc<dyn Runner>>,
}

impl Endpoint {
    /// Where a guest's port is reached from the host.
    pub fn reach(&self, guest_port: u16) -> Option<SocketAddr> {
        self.forwards
            .iter()
            .find(|forward| forward.guest_port == guest_port)
            .map(|forward| forward.host)
    }
}

/// Why a driver could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The hypervisor is not on this host.
    #[error("{what} is not installed")]
    NotInstalled {
        /// The missing program.
        what: String,
        /// How to get it.
        hint: String,
    },
    /// The hypervisor is here but cannot be used: too old, or not for this platform.
    #[error("{what}")]
    Unsupported {
        /// What was found and what is needed.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The hypervisor is here but does not work.
    #[error("{what}")]
    Unhealthy {
        /// What was tried and what came of it.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A port that should lead into the guest is in use.
    #[error("port {port} is in use on the host")]
    PortTaken {
        /// The address and port that could not be listened on.
        port: SocketAddr,
    },
    /// The system does not let this user listen on a port: a low one, as a rule.
    #[error("the system does not allow this user to listen on {port}")]
    PortRefused {
        /// The address and port that may not be listened on.
        port: SocketAddr,
    },
    /// There is no such machine, or it does not run.
    #[error("machine {0} is not there")]
    NoMachine(String),
    /// The machine ended or failed by itself.
    #[error("machine {name} failed: {what}")]
    Failed {
        /// The machine.
        name: String,
        /// What was seen, with its last words.
        what: String,
    },
    /// A command of the hypervisor failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl DriverError {
    /// Puts the path on an I/O error; for `map_err`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
