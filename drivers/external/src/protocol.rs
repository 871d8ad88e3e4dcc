//! The words of the protocol: one request on standard input, one answer on standard output, one process per call.
//! `docs/drivers.md` shows each message.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sampan_driver::{DriverError, Features, Forward, Health, MachineSpec, MachineState};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;

/// The beginning of the names of such drivers' programs.
pub const PREFIX: &str = "sampan-driver-";

/// The longest answer that is read, in bytes.
pub const ANSWER_LIMIT: u64 = 1 << 20;

/// One call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`] of who asks.
    pub protocol: u32,
    /// A directory for what the driver wants to remember of the host; it may not exist yet.
    pub cache: PathBuf,
    /// What is asked for, with its arguments.
    #[serde(flatten)]
    pub call: Call,
}

/// What is asked for. Each is a method of [`sampan_driver::Driver`] or [`sampan_driver::PortForward`], whose contract holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "arguments are those of the methods")]
pub enum Call {
    /// What the driver can do: [`Description`].
    Describe,
    /// Looks at the host: [`Health`].
    Check,
    /// Makes the machine's files: null.
    Create { spec: MachineSpec },
    /// Starts it: null.
    Start { spec: MachineSpec },
    /// Asks the guest to power off, and kills it after this many milliseconds: null.
    Stop { spec: MachineSpec, deadline_ms: u64 },
    /// Ends it at once: null.
    Kill { spec: MachineSpec },
    /// Removes all of it: null.
    Remove { spec: MachineSpec },
    /// What it is doing: [`MachineState`] in lower case.
    State { spec: MachineSpec },
    /// Why it is held: a text or null.
    Trouble { spec: MachineSpec },
    /// Where it is reached: [`Reach`].
    Endpoint { spec: MachineSpec },
    /// Adds a forward: null.
    ForwardAdd { spec: MachineSpec, forward: Forward },
    /// Removes a forward: null.
    ForwardRemove { spec: MachineSpec, forward: Forward },
    /// All forwards: a list.
    ForwardList { spec: MachineSpec },
}

impl Call {
    /// The method's name, as it is written.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Check => "check",
            Self::Create { .. } => "create",
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Kill { .. } => "kill",
            Self::Remove { .. } => "remove",
            Self::State { .. } => "state",
            Self::Trouble { .. } => "trouble",
            Self::Endpoint { .. } => "endpoint",
            Self::ForwardAdd { .. } => "forward-add",
            Self::ForwardRemove { .. } => "forward-remove",
            Self::ForwardList { .. } => "forward-list",
        }
    }

    /// The machine it is about.
    pub fn spec(&self) -> Option<&MachineSpec> {
        match self {
            Self::Describe | Self::Check => None,
            Self::Create { spec }
            | Self::Start { spec }
            | Self::Stop { spec, .. }
            | Self::Kill { spec }
            | Self::Remove { spec }
            | Self::State { spec }
            | Self::Trouble { spec }
            | Self::Endpoint { spec }
            | Self::ForwardAdd { spec, .. }
            | Self::ForwardRemove { spec, .. }
            | Self::ForwardList { spec } => Some(spec),
        }
    }

    /// How long the driver may take; then it is ended and the call has failed.
    pub fn deadline(&self) -> Duration {
        match self {
            Self::Create { .. } => Duration::from_secs(600),
            Self::Start { .. } => Duration::from_secs(180),
            Self::Check | Self::Remove { .. } => Duration::from_secs(60),
            Self::Stop { deadline_ms, .. } => {
                Duration::from_millis(*deadline_ms).saturating_add(Duration::from_secs(30))
            }
            Self::Kill { .. } => Duration::from_secs(30),
            // Milliseconds, as a rule; but an interpreter on a host that is busy takes its time.
            _ => Duration::from_secs(15),
        }
    }
}

/// What the driver says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// [`VERSION`] of who answers.
    pub protocol: u32,
    /// What was asked for; not there (or null) where there is nothing to say.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub result: Value,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Trouble>,
}

/// Answer to [`Call::Describe`]: [`Features`] as far as they can be had out of tree. What is not said is false.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    /// [`Features::direct_boot`].
    pub direct_boot: bool,
    /// [`Features::forwards`].
    pub forwards: bool,
    /// [`Features::publishing`].
    pub publishing: bool,
    /// [`Features::loopback_range`].
    pub loopback_range: bool,
}

impl From<Description> for Features {
    fn from(description: Description) -> Self {
        let Description {
            direct_boot,
            forwards,
            publishing,
            loopback_range,
        } = description;
        Self {
            direct_boot,
            forwards,
            publishing,
            loopback_range,
            // Layers of memory need more trust between the two sides than a process per call gives.
            snapshots: false,
            ssh: true,
        }
    }
}

