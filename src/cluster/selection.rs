//! Which drivers there are on this host, and which one a new cluster gets when nobody names one.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{Driver, DriverError, Features, Health};
use serde::Serialize;

use super::drivers::{DriverOptions, PREFERRED, driver_names, open_driver};
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;

/// How long a driver may take to say whether it works. QEMU tries its accelerators once, which takes seconds.
const DEADLINE: Duration = Duration::from_secs(15);

/// What a driver can do that does not even say it.
const NOTHING: Features = Features {
    direct_boot: false,
    forwards: false,
    publishing: false,
    loopback_range: false,
    snapshots: false,
    ssh: true,
};

/// A driver as it is on this host.
#[derive(Debug, Clone, Serialize)]
pub struct DriverStatus {
    /// The name it is chosen by.
    pub name: String,
    /// Whether its hypervisor is here; none when it was not looked for, as on another kind of host.
    pub installed: Option<bool>,
    /// The hypervisor's version, of one that works.
    pub version: Option<String>,
    /// What speeds its machines up, of one that works: "kvm", "hvf", or "tcg" for emulation.
    pub accelerator: Option<String>,
    /// Whether clusters can be made with it.
    pub healthy: bool,
    /// Why not; of one that works, what there is to know.
    pub reason: Option<String>,
    /// What to do when it does not work.
    pub fix: Option<String>,
    /// What its machines can do.
    pub features: Features,
}

impl DriverStatus {
    fn of(name: &str, features: Features, check: Result<Health, DriverError>) -> Self {
        let mut status = Self {
            name: name.to_owned(),
            installed: Some(true),
            version: None,
            accelerator: None,
            healthy: false,
            reason: None,
            fix: None,
            features,
        };
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        match check {
            Ok(health) => {
                status.healthy = true;
                status.version = text(health.version);
                status.accelerator = text(health.accelerator);
                status.reason = text(health.reason);
            }
            Err(error) => {
                status.installed = match &error {
                    DriverError::NotInstalled { .. } => Some(false),
                    DriverError::Unsupported { .. } => None,
                    _ => Some(true),
                };
                let error = Error::from(error);
                status.reason = text(error.to_string());
                status.fix = error.hints().first().cloned();
            }
        }
        status
    }

    /// In a line for people: "qemu 10.0.2 with kvm".
    pub fn title(&self) -> String {
        let mut title = self.name.clone();
        if let Some(version) = &self.version {
            title.push_str(&format!(" {version}"));
        }
        if let Some(accelerator) = &self.accelerator {
            title.push_str(&format!(" with {accelerator}"));
        }
        title
    }
}

/// A driver that is being asked.
struct Asked {
    name: String,
    features: Receiver<Features>,
    answer: Receiver<Result<Health, DriverError>>,
}

/// Asks a driver in a thread of its own, so that one that hangs holds nobody up.
fn ask(driver: Box<dyn Driver>) -> Asked {
    let name = driver.name().to_owned();
    let (feature_sender, features) = mpsc::channel();
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || {
        // Nobody may be waiting any more.
        let _ = feature_sender.send(driver.features());
        let _ = sender.send(driver.check());
    });
    Asked {
        name,
        features,
        answer,
    }
}

impl Asked {
    fn status(self, end: Instant) -> DriverStatus {
        let left = || end.saturating_duration_since(Instant::now());
        let features = self.features.recv_timeout(left()).unwrap_or(NOTHING);
        let check = self.answer.recv_timeout(left()).unwrap_or_else(|_| {
            Err(DriverError::Unhealthy {
                what: format!("{} does not say whether it works", self.name),
                hint: "see what hangs with `ps`, end it, then try again".to_owned(),
            })
        });
        DriverStatus::of(&self.name, features, check)
    }
}

/// All drivers, best first, each as it is now. They are asked at the same time.
///
/// # Errors
/// When there is a name without a driver.
pub fn survey(layout: &Layout, options: &DriverOptions) -> Result<Vec<DriverStatus>> {
    let asked = driver_names(options)
        .iter()
        .map(|name| Ok(ask(open_driver(name, layout, options)?)))
        .collect::<Result<Vec<Asked>>>()?;
    let end = Instant::now() + DEADLINE;
    Ok(asked.into_iter().map(|asked| asked.status(end)).collect())
}

/// The driver for a new cluster: the best one that works, and why in a line for people.
///
/// # Errors
/// [`Kind::DriverUnhealthy`] when none works, with what is wrong with each.
pub fn select(layout: &Layout, options: &DriverOptions) -> Result<(String, String)> {
    let drivers = PREFERRED
        .iter()
        .map(|name| open_driver(name, layout, options))
        .collect::<Result<Vec<_>>>()?;
    best(drivers)
}

fn best(drivers: Vec<Box<dyn Driver>>) -> Result<(String, String)> {
    let names: Vec<String> = drivers.iter().map(|driver| driver.name().to_owned()).collect();
    let asked: Vec<Asked> = drivers.into_iter().map(ask).collect();
    let end = Instant::now() + DEADLINE;
    let mut worse = Vec::new();
    for asked in asked {
        let status = asked.status(end);
        if status.healthy {
            let why = match worse.as_slice() {
                [] => format!("the first of {} that works here", names.join(", ")),
                _ => worse.iter().map(complaint).collect::<Vec<_>>().join("; "),
            };
            return Ok((status.name.clone(), format!("driver: {} ({why})", status.title())));
        }
        worse.push(status);
    }
    let lines: Vec<String> = worse.iter().map(complaint).collect();
    let error =
        Error::new(Kind::DriverUnhealthy, "no driver works on this host").detail("what is wrong", &lines);
    Err(worse
        .into_iter()
        .filter(|status| status.installed.is_some())
        .fold(error, |error, status| match status.fix {
            Some(fix) => error.hint(format!("{}: {fix}", status.name)),
            None => error,
        }))
}

