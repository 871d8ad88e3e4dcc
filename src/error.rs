//! The one error type of the library: its kind (which decides the exit status), what happened, why, and what to do.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

use sampan_driver::{CommandError, DriverError, Failure};

/// What the library's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $code:literal $id:literal,)*) => {
        /// What kind of failure it is. Exit statuses and names follow minikube's: decades say where (10 program, 20 resource, 30 host,
        /// 40 internet, 50 driver, 60 provider, 70 local network, 80 guest, 90 runtime, 100 control plane, 110 service), units what.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// The process's exit status.
            pub fn exit_code(self) -> u8 {
                match self { $(Self::$kind => $code,)* }
            }
            /// The stable name in messages and JSON.
            pub fn id(self) -> &'static str {
                match self { $(Self::$kind => $id,)* }
            }
        }
    };
}

kinds! {
    /// A bug of ours or something nobody thought of.
    Internal = 10 "MK_INTERNAL",
    /// The user interrupted the command.
    Interrupted = 11 "MK_INTERRUPTED",
    /// Another sampan holds a lock.
    Locked = 11 "MK_LOCKED",
    /// A wrong flag, value or argument.
    Usage = 14 "MK_USAGE",
    /// Docker as the runtime of pods needs a cri-dockerd, and the bundle has none.
    CriDockerd = 15 "NOT_FOUND_CRI_DOCKERD",
    /// Known to minikube's users and not there yet.
    Unimplemented = 16 "MK_UNIMPLEMENTED",
    /// An addon could not be enabled or disabled.
    Addon = 10 "MK_ADDON_ENABLE",
    /// Nothing can be done to the addons of a cluster that is paused.
    AddonPaused = 11 "MK_ADDON_ENABLE_PAUSED",
    /// Less memory asked for or present than Kubernetes needs.
    Memory = 23 "RSRC_INSUFFICIENT_REQ_MEMORY",
    /// The disk is full or too small.
    Storage = 26 "RSRC_INSUFFICIENT_STORAGE",
    /// Fewer CPUs than Kubernetes needs.
    Cores = 29 "RSRC_INSUFFICIENT_CORES",
    /// A file or directory of the host is missing.
    HostPath = 35 "HOST_PATH_MISSING",
    /// Our directories cannot be written.
    HostHome = 37 "HOST_HOME_PERMISSION",
    /// A configuration or profile file cannot be used.
    HostConfig = 38 "HOST_CONFIG_LOAD",
    /// The kubeconfig cannot be read or written.
    Kubeconfig = 38 "HOST_KUBECONFIG_UPDATE",
    /// A program sampan needs on the host is missing or failed.
    HostTool = 30 "HOST_TOOL",
    /// A bundle could not be built or is damaged.
    Bundle = 30 "HOST_BUNDLE",
    /// Something could not be fetched.
    Internet = 40 "INET_ERROR",
    /// What was fetched is not what it should be.
    Checksum = 41 "INET_CHECKSUM",
    /// A server said nothing for too long.
    InternetTimeout = 42 "INET_TIMEOUT",
    /// A server, or the proxy on the way, cannot be reached.
    Unreachable = 43 "INET_UNAVAILABLE",
    /// A server does not have something.
    Missing = 45 "INET_NOT_FOUND",
    /// A server, or the proxy on the way, does not let us have something, or is not who it says.
    Refused = 47 "INET_PERMISSION",
    /// A proxy, certificate file or mirror that cannot be used.
    InternetConfig = 48 "INET_CONFIG",
    /// The driver failed.
    Driver = 50 "DRV_ERROR",
    /// The driver is installed and does not work, or is not installed.
    DriverUnhealthy = 55 "DRV_NOT_HEALTHY",
    /// The driver is too old, or not for this platform.
    DriverUnsupported = 56 "DRV_UNSUPPORTED",
    /// An address or port of the host cannot be used.
    Network = 70 "IF_ERROR",
    /// A port is in use.
    PortTaken = 71 "IF_PORT_CONFLICT",
    /// The guest failed.
    Guest = 80 "GUEST_ERROR",
    /// The profile has another driver.
    DriverMismatch = 81 "GUEST_DRIVER_MISMATCH",
    /// There is something of this name already.
    Exists = 81 "GUEST_EXISTS",
    /// The guest did not do something in time.
    GuestTimeout = 82 "GUEST_TIMEOUT",
    /// The machine does not run.
    NotRunning = 83 "GUEST_NOT_RUNNING",
    /// There is no such profile or machine.
    NotFound = 85 "GUEST_NOT_FOUND",
    /// A step of provisioning failed.
    Provision = 80 "GUEST_PROVISION",
    /// The container runtime failed.
    Runtime = 90 "RUNTIME_ENABLE",
    /// kubeadm or the control plane failed.
    ControlPlane = 100 "K8S_INSTALL_FAILED",
    /// The cluster was not healthy in time.
    ControlPlaneTimeout = 102 "K8S_TIMEOUT",
    /// The apiserver does not answer.
    ApiStopped = 103 "K8S_APISERVER_STOPPED",
    /// A Kubernetes version that cannot be used.
    KubernetesUnsupported = 106 "K8S_VERSION_UNSUPPORTED",
    /// There is no such service.
    Service = 115 "SVC_NOT_FOUND",
    /// A service has nothing behind it.
    ServiceUnreachable = 115 "SVC_UNREACHABLE",
    /// A service is not published on the host.
    ServiceUrl = 119 "SVC_URL",
}

