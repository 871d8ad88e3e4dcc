//! What runs machines: which drivers there are, which one is taken, and clusters of a driver that can little.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::life::alone;
use crate::service::{make, run_pods};
use crate::support::TestEnvironment;

/// A host with these programs and no others.
fn host(programs: &[(&str, &str)]) -> TestEnvironment {
    let mut env = TestEnvironment::new();
    let bin = env.home().join("bin");
    fs::create_dir_all(&bin).unwrap();
    for (name, script) in programs {
        let path = bin.join(name);
        env.write(&path, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    env.set("PATH", &bin.to_string_lossy());
    env
}

const VIRTUALBOX: (&str, &str) = ("VBoxManage", "echo 7.2.22r1");
const BROKEN: (&str, &str) = (
    "VBoxManage",
    "echo 'WARNING: The vboxdrv kernel module is not loaded.'; echo 7.2.22r1",
);

fn listed(env: &TestEnvironment) -> Vec<Value> {
    serde_json::from_str(&env.ok("driver list -o json")).unwrap()
}

#[test]
fn a_host_without_any_says_so_of_each_and_at_once() {
    let env = host(&[]);
    let mut times = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let drivers = listed(&env);
        times.push(began.elapsed());
        let row = |name: &str| drivers.iter().find(|driver| driver["name"] == name).unwrap();
        for name in ["qemu", "virtualbox"] {
            assert_eq!(
                (&row(name)["installed"], &row(name)["healthy"]),
                (&false.into(), &false.into())
            );
            assert!(row(name)["fix"].as_str().unwrap().contains("install"), "{name}");
        }
        assert_eq!(row("virtualbox")["features"]["snapshots"], false);
        assert_eq!(row("fake")["healthy"], true);
    }
    // The host may be busy, so the best of some tries counts.
    assert!(
        times.iter().any(|time| *time < Duration::from_millis(300)),
        "{times:?}"
    );
    let seen = env.run("start --memory 3g");
    assert!(seen.starts_with("status: 55\n"), "{seen}");
    assert!(
        seen.contains("no driver works on this host")
            && seen.contains("virtualbox: VirtualBox is not installed"),
        "{seen}"
    );
    assert!(!env.layout().data.exists());
}

#[test]
fn the_best_one_that_works_is_taken_and_named() {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let env = host(&[VIRTUALBOX]);
    let seen = env.run("start --memory 3g --dry-run");
    assert!(
        seen.contains("driver: virtualbox 7.2.22 (qemu: qemu-system-x86_64 is not installed)"),
        "{seen}"
    );
    assert!(
        seen.contains("making cluster \"sampan\": virtualbox, 2 CPUs"),
        "{seen}"
    );
    let seen = host(&[BROKEN]).run("driver list");
    assert!(
        seen.contains("VirtualBox's kernel module is not loaded"),
        "{seen}"
    );
    assert!(
        seen.contains("virtualbox: load it: `sudo modprobe vboxdrv`"),
        "{seen}"
    );
}

#[test]
fn a_driver_that_talks_nonsense_is_in_nobodys_way() {
    let env = host(&[
        ("sampan-driver-mad", "echo hello"),
        ("sampan-driver-dead", "exit 3"),
    ]);
    let rows = listed(&env);
    for (name, reason) in [("mad", "gave no JSON"), ("dead", "no answer")] {
        let row = rows.iter().find(|driver| driver["name"] == name).unwrap();
        assert_eq!(row["healthy"], false);
        assert!(row["reason"].as_str().unwrap().contains(reason), "{row}");
    }
    let seen = env.run("start --driver mad --memory 3g");
    assert!(
        seen.starts_with("status: 55\n") && seen.contains("gave no JSON"),
        "{seen}"
    );
    // Which driver it had is lost, and these cannot be asked.
    env.write(&env.layout().profile("sampan").profile_toml(), "nonsense");
    let seen = env.run("delete");
    assert!(
        seen.starts_with("status: 0\n") && seen.contains("one of the driver mad, it may still run"),
        "{seen}"
    );
    assert!(!env.layout().profile("sampan").dir.exists());
}

#[test]
fn a_guest_with_an_address_of_its_own_is_reached_there() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    let [_, .., high, low] = std::process::id().to_be_bytes();
    let own = format!("127.{}.{low}.9", high | 0x80);
    env.write(
        &env.layout().driver_cache("fake").join("fake.toml"),
        &format!("address = \"{own}\"\n"),
    );
    let said = env.ok("start --driver fake --memory 3g");
    assert!(
        said.contains("an address of its own") && !said.contains("clusters share"),
        "{said}"
    );
    assert_eq!(env.ok("ip"), format!("{own}\n"));
    assert_eq!(env.status("status"), 0);
    let variables: Value = serde_json::from_str(&env.ok("docker-env -o json")).unwrap();
    assert_eq!(variables["DOCKER_HOST"], format!("tcp://{own}:2376"));
    let pki = env.layout().profile("sampan").pki();
    let verified = std::process::Command::new("openssl")
        .args(["verify", "-verify_ip", &own, "-CAfile"])
        .args([pki.join("docker-ca.crt"), pki.join("docker-server.crt")])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
    make(&env, "web", "NodePort", 80, Some(30_080));
    run_pods(&env, "web");
    assert_eq!(env.ok("service web --url"), format!("http://{own}:30080\n"));
    let listed = env.ok("service list");
    assert!(listed.contains(&format!("http://{own}:30080")), "{listed}");
    // There is nothing to publish.
    assert_eq!(env.status("tunnel"), 56);
}

#[test]
fn a_cluster_of_a_driver_that_can_little_lives_all_the_same() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.write(
        &env.layout().driver_cache("fake").join("fake.toml"),
        "plain = true\n",
    );
    let said = env.ok("start --driver fake --memory 3g");
    assert_eq!(
        said.matches("the driver fake cannot save machines here").count(),
        1,
        "{said}"
    );
    assert!(said.contains("clusters share 127.0.0.1"), "{said}");
    assert_eq!(env.ok("ip"), "127.0.0.1\n");
    make(&env, "web", "NodePort", 80, Some(30_080));
    let listed = env.ok("service list");
    assert!(listed.contains("this driver opens no ports"), "{listed}");
    let said = env.ok("stop");
    assert!(said.contains("is shut down; its data are kept"), "{said}");
    let said = env.ok("start");
    assert!(!said.contains("cannot save machines"), "told twice: {said}");
    assert_eq!(env.status("status"), 0);
    assert_eq!(env.status("pause"), 56);
    assert_eq!(env.status("start --driver qemu"), 81);
}
