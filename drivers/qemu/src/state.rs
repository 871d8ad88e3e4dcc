//! What a machine is doing, as its process tells, and letting it go on when it is held.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{DriverError, MachineState, Result};
use serde_json::json;

use crate::machine::{Machine, QMP_LIMIT, QUERY_LIMIT};
use crate::process::Process;
use crate::qmp::{Qmp, QmpError};
use crate::{disk, files};

/// QEMU's word for a guest that it holds because there is no room for what it writes to its disk.
const NO_ROOM: &str = "io-error";
/// Within this time a guest meets the full disk again, if it is still full.
const RELAPSE: Duration = Duration::from_millis(300);

impl Machine<'_> {
    /// QEMU's name for what the machine is doing.
    pub(crate) fn run_state(&self, socket: &str, limit: Duration) -> Result<String, QmpError> {
        run_state(&mut Qmp::connect(&self.path(socket), limit)?, limit)
    }

    pub(crate) fn state(&self) -> Result<MachineState> {
        if self.process()?.is_none() {
            return Ok(if self.created() {
                MachineState::Stopped
            } else {
                MachineState::Absent
            });
        }
        match self.run_state(files::QUERY, QUERY_LIMIT) {
            Ok(state) if state != "running" => {
                tracing::debug!(state, "the machine is held");
                Ok(MachineState::Paused)
            }
            Ok(_) => Ok(MachineState::Running),
            Err(error) => {
                // It may have ended between the two looks.
                tracing::debug!(%error, "qemu does not tell its state");
                let runs = self.process()?.is_some();
                Ok(if runs {
                    MachineState::Running
                } else {
                    MachineState::Stopped
                })
            }
        }
    }

    /// Why QEMU holds the guest, when nobody asked it to.
    pub(crate) fn trouble(&self) -> Result<Option<String>> {
        if self.process()?.is_none() {
            return Ok(None);
        }
        Ok(match self.run_state(files::QUERY, QUERY_LIMIT).as_deref() {
            Ok(NO_ROOM) => Some(self.no_room()),
            Ok(state @ ("internal-error" | "guest-panicked" | "watchdog")) => {
                Some(format!("qemu holds it: {state}"))
            }
            _ => None,
        })
    }

    fn no_room(&self) -> String {
        let free = disk::free(self.dir).map_or_else(|_| "?".to_owned(), |free| free.to_string());
        format!("it is held, as there is no room for what it writes to its disk ({free} MiB are free)")
    }

    /// Sees to it that a machine with a process runs: it may be held, or its start be under way.
    pub(crate) fn wake(&self, process: &Process) -> Result<()> {
        let end = Instant::now() + QMP_LIMIT;
        let before = loop {
            let error = match self.let_go() {
                Ok(state) => break state,
                Err(error) => error,
            };
            // It may be just starting, or be about to end a migration that somebody who is gone by now began.
            let passes = matches!(error, QmpError::Refused { .. } | QmpError::Connect { .. });
            if !passes || Instant::now() >= end {
                let pid = process.pid();
                return Err(self.failed(format!(
                    "it has a process ({pid}) that does not run it: {error}; end it with `kill {pid}`"
                )));
            }
            thread::sleep(Duration::from_millis(20));
        };
        if before == NO_ROOM {
            self.has_room()?;
        }
        Ok(())
    }

    /// Returns what it was doing before.
    fn let_go(&self) -> Result<String, QmpError> {
        let mut qmp = Qmp::connect(&self.path(files::QMP), QMP_LIMIT)?;
        let state = run_state(&mut qmp, QMP_LIMIT)?;
        if state != "running" {
            qmp.execute("cont", json!({}), QMP_LIMIT)?;
        }
        Ok(state)
    }

    /// QEMU has tried again what there was no room for.
    fn has_room(&self) -> Result<()> {
        let end = Instant::now() + RELAPSE;
        while Instant::now() < end {
            if matches!(self.run_state(files::QMP, QMP_LIMIT).as_deref(), Ok(NO_ROOM)) {
                let error = std::io::Error::new(ErrorKind::StorageFull, self.no_room());
                return Err(DriverError::io(self.path(files::DISK))(error));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn run_state(qmp: &mut Qmp, limit: Duration) -> Result<String, QmpError> {
    let status = qmp.execute("query-status", json!({}), limit)?;
    Ok(status["status"].as_str().unwrap_or_default().to_owned())
}
