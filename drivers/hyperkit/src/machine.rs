//! One machine's life. Everything is seen afresh: from its directory, its process and macOS's lease file.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{Command, DriverError, Endpoint, Forward, MachineSpec, MachineState, Result, last_lines};

use crate::args::Arguments;
use crate::lease::{self, Lease, Mac};
use crate::process::{self, Process, Signal, Starting};
use crate::{console, disk, files, kernel};

/// From the start of hyperkit until its guest has an address. An Intel Mac takes ten seconds; busy ones, a minute.
const LEASE_LIMIT: Duration = Duration::from_secs(150);
/// Between two looks for a lease.
const LEASE_TICK: Duration = Duration::from_millis(50);
/// Between two presses of the power button: a guest that is still booting does not notice the first.
const POWER_BUTTON_EVERY: Duration = Duration::from_secs(5);
/// From the last signal to the end of the process.
const END_LIMIT: Duration = Duration::from_secs(5);

/// A machine, named by its specification.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    spec: &'a MachineSpec,
    dir: &'a Path,
    /// macOS's lease file.
    leases: &'a Path,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(spec: &'a MachineSpec, leases: &'a Path) -> Self {
        Self {
            spec,
            dir: &spec.dir,
            leases,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn failed(&self, what: impl Into<String>) -> DriverError {
        DriverError::Failed {
            name: self.spec.name.clone(),
            what: what.into(),
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.path(files::DISK).is_file()
    }

    pub(crate) fn create(&self) -> Result<()> {
        files::make_dir(self.dir)?;
        let uuid = self.path(files::UUID);
        if files::read(&uuid).is_none_or(|text| text.len() != 36) {
            files::write(&uuid, new_uuid()?.as_bytes())?;
            // Another UUID is another card.
            files::remove(&self.path(files::MAC))?;
        }
        disk::ensure(self.spec, process::find(self.dir)?.is_some())
    }

    pub(crate) fn start(&self, program: &Path) -> Result<()> {
        if process::find(self.dir)?.is_some() {
            return Ok(());
        }
        let boot = kernel::choose(self.spec)?;
        let extra = self.spec.extra_disks.iter().map(|disk| &disk.path);
        for path in extra.clone() {
            fs::metadata(path).map_err(DriverError::io(path))?;
        }
        for name in files::OF_A_RUN {
            files::remove(&self.path(name))?;
        }
        let real = files::real(self.dir);
        let arguments = Arguments {
            pidfile: real.join(files::PIDFILE),
            cpus: self.spec.cpus,
            memory_mib: self.spec.memory_mib,
            uuid: files::read(&self.path(files::UUID)).unwrap_or_default(),
            disk: real.join(files::DISK),
            extra_disks: extra.cloned().collect(),
            tty: real.join(files::TTY),
            console: real.join(files::RING),
            boot,
        };
        let command = Command::new(program.to_string_lossy()).args(arguments.render()?);
        let known: Vec<Mac> = self.leases().iter().map(|lease| lease.mac).collect();
        let mut starting = Starting::spawn(&command, self.dir, &self.path(files::LOG))?;
        self.wait_for_lease(&mut starting, &known)?;
        starting.release();
        Ok(())
    }

    /// Waits until the guest has an address, and notes it with its card's.
    fn wait_for_lease(&self, starting: &mut Starting, known: &[Mac]) -> Result<()> {
        let end = Instant::now() + LEASE_LIMIT;
        loop {
            if let Some(status) = starting.ended() {
                console::unroll(self.dir);
                return Err(self.failed(format!("hyperkit ended with {status}{}", self.last_words())));
            }
            // Its pidfile says that the machine itself is set up.
            let lease = self.path(files::PIDFILE).exists().then(|| self.lease(known));
            if let Some(lease) = lease.flatten() {
                files::write(&self.path(files::MAC), lease.mac.to_string().as_bytes())?;
                return files::write(&self.path(files::ADDRESS), lease.address.to_string().as_bytes());
            }
            if Instant::now() >= end {
                console::unroll(self.dir);
                return Err(self.failed(format!(
                    "its guest has no address after {} s: there is no lease for {} in {}; macOS's firewall may keep \
                     /usr/libexec/bootpd from answering{}",
                    LEASE_LIMIT.as_secs(),
                    self.spec.name,
                    self.leases.display(),
                    self.last_words()
                )));
            }
            thread::sleep(LEASE_TICK);
        }
    }

    fn leases(&self) -> Vec<Lease> {
        // Not there before the first machine ever asks.
        let text = fs::read(self.leases).unwrap_or_default();
        lease::parse(&String::from_utf8_lossy(&text))
    }

    /// This machine's lease. Its card's address is derived from its UUID by macOS, and only root may ask how; so the first time the
    /// guest is recognised by its name, on a card that had no lease before.
    fn lease(&self, known: &[Mac]) -> Option<Lease> {
        let leases = self.leases();
        match files::read(&self.path(files::MAC)).and_then(|text| Mac::parse(&text)) {
            Some(mac) => lease::of(&leases, mac).cloned(),
            None => lease::newcomer(&leases, &self.spec.name, known).cloned(),
        }
    }

    fn last_words(&self) -> String {
        last_lines(&files::read(&self.path(files::LOG)).unwrap_or_default(), 8)
    }

    pub(crate) fn state(&self) -> Result<MachineState> {
        Ok(match process::find(self.dir)? {
            _ if !self.exists() => MachineState::Absent,
            Some(_) => MachineState::Running,
            None => MachineState::Stopped,
        })
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let process =
            process::find(self.dir)?.ok_or_else(|| DriverError::NoMachine(self.spec.name.clone()))?;
        console::unroll(self.dir);
        let mac = files::read(&self.path(files::MAC)).and_then(|text| Mac::parse(&text));
        let now = mac.and_then(|mac| lease::of(&self.leases(), mac).map(|lease| lease.address));
        let noted = || files::read(&self.path(files::ADDRESS)).and_then(|text| text.parse().ok());
        let address: Option<Ipv4Addr> = now.or_else(noted);
        let reach = |forward: &Forward| {
            let host = SocketAddr::from((address?, forward.guest_port));
            Some(Forward { host, ..*forward })
        };
        Ok(Endpoint {
            forwards: self.spec.forwards.iter().filter_map(reach).collect(),
            serial_log: Some(self.path(files::SERIAL_LOG)),
            pid: Some(process.pid()),
            runner: None,
        })
    }

    /// Presses the power button, which is what SIGTERM means to hyperkit, and waits; ends it when the guest has not powered off by
    /// the deadline.
    pub(crate) fn stop(&self, deadline: Duration) -> Result<()> {
        let Some(process) = process::find(self.dir)? else {
            return self.ended();
        };
        let end = Instant::now() + deadline;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.end(&process);
            }
            process.signal(Signal::TERM);
            if process.ended_within(left.min(POWER_BUTTON_EVERY)) {
                return self.ended();
            }
        }
    }

    pub(crate) fn kill(&self) -> Result<()> {
        match process::find(self.dir)? {
            Some(process) => self.end(&process),
            None => self.ended(),
        }
    }

    fn end(&self, process: &Process) -> Result<()> {
        process.signal(Signal::KILL);
        if process.ended_within(END_LIMIT) {
            return self.ended();
        }
        Err(self.failed(format!("its process {} cannot be ended", process.pid())))
    }

    fn ended(&self) -> Result<()> {
        console::unroll(self.dir);
        files::OF_A_RUN
            .iter()
            .try_for_each(|name| files::remove(&self.path(name)))
    }

    pub(crate) fn remove(&self) -> Result<()> {
        self.kill()?;
        files::remove_dir(self.dir)
    }
}

/// A random UUID (version 4).
fn new_uuid() -> Result<String> {
    const RANDOM: &str = "/dev/urandom";
    let mut bytes = [0; 16];
    fs::File::open(RANDOM)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(DriverError::io(RANDOM))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Ok(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_their_form_and_differ() {
        let (one, two) = (new_uuid().unwrap(), new_uuid().unwrap());
        assert_ne!(one, two);
        let shape: String = one.chars().map(|c| if c == '-' { '-' } else { 'x' }).collect();
        assert_eq!(shape, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
        assert_eq!(one.as_bytes()[14], b'4');
    }
}