fn complaint(status: &DriverStatus) -> String {
    let reason = status.reason.as_deref().unwrap_or("does not work");
    format!("{}: {}", status.name, reason.lines().next().unwrap_or_default())
}

/// What clusters of a driver have to do without, in lines for people. Told once, when a cluster is made.
pub fn limits(name: &str, features: &Features) -> Vec<String> {
    let mut lines = Vec::new();
    if !features.snapshots {
        lines.push(format!(
            "the driver {name} cannot save machines here: a new cluster boots, which takes minutes, `stop` shuts it down, and there \
             are no snapshots and forks"
        ));
    }
    if features.forwards && !features.loopback_range {
        lines.push(
            "clusters share 127.0.0.1 here, so each gets ports that are free: `sampan status` and kubectl know them".to_owned(),
        );
    }
    match (features.publishing, features.forwards) {
        (true, _) => {}
        (false, true) => lines.push(format!(
            "the driver {name} cannot open ports while a machine runs: `sampan service NAME` reaches services as long as it runs, as \
             does `kubectl port-forward`"
        )),
        (false, false) => lines.push(
            "the cluster has an address of its own, which `sampan ip` tells: its node ports are reached there".to_owned(),
        ),
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_driver::{Endpoint, MachineSpec, MachineState};

    struct Toy(&'static str, fn() -> Result<Health, DriverError>);

    impl Driver for Toy {
        fn name(&self) -> &'static str {
            self.0
        }

        fn features(&self) -> Features {
            Features {
                direct_boot: false,
                forwards: true,
                publishing: false,
                loopback_range: false,
                snapshots: false,
                ssh: true,
            }
        }

        fn check(&self) -> Result<Health, DriverError> {
            (self.1)()
        }

        fn create(&self, spec: &MachineSpec) -> Result<(), DriverError> {
            Err(DriverError::NoMachine(spec.name.clone()))
        }

        fn start(&self, spec: &MachineSpec) -> Result<(), DriverError> {
            self.create(spec)
        }

        fn stop(&self, spec: &MachineSpec, _: Duration) -> Result<(), DriverError> {
            self.create(spec)
        }

        fn kill(&self, spec: &MachineSpec) -> Result<(), DriverError> {
            self.create(spec)
        }

        fn remove(&self, spec: &MachineSpec) -> Result<(), DriverError> {
            self.create(spec)
        }

        fn state(&self, _: &MachineSpec) -> Result<MachineState, DriverError> {
            Ok(MachineState::Absent)
        }

        fn endpoint(&self, spec: &MachineSpec) -> Result<Endpoint, DriverError> {
            Err(DriverError::NoMachine(spec.name.clone()))
        }
    }

    fn works() -> Result<Health, DriverError> {
        Ok(Health {
            version: "1.2".into(),
            accelerator: "kvm".into(),
            reason: String::new(),
        })
    }

    fn absent() -> Result<Health, DriverError> {
        Err(DriverError::NotInstalled {
            what: "it".into(),
            hint: "get it".into(),
        })
    }

    fn elsewhere() -> Result<Health, DriverError> {
        Err(DriverError::Unsupported {
            what: "it is for other hosts".into(),
            hint: "buy one".into(),
        })
    }

    fn choose(drivers: Vec<Toy>) -> Result<(String, String)> {
        best(
            drivers
                .into_iter()
                .map(|driver| Box::new(driver) as Box<dyn Driver>)
                .collect(),
        )
    }

    #[test]
    fn the_first_one_that_works_is_taken_and_says_why() {
        let (name, why) = choose(vec![Toy("a", works), Toy("b", works)]).unwrap();
        assert_eq!(
            (name.as_str(), why.as_str()),
            ("a", "driver: a 1.2 with kvm (the first of a, b that works here)")
        );
        let (name, why) = choose(vec![Toy("a", absent), Toy("b", works)]).unwrap();
        assert_eq!(
            (name.as_str(), why.as_str()),
            ("b", "driver: b 1.2 with kvm (a: it is not installed)")
        );
    }

    #[test]
    fn nobody_waits_for_one_that_is_not_needed() {
        fn slow() -> Result<Health, DriverError> {
            thread::sleep(Duration::from_secs(5));
            works()
        }
        let began = Instant::now();
        let (name, _) = choose(vec![Toy("a", works), Toy("b", slow)]).unwrap();
        assert_eq!(name, "a");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }

    #[test]
    fn when_none_works_each_says_why() {
        let error = choose(vec![Toy("a", absent), Toy("b", elsewhere)]).unwrap_err();
        assert_eq!(error.kind().exit_code(), 55);
        assert_eq!(
            error.to_string(),
            "no driver works on this host\n  what is wrong:\n    a: it is not installed\n    b: it is for other hosts"
        );
        assert_eq!(error.hints(), ["a: get it"]);
    }

    #[test]
    fn a_driver_that_can_little_says_so() {
        let features = Toy("a", works).features();
        assert_eq!(limits("a", &features).len(), 3);
        let all = Features {
            publishing: true,
            loopback_range: true,
            snapshots: true,
            ..features
        };
        assert!(limits("a", &all).is_empty());
        let alone = Features {
            forwards: false,
            ..features
        };
        let told = limits("a", &alone);
        assert!(told.len() == 2 && told[1].contains("`sampan ip`"), "{told:?}");
    }
}
