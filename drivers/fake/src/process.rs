//! The machine's process: started in a session of its own, recognised by its command line, ended with a deadline.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use process_wrap::std::{ChildWrapper, CommandWrap, ProcessSession};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sampan_driver::{DriverError, Result};

use crate::files::{self, Files};

/// The hidden verb that makes a program a machine.
const VERB: &str = "__fake-machine";

/// How long a killed process may take to vanish.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A running process that belongs to a machine.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    dir: PathBuf,
    /// Refers to this very process, on Linux.
    handle: Option<OwnedFd>,
}

impl Process {
    /// The process of the machine in this directory, which may be gone itself.
    pub(crate) fn find(dir: &Path) -> Option<Self> {
        let noted = fs::read_to_string(Files::new(dir).pidfile())
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let is_ours = |pid: &i32| Pid::from_raw(*pid).is_some_and(|pid| runs(pid, dir));
        let pid = Pid::from_raw(noted.filter(is_ours).or_else(|| all_pids().find(is_ours))?)?;
        // A handle first, then another look: what was looked at is what the handle refers to.
        let handle = open_handle(pid);
        runs(pid, dir).then(|| Self {
            pid,
            dir: dir.to_owned(),
            handle,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Asks it to end, and kills it when `deadline` has passed.
    pub(crate) fn end(&self, deadline: Duration) -> Result<()> {
        if !deadline.is_zero() {
            self.signal(Signal::TERM);
            // One that is held hears it when it goes on.
            self.signal(Signal::CONT);
            if self.ended_within(deadline) {
                return Ok(());
            }
        }
        self.signal(Signal::KILL);
        if self.ended_within(KILL_DEADLINE) {
            return Ok(());
        }
        Err(DriverError::Failed {
            name: self.dir.display().to_string(),
            what: "its process does not end".to_owned(),
        })
    }

    /// Holds it between two instructions.
    pub(crate) fn hold(&self) -> Result<()> {
        self.signal(Signal::STOP);
        self.becomes(true)
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) -> Result<()> {
        self.signal(Signal::CONT);
        self.becomes(false)
    }

    /// Whether it is held.
    pub(crate) fn is_held(&self) -> bool {
        state(self.pid) == Some('T')
    }

    fn becomes(&self, held: bool) -> Result<()> {
        let end = Instant::now() + KILL_DEADLINE;
        while self.is_held() != held {
            if Instant::now() >= end || self.is_gone() {
                return Err(DriverError::Failed {
                    name: self.dir.display().to_string(),
                    what: "its process can be neither held nor let go on".to_owned(),
                });
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if runs(self.pid, &self.dir) {
            // It may have ended by itself meanwhile.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Waits until it has ended, with all its threads and what they held.
    fn ended_within(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while !self.is_gone() {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }

    fn is_gone(&self) -> bool {
        match &self.handle {
            Some(handle) => has_ended(handle),
            None => test_kill_process(self.pid).is_err(),
        }
    }
}

#[cfg(target_os = "linux")]
fn open_handle(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_handle(_: Pid) -> Option<OwnedFd> {
    None
}

/// A pidfd becomes readable when its process has ended with all its threads; whether somebody has taken note of it does not matter.
fn has_ended(handle: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// A process that is being started: killed when this goes out of scope before it was released.
pub(crate) struct Starting(Option<Box<dyn ChildWrapper>>);

/// Starts `program __fake-machine DIR` detached from the terminal.
pub(crate) fn spawn(program: &Path, dir: &Path) -> Result<Starting> {
    let files = Files::new(dir);
    let log = File::create(files.log()).map_err(DriverError::io(files.log()))?;
    let errors = log.try_clone().map_err(DriverError::io(files.log()))?;
    let mut command = Command::new(program);
    command
        .arg(VERB)
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    let child = CommandWrap::from(command)
        .wrap(ProcessSession)
        .spawn()
        .map_err(DriverError::io(program))?;
    let pid = child.id();
    let starting = Starting(Some(child));
    files::write(&files.pidfile(), format!("{pid}\n").as_bytes())
        .map_err(DriverError::io(files.pidfile()))?;
    Ok(starting)
}

impl Starting {
    /// Whether it has ended already.
    pub(crate) fn ended(&mut self) -> bool {
        self.0
            .as_mut()
            .is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()))
    }

    /// Lets it run on its own.
    pub(crate) fn release(mut self) {
        if let Some(mut child) = self.0.take() {
            // Its parent has to take note of its end, or it stays in the process table.
            thread::spawn(move || child.wait());
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // Both fail only when it has ended by itself.
            let _ = child.start_kill();
            let _ = child.wait();
        }
    }
}

/// Whether the process's command line says that it runs the machine in `dir`.
fn runs(pid: Pid, dir: &Path) -> bool {
    let Some(line) = command_line(pid) else {
        return false;
    };
    let wanted = format!("{VERB}\0{}", dir.display());
    line.trim_end_matches('\0').ends_with(&wanted)
}

/// What a process is doing, as a letter: T for held.
fn state(pid: Pid) -> Option<char> {
    let pid = pid.as_raw_nonzero();
    if cfg!(target_os = "linux") {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        return stat.rsplit_once(')')?.1.trim_start().chars().next();
    }
    let output = Command::new("ps")
        .args(["-o", "state=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    String::from_utf8_lossy(&output.stdout)
        .trim_start()
        .chars()
        .next()
}

/// Arguments of a process with a zero byte between them.
fn command_line(pid: Pid) -> Option<String> {
    if cfg!(target_os = "linux") {
        let bytes = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
        return Some(String::from_utf8_lossy(&bytes).into_owned());
    }
    let pid = pid.as_raw_nonzero().to_string();
    let output = Command::new("ps")
        .args(["-ww", "-o", "command=", "-p", &pid])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(text.replacen(&format!("{VERB} "), &format!("{VERB}\0"), 1))
}

/// All processes, where the system lists them; elsewhere the pidfile alone has to do.
fn all_pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
