//! Calls of VBoxManage: each with a deadline, each failure as what it means.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{Command, CommandError, DriverError, Result, Runner};

use crate::advice::{explain, said};
use crate::info::{self, Medium, Vm};

/// How long an ordinary call may take; the first one also starts VirtualBox's server, which takes seconds on a busy host.
const CALL: Duration = Duration::from_secs(60);

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

    /// Runs the program and gives all it said, warnings on the other stream included.
    fn call(&self, args: &[String], deadline: Duration) -> Result<String, CommandError> {
        let command = Command::new(&self.program)
            .args(args.iter().cloned())
            .deadline(deadline);
        let output = self.runner.run(&command)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs VBoxManage, again and again while the machine is locked by somebody who lets it go just now.
    ///
    /// # Errors
    /// What VBoxManage's words mean.
    pub(crate) fn run(&self, args: &[String]) -> Result<String> {
        self.run_within(args, CALL)
    }

    /// As [`Manage::run`], for calls that may take longer or have to be quicker.
    ///
    /// # Errors
    /// What VBoxManage's words mean.
    pub(crate) fn run_within(&self, args: &[String], deadline: Duration) -> Result<String> {
        self.attempt(args, deadline).map_err(explain)
    }

    /// As [`Manage::run_within`], with VBoxManage's own words when it fails.
    pub(crate) fn attempt(&self, args: &[String], deadline: Duration) -> Result<String, CommandError> {
        let end = Instant::now() + LOCKED;
        loop {
            match self.call(args, deadline) {
                Err(error) if is_locked(&error) && Instant::now() < end => {
                    thread::sleep(Duration::from_millis(200));
                }
                other => return other,
            }
        }
    }

    /// What VirtualBox knows of a machine; none when it knows of none. One whose settings it cannot read has no state.
    pub(crate) fn info(&self, uuid: &str) -> Result<Option<Vm>> {
        let args = ["showvminfo", uuid, "--machinereadable"].map(str::to_owned);
        match self.attempt(&args, CALL) {
            Ok(text) => Vm::parse(&text).map(Some).ok_or_else(|| DriverError::Unhealthy {
                what: format!(
                    "VBoxManage does not tell the state of a machine: {}",
                    text.lines().next().unwrap_or("it says nothing")
                ),
                hint: format!("run `{} {}` to see", self.program, args.join(" ")),
            }),
            Err(error) => match said(&error) {
                words if words.contains("VBOX_E_OBJECT_NOT_FOUND") => Ok(None),
                words if words.contains("E_ACCESSDENIED") => Ok(Some(Vm::default())),
                _ => Err(explain(error)),
            },
        }
    }

    /// The disks below a directory that VirtualBox has in its books.
    pub(crate) fn media_below(&self, dir: &Path) -> Result<Vec<Medium>> {
        let text = self.run(&["list", "hdds"].map(str::to_owned))?;
        let mut media = info::media(&text);
        media.retain(|medium| medium.location.starts_with(dir));
        Ok(media)
    }

    /// What `--version` says on both streams: the number, and warnings about the host.
    pub(crate) fn version(&self) -> Result<(String, String)> {
        let command = Command::new(&self.program)
            .arg("--version")
            .deadline(Duration::from_secs(5));
        let output = self.runner.run(&command).map_err(explain)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(&output.stdout), text(&output.stderr)))
    }
}

fn is_locked(error: &CommandError) -> bool {
    let words = said(error);
    words.contains("already locked") || words.contains("being locked or unlocked")
}
