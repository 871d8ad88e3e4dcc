//! The test driver out of tree: the same contract, through a process per call.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use sampan_driver::{Disk, Driver, DriverError, Forward, MachineSpec, contract};
use sampan_driver_external::External;

fn spec(dir: &Path) -> MachineSpec {
    fs::write(dir.join("base"), "").unwrap();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    MachineSpec {
        name: "test".into(),
        dir: dir.join("machine"),
        cpus: 2,
        memory_mib: 2048,
        disk: Disk {
            base: dir.join("base"),
            size_mib: 4096,
        },
        extra_disks: Vec::new(),
        boot: None,
        forwards: vec![Forward::tcp(free(), 8443), Forward::tcp(free(), 22)],
    }
}

fn driver(dir: &Path) -> External {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_sampan-driver-fake"));
    External::new("fake", program, dir.join("cache"))
}

/// Ends the machine when a test fails half-way.
struct Guard<'a>(&'a External, &'a MachineSpec);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let _ = Driver::remove(self.0, self.1);
    }
}

#[test]
fn the_contract_holds_out_of_tree() {
    let dir = tempfile::tempdir().unwrap();
    let (driver, spec) = (driver(dir.path()), spec(dir.path()));
    let _guard = Guard(&driver, &spec);
    contract::whole_life(&driver, &spec).unwrap();
}

#[test]
fn what_the_driver_says_comes_through() {
    let dir = tempfile::tempdir().unwrap();
    let (driver, spec) = (driver(dir.path()), spec(dir.path()));
    let _guard = Guard(&driver, &spec);
    assert_eq!(driver.name(), "fake");
    assert_eq!(driver.check().unwrap().version, env!("CARGO_PKG_VERSION"));
    let features = driver.features();
    assert!(features.forwards && features.publishing && features.ssh && !features.snapshots);
    // It keeps what it knows where it was told to.
    fs::create_dir_all(dir.path().join("cache")).unwrap();
    fs::write(dir.path().join("cache/fake.toml"), "fail_at = 'check'").unwrap();
    match driver.check() {
        Err(DriverError::Unhealthy { what, hint }) => {
            assert_eq!(
                (what.as_str(), hint.as_str()),
                ("the fake driver was told to be unhealthy", "change fake.toml")
            );
        }
        other => panic!("{other:?}"),
    }
    fs::write(dir.path().join("cache/fake.toml"), "fail_at = 'start'").unwrap();
    driver.create(&spec).unwrap();
    let error = driver.start(&spec).unwrap_err();
    assert_eq!(error.to_string(), "machine test failed: told to fail at start");
}
