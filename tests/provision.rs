//! The provisioner against a fake machine: every step is done once, a second walk has nothing to do, and a machine that was killed
//! comes back with the same cluster.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan::error::Kind;
use sampan::progress::{Cancel, Silent};
use sampan::provision::readiness::{self, Component};
use sampan::provision::{self, Api, ImageRef, Node, Parts, Pki, STEPS, Step};
use sampan::settings::{ClusterSpec, ContainerRuntime};
use sampan_driver::{Command, Disk, Driver, Forward, MachineSpec, Runner};
use sampan_driver_fake::Fake;

/// A machine that ends with the test, however that ends.
struct Machine {
    dir: tempfile::TempDir,
    driver: Fake,
    spec: MachineSpec,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.driver.remove(&self.spec);
    }
}

impl Machine {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let driver = Fake::new(dir.path().join("cache"), program(dir.path()));
        let base = dir.path().join("disk.raw");
        std::fs::write(&base, "").unwrap();
        let spec = MachineSpec {
            name: "demo".into(),
            dir: dir.path().join("machine"),
            cpus: 2,
            memory_mib: 2048,
            disk: Disk { base, size_mib: 8192 },
            extra_disks: Vec::new(),
            boot: None,
            forwards: vec![Forward::tcp(free_port(), provision::API_PORT)],
        };
        let machine = Self { dir, driver, spec };
        machine.driver.create(&machine.spec).unwrap();
        machine.driver.start(&machine.spec).unwrap();
        machine
    }

    /// What `fake.toml` says from now on.
    fn tell(&self, text: &str) {
        let cache = self.dir.path().join("cache");
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::write(cache.join("fake.toml"), text).unwrap();
    }

    /// Calls something with the node as `start` would see it.
    fn with<T>(&self, call: impl FnOnce(&Node<'_>) -> T) -> T {
        let runner = self.driver.endpoint(&self.spec).unwrap().runner.unwrap();
        let ours = self.dir.path().join("pki");
        sampan::pki::ensure(&ours, "demo").unwrap();
        sampan::pki::docker::ensure(&ours, &self.dir.path().join("docker"), "demo", None).unwrap();
        let file = |name: &str| ours.join(name);
        let pki = Pki {
            ca_cert: file("ca.crt"),
            ca_key: file("ca.key"),
            docker: sampan::pki::docker::Served::new(&ours),
        };
        let address = self.spec.forwards[0].host;
        let api = Api::new(address, &pki.ca_cert, &file("admin.crt"), &file("admin.key")).unwrap();
        call(&Node {
            runner: &*runner as &dyn Runner,
            api: &api,
            name: &cluster().name,
            spec: &cluster(),
            parts: &parts(),
            pki: &pki,
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15)),
            host: IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2)),
            reporter: &Silent,
            cancel: &Cancel::default(),
        })
    }
}

/// The program whose hidden verb is the machine; it needs to be asked for.
fn program(dir: &Path) -> PathBuf {
    let path = dir.join("machine-program");
    let sampan = env!("CARGO_BIN_EXE_sampan");
    std::fs::write(
        &path,
        format!("#!/bin/sh\nSAMPAN_ENABLE_FAKE_DRIVER=1 exec '{sampan}' \"$@\"\n"),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn cluster() -> ClusterSpec {
    ClusterSpec {
        name: "demo".into(),
        driver: "fake".into(),
        cpus: 2,
        memory_mib: 2048,
        disk_mib: 8192,
        kubernetes_version: "v1.36.3".into(),
        container_runtime: ContainerRuntime::Containerd,
        dns_domain: "cluster.local".into(),
        service_cidr: "10.96.0.0/12".into(),
        pod_cidr: "10.244.0.0/16".into(),
        apiserver_names: Vec::new(),
        feature_gates: String::new(),
        insecure_registries: vec!["registry.example:5000".into()],
        registry_mirrors: Vec::new(),
        extra_config: Vec::new(),
    }
}

fn parts() -> Parts {
    let names = [
        "kube-proxy",
        "coredns",
        "pause",
        "local-path-provisioner",
        "helper",
    ];
    let image = |name: &str| ImageRef {
        name: format!("registry.example/{name}"),
        tag: "v1".into(),
        addon: false,
    };
    Parts {
        key: "key".into(),
        cloud: false,
        images: names.map(image).to_vec(),
    }
}

/// Walks the steps as `start` does; says which had something to do.
fn walk(node: &Node<'_>) -> sampan::error::Result<Vec<&'static str>> {
    let todo = |step: &&Step| match (step.is_done)(node) {
        Ok(done) => Ok(!done),
        Err(error) => Err(error),
    };
    let mut did = Vec::new();
    for step in STEPS {
        if todo(&step)? {
            (step.apply)(node)?;
            did.push(step.id);
        }
    }
    Ok(did)
}

const WAIT: Duration = Duration::from_secs(20);

fn all_but(left_out: &str) -> Vec<&'static str> {
    let ids = STEPS.iter().map(|step| step.id);
    ids.filter(|id| *id != left_out).collect()
}

#[test]
fn a_second_walk_has_nothing_to_do() {
    let machine = Machine::start();
    machine.with(|node| {
        assert_eq!(walk(node).unwrap(), all_but("cri"));
        readiness::wait(node, &Component::ALL, WAIT).unwrap();
        assert!(walk(node).unwrap().is_empty());
        let labels = node.api.get("/api/v1/nodes/demo").unwrap()["metadata"]["labels"].clone();
        assert_eq!(labels["sampan.dev/name"], "demo");
    });
}

#[test]
fn docker_is_there_before_the_control_plane_where_pods_run_on_it() {
    let machine = Machine::start();
    machine.with(|node| {
        let spec = ClusterSpec {
            container_runtime: ContainerRuntime::Docker,
            ..cluster()
        };
        let node = Node { spec: &spec, ..*node };
        assert_eq!(walk(&node).unwrap(), all_but("docker"));
        assert!(walk(&node).unwrap().is_empty());
    });
}

#[test]
fn a_killed_machine_comes_back_with_its_cluster() {
    let machine = Machine::start();
    let map = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "kept" }, "data": { "a": "b" }
    });
    machine.with(|node| {
        walk(node).unwrap();
        node.api.apply(std::slice::from_ref(&map)).unwrap();
    });
    machine.driver.kill(&machine.spec).unwrap();
    machine.driver.start(&machine.spec).unwrap();
    machine.with(|node| {
        walk(node).unwrap();
        readiness::wait(node, &Component::ALL, WAIT).unwrap();
        let there = node
            .api
            .get("/api/v1/namespaces/default/configmaps/kept")
            .unwrap();
        assert_eq!(there["data"]["a"], "b");
    });
}

