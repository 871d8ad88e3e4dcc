//! The suite every driver has to pass: the whole life of a machine, in and out of order.
//!
//! For drivers' own tests; it panics where the contract is broken and returns errors the driver had no right to.

mod neighbours;
mod ports;

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Driver, DriverError, Forward, MachineSpec, MachineState, Protocol, Result, Snapshot};
use ports::free;

/// How long a guest gets to power off; one that cannot is killed then.
const STOP_DEADLINE: Duration = Duration::from_secs(2);
/// How long things may take that nobody waits for.
const SOON: Duration = Duration::from_secs(10);

/// Runs the whole life of the machine `spec` describes, which must not exist yet and is gone afterwards. Its forwards
/// have to be free ports on loopback, at least one.
///
/// # Errors
/// Those of the driver, where it should have had none.
pub fn whole_life(driver: &dyn Driver, spec: &MachineSpec) -> Result<()> {
    let life = Life { driver, spec };
    life.what_it_says_of_itself()?;
    life.before_it_exists()?;
    life.create()?;
    life.wrong_state()?;
    life.start_and_stop()?;
    life.start_and_kill()?;
    life.port_taken()?;
    life.killed_from_elsewhere()?;
    life.publish()?;
    life.held()?;
    life.beside_another()?;
    life.at_once()?;
    life.remove()?;
    life.directory_taken_away()
}

/// What a driver does whose hypervisor is not on this host: it says so, with the way to get it, and treats machines as what they are
/// without one, absent.
///
/// # Errors
/// Those of the driver, where it should have had none.
pub fn not_installed(driver: &dyn Driver, spec: &MachineSpec) -> Result<()> {
    for _ in 0..2 {
        match driver.check() {
            Err(DriverError::NotInstalled { what, hint }) => {
                assert!(!what.is_empty() && !hint.is_empty(), "{what:?}, {hint:?}");
            }
            other => panic!("check of what is not installed: {other:?}"),
        }
    }
    let life = Life { driver, spec };
    life.before_it_exists()?;
    match driver.create(spec) {
        Err(DriverError::NotInstalled { .. }) => {}
        other => panic!("create without a hypervisor: {other:?}"),
    }
    driver.remove(spec)?;
    life.expect(MachineState::Absent, "after a create that failed")
}

struct Life<'a> {
    driver: &'a dyn Driver,
    spec: &'a MachineSpec,
}

