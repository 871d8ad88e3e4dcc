//! The QEMU process of a machine. It is recognised by its command line, which names the machine's pidfile by its absolute path.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use sampan_driver::process::{self, Mark};
use sampan_driver::{Command, Result};

pub(crate) use sampan_driver::process::{Process, Signal};

use crate::files;

/// The process that runs the machine in this directory. The directory itself may be gone.
pub(crate) fn find(dir: &Path) -> Result<Option<Process>> {
    let pidfile = files::real(dir).join(files::PIDFILE);
    let mark = Mark::new(["-pidfile", &pidfile.to_string_lossy()]);
    Process::find(&mark, Some(&pidfile))
}

/// Waits for the end of a QEMU that was killed from elsewhere a moment ago.
pub(crate) fn settle(dir: &Path, limit: Duration) {
    process::settle(&dir.join(files::PIDFILE), "qemu", limit);
}

/// A QEMU that is being started. Unless it is released, it is killed when this goes out of scope, and what it leaves
/// behind is removed.
#[derive(Debug)]
pub(crate) struct Starting {
    process: Option<process::Starting>,
    dir: PathBuf,
}

impl Starting {
    /// Starts QEMU in the machine's directory.
    pub(crate) fn spawn(command: &Command, dir: &Path) -> Result<Self> {
        let process = process::Starting::spawn(command, dir, &dir.join(files::QEMU_LOG));
        Ok(Self {
            process: Some(process.inspect_err(|_| clean(dir))?),
            dir: dir.to_owned(),
        })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.ended()
    }

    /// Waits a moment for its end, so that its last words are complete.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> bool {
        let process = self.process.as_mut();
        process.is_none_or(|process| process.ended_within(limit))
    }

    /// Lets it run on its own.
    pub(crate) fn release(mut self) {
        if let Some(process) = self.process.take() {
            process.release();
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            drop(process);
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
