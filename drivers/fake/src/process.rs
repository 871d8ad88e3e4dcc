//! The machine's process: recognised by its command line, held, let go on, ended with a deadline.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as StdCommand;
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::process::{self, Mark, Signal, Starting};
use sampan_driver::{Command, DriverError, Result};

use crate::files::{self, Files};

/// The hidden verb that makes a program a machine.
const VERB: &str = "__fake-machine";

/// How long a killed process may take to vanish.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A running process that belongs to a machine.
#[derive(Debug)]
pub(crate) struct Process {
    process: process::Process,
    dir: PathBuf,
}

impl Process {
    /// The process of the machine in this directory, which may be gone itself.
    pub(crate) fn find(dir: &Path) -> Option<Self> {
        let mark = Mark::new([VERB, &dir.to_string_lossy()]);
        let found = process::Process::find(&mark, Some(&Files::new(dir).pidfile()));
        found.ok().flatten().map(|process| Self {
            process,
            dir: dir.to_owned(),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Asks it to end, and kills it when `deadline` has passed.
    pub(crate) fn end(&self, deadline: Duration) -> Result<()> {
        if !deadline.is_zero() {
            self.process.signal(Signal::TERM);
            // One that is held hears it when it goes on.
            self.process.signal(Signal::CONT);
            if self.process.ended_within(deadline) {
                return Ok(());
            }
        }
        self.process.signal(Signal::KILL);
        if self.process.ended_within(KILL_DEADLINE) {
            return Ok(());
        }
        Err(self.failed("its process does not end"))
    }

    /// Holds it between two instructions.
    pub(crate) fn hold(&self) -> Result<()> {
        self.process.signal(Signal::STOP);
        self.becomes(true)
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) -> Result<()> {
        self.process.signal(Signal::CONT);
        self.becomes(false)
    }

    /// Whether it is held.
    pub(crate) fn is_held(&self) -> bool {
        state(self.pid()) == Some('T')
    }

    fn becomes(&self, held: bool) -> Result<()> {
        let end = Instant::now() + KILL_DEADLINE;
        while self.is_held() != held {
            if Instant::now() >= end || self.process.ended_within(Duration::ZERO) {
                return Err(self.failed("its process can be neither held nor let go on"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn failed(&self, what: &str) -> DriverError {
        DriverError::Failed {
            name: self.dir.display().to_string(),
            what: what.to_owned(),
        }
    }
}

/// Starts `program __fake-machine DIR` detached from the terminal.
pub(crate) fn spawn(program: &Path, dir: &Path) -> Result<Starting> {
    let files = Files::new(dir);
    let command = Command::new(program.to_string_lossy()).arg(VERB).path(dir);
    let starting = Starting::spawn(&command, dir, &files.log())?;
    let pid = starting.pid().unwrap_or_default();
    files::write(&files.pidfile(), format!("{pid}\n").as_bytes())
        .map_err(DriverError::io(files.pidfile()))?;
    Ok(starting)
}

/// What a process is doing, as a letter: T for held.
fn state(pid: u32) -> Option<char> {
    if cfg!(target_os = "linux") {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        return stat.rsplit_once(')')?.1.trim_start().chars().next();
    }
    let output = StdCommand::new("ps")
        .args(["-o", "state=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    String::from_utf8_lossy(&output.stdout)
        .trim_start()
        .chars()
        .next()
}
