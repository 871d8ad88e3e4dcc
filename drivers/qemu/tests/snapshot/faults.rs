//! Kills whoever saves, forks or starts a machine, or QEMU, at random points. Then the machine has to start, and to have on its
//! disk what it said it had written (it looks itself, when it boots), and layers have to be whole or removable.
//!
//! `SAMPAN_TEST_SEED` and `SAMPAN_TEST_ROUNDS` repeat or prolong it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sampan_driver::{Driver, MachineSpec, MachineState, Snapshot, Started};

use crate::ground::*;

/// What the copy of this program shall do: step, directory, machine, its forward's address, layer.
const STEP: &str = "SAMPAN_TEST_STEP";

/// Not a test of its own: one step, to be killed.
#[test]
fn a_step() {
    let Ok(step) = std::env::var(STEP) else { return };
    let [step, dir, name, address, layer] = step.split('|').collect::<Vec<_>>()[..] else {
        panic!("{step}")
    };
    let (dir, layer) = (Path::new(dir), Path::new(layer));
    let (qemu, spec) = (
        driver(dir),
        spec(dir, name, SocketAddr::from_str(address).unwrap()),
    );
    match step {
        "save" => drop(qemu.save(&spec).unwrap()),
        "checkpoint" => drop(qemu.checkpoint(&spec, layer).unwrap()),
        "freeze" => drop(qemu.freeze(&spec, layer).unwrap()),
        "fork" => qemu.fork(&spec, layer).unwrap(),
        "restore" => qemu.restore(&spec, layer).unwrap(),
        "resume" => drop(qemu.resume(&spec).unwrap()),
        other => panic!("{other}"),
    }
}

