//! The hyperkit process of a machine: starting it detached, finding it again, ending it.
//!
//! A process is recognised by its own command line, which names the machine's pidfile by its absolute path. A pid alone proves nothing:
//! it may have been given to another process since. So the pidfile is only a hint where to look first; without it all processes are
//! looked at. On Linux (where only tests run) a process is then held by a pidfd; on macOS it is looked at again before each signal.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use process_wrap::std::{ChildWrapper, CommandWrap, ProcessSession};
use rustix::process::{Pid, Signal};
use sampan_driver::{Command, DriverError, Host, Result, Runner};

use crate::files;

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
    /// The process that runs the machine in this directory, which may be gone itself.
    pub(crate) fn find(dir: &Path) -> Result<Option<Self>> {
        let pidfile = files::real(dir).join(files::PIDFILE);
        let noted = files::read(&pidfile).and_then(|text| text.parse().ok());
        if let Some(process) = noted.and_then(|pid| Self::recognise(pid, &pidfile)) {
            return Ok(Some(process));
        }
        let all = all_pids()?;
        Ok(all.into_iter().find_map(|pid| Self::recognise(pid, &pidfile)))
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

    /// Sends a signal; a process that is gone by now is fine. A user may signal a hyperkit that is root by its set-user-id bit, as
    /// it is still the user who runs it.
    pub(crate) fn signal(&self, signal: Signal) {
        let sent = match &self.handle {
            Some(handle) => signal_handle(handle, signal),
            None if runs(self.pid, &self.pidfile) => rustix::process::kill_process(self.pid, signal),
            None => Ok(()),
        };
        tracing::debug!(pid = self.pid(), ?signal, ?sent, "signal to hyperkit");
    }

    /// Waits until it has ended. False when it has not by then.
    pub(crate) fn ended_within(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while !self.is_gone() {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(TICK);
        }
        true
    }

    fn is_gone(&self) -> bool {
        match &self.handle {
            Some(handle) => has_ended(handle),
            None => !runs(self.pid, &self.pidfile),
        }
    }
}

/// Whether the process says of itself that it runs the machine with this pidfile.
fn runs(pid: Pid, pidfile: &Path) -> bool {
    command_line(pid).is_some_and(|line| names_pidfile(&line, &pidfile.to_string_lossy()))
}

/// `line` is either arguments with a zero byte after each, or (from `ps`) with a space between them. After the pidfile there is always `-c`.
fn names_pidfile(line: &str, pidfile: &str) -> bool {
    ['\0', ' ']
        .iter()
        .any(|between| line.contains(&format!("{between}-F{between}{pidfile}{between}-c{between}")))
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
fn has_ended(handle: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// A hyperkit that is being started: killed when this goes out of scope, unless it is released.
#[derive(Debug)]
pub(crate) struct Starting(Option<Box<dyn ChildWrapper>>);

impl Starting {
    /// Starts hyperkit in the machine's directory, in a session of its own: neither Ctrl-C nor the end of the terminal reach it.
    pub(crate) fn spawn(command: &Command, dir: &Path) -> Result<Self> {
        let log = dir.join(files::LOG);
        let out = File::create(&log).map_err(DriverError::io(&log))?;
        let err = out.try_clone().map_err(DriverError::io(&log))?;
        let mut process = Host::process(command);
        process
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        tracing::debug!(%command, dir = %dir.display(), "start hyperkit");
        let child = CommandWrap::from(process).wrap(ProcessSession).spawn();
        Ok(Self(Some(child.map_err(DriverError::io(&command.program))?)))
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.as_mut()?.try_wait().ok().flatten()
    }

    /// Lets it run on its own.
    pub(crate) fn release(mut self) {
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
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_recognised_by_the_whole_pidfile() {
        let pidfile = "/m/a b/hyperkit.pid";
        for line in [
            "hyperkit\0-A\0-u\0-F\0/m/a b/hyperkit.pid\0-c\0two\0",
            "/usr/local/bin/hyperkit -A -u -F /m/a b/hyperkit.pid -c 2 -m 64M",
        ] {
            assert!(names_pidfile(line, pidfile), "{line}");
            assert!(!names_pidfile(line, "/m/a"), "{line}");
        }
        assert!(!names_pidfile("less /m/a b/hyperkit.pid", pidfile));
        assert!(!names_pidfile(
            "hyperkit\0-A\0-u\0-F\0/m/a b/hyperkit.pid.d/hyperkit.pid\0-c\0two\0",
            pidfile
        ));
    }
}