impl Life<'_> {
    fn expect(&self, state: MachineState, when: &str) -> Result<()> {
        assert_eq!(self.driver.state(self.spec)?, state, "state {when}");
        Ok(())
    }

    fn expect_no_endpoint(&self, when: &str) {
        match self.driver.endpoint(self.spec) {
            Err(DriverError::NoMachine(name)) => assert_eq!(name, self.spec.name, "{when}"),
            Err(error) => panic!("endpoint {when}: {error}"),
            Ok(_) => panic!("an endpoint {when}"),
        }
    }

    /// Its name can be typed, what it says it can do is there, and asking twice gives the same.
    fn what_it_says_of_itself(&self) -> Result<()> {
        let (driver, name, features) = (self.driver, self.driver.name(), self.driver.features());
        let typed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(!name.is_empty() && name.chars().all(typed), "{name:?} as a name");
        assert_eq!(driver.snapshots().is_some(), features.snapshots, "snapshots");
        assert_eq!(driver.port_forward().is_some(), features.publishing, "publishing");
        let health = driver.check()?;
        assert!(!health.version.is_empty(), "no version");
        assert_eq!(
            (driver.check()?, driver.features()),
            (health, features),
            "asked twice"
        );
        Ok(())
    }

    /// Nothing works on a machine that is not there, and taking it away again is fine.
    fn before_it_exists(&self) -> Result<()> {
        let (driver, spec) = (self.driver, self.spec);
        self.expect(MachineState::Absent, "before it exists")?;
        driver.stop(spec, STOP_DEADLINE)?;
        driver.kill(spec)?;
        driver.remove(spec)?;
        match driver.start(spec) {
            Err(DriverError::NoMachine(name)) => assert_eq!(name, spec.name),
            other => panic!("start without create: {other:?}"),
        }
        self.expect(MachineState::Absent, "after a start without create")?;
        self.expect_no_endpoint("before it exists");
        Ok(())
    }

    fn create(&self) -> Result<()> {
        self.driver.create(self.spec)?;
        self.expect(MachineState::Stopped, "after create")?;
        self.driver.create(self.spec)?;
        self.expect(MachineState::Stopped, "after a second create")?;
        self.expect_no_endpoint("of a machine that does not run");
        Ok(())
    }

    /// What needs a running machine says that there is none, and leaves the stopped one as it is.
    fn wrong_state(&self) -> Result<()> {
        let (driver, spec) = (self.driver, self.spec);
        for _ in 0..2 {
            driver.stop(spec, STOP_DEADLINE)?;
            driver.kill(spec)?;
        }
        assert_eq!(driver.trouble(spec)?, None, "trouble of a stopped machine");
        let forward = Forward::tcp(free(Protocol::Tcp)?, 30_080);
        let of_forwards = driver.port_forward().map(|ports| {
            [
                ports.add(spec, &forward),
                ports.remove(spec, &forward),
                ports.list(spec).map(drop),
            ]
        });
        let of_snapshots = driver.snapshots().map(|snapshots| {
            [
                snapshots.save(spec).map(drop),
                snapshots.pause(spec),
                snapshots.resident(spec).map(drop),
            ]
        });
        for done in of_forwards.into_iter().chain(of_snapshots).flatten() {
            assert!(
                matches!(done, Err(DriverError::NoMachine(_))),
                "{done:?} of a stopped machine"
            );
        }
        self.stopped("after what needs a running machine")
    }

    fn start_and_stop(&self) -> Result<()> {
        let (driver, spec) = (self.driver, self.spec);
        let pid = self.start()?;
        driver.start(spec)?;
        driver.create(spec)?;
        assert_eq!(
            driver.endpoint(spec)?.pid,
            pid,
            "a second start made another process"
        );
        driver.stop(spec, STOP_DEADLINE)?;
        self.stopped("after stop")?;
        driver.stop(spec, STOP_DEADLINE)?;
        self.stopped("after a second stop")
    }

    fn start_and_kill(&self) -> Result<()> {
        let pid = self.start()?;
        self.driver.kill(self.spec)?;
        self.stopped("after kill")?;
        assert!(!alive(pid), "a process is left after kill");
        self.driver.kill(self.spec)?;
        self.stopped("after a second kill")
    }

    /// Starts, and sees that it is reached where it says.
    fn start(&self) -> Result<Option<u32>> {
        self.driver.start(self.spec)?;
        self.expect(MachineState::Running, "after start")?;
        let endpoint = self.driver.endpoint(self.spec)?;
        assert!(!self.spec.forwards.is_empty(), "the suite needs a forward");
        for forward in &self.spec.forwards {
            let Some(host) = endpoint.reach(forward.guest_port) else {
                panic!("guest port {} is not forwarded", forward.guest_port);
            };
            // A driver without forwards leads to the guest's own address, where nobody listens before the guest does.
            let forwards = self.driver.features().forwards;
            assert!(host.ip().is_loopback() || !forwards, "{host} is not on loopback");
            let reached = || TcpStream::connect_timeout(&host, SOON);
            assert!(
                reached().is_ok() || (!forwards && soon(|| reached().is_ok())),
                "{host}: {:?}",
                reached()
            );
        }
        assert!(
            endpoint.pid.is_none() || alive(endpoint.pid),
            "its process is not there"
        );
        Ok(endpoint.pid)
    }

    fn stopped(&self, when: &str) -> Result<()> {
        self.expect(MachineState::Stopped, when)?;
        self.expect_no_endpoint(when);
        for forward in &self.spec.forwards {
            let listener = TcpListener::bind(forward.host);
            assert!(listener.is_ok(), "{} is still in use {when}", forward.host);
        }
        Ok(())
    }

    fn port_taken(&self) -> Result<()> {
        let Some(forward) = self.spec.forwards.last() else {
            return Ok(());
        };
        if !self.driver.features().forwards {
            // It does not listen on the host.
            return Ok(());
        }
        let listener = TcpListener::bind(forward.host).map_err(DriverError::io("a free port"))?;
        match self.driver.start(self.spec) {
            Err(DriverError::PortTaken { port }) => assert_eq!(port, forward.host),
            other => panic!("start with {} in use: {other:?}", forward.host),
        }
        drop(listener);
        self.stopped("after a start that failed")
    }

    /// The machine's process may be killed by anybody; a later start works.
    fn killed_from_elsewhere(&self) -> Result<()> {
        if let Some(pid) = self.start()? {
            kill(pid);
            let gone = soon(|| {
                self.driver
                    .state(self.spec)
                    .is_ok_and(|state| state == MachineState::Stopped)
            });
            assert!(gone, "not stopped after its process was killed");
            self.start()?;
        }
        Ok(())
    }

    /// A machine that is held is there, twice over; it goes on, and it can be stopped and killed as it is.
    fn held(&self) -> Result<()> {
        let Some(snapshots) = self.driver.snapshots() else {
            return Ok(());
        };
        let hold = |snapshots: &dyn Snapshot| {
            snapshots.pause(self.spec)?;
            snapshots.pause(self.spec)?;
            self.expect(MachineState::Paused, "while it is held")
        };
        hold(snapshots)?;
        self.driver.create(self.spec)?;
        self.start()?;
        hold(snapshots)?;
        self.driver.stop(self.spec, STOP_DEADLINE)?;
        self.stopped("after a stop while it was held")?;
        self.start()?;
        hold(snapshots)?;
        self.driver.kill(self.spec)?;
        self.stopped("after a kill while it was held")
    }

    fn remove(&self) -> Result<()> {
        let pid = self.start()?;
        self.driver.remove(self.spec)?;
        self.removed(pid, "after remove")?;
        self.driver.remove(self.spec)?;
        self.removed(pid, "after a second remove")?;
        self.before_it_exists()
    }

    fn removed(&self, pid: Option<u32>, when: &str) -> Result<()> {
        self.expect(MachineState::Absent, when)?;
        assert!(
            !self.spec.dir.exists(),
            "{} is left {when}",
            self.spec.dir.display()
        );
        assert!(soon(|| !alive(pid)), "process {pid:?} is left {when}");
        Ok(())
    }

    /// Somebody deletes the machine's files, while it is stopped and while it runs.
    fn directory_taken_away(&self) -> Result<()> {
        let (driver, spec) = (self.driver, self.spec);
        driver.create(spec)?;
        std::fs::remove_dir_all(&spec.dir).map_err(DriverError::io(&spec.dir))?;
        self.expect(MachineState::Absent, "without its files")?;
        driver.stop(spec, STOP_DEADLINE)?;
        driver.kill(spec)?;
        driver.create(spec)?;
        let pid = self.start()?;
        std::fs::remove_dir_all(&spec.dir).map_err(DriverError::io(&spec.dir))?;
        driver.remove(spec)?;
        self.removed(pid, "after its files were taken away while it ran")
    }
}

fn soon(mut happened: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + SOON;
    while !happened() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself; what follows tells.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Whether this process exists, and not only as an entry nobody has taken note of yet.
fn alive(pid: Option<u32>) -> bool {
    let Some(pid) = pid
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let zombie = stat
        .rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']));
    !zombie && rustix::process::test_kill_process(pid).is_ok()
}
