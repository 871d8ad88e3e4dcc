//! The driver contract with a stand-in for hyperkit (`stand-in.sh`), which takes hyperkit's command line and runs the machine under QEMU.
//! The guest is a kernel of a few bytes that says hello and halts.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod ground;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use sampan_driver::{Driver, DriverError, MachineState, contract};
use sampan_driver_hyperkit::{Hyperkit, HyperkitConfig};

use ground::Ground;

fn started(ground: &Ground) -> Hyperkit {
    let hyperkit = ground.hyperkit();
    hyperkit.create(&ground.spec).unwrap();
    hyperkit.start(&ground.spec).unwrap();
    hyperkit
}

#[test]
fn the_contract_holds() {
    let ground = Ground::new("contract");
    contract::whole_life(&ground.hyperkit(), &ground.spec).unwrap();
}

#[test]
fn without_hyperkit_there_are_no_machines() {
    let ground = Ground::new("absent");
    fs::remove_file(ground.program()).unwrap();
    contract::not_installed(&ground.hyperkit(), &ground.spec).unwrap();
}

#[test]
fn it_is_reached_at_its_own_address_and_its_console_is_a_text() {
    let ground = Ground::new("address");
    let hyperkit = started(&ground);
    let endpoint = hyperkit.endpoint(&ground.spec).unwrap();
    for forward in &endpoint.forwards {
        assert_eq!(
            forward.host,
            SocketAddr::new(ground.address.into(), forward.guest_port)
        );
        TcpStream::connect(forward.host).unwrap();
    }
    assert_eq!(endpoint.forwards.len(), 2);
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let log = hyperkit.endpoint(&ground.spec).unwrap().serial_log.unwrap();
        if fs::read_to_string(log).is_ok_and(|text| text.contains("B\n")) {
            break;
        }
        assert!(Instant::now() < end, "the guest does not say hello");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!hyperkit.features().forwards && !hyperkit.features().publishing);
    assert!(hyperkit.port_forward().is_none() && hyperkit.snapshots().is_none());
}

#[test]
fn a_lease_that_is_gone_and_one_of_somebody_else_do_no_harm() {
    let ground = Ground::new("lease");
    let hyperkit = started(&ground);
    let before = hyperkit.endpoint(&ground.spec).unwrap().forwards;
    // Somebody of the same name on another card, with the newer lease, on another address.
    let leases = fs::read_to_string(&ground.leases).unwrap();
    let other =
        "{\n\tname=lease\n\tip_address=127.0.0.9\n\thw_address=1,2:0:0:0:0:9\n\tlease=0xffffffff\n}\n";
    fs::write(&ground.leases, format!("{other}{leases}")).unwrap();
    assert_eq!(hyperkit.endpoint(&ground.spec).unwrap().forwards, before);
    fs::write(&ground.leases, other).unwrap();
    assert_eq!(hyperkit.endpoint(&ground.spec).unwrap().forwards, before);
    // It comes back to its own card, also beside that one.
    hyperkit.kill(&ground.spec).unwrap();
    hyperkit.start(&ground.spec).unwrap();
    assert_eq!(hyperkit.endpoint(&ground.spec).unwrap().forwards, before);
}

#[test]
fn a_pidfile_proves_nothing() {
    let ground = Ground::new("pidfile");
    let hyperkit = started(&ground);
    let pid = hyperkit.endpoint(&ground.spec).unwrap().pid;
    let pidfile = ground.spec.dir.join("hyperkit.pid");
    fs::write(&pidfile, "\0\0\0").unwrap();
    assert_eq!(hyperkit.endpoint(&ground.spec).unwrap().pid, pid);
    hyperkit.kill(&ground.spec).unwrap();
    assert!(!pidfile.exists());
    // Left over, and the pid belongs to somebody else by now: left alone, and no obstacle.
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(&pidfile, other.id().to_string()).unwrap();
    assert_eq!(hyperkit.state(&ground.spec).unwrap(), MachineState::Stopped);
    hyperkit.start(&ground.spec).unwrap();
    hyperkit.kill(&ground.spec).unwrap();
    assert!(
        other.try_wait().unwrap().is_none(),
        "somebody else's process was killed"
    );
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_hyperkit_that_ends_at_once_is_quoted_and_leaves_nothing() {
    let ground = Ground::new("words");
    ground.hyperkit().create(&ground.spec).unwrap();
    ground.script("case $1 in -v) echo hyperkit: 1;; *) echo 'vmnet: no luck'; exit 3;; esac");
    let error = ground.hyperkit().start(&ground.spec).unwrap_err().to_string();
    assert_eq!(
        error,
        "machine words failed: hyperkit ended with exit status: 3\n    vmnet: no luck"
    );
    assert_eq!(
        ground.hyperkit().state(&ground.spec).unwrap(),
        MachineState::Stopped
    );
}

#[test]
fn check_says_what_is_missing_and_what_follows() {
    let ground = Ground::new("check");
    let health = ground.hyperkit().check().unwrap();
    assert_eq!(health.version, "0.20210107");
    assert!(
        health.reason.contains("deprecated") && health.reason.contains("HVF"),
        "{}",
        health.reason
    );
    // Here, without being told that this is a Mac.
    let here = Hyperkit::new(HyperkitConfig::default());
    assert!(matches!(here.check(), Err(DriverError::Unsupported { .. })));
    assert!(matches!(
        here.start(&ground.spec),
        Err(DriverError::NoMachine(_) | DriverError::Unsupported { .. })
    ));
    ground.script("echo nothing of the kind");
    assert!(matches!(
        ground.hyperkit().check(),
        Err(DriverError::Unhealthy { .. })
    ));
    fs::remove_file(ground.program()).unwrap();
    assert!(matches!(
        ground.hyperkit().check(),
        Err(DriverError::NotInstalled { .. })
    ));
}