fn begin(ground: &Ground, step: &str, spec: &MachineSpec, layer: &Path) -> Child {
    let parts = [
        step,
        ground.dir.path().to_str().unwrap(),
        &spec.name,
        &spec.forwards[0].host.to_string(),
        layer.to_str().unwrap(),
    ];
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::a_step", "--nocapture"])
        .env(STEP, parts.join("|"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// The last count a machine has told, over a start that somebody else may have made since `log` was its console.
fn told(spec: &MachineSpec, log: u64) -> u32 {
    let inode = |name: &str| fs::metadata(spec.dir.join(name)).map_or(0, |data| data.ino());
    let last = |name: &str| {
        counts_in(&spec.dir.join(name))
            .last()
            .copied()
            .unwrap_or_default()
    };
    if inode("serial.log.1") == log {
        return last("serial.log.1").max(last("serial.log"));
    }
    last("serial.log")
}

struct Trial {
    ground: Ground,
    random: Random,
    layers: Vec<(PathBuf, u32)>,
}

impl Trial {
    fn machine(&self) -> &MachineSpec {
        &self.ground.specs[0]
    }

    /// The machine starts, and counts on from more than this.
    fn starts(&self, spec: &MachineSpec, floor: u32) -> Started {
        let started = self.ground.snapshots().resume(spec).unwrap();
        let end = Instant::now() + SOON;
        let seen = counts(spec).len();
        while counts(spec).len() < seen + 3 {
            assert!(Instant::now() < end, "{} does not go on: {started:?}", spec.name);
            thread::sleep(Duration::from_millis(10));
        }
        let counts = counts(spec);
        assert!(
            counts.last().unwrap() > &floor && (started == Started::Running || counts[0] > floor),
            "{} lost what it had written: {started:?}, {} after {floor}",
            spec.name,
            counts[0]
        );
        assert!(counts.windows(2).all(|pair| pair[1] == pair[0] + 1), "{counts:?}");
        whole(spec);
        started
    }

    fn round(&mut self, round: usize) -> String {
        const STEPS: [&str; 9] = [
            "save",
            "save",
            "checkpoint",
            "checkpoint",
            "saved checkpoint",
            "off checkpoint",
            "freeze",
            "restore",
            "saved resume",
        ];
        let step = STEPS[self.random.below(STEPS.len() as u64) as usize];
        let delay = Duration::from_micros(self.random.below(150_000));
        let (of_qemu, which) = (
            self.random.below(3) == 0,
            self.random.below(self.layers.len() as u64),
        );
        let spec = self.machine().clone();
        match step.split(' ').next() {
            Some("saved") => drop(self.ground.saved(&spec)),
            Some("off") => self.ground.qemu.kill(&spec).unwrap(),
            _ => {}
        }
        let step = step.rsplit(' ').next().unwrap();
        let (layer, at) = match step {
            "restore" => self.layers[which as usize].clone(),
            _ => (self.ground.path(&format!("layer-{round}")), count(&spec)),
        };
        let log = fs::metadata(spec.dir.join("serial.log")).unwrap().ino();
        let mut child = begin(&self.ground, step, &spec, &layer);
        thread::sleep(delay);
        if of_qemu {
            let pid = fs::read_to_string(spec.dir.join("qemu.pid")).unwrap_or_default();
            if let Ok(pid) = pid.trim().parse() {
                kill(pid);
            }
        } else {
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        let told = told(&spec, log);
        let floor = if step == "restore" { at.min(told) } else { told };
        let complete = self.ground.snapshots().saved(&layer).unwrap_or_default();
        if self.ground.qemu.state(&spec).unwrap() == MachineState::Absent {
            assert!(step == "freeze" && complete.is_some(), "the machine is lost");
            self.ground.snapshots().fork(&spec, &layer).unwrap();
        }
        if step != "restore" {
            match complete {
                Some(_) => self.layers.push((layer, at)),
                None => self.remove_unused(&layer),
            }
        }
        let started = self.starts(&spec, floor);
        let victim = if of_qemu { "qemu" } else { "sampan" };
        format!("{round}: {step}, {victim} after {delay:?} ({status}): {started:?}, {told}")
    }

    fn remove_unused(&self, layer: &Path) {
        let uses = self.ground.snapshots().uses(self.machine()).unwrap();
        let real = layer.canonicalize().unwrap_or_default();
        if layer.exists() && !uses.iter().any(|path| path.starts_with(&real)) {
            fs::remove_dir_all(layer).unwrap();
        }
    }

    /// Each layer is whole, and a machine can be forked from it, also when somebody was killed in that.
    fn forks(&mut self) {
        let fork = self.ground.specs[1].clone();
        for (layer, at) in self.layers.clone() {
            let mut child = begin(&self.ground, "fork", &fork, &layer);
            thread::sleep(Duration::from_micros(self.random.below(60_000)));
            child.kill().unwrap();
            child.wait().unwrap();
            self.ground.snapshots().fork(&fork, &layer).unwrap();
            let with_memory = self.ground.snapshots().saved(&layer).unwrap().unwrap().len() > 1;
            let started = self.starts(&fork, at);
            let expected = if with_memory {
                Started::Resumed
            } else {
                Started::Booted(None)
            };
            assert_eq!(started, expected, "{}", layer.display());
            self.ground.qemu.remove(&fork).unwrap();
        }
    }
}

/// As if killed when QEMU wrote to its new disk, and that had not got its name yet.
#[test]
fn a_disk_that_has_not_got_its_name_is_not_lost() {
    let ground = Ground::new(&["named"]);
    let spec = ground.counting();
    let (disk, next) = (spec.dir.join("disk.qcow2"), spec.dir.join("disk.qcow2.next"));
    for (name, dies) in [("first", false), ("second", true), ("third", false)] {
        let layer = ground.path(name);
        ground.snapshots().checkpoint(spec, &layer).unwrap();
        fs::rename(&disk, &next).unwrap();
        fs::hard_link(layer.join("disk.qcow2"), &disk).unwrap();
        let at = count(spec);
        counts_to(spec, at + 20);
        if dies {
            let at = count(spec);
            ground.qemu.kill(spec).unwrap();
            assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Booted(None));
            counts_to(spec, at + 1);
            assert!(counts(spec)[0] > at, "it lost what it had written");
        } else {
            let at = ground.saved(spec);
            ground.resumes(spec, at);
        }
        counts_to(spec, count(spec) + 20);
        whole(spec);
        assert!(!next.exists());
    }
}

#[test]
fn whoever_is_killed_machines_start_and_have_what_they_had_written() {
    let clock = || {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64
    };
    let seed = number("SAMPAN_TEST_SEED").unwrap_or_else(clock);
    println!("SAMPAN_TEST_SEED={seed}");
    let ground = Ground::new(&["killed", "fork"]);
    let (layer, at) = (ground.path("first"), count(ground.counting()));
    ground.snapshots().checkpoint(&ground.specs[0], &layer).unwrap();
    let mut trial = Trial {
        ground,
        random: Random(seed),
        layers: vec![(layer, at)],
    };
    for round in 0..number("SAMPAN_TEST_ROUNDS").unwrap_or(14) {
        println!("{}", trial.round(round));
    }
    trial.forks();
}