#[test]
fn every_program_that_fails_stops_the_walk_and_the_next_walk_completes() {
    for program in ["tar", "systemctl", "ctr", "kubeadm"] {
        let machine = Machine::start();
        machine.tell(&format!("fail_at = '{program}'"));
        let error = machine.with(|node| walk(node).unwrap_err());
        assert!(error.to_string().contains(program), "{error}");
        machine.tell("");
        machine.with(|node| {
            walk(node).unwrap();
            readiness::wait(node, &Component::ALL, WAIT).unwrap();
        });
    }
}

#[test]
fn a_wait_that_is_in_vain_says_for_what() {
    let machine = Machine::start();
    machine.with(|node| walk(node).unwrap());
    machine.tell("fail_at = 'bash'");
    let error =
        machine.with(|node| readiness::wait(node, &Component::ALL, Duration::from_millis(100)).unwrap_err());
    assert_eq!(error.kind(), Kind::ControlPlaneTimeout);
    let text = error.to_string();
    assert!(text.starts_with("answers of cluster DNS not ready"), "{text}");
    assert!(text.contains("journal of kubelet.service"), "{text}");
}

/// A certificate that ends in so many days, without a newline at its end.
fn ending_in(days: i64) -> String {
    let mut params = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days);
    params
        .self_signed(&rcgen::KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .trim_end()
        .to_owned()
}

#[test]
fn certificates_near_their_end_are_renewed_when_the_cluster_starts_or_goes_on() {
    const API_SERVER: &str = "/etc/kubernetes/pki/apiserver.crt";
    let machine = Machine::start();
    machine.with(|node| walk(node).map(drop).unwrap());
    machine.driver.kill(&machine.spec).unwrap();
    machine.driver.start(&machine.spec).unwrap();
    machine.with(|node| {
        let read = || {
            node.runner
                .run(&Command::new("cat").arg(API_SERVER))
                .unwrap()
                .text()
        };
        let put = |pem: &str| node.runner.write_file(API_SERVER, 0o644, pem.as_bytes()).unwrap();
        let (soon, late) = (ending_in(5), ending_in(100));
        put(&soon);
        walk(node).unwrap();
        assert_ne!(read(), soon, "a start leaves it");
        put(&soon);
        provision::wake(node, false).unwrap();
        assert_ne!(read(), soon, "going on leaves it");
        put(&late);
        provision::wake(node, false).unwrap();
        assert_eq!(read(), late, "what is good is renewed");
    });
}

#[test]
fn a_kubelet_that_slept_through_the_end_of_its_certificate_gets_a_new_one() {
    const KUBELET: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    let machine = Machine::start();
    machine.with(|node| {
        walk(node).unwrap();
        let is_there = || node.runner.run(&Command::new("cat").arg(KUBELET)).is_ok();
        for (days, kept) in [(100, true), (-3, false)] {
            node.runner
                .write_file(KUBELET, 0o600, ending_in(days).as_bytes())
                .unwrap();
            provision::wake(node, false).unwrap();
            assert_eq!(is_there(), kept, "{days} days before its end");
        }
    });
}
