//! Calls of VBoxManage: each with a deadline, each failure as what it means.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{Command, CommandError, DriverError, Output, Result, Runner};

use crate::advice::{explain, said};
use crate::args;
use crate::info::{self, Medium, Vm};
use crate::version::Banner;

/// How long an ordinary call may take; the first one also starts VirtualBox's server, which takes seconds on a busy host.
const CALL: Duration = Duration::from_secs(60);

/// How long telling the version may take, which needs no server.
const VERSION: Duration = Duration::from_secs(5);

/// How long a machine may stay locked that somebody, as a rule the process that just ended, is letting go.
const LOCKED: Duration = Duration::from_secs(10);

/// VBoxManage.
#[derive(Clone)]
pub(crate) struct Manage {
    program: String,
    runner: Arc<dyn Runner>,
}

impl Manage {
    pub(crate) fn new(program: &Path, runner: Arc<dyn Runner>) -> Self {
        Self {
            program: program.to_string_lossy().into_owned(),
            runner,
        }
    }

    /// Runs VBoxManage.
    ///
    /// # Errors
    /// What VBoxManage's words mean.
    pub(crate) fn run(&self, args: &[String]) -> Result<String> {
        self.attempt(args, CALL)
            .map(|output| output.text())
            .map_err(explain)
    }

    /// As [`Manage::run`], for calls that may take longer or have to be quicker: all it said, and its own words when it fails. A machine that
    /// is locked by somebody is tried again and again, as it is let go just now.
    ///
    /// # Errors
    /// As VBoxManage says it.
    pub(crate) fn attempt(&self, args: &[String], deadline: Duration) -> Result<Output, CommandError> {
        let command = Command::new(&self.program)
            .args(args.iter().cloned())
            .deadline(deadline);
        let end = Instant::now() + LOCKED;
        loop {
            match self.runner.run(&command) {
                Err(error) if is_locked(&error) && Instant::now() < end => {
                    thread::sleep(Duration::from_millis(200));
                }
                other => return other,
            }
        }
    }

    /// What VirtualBox knows of a machine; none when it knows of none. One whose settings it cannot read has no state.
    pub(crate) fn info(&self, uuid: &str) -> Result<Option<Vm>> {
        let ask = args::info(uuid);
        match self.attempt(&ask, CALL) {
            Ok(output) => match Vm::parse(&output.text()) {
                None => Err(self.unclear("the state of a machine", &ask, &output)),
                vm => Ok(vm),
            },
            Err(error) => match said(&error) {
                words if words.contains("VBOX_E_OBJECT_NOT_FOUND") => Ok(None),
                words if words.contains("E_ACCESSDENIED") => Ok(Some(Vm::default())),
                _ => Err(explain(error)),
            },
        }
    }

    /// The disks below a directory that VirtualBox has in its books.
    pub(crate) fn media_below(&self, dir: &Path) -> Result<Vec<Medium>> {
        let mut media = info::media(&self.run(&args::disks())?);
        media.retain(|medium| medium.location.starts_with(dir));
        Ok(media)
    }

    /// What `--version` says: the number, and warnings about the host.
    pub(crate) fn version(&self) -> Result<(Banner, String)> {
        let ask = ["--version".to_owned()];
        let output = self.attempt(&ask, VERSION).map_err(explain)?;
        let banner = Banner::parse(&output.text());
        let banner = banner.ok_or_else(|| self.unclear("its version", &ask, &output))?;
        let warnings = String::from_utf8_lossy(&output.stderr);
        Ok((banner, format!("{warnings}\n{}", output.text())))
    }

    fn unclear(&self, what: &str, ask: &[String], said: &Output) -> DriverError {
        let program = &self.program;
        let text = said.text();
        let first = text.lines().next().unwrap_or("it says nothing");
        DriverError::Unhealthy {
            what: format!("{program} does not tell {what}: {first}"),
            hint: format!("run `{program} {}` to see", ask.join(" ")),
        }
    }
}

fn is_locked(error: &CommandError) -> bool {
    let words = said(error);
    words.contains("already locked") || words.contains("being locked or unlocked")
}
