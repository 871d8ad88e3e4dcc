//! A fake machine lives as the contract says, and answers like a cluster once it was provisioned.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan_driver::{Command, Disk, Driver, DriverError, Failure, Forward, MachineSpec, MachineState};
use sampan_driver_fake::Fake;

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn spec(dir: &Path) -> MachineSpec {
    std::fs::write(dir.join("base"), "").unwrap();
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
        forwards: vec![Forward::tcp(free_port(), 8443), Forward::tcp(free_port(), 22)],
    }
}

fn driver(dir: &Path) -> Fake {
    Fake::new(
        dir.join("cache"),
        PathBuf::from(env!("CARGO_BIN_EXE_fake-machine")),
    )
}

/// Ends the machine when a test fails half-way.
struct Guard<'a>(&'a Fake, &'a MachineSpec);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let _ = self.0.remove(self.1);
    }
}

#[test]
fn the_contract_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (driver, spec) = (driver(dir.path()), spec(dir.path()));
    let _guard = Guard(&driver, &spec);
    sampan_driver::contract::whole_life(&driver, &spec).unwrap();
}

#[test]
fn objects_survive_a_power_cut_and_the_boot_id_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (driver, spec) = (driver(dir.path()), spec(dir.path()));
    let _guard = Guard(&driver, &spec);
    driver.create(&spec).unwrap();
    driver.start(&spec).unwrap();
    provision(&driver, &spec);
    let (client, base) = client(&driver, &spec);
    assert_eq!(
        client
            .get(format!("{base}/readyz"))
            .send()
            .unwrap()
            .text()
            .unwrap(),
        "ok"
    );
    let map = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"kept"},"data":{"a":"b"}}"#;
    let path = format!("{base}/api/v1/namespaces/default/configmaps");
    assert_eq!(client.post(&path).body(map).send().unwrap().status(), 201);
    let before = boot_id(&driver, &spec);

    driver.kill(&spec).unwrap();
    assert_eq!(driver.state(&spec).unwrap(), MachineState::Stopped);
    driver.start(&spec).unwrap();
    let there = client.get(format!("{path}/kept")).send().unwrap();
    assert_eq!(there.status(), 200);
    assert!(there.text().unwrap().contains(r#""a":"b""#));
    assert_ne!(boot_id(&driver, &spec), before);
    let node = client
        .get(format!("{base}/api/v1/nodes/test"))
        .send()
        .unwrap()
        .text()
        .unwrap();
    assert!(node.contains(&boot_id(&driver, &spec)), "{node}");
}

#[test]
fn points_fail_and_hang_as_told() {
    let dir = tempfile::tempdir().unwrap();
    let (driver, spec) = (driver(dir.path()), spec(dir.path()));
    let _guard = Guard(&driver, &spec);
    let tell = |text: &str| {
        std::fs::create_dir_all(dir.path().join("cache")).unwrap();
        std::fs::write(dir.path().join("cache/fake.toml"), text).unwrap();
    };
    tell("fail_at = 'start'");
    driver.create(&spec).unwrap();
    assert!(matches!(driver.start(&spec), Err(DriverError::Failed { .. })));
    assert_eq!(driver.state(&spec).unwrap(), MachineState::Stopped);
    tell("fail_at = 'ctr'\nhang_at = 'kubeadm'");
    driver.start(&spec).unwrap();
    let runner = driver.endpoint(&spec).unwrap().runner.unwrap();
    assert_eq!(runner.run(&Command::new("ctr")).unwrap_err().status(), Some(70));
    let short = Command::new("kubeadm")
        .arg("init")
        .deadline(Duration::from_millis(50));
    assert!(matches!(
        runner.run(&short).unwrap_err().failure,
        Failure::Deadline(_)
    ));
    driver.kill(&spec).unwrap();
    assert!(matches!(
        runner.run(&Command::new("true")).unwrap_err().failure,
        Failure::Io(_)
    ));
    tell("fail_at = 'check'\nnonsense = 1");
    assert!(driver.check().is_err());
}

/// What the provisioner does, in short: our authority goes in, kubeadm runs.
fn provision(driver: &Fake, spec: &MachineSpec) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let runner = driver.endpoint(spec).unwrap().runner.unwrap();
    runner
        .write_file("/etc/kubernetes/pki/ca.crt", 0o644, ca.pem().as_bytes())
        .unwrap();
    runner
        .write_file(
            "/etc/kubernetes/pki/ca.key",
            0o600,
            key.serialize_pem().as_bytes(),
        )
        .unwrap();
    runner
        .run(&Command::new("kubeadm").args(["init", "--config", "x"]))
        .unwrap();
    assert!(
        runner
            .succeeds(&Command::new("systemctl").args(["is-active", "--quiet", "kubelet"]))
            .unwrap()
    );
}

fn client(driver: &Fake, spec: &MachineSpec) -> (reqwest::blocking::Client, String) {
    let runner = driver.endpoint(spec).unwrap().runner.unwrap();
    let ca = runner
        .run(&Command::new("cat").arg("/etc/kubernetes/pki/ca.crt"))
        .unwrap()
        .stdout;
    let address = spec.forwards[0].host;
    let client = reqwest::blocking::Client::builder()
        .add_root_certificate(reqwest::Certificate::from_pem(&ca).unwrap())
        .resolve("sampan.internal", address)
        .no_proxy()
        .build()
        .unwrap();
    (client, format!("https://sampan.internal:{}", address.port()))
}

fn boot_id(driver: &Fake, spec: &MachineSpec) -> String {
    let runner = driver.endpoint(spec).unwrap().runner.unwrap();
    runner
        .run(&Command::new("cat").arg("/proc/sys/kernel/random/boot_id"))
        .unwrap()
        .text()
}
