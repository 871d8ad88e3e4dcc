//! Machines that are processes: started detached, found again by what they say of themselves, ended with a deadline.
//!
//! A process is recognised by words of its own command line that name the machine ([`Mark`]), such as the absolute path of its pidfile. A pid
//! alone proves nothing: it may have been given to another process since. So a pidfile is only a hint where to look first; without it all
//! processes are looked at. On Linux a process is then held by a pidfd, so that no signal can hit a successor. Elsewhere `ps` tells command
//! lines, and the process is looked at again before each signal.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use process_wrap::std::{ChildWrapper, CommandWrap, ProcessSession};
use rustix::process::Pid;
pub use rustix::process::Signal;

use crate::command::{Command, Runner};
use crate::driver::{DriverError, Result};
use crate::host::Host;

/// How often something that cannot be waited for is looked at.
const TICK: Duration = Duration::from_millis(5);

/// What is between the words of a command line as [`command_line`] tells it.
const BETWEEN: char = if cfg!(target_os = "linux") { '\0' } else { ' ' };

/// Words that follow each other on the command line of one machine's process and of no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(Vec<String>);

impl Mark {
    /// A mark of these words.
    pub fn new<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        Self(words.into_iter().map(Into::into).collect())
    }

    /// Whether the words stand in `line`, whole and not at its beginning, which is the program.
    fn is_on(&self, line: &str, between: char) -> bool {
        let words: String = self.0.iter().map(|word| format!("{between}{word}")).collect();
        line.match_indices(&words).any(|(at, _)| {
            let rest = line[at + words.len()..].trim_end();
            rest.is_empty() || rest.starts_with(between)
        })
    }

    fn is_of(&self, pid: Pid) -> bool {
        command_line(pid).is_some_and(|line| self.is_on(&line, BETWEEN))
    }
}

/// A running process that belongs to a machine.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    mark: Mark,
    /// Refers to this very process, on Linux.
    handle: Option<OwnedFd>,
}

impl Process {
    /// The process with this mark; none when none runs. It is found soonest where `pidfile` says.
    ///
    /// # Errors
    /// When the system does not tell its processes.
    pub fn find(mark: &Mark, pidfile: Option<&Path>) -> Result<Option<Self>> {
        let noted = pidfile.and_then(noted).and_then(|pid| Self::recognise(pid, mark));
        if noted.is_some() {
            return Ok(noted);
        }
        let likely = likely(mark)?;
        Ok(likely.into_iter().find_map(|pid| Self::recognise(pid, mark)))
    }

    fn recognise(pid: i32, mark: &Mark) -> Option<Self> {
        let pid = Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 1)?;
        // First the handle, then the look: what was looked at is then what the handle refers to.
        let handle = open_handle(pid);
        mark.is_of(pid).then(|| Self {
            pid,
            mark: mark.clone(),
            handle,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal; a process that is gone by now is fine.
    pub fn signal(&self, signal: Signal) {
        let sent = match &self.handle {
            Some(handle) => signal_handle(handle, signal),
            None if self.mark.is_of(self.pid) => rustix::process::kill_process(self.pid, signal),
            None => Ok(()),
        };
        tracing::debug!(pid = self.pid(), ?signal, ?sent, "signal to a machine's process");
    }

    /// Waits until it has ended, with all that it held (ports, locks). False when it has not by then.
    pub fn ended_within(&self, limit: Duration) -> bool {
        if let Some(handle) = &self.handle {
            return handle_ended(handle, limit);
        }
        within(limit, || !self.mark.is_of(self.pid))
    }
}

/// Waits for the end of a process that was killed from elsewhere a moment ago: it has lost its memory and with it its command line, so it
/// is not found any more, but it may hold ports and locks for some more milliseconds. `program` is how its name begins.
pub fn settle(pidfile: &Path, program: &str, limit: Duration) {
    let Some(pid) = noted(pidfile).and_then(Pid::from_raw) else {
        return;
    };
    let Some(handle) = open_handle(pid) else { return };
    let comm = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    if comm.starts_with(program) && command_line(pid).is_none_or(|line| line.is_empty()) {
        handle_ended(&handle, limit);
    }
}

fn noted(pidfile: &Path) -> Option<i32> {
    fs::read_to_string(pidfile).ok()?.trim().parse().ok()
}

fn within(limit: Duration, mut happened: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !happened() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(TICK);
    }
    true
}

fn command_line(pid: Pid) -> Option<String> {
    let pid = pid.as_raw_nonzero();
    if cfg!(target_os = "linux") {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        return Some(String::from_utf8_lossy(&bytes).into_owned());
    }
    let command = Command::new("ps")
        .args(["-ww", "-o", "command=", "-p"])
        .arg(pid.to_string());
    Host.run(&command).ok().map(|output| output.text())
}

/// Processes that may have the mark: all of them, where looking costs little.
fn likely(mark: &Mark) -> Result<Vec<i32>> {
    if cfg!(target_os = "linux") {
        let proc = Path::new("/proc");
        let entries = proc.read_dir().map_err(DriverError::io(proc))?;
        return Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect());
    }
    let all = Command::new("ps").args(["-axww", "-o", "pid=,command="]);
    let listing = Host.run(&all)?.text();
    let marked = listing.lines().filter(|line| mark.is_on(line, ' '));
    Ok(marked
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect())
}

#[cfg(target_os = "linux")]
fn open_handle(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_handle(_: Pid) -> Option<OwnedFd> {
    None
}

#[cfg(target_os = "linux")]
fn signal_handle(handle: &OwnedFd, signal: Signal) -> rustix::io::Result<()> {
    rustix::process::pidfd_send_signal(handle, signal)
}

#[cfg(not(target_os = "linux"))]
fn signal_handle(_: &OwnedFd, _: Signal) -> rustix::io::Result<()> {
    Ok(())
}

/// A pidfd becomes readable when its process has ended with all its threads; whether somebody has taken note of it does not matter.
fn handle_ended(handle: &OwnedFd, limit: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(handle, PollFlags::IN)], timeout.as_ref()) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// A process that is being started. Unless it is released, it is killed when this goes out of scope.
#[derive(Debug)]
pub struct Starting(Option<Box<dyn ChildWrapper>>);

impl Starting {
    /// Starts it in `dir`, in a session of its own: neither Ctrl-C nor the end of the terminal reach it. What it prints goes to the
    /// file `log`, which begins anew.
    ///
    /// # Errors
    /// When the log cannot be made or the program cannot be run.
    pub fn spawn(command: &Command, dir: &Path, log: &Path) -> Result<Self> {
        let out = File::create(log).map_err(DriverError::io(log))?;
        let err = out.try_clone().map_err(DriverError::io(log))?;
        let mut process = Host::process(command);
        process
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        tracing::debug!(%command, dir = %dir.display(), "start a machine's process");
        let child = CommandWrap::from(process).wrap(ProcessSession).spawn();
        Ok(Self(Some(child.map_err(DriverError::io(&command.program))?)))
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.0.as_ref().map(|child| child.id())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.as_mut()?.try_wait().ok().flatten()
    }

    /// Waits a moment for its end, so that its last words are complete.
    pub fn ended_within(&mut self, limit: Duration) -> bool {
        within(limit, || self.ended().is_some())
    }

    /// Lets it run on its own.
    pub fn release(mut self) {
        if let Some(mut child) = self.0.take() {
            // Whoever stays its parent has to take note of its end, or it stays in the process table.
            thread::spawn(move || child.wait());
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // Both fail only when it has ended by itself, which is as good.
            let _ = child.start_kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