impl From<Features> for Description {
    fn from(features: Features) -> Self {
        Self {
            direct_boot: features.direct_boot,
            forwards: features.forwards,
            publishing: features.publishing,
            loopback_range: features.loopback_range,
        }
    }
}

/// Answer to [`Call::Check`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthy {
    /// [`Health::version`].
    pub version: String,
    /// [`Health::accelerator`].
    pub accelerator: String,
    /// [`Health::reason`].
    pub reason: String,
}

impl From<Healthy> for Health {
    fn from(healthy: Healthy) -> Self {
        Self {
            version: healthy.version,
            accelerator: healthy.accelerator,
            reason: healthy.reason,
        }
    }
}

impl From<Health> for Healthy {
    fn from(health: Health) -> Self {
        Self {
            version: health.version,
            accelerator: health.accelerator,
            reason: health.reason,
        }
    }
}

/// Answer to [`Call::Endpoint`]: [`sampan_driver::Endpoint`] without a runner, as SSH is the way into such machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Where the guest's ports are reached.
    pub forwards: Vec<Forward>,
    /// The console's text.
    #[serde(default)]
    pub serial_log: Option<PathBuf>,
    /// The machine's process.
    #[serde(default)]
    pub pid: Option<u32>,
}

/// Answer to [`Call::State`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are those of MachineState")]
pub enum State {
    Absent,
    Stopped,
    Running,
    Paused,
}

impl From<State> for MachineState {
    fn from(state: State) -> Self {
        match state {
            State::Absent => Self::Absent,
            State::Stopped => Self::Stopped,
            State::Running => Self::Running,
            State::Paused => Self::Paused,
        }
    }
}

impl From<MachineState> for State {
    fn from(state: MachineState) -> Self {
        match state {
            MachineState::Absent => Self::Absent,
            MachineState::Stopped => Self::Stopped,
            MachineState::Running => Self::Running,
            MachineState::Paused => Self::Paused,
        }
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Which error it is.
    pub kind: Kind,
    /// What happened, in words for people, without the driver's or the machine's name.
    #[serde(default)]
    pub message: String,
    /// What to do, for kinds that have a hint.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// The address, for kinds that are about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<SocketAddr>,
}

/// The errors of [`DriverError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// [`DriverError::NotInstalled`]: the message is what is missing.
    NotInstalled,
    /// [`DriverError::Unsupported`]
    Unsupported,
    /// [`DriverError::Unhealthy`]
    Unhealthy,
    /// [`DriverError::PortTaken`], with `port`
    PortTaken,
    /// [`DriverError::PortRefused`], with `port`
    PortRefused,
    /// [`DriverError::NoMachine`]
    NoMachine,
    /// [`DriverError::Failed`], and everything else
    Failed,
}

impl Trouble {
    /// The error, of this machine; none where it lacks what its kind needs.
    pub fn into_error(self, machine: &str) -> Option<DriverError> {
        let Self {
            kind,
            message: what,
            hint,
            port,
        } = self;
        Some(match kind {
            Kind::NotInstalled => DriverError::NotInstalled { what, hint },
            Kind::Unsupported => DriverError::Unsupported { what, hint },
            Kind::Unhealthy => DriverError::Unhealthy { what, hint },
            Kind::PortTaken => DriverError::PortTaken { port: port? },
            Kind::PortRefused => DriverError::PortRefused { port: port? },
            Kind::NoMachine => DriverError::NoMachine(machine.to_owned()),
            Kind::Failed => DriverError::Failed {
                name: machine.to_owned(),
                what,
            },
        })
    }
}

impl From<DriverError> for Trouble {
    fn from(error: DriverError) -> Self {
        let (kind, message, hint, port) = match error {
            DriverError::NotInstalled { what, hint } => (Kind::NotInstalled, what, hint, None),
            DriverError::Unsupported { what, hint } => (Kind::Unsupported, what, hint, None),
            DriverError::Unhealthy { what, hint } => (Kind::Unhealthy, what, hint, None),
            DriverError::PortTaken { port } => (Kind::PortTaken, String::new(), String::new(), Some(port)),
            DriverError::PortRefused { port } => {
                (Kind::PortRefused, String::new(), String::new(), Some(port))
            }
            DriverError::NoMachine(_) => (Kind::NoMachine, String::new(), String::new(), None),
            DriverError::Failed { what, .. } => (Kind::Failed, what, String::new(), None),
            other => (Kind::Failed, other.to_string(), String::new(), None),
        };
        Self {
            kind,
            message,
            hint,
            port,
        }
    }
}
