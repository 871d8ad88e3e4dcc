//! A driver that asks a program.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use sampan_driver::{
    Driver, DriverError, Endpoint, Features, Forward, Health, MachineSpec, MachineState, PortForward, Result,
};
use serde::de::DeserializeOwned;

use crate::call;
use crate::protocol::{Call, Description, Healthy, PREFIX, Reach, State};

/// Where programs are looked for when nobody says.
const USUAL_PLACES: &str = "/usr/local/bin:/usr/bin:/opt/homebrew/bin";

/// A driver that is a program of its own.
#[derive(Debug, Clone)]
pub struct External {
    name: String,
    program: PathBuf,
    cache: PathBuf,
    /// Longest time that any call may take; none means what the protocol says.
    limit: Option<Duration>,
    /// Asked once: it does not change while sampan runs.
    description: OnceLock<Description>,
}

impl External {
    /// The driver `name` that is `program`; what it remembers of the host is kept in `cache`.
    pub fn new(name: impl Into<String>, program: PathBuf, cache: PathBuf) -> Self {
        Self {
            name: name.into(),
            program,
            cache,
            limit: None,
            description: OnceLock::new(),
        }
    }

    /// Lets no call take longer than this.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Its program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T> {
        let deadline = call.deadline().min(self.limit.unwrap_or(Duration::MAX));
        let value = call::ask(&self.program, &self.cache, call, deadline)?;
        let shown = value.to_string();
        serde_json::from_value(value).map_err(|error| {
            let shown: String = shown.chars().take(200).collect();
            call::unhealthy(
                &self.program,
                call,
                &format!("gave another result than it should ({error}): {shown}"),
            )
        })
    }

    fn describe(&self) -> Result<Description> {
        if let Some(description) = self.description.get() {
            return Ok(*description);
        }
        let description = self.ask(&Call::Describe)?;
        Ok(*self.description.get_or_init(|| description))
    }
}

impl Driver for External {
    fn name(&self) -> &str {
        &self.name
    }

    /// Of a driver that does not answer: nothing; `check` says why.
    fn features(&self) -> Features {
        let described = self.describe().inspect_err(|error| {
            tracing::warn!(%error, "a driver does not say what it can do");
        });
        described.unwrap_or_default().into()
    }

    fn check(&self) -> Result<Health> {
        self.describe()?;
        self.ask::<Healthy>(&Call::Check).map(Health::from)
    }

    fn create(&self, spec: &MachineSpec) -> Result<()> {
        self.ask(&Call::Create { spec: spec.clone() })
    }

    fn start(&self, spec: &MachineSpec) -> Result<()> {
        self.ask(&Call::Start { spec: spec.clone() })
    }

    fn stop(&self, spec: &MachineSpec, deadline: Duration) -> Result<()> {
        self.ask(&Call::Stop {
            spec: spec.clone(),
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn kill(&self, spec: &MachineSpec) -> Result<()> {
        self.ask(&Call::Kill { spec: spec.clone() })
    }

    fn remove(&self, spec: &MachineSpec) -> Result<()> {
        self.ask(&Call::Remove { spec: spec.clone() })
    }

    fn state(&self, spec: &MachineSpec) -> Result<MachineState> {
        let state: State = self.ask(&Call::State { spec: spec.clone() })?;
        Ok(state.into())
    }

    /// A driver that never holds machines need not know the question.
    fn trouble(&self, spec: &MachineSpec) -> Result<Option<String>> {
        match self.ask(&Call::Trouble { spec: spec.clone() }) {
            Err(DriverError::Unsupported { .. }) => Ok(None),
            answer => answer,
        }
    }

    fn endpoint(&self, spec: &MachineSpec) -> Result<Endpoint> {
        let reach: Reach = self.ask(&Call::Endpoint { spec: spec.clone() })?;
        Ok(Endpoint {
            forwards: reach.forwards,
            serial_log: reach.serial_log,
            pid: reach.pid,
            runner: None,
        })
    }

    fn port_forward(&self) -> Option<&dyn PortForward> {
        self.features().publishing.then_some(self)
    }
}

impl PortForward for External {
    fn add(&self, spec: &MachineSpec, forward: &Forward) -> Result<()> {
        // Ours to see to, whatever the driver does: nothing of a cluster is open to the network.
        if !forward.host.ip().is_loopback() {
            return Err(DriverError::Unsupported {
                what: format!("{} is not a loopback address", forward.host),
                hint: "publish on a loopback address of this host".to_owned(),
            });
        }
        self.ask(&Call::ForwardAdd {
            spec: spec.clone(),
            forward: *forward,
        })
    }

    fn remove(&self, spec: &MachineSpec, forward: &Forward) -> Result<()> {
        self.ask(&Call::ForwardRemove {
            spec: spec.clone(),
            forward: *forward,
        })
    }

    fn list(&self, spec: &MachineSpec) -> Result<Vec<Forward>> {
        self.ask(&Call::ForwardList { spec: spec.clone() })
    }
}

/// The program of the driver `name` in the directories of `search` (as in PATH); the first one wins.
pub fn find(name: &str, search: Option<&OsStr>) -> Option<PathBuf> {
    let may_be = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let mut places = std::env::split_paths(search.unwrap_or(OsStr::new(USUAL_PLACES)));
    let program = format!("{PREFIX}{name}");
    places
        .find(|dir| may_be && is_program(&dir.join(&program)))
        .map(|dir| dir.join(&program))
}

/// Names of all such drivers in the directories of `search`, in alphabetical order.
pub fn names(search: Option<&OsStr>) -> Vec<String> {
    let places = std::env::split_paths(search.unwrap_or(OsStr::new(USUAL_PLACES)));
    let mut names: Vec<String> = places
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_prefix(PREFIX)?.to_owned()))
        .filter(|name| find(name, search).is_some())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_programs_with_the_right_name_and_the_first_one_wins() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let make = |dir: &Path, name: &str, mode: u32| {
            fs::write(dir.join(name), "").unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        make(two.path(), "sampan-driver-toy", 0o755);
        make(one.path(), "sampan-driver-toy", 0o644);
        make(two.path(), "sampan-driver-Up", 0o755);
        make(two.path(), "sampan-driver-", 0o755);
        make(two.path(), "sampan-driver-a", 0o755);
        fs::create_dir(two.path().join("sampan-driver-dir")).unwrap();
        let search = std::env::join_paths([one.path(), Path::new("/nowhere"), two.path()]).unwrap();
        assert_eq!(names(Some(&search)), ["a", "toy"]);
        assert_eq!(
            find("toy", Some(&search)),
            Some(two.path().join("sampan-driver-toy"))
        );
        make(one.path(), "sampan-driver-toy", 0o755);
        assert_eq!(
            find("toy", Some(&search)),
            Some(one.path().join("sampan-driver-toy"))
        );
        for name in ["", "dir", "../x", "Up", "none"] {
            assert_eq!(find(name, Some(&search)), None, "{name}");
        }
    }
}