/// A failure with its kind, its cause and what to do about it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hints: Vec<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of a kind, saying what happened and where: lower case, no full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hints: Vec::new(),
            source: None,
        }
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds lines of somebody else's words, such as the end of a log, under a title.
    #[must_use]
    pub fn detail(mut self, title: &str, lines: &[String]) -> Self {
        let lines: String = lines.iter().map(|line| format!("\n    {line}")).collect();
        self.message.push_str(&format!("\n  {title}:{lines}"));
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// An I/O failure on a path of the host; a full disk and missing rights get their own kind and hint. For `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| {
            let (kind, hint) = match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
                    Kind::Storage,
                    "free some space, or set SAMPAN_HOME to a directory on a larger disk",
                ),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (
                    Kind::HostHome,
                    "make it writable for you, or set SAMPAN_HOME to a directory that is",
                ),
                io::ErrorKind::NotFound => (Kind::HostPath, "check the path"),
                _ => (Kind::HostPath, "check the file and the disk it is on"),
            };
            Self::new(kind, format!("{}: {}", path.display(), plain(&source)))
                .hint(hint)
                .because(source)
        }
    }

    /// The user asked to stop.
    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
            .hint("run the same command again to go on where it stopped")
    }

    /// The kind, which decides the exit status.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the user can do, most useful first.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The same error under another kind; for `map_err` where the caller knows better what it means.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }
}

/// Whether a program's words are those of a full disk.
fn is_full(text: &str) -> bool {
    text.contains("No space left on device")
}

/// An I/O error's text without "(os error 28)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<DriverError> for Error {
    fn from(error: DriverError) -> Self {
        let message = error.to_string();
        match error {
            DriverError::NotInstalled { hint, .. } => Self::new(Kind::DriverUnhealthy, message).hint(hint),
            DriverError::Unhealthy { hint, .. } => Self::new(Kind::DriverUnhealthy, message).hint(hint),
            DriverError::Unsupported { hint, .. } => Self::new(Kind::DriverUnsupported, message).hint(hint),
            DriverError::PortTaken { .. } => Self::new(Kind::PortTaken, message)
                .hint("see what listens there with `ss -ltnp`, end it, then start again"),
            DriverError::PortRefused { .. } => Self::new(Kind::Network, message).hint(
                "use a port from 1024 on, or allow low ports: sudo sysctl net.ipv4.ip_unprivileged_port_start=80",
            ),
            DriverError::NoMachine(_) => {
                Self::new(Kind::NotRunning, message).hint("run `sampan start` to make and start it")
            }
            DriverError::Failed { .. } if is_full(&message) => Self::new(Kind::Storage, message),
            DriverError::Failed { .. } => Self::new(Kind::Driver, message)
                .hint("run `sampan logs` for more, or `sampan start` to try again"),
            DriverError::Command(error) => match Self::from(error) {
                full if full.kind == Kind::Storage => full,
                error => error.with_kind(Kind::Driver),
            },
            DriverError::Io { path, source } => Self::io(&path)(source),
        }
    }
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        if matches!(&error.failure, Failure::Io(cause) if cause.kind() == io::ErrorKind::Interrupted) {
            return Self::interrupted();
        }
        let kind = if error.place == "the host" {
            Kind::HostTool
        } else {
            Kind::Guest
        };
        let full = is_full(&String::from_utf8_lossy(&error.output.stderr))
            || matches!(&error.failure, Failure::Io(cause) if cause.kind() == io::ErrorKind::StorageFull);
        let kind = if full { Kind::Storage } else { kind };
        Self::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_its_own_kind_path_and_hint() {
        let error = Error::io(Path::new("/data/x"))(io::Error::from_raw_os_error(28));
        assert_eq!(error.kind(), Kind::Storage);
        assert_eq!(error.to_string(), "/data/x: no space left on device");
        assert!(error.hints()[0].contains("SAMPAN_HOME"));
    }

    #[test]
    fn a_full_disk_is_known_by_a_programs_last_words() {
        let error = DriverError::Failed {
            name: "a".into(),
            what: "qemu: /data/a: No space left on device".into(),
        };
        assert_eq!(Error::from(error).kind(), Kind::Storage);
    }

    #[test]
    fn driver_errors_keep_their_exit_status() {
        let error = DriverError::NotInstalled {
            what: "qemu".into(),
            hint: "install it".into(),
        };
        assert_eq!(Error::from(error).kind().exit_code(), 55);
    }
}
