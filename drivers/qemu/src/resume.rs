//! Starting a machine from what was saved of it.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{DriverError, Result, Started};
use serde_json::json;

use crate::Found;
use crate::args::Start;
use crate::machine::{Machine, QMP_LIMIT, START_LIMIT};
use crate::process::Starting;
use crate::qmp::{Qmp, QmpError};
use crate::saved::{Identity, Memory, Record};
use crate::{disk, files, ram};

/// For loading devices, and memory where it comes as a stream (4 GiB took 15 s on a busy machine).
const LOAD_LIMIT: Duration = Duration::from_secs(180);

impl Machine<'_> {
    /// What saved states of this machine depend on.
    pub(crate) fn identity(&self, found: &Found) -> Identity {
        Identity {
            qemu: found.banner.clone(),
            processor: found.processor(),
            machine: self.arguments(found, &Start::Boot).guest_visible(),
        }
    }

    /// Starts a machine that has no process: from its saved state if there is one that can be used, else from its disk.
    pub(crate) fn resume(&self, found: &Found) -> Result<Started> {
        if let Err(error) = self.settle() {
            tracing::warn!(%error, machine = self.spec.name, "its state cannot be completed");
        }
        // An image that is missing below the disk may come back; what was saved is not thrown away for that.
        disk::check_files(self.spec)?;
        let reason = match Record::read(self.dir) {
            Ok(None) => None,
            Ok(Some(record)) if record.memory == Memory::None => None,
            Err(reason) => Some(reason),
            Ok(Some(record)) => match record.check(self.dir, &self.identity(found)) {
                Err(reason) => Some(reason),
                Ok(()) => match self.go_on(found, &record) {
                    Ok(()) => return Ok(Started::Resumed),
                    // Nothing is wrong with what was saved.
                    Err(error @ (DriverError::PortTaken { .. } | DriverError::Io { .. })) => {
                        return Err(error);
                    }
                    Err(error) => Some(error.to_string()),
                },
            },
        };
        if let Some(reason) = &reason {
            tracing::warn!(machine = self.spec.name, reason, "the saved state is discarded");
        }
        Record::forget(self.dir)?;
        self.boot(found)?;
        Ok(Started::Booted(reason))
    }

    fn go_on(&self, found: &Found, record: &Record) -> Result<()> {
        let start = record.start(self.dir, ram::readable());
        let mut starting = self.launch(found, &start)?;
        let mut qmp = self.answering(&mut starting)?;
        let devices: PathBuf = match &record.layer {
            Some(layer) => layer.join(files::DEVICES),
            None => files::DEVICES.into(),
        };
        let load = {
            let uri = format!("file:{}", devices.display());
            qmp.execute("migrate-incoming", json!({"uri": uri}), LOAD_LIMIT)
        };
        let loaded = load.and_then(|_| migrated(&mut qmp, LOAD_LIMIT));
        if let Err(error) = loaded {
            let what = format!("qemu does not take the saved state: {error}");
            starting.ended_within(Duration::from_millis(200));
            return Err(self.explain(&what));
        }
        // From here on the machine moves on and what was saved does not fit any more. Only then may it run.
        Record::forget(self.dir)?;
        qmp.execute("cont", json!({}), QMP_LIMIT)
            .map_err(|error| self.failed(error.to_string()))?;
        drop(qmp);
        self.wait_running(&mut starting)?;
        starting.release();
        if let Err(error) = fs::remove_file(self.path(files::DEVICES)) {
            tracing::debug!(%error, "no devices of its own to remove");
        }
        Ok(())
    }

    /// Waits until a QEMU that was just started talks.
    fn answering(&self, starting: &mut Starting) -> Result<Qmp> {
        let end = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = starting.ended() {
                return Err(self.explain(&format!("qemu ended with {status}")));
            }
            match Qmp::connect(&self.path(files::QMP), QMP_LIMIT) {
                Ok(qmp) => return Ok(qmp),
                Err(error) if Instant::now() >= end => return Err(self.explain(&error.to_string())),
                Err(_) => thread::sleep(Duration::from_millis(3)),
            }
        }
    }
}

/// Waits for the end of a migration, in or out.
pub(crate) fn migrated(qmp: &mut Qmp, limit: Duration) -> Result<(), QmpError> {
    let end = Instant::now() + limit;
    loop {
        let migration = qmp.execute("query-migrate", json!({}), QMP_LIMIT)?;
        match migration["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                return Err(QmpError::Refused {
                    command: "the migration".to_owned(),
                    desc: migration["error-desc"].as_str().unwrap_or("it failed").to_owned(),
                });
            }
            _ if Instant::now() >= end => {
                return Err(QmpError::Timeout {
                    what: "the migration".to_owned(),
                    after: limit,
                });
            }
            _ => thread::sleep(Duration::from_millis(2)),
        }
    }
}
