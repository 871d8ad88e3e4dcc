//! One machine's life. Everything is seen afresh: from its directory, its process and QEMU's own answers.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{Command, DriverError, Endpoint, MachineSpec, Result, last_lines};
use serde_json::json;

use crate::Found;
use crate::args::{self, Arguments, Start};
use crate::process::{self, Process, Signal, Starting};
use crate::qmp::{Qmp, QmpError};
use crate::{disk, files, forwards};

/// From the start of QEMU to a running machine; it takes a quarter of a second.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(30);
/// For one QMP command of a verb that changes the machine.
pub(crate) const QMP_LIMIT: Duration = Duration::from_secs(5);
/// For one question: `status` has to be quick even when QEMU hangs.
pub(crate) const QUERY_LIMIT: Duration = Duration::from_millis(400);
/// Between two presses of the power button: a guest that is still booting does not notice the first.
const POWER_BUTTON_EVERY: Duration = Duration::from_secs(5);
/// For each way of ending QEMU, from the polite to the last.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(3);

/// A machine, named by its specification.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) spec: &'a MachineSpec,
    pub(crate) dir: &'a Path,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(spec: &'a MachineSpec) -> Self {
        Self { spec, dir: &spec.dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn failed(&self, what: impl Into<String>) -> DriverError {
        DriverError::Failed {
            name: self.spec.name.clone(),
            what: what.into(),
        }
    }

    /// Whether there is a machine, running or not.
    pub(crate) fn created(&self) -> bool {
        self.path(files::DISK).is_file()
    }

    pub(crate) fn process(&self) -> Result<Option<Process>> {
        process::find(self.dir)
    }

    /// The process the guest runs in. One that did not get beyond loading a saved state, or had only to end when it was saved, is
    /// ended: the state is good.
    pub(crate) fn running(&self) -> Result<Option<Process>> {
        match self.process()? {
            Some(process) if self.path(files::SAVED).exists() => {
                self.end(&process, false)?;
                Ok(None)
            }
            process => Ok(process),
        }
    }

    /// Boots the machine's disk and waits until the machine runs. Whatever goes wrong, no process stays.
    pub(crate) fn boot(&self, found: &Found) -> Result<()> {
        let mut starting = self.launch(found, &Start::Boot)?;
        self.wait_running(&mut starting)?;
        starting.release();
        Ok(())
    }

    /// Starts QEMU.
    pub(crate) fn launch(&self, found: &Found, start: &Start) -> Result<Starting> {
        found.check_firmware(self.spec)?;
        self.spec.forwards.iter().try_for_each(forwards::check)?;
        disk::check_files(self.spec)?;
        process::settle(self.dir, QMP_LIMIT);
        process::clean(self.dir);
        files::rotate(&self.path(files::SERIAL_LOG))?;
        files::rotate(&self.path(files::QEMU_LOG))?;
        self.make_private(files::SERIAL_LOG)?;
        let empty = matches!(start, Start::Boot | Start::Stream);
        if empty && args::memory_is_a_file(found.verdict.accelerator) {
            disk::check_room(self.spec, self.spec.memory_mib)?;
            self.make_private(files::RAM)?;
        }
        let arguments = self.arguments(found, start).render();
        let command = Command::new(found.program.to_string_lossy()).args(arguments);
        Starting::spawn(&command, self.dir)
    }

    pub(crate) fn arguments(&self, found: &Found, start: &Start) -> Arguments {
        let pidfile = files::real(self.dir).join(files::PIDFILE);
        Arguments::new(self.spec, found.platform(), &pidfile, start)
    }

    pub(crate) fn wait_running(&self, starting: &mut Starting) -> Result<()> {
        let end = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = starting.ended() {
                return Err(self.explain(&format!("qemu ended with {status}")));
            }
            let last = match self.run_state(files::QMP, QMP_LIMIT) {
                Ok(state) if state == "running" => return Ok(()),
                Ok(state) => format!("it is in state {state}"),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= end {
                let seconds = START_LIMIT.as_secs();
                return Err(self.explain(&format!("the machine does not run after {seconds} s: {last}")));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Makes an empty file only its owner can read; QEMU itself would let everybody.
    pub(crate) fn make_private(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        let made = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        made.map(drop).map_err(DriverError::io(path))
    }

    /// Why QEMU did not come up: its own words, or the port that is in use.
    pub(crate) fn explain(&self, what: &str) -> DriverError {
        let log = fs::read_to_string(self.path(files::QEMU_LOG)).unwrap_or_default();
        let taken = log
            .lines()
            .find_map(refused_forward)
            .map(|address| (address, TcpListener::bind(address)));
        match taken {
            Some((port, Err(error))) if error.kind() == ErrorKind::AddrInUse => {
                DriverError::PortTaken { port }
            }
            Some((port, Err(error))) => self.failed(format!("cannot listen on {port}: {error}")),
            // It was taken and is free again by now, or QEMU had other reasons.
            Some((port, Ok(_))) => DriverError::PortTaken { port },
            None => self.failed(format!("{what}{}", last_lines(&log, 8))),
        }
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let process = self
            .process()?
            .ok_or_else(|| DriverError::NoMachine(self.spec.name.clone()))?;
        let listening = Qmp::connect(&self.path(files::QUERY), QUERY_LIMIT)
            .and_then(|mut qmp| qmp.human("info usernet", QUERY_LIMIT));
        let forwards = match listening {
            Ok(table) => forwards::in_order(&table, &self.spec.forwards),
            Err(error) => {
                tracing::debug!(%error, "qemu does not tell its forwards");
                self.spec
                    .forwards
                    .iter()
                    .filter(|forward| forward.host.port() != 0)
                    .copied()
                    .collect()
            }
        };
        let serial_log = Some(self.path(files::SERIAL_LOG));
        Ok(Endpoint {
            forwards,
            serial_log,
            pid: Some(process.pid()),
            runner: None,
        })
    }

    /// Presses the power button and waits; ends QEMU when the guest has not powered off by the deadline.
    pub(crate) fn stop(&self, deadline: Duration) -> Result<()> {
        let Some(process) = self.running()? else {
            return self.ended();
        };
        let end = Instant::now() + deadline;
        while !process.ended_within(Duration::ZERO) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.end(&process, true);
            }
            if let Err(error) = self.press_power_button(left.min(QMP_LIMIT)) {
                tracing::debug!(%error, "power button");
            }
            let left = end.saturating_duration_since(Instant::now());
            process.ended_within(left.min(POWER_BUTTON_EVERY));
        }
        self.ended()
    }

    fn press_power_button(&self, limit: Duration) -> Result<(), QmpError> {
        let mut qmp = Qmp::connect(&self.path(files::QMP), limit)?;
        // A guest that is held cannot notice.
        qmp.execute("cont", json!({}), limit)?;
        qmp.execute("system_powerdown", json!({}), limit)?;
        tracing::debug!(events = ?qmp.events(), "pressed the power button");
        Ok(())
    }

    pub(crate) fn kill(&self) -> Result<()> {
        match self.process()? {
            Some(process) => self.end(&process, false),
            None => self.ended(),
        }
    }

    /// Ends QEMU: politely first, if asked to, so that it writes back what it holds.
    fn end(&self, process: &Process, politely: bool) -> Result<()> {
        if politely {
            let quit = Qmp::connect(&self.path(files::QMP), END_LIMIT)
                .and_then(|mut qmp| qmp.execute("quit", json!({}), END_LIMIT));
            tracing::debug!(?quit, "the guest did not power off");
            if quit.is_ok() && process.ended_within(END_LIMIT) {
                return self.ended();
            }
            process.signal(Signal::TERM);
            if process.ended_within(END_LIMIT) {
                return self.ended();
            }
        }
        process.signal(Signal::KILL);
        if process.ended_within(END_LIMIT) {
            return self.ended();
        }
        Err(self.failed(format!("its process {} cannot be ended", process.pid())))
    }

    fn ended(&self) -> Result<()> {
        process::clean(self.dir);
        Ok(())
    }

    pub(crate) fn remove(&self) -> Result<()> {
        self.kill()?;
        files::remove_dir(self.dir)
    }
}

/// The address in "Could not set up host forwarding rule 'tcp:127.77.0.1:8443-:8443'".
fn refused_forward(line: &str) -> Option<SocketAddr> {
    let (_, rule) = line.split_once("Could not set up host forwarding rule '")?;
    rule.strip_prefix("tcp:")?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
