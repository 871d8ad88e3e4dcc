//! The QEMU process of a machine: starting it detached, finding it again, ending it.
//!
//! A machine's process is recognised by its own command line, which names the machine's pidfile by its absolute path. A
//! pid alone proves nothing: it may have been given to another process since. So the pidfile is only a hint where to look
//! first; when it is missing or damaged all processes are looked at. On Linux a process is then held by a pidfd, so a
//! signal cannot hit a successor. Elsewhere `ps` tells the command lines and the pid is looked at again before each signal.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use process_wrap::std::{ChildWrapper, CommandWrap, ProcessSession};
use rustix::process::{Pid, Signal};
use sampan_driver::{Command, DriverError, Host, Result, Runner};

use crate::files;

/// How often something that cannot be waited for is looked at.
const TICK: Duration = Duration::from_millis(5);

/// A running process that belongs to a machine.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    pidfile: PathBuf,
    /// Refers to this very process, on Linux.
    handle: Option<OwnedFd>,
}

impl Process {
    /// The process that runs the machine in this directory. The directory itself may be gone.
    pub(crate) fn find(dir: &Path) -> Result<Option<Self>> {
        let pidfile = files::real(dir).join(files::PIDFILE);
        let noted = fs::read_to_string(&pidfile)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        if let Some(process) = noted.and_then(|pid| Self::recognise(pid, &pidfile)) {
            return Ok(Some(process));
        }
        Ok(all_pids()?
            .into_iter()
            .find_map(|pid| Self::recognise(pid, &pidfile)))
    }

    fn recognise(pid: i32, pidfile: &Path) -> Option<Self> {
        let pid = Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 1)?;
        // First the handle, then the look: what was looked at is then what the handle refers to.
        let handle = open_handle(pid);
        runs(pid, pidfile).then(|| Self {
            pid,
            pidfile: pidfile.to_owned(),
            handle,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal; a process that is gone by now is fine.
    pub(crate) fn signal(&self, signal: Signal) {
        let sent = match &self.handle {
            Some(handle) => signal_handle(handle, signal),
            None if runs(self.pid, &self.pidfile) => rustix::process::kill_process(self.pid, signal),
            None => Ok(()),
        };
        tracing::debug!(pid = self.pid(), ?signal, ?sent, "signal to qemu");
    }

    /// Waits until it has ended, with all that it held (ports, locks). False when it has not by then.
    pub(crate) fn ended_within(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        if let Some(handle) = &self.handle {
            return handle_ended(handle, limit);
        }
        while runs(self.pid, &self.pidfile) {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(TICK);
        }
        true
    }
}

/// Waits for the end of a QEMU that was killed from elsewhere a moment ago: it has lost its memory and with it its command
/// line, so it is not found any more, but it may hold ports and locks for some more milliseconds.
pub(crate) fn settle(dir: &Path, limit: Duration) {
    let noted = fs::read_to_string(dir.join(files::PIDFILE)).ok();
    let Some(pid) = noted
        .and_then(|text| text.trim().parse().ok())
        .and_then(Pid::from_raw)
    else {
        return;
    };
    let Some(handle) = open_handle(pid) else { return };
    let comm = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    if comm.starts_with("qemu") && command_line(pid).is_none_or(|line| line.is_empty()) {
        handle_ended(&handle, limit);
    }
}

/// Whether the process says of itself that it runs the machine with this pidfile.
fn runs(pid: Pid, pidfile: &Path) -> bool {
    command_line(pid).is_some_and(|line| names_pidfile(&line, &pidfile.to_string_lossy()))
}

/// `line` is either arguments with a zero byte after each, or (from `ps`) with a space between them.
fn names_pidfile(line: &str, pidfile: &str) -> bool {
    ['\0', ' '].iter().any(|between| {
        let wanted = format!("{between}-pidfile{between}{pidfile}");
        line.match_indices(&wanted).any(|(at, found)| {
            let rest = line[at + found.len()..].trim_end();
            rest.is_empty() || rest.starts_with(*between)
        })
    })
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

fn all_pids() -> Result<Vec<i32>> {
    if cfg!(target_os = "linux") {
        let proc = Path::new("/proc");
        let entries = proc.read_dir().map_err(DriverError::io(proc))?;
        return Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect());
    }
    // Only those that may be ours: each costs one more `ps` when it is looked at.
    let listing = Host
        .run(&Command::new("ps").args(["-axww", "-o", "pid=,command="]))?
        .text();
    let likely = listing.lines().filter(|line| line.contains(files::PIDFILE));
    Ok(likely
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

/// A pidfd becomes readable when its process has ended with all its threads.
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

/// A QEMU that is being started. Unless it is released, it is killed when this goes out of scope, and what it leaves
/// behind is removed.
#[derive(Debug)]
pub(crate) struct Starting {
    child: Option<Box<dyn ChildWrapper>>,
    dir: PathBuf,
    released: bool,
}

impl Starting {
    /// Starts QEMU in the machine's directory, in a session of its own: neither Ctrl-C nor the end of the terminal reach it.
    pub(crate) fn spawn(command: &Command, dir: &Path) -> Result<Self> {
        let log = dir.join(files::QEMU_LOG);
        let out = File::create(&log).map_err(DriverError::io(&log))?;
        let err = out.try_clone().map_err(DriverError::io(&log))?;
        let mut process: StdCommand = Host::process(command);
        process
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        tracing::debug!(%command, dir = %dir.display(), "start qemu");
        let mut process = CommandWrap::from(process);
        let mut starting = Self {
            child: None,
            dir: dir.to_owned(),
            released: false,
        };
        let child = process.wrap(ProcessSession).spawn();
        starting.child = Some(child.map_err(DriverError::io(&command.program))?);
        Ok(starting)
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Waits a moment for its end, so that its last words are complete.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.ended().is_none() {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(TICK);
        }
        true
    }

    /// Lets it run on its own.
    pub(crate) fn release(mut self) {
        self.released = true;
        if let Some(mut child) = self.child.take() {
            // Whoever stays its parent has to take note of its end, or it stays in the process table.
            thread::spawn(move || child.wait());
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when it has ended by itself, which is as good.
            let _ = child.start_kill();
            let _ = child.wait();
        }
        if !self.released {
            clean(&self.dir);
        }
    }
}

/// Removes what a run leaves behind. What cannot be removed now is tried again before the next run.
pub(crate) fn clean(dir: &Path) {
    let saved = dir.join(files::SAVED).exists();
    let of_a_state: &[&str] = if saved { &[] } else { &files::OF_A_STATE };
    let made = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let left = files::PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        left.then_some(name)
    });
    let all = files::OF_A_RUN.iter().chain(of_a_state).copied();
    for name in all.map(str::to_owned).chain(made) {
        if let Err(error) = files::remove(&dir.join(name)) {
            tracing::warn!(%error, "could not be removed");
        }
    }
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
