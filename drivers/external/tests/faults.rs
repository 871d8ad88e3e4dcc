//! Drivers that do not keep to the protocol: each is a script, and each failure is told as what it is.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sampan_driver::{Disk, Driver, DriverError, Forward, Host, MachineSpec, MachineState, Runner};
use sampan_driver_external::External;

struct Ground {
    dir: tempfile::TempDir,
    spec: MachineSpec,
}

impl Ground {
    /// A driver that is a shell script; `$request` is what it was asked.
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("#!/bin/sh\nrequest=$(cat)\n{script}\n");
        Host.write_file(
            dir.path().join("sampan-driver-toy").to_str().unwrap(),
            0o755,
            text.as_bytes(),
        )
        .unwrap();
        let spec = MachineSpec {
            name: "demo".into(),
            dir: dir.path().join("machine"),
            cpus: 2,
            memory_mib: 2048,
            disk: Disk {
                base: dir.path().join("base"),
                size_mib: 4096,
            },
            extra_disks: Vec::new(),
            boot: None,
            forwards: vec![Forward::tcp("127.0.0.1:2222".parse().unwrap(), 22)],
        };
        Self { dir, spec }
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("sampan-driver-toy")
    }

    fn driver(&self) -> External {
        External::new("toy", self.program(), self.dir.path().join("cache"))
    }

    /// What is wrong with its answer to `state`.
    fn fault(&self) -> String {
        match self.driver().limit(Duration::from_millis(700)).state(&self.spec) {
            Err(DriverError::Unhealthy { what, hint }) => {
                assert!(hint.contains("docs/drivers.md"), "{hint}");
                let start = format!("the driver {}, asked to `state`, ", self.program().display());
                what.strip_prefix(&start)
                    .unwrap_or_else(|| panic!("{what}"))
                    .to_owned()
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn garbage_death_silence_and_other_versions_are_told_apart() {
    for (script, expected) in [
        (
            "echo hello",
            "gave no JSON (expected value at line 1 column 1): hello",
        ),
        (
            "printf '\\033[1m{'",
            "gave no JSON (expected value at line 1 column 1): \\u{1b}[1m{",
        ),
        (
            "echo no libvmm >&2; exit 3",
            "ended with exit status: 3 and no answer\n    no libvmm",
        ),
        ("kill -KILL $$", "ended with signal: 9 (SIGKILL) and no answer"),
        (":", "ended with exit status: 0 and no answer"),
        (
            "echo '{\"result\": \"running\"}'",
            "does not say its protocol's version: {\\\"result\\\": \\\"running\\\"}",
        ),
        (
            "echo '{\"protocol\": 2, \"something\": [\"new\"]}'",
            "speaks version 2 of the protocol, this sampan version 1",
        ),
        (
            "echo '{\"protocol\": 1, \"result\": \"on fire\"}'",
            "gave another result than it should (unknown variant `on fire`, expected one of `absent`, `stopped`, \
             `running`, `paused`): \"on fire\"",
        ),
        (
            "echo '{\"protocol\": 1, \"error\": {\"kind\": \"port-taken\"}}'",
            "gave an error that lacks its port: ",
        ),
    ] {
        assert_eq!(Ground::new(script).fault(), expected, "{script}");
    }
    let wrong = Ground::new("echo '{\"protocol\": 1, \"error\": {\"kind\": \"other\"}}'").fault();
    assert!(
        wrong.starts_with("gave a wrong answer (unknown variant `other`"),
        "{wrong}"
    );
}

#[test]
fn a_driver_that_hangs_or_never_stops_talking_is_ended_with_what_it_started() {
    let start = Instant::now();
    let ground = Ground::new("sleep 77 & echo $! >\"${0%/*}/child\"; wait");
    assert_eq!(ground.fault(), "gave no answer within 0.7 s");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let child = fs::read_to_string(ground.dir.path().join("child")).unwrap();
    let stat = format!("/proc/{}/stat", child.trim());
    let runs = || fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    let end = Instant::now() + Duration::from_secs(10);
    while runs() {
        assert!(Instant::now() < end, "what it started still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
    let endless = Ground::new("exec yes");
    let error = endless.driver().state(&endless.spec).unwrap_err().to_string();
    assert!(error.ends_with("said more than 1024 KiB"), "{error}");
}

#[test]
fn what_a_driver_starts_may_go_on_and_hold_its_streams() {
    let ground = Ground::new(
        "sleep 20 & echo $! >\"${0%/*}/child\"; echo '{\"protocol\": 1, \"result\": \"running\"}'",
    );
    let start = Instant::now();
    assert_eq!(
        ground.driver().state(&ground.spec).unwrap(),
        MachineState::Running
    );
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let child = fs::read_to_string(ground.dir.path().join("child")).unwrap();
    let ended = std::process::Command::new("kill").arg(child.trim()).status();
    assert!(ended.unwrap().success(), "it was ended");
}

#[test]
fn errors_of_the_driver_are_errors_of_ours() {
    let said = |error: &str| {
        let ground = Ground::new(&format!(
            "echo '{{\"protocol\": 1, \"error\": {{\"kind\": {error}}}}}'"
        ));
        let done = ground.driver().start(&ground.spec);
        done.unwrap_err()
    };
    let taken = said("\"port-taken\", \"port\": \"127.0.0.1:2222\"");
    assert!(
        matches!(taken, DriverError::PortTaken { port } if port.port() == 2222),
        "{taken}"
    );
    assert!(matches!(said("\"no-machine\""), DriverError::NoMachine(name) if name == "demo"));
    assert_eq!(
        said("\"failed\", \"message\": \"no luck\"").to_string(),
        "machine demo failed: no luck"
    );
    match said("\"unsupported\", \"message\": \"too old\", \"hint\": \"upgrade\"") {
        DriverError::Unsupported { what, hint } => {
            assert_eq!((what.as_str(), hint.as_str()), ("too old", "upgrade"));
        }
        other => panic!("{other:?}"),
    }
    let ground =
        Ground::new("echo '{\"protocol\": 1, \"error\": {\"kind\": \"failed\", \"message\": \"no luck\"}}'");
    match ground.driver().check() {
        Err(DriverError::Unhealthy { what, .. }) => assert_eq!(what, "no luck"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_driver_that_is_not_there_or_may_not_run_is_named() {
    let ground = Ground::new("");
    fs::remove_file(ground.program()).unwrap();
    match ground.driver().check() {
        Err(DriverError::NotInstalled { what, .. }) => {
            assert_eq!(what, ground.program().display().to_string());
        }
        other => panic!("{other:?}"),
    }
    assert!(!ground.driver().features().forwards);
    fs::write(ground.program(), "neither a script nor a program").unwrap();
    let error = ground.driver().check().unwrap_err().to_string();
    assert!(error.contains("cannot be run"), "{error}");
}

#[test]
fn requests_say_all_and_only_loopback_is_published() {
    let ground = Ground::new(
        "printf '%s' \"$request\" >\"${0%/*}/request\"\n\
         echo '{\"protocol\": 1, \"result\": {\"publishing\": true, \"something\": \"new\"}}'",
    );
    let driver = ground.driver();
    let ports = driver.port_forward().unwrap();
    let asked = || -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(ground.dir.path().join("request")).unwrap()).unwrap()
    };
    assert_eq!(asked()["method"], "describe");
    let open = Forward::tcp("0.0.0.0:80".parse().unwrap(), 80);
    assert!(matches!(
        ports.add(&ground.spec, &open),
        Err(DriverError::Unsupported { .. })
    ));
    assert_eq!(asked()["method"], "describe");
    // Its answer is none to this, but it has heard it.
    assert!(driver.stop(&ground.spec, Duration::from_millis(1500)).is_err());
    let request = asked();
    assert_eq!(request["protocol"], 1);
    assert_eq!(request["method"], "stop");
    assert_eq!(request["deadline_ms"], 1500);
    assert_eq!(
        request["cache"],
        ground.dir.path().join("cache").to_str().unwrap()
    );
    assert_eq!(request["spec"]["forwards"][0]["host"], "127.0.0.1:2222");
    assert_eq!(request["spec"]["boot"], serde_json::Value::Null);
}
