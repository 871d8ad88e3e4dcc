//! The driver contract and what goes wrong around it, with the real QEMU and a guest that is only firmware: it finds nothing
//! to boot, and QEMU runs all the same.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sampan_driver::{
    Disk, Driver, DriverError, ExtraDisk, Forward, Host, MachineSpec, MachineState, Runner, contract,
};
use sampan_driver_qemu::{Accelerator, Qemu, QemuConfig};

struct Ground {
    dir: tempfile::TempDir,
    spec: MachineSpec,
}

impl Ground {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = |name: &str, size: u64| {
            let path = dir.path().join(name);
            fs::File::create(&path).unwrap().set_len(size).unwrap();
            path
        };
        let spec = MachineSpec {
            name: name.into(),
            dir: dir.path().join("machine"),
            cpus: 1,
            memory_mib: 64,
            disk: Disk {
                base: image("base, with comma.raw", 1 << 20),
                size_mib: 8,
            },
            extra_disks: vec![ExtraDisk {
                path: image("parts.img", 1 << 20),
                serial: "sampan-parts".into(),
            }],
            boot: None,
            forwards: vec![Forward::tcp(free_port(), 8443), Forward::tcp(free_port(), 22)],
        };
        Self { dir, spec }
    }

    fn qemu(&self) -> Qemu {
        Qemu::new(self.config())
    }

    fn config(&self) -> QemuConfig {
        let cache_dir = self.dir.path().join("cache");
        QemuConfig {
            cache_dir,
            accelerator: Some(Accelerator::Tcg),
            ..QemuConfig::default()
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.spec.dir.join(name)
    }

    fn started(&self) -> Qemu {
        let qemu = self.qemu();
        qemu.create(&self.spec).unwrap();
        qemu.start(&self.spec).unwrap();
        qemu
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // A test that failed half-way leaves its machine running.
        self.qemu().remove(&self.spec).unwrap();
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn script(path: &Path, text: &str) {
    // Not written by this process: a file another thread's child still has open for writing cannot be run.
    let text = format!("#!/bin/sh\n{text}\n");
    Host.write_file(path.to_str().unwrap(), 0o755, text.as_bytes())
        .unwrap();
}

fn signal(name: &str, pid: u32) {
    assert!(
        Command::new("kill")
            .args([name, &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn the_contract_holds() {
    let ground = Ground::new("contract");
    contract::whole_life(&ground.qemu(), &ground.spec).unwrap();
}

#[test]
fn the_contract_holds_where_paths_are_too_long_for_sockets() {
    let mut ground = Ground::new("deep");
    ground.spec.dir = ground
        .dir
        .path()
        .join("long name ".repeat(12))
        .join("b".repeat(100));
    contract::whole_life(&ground.qemu(), &ground.spec).unwrap();
}

#[test]
fn without_qemu_there_are_no_machines() {
    let ground = Ground::new("absent");
    let empty = ground.dir.path().join("bin");
    fs::create_dir(&empty).unwrap();
    let config = QemuConfig {
        search_path: Some(empty.into()),
        ..ground.config()
    };
    contract::not_installed(&Qemu::new(config), &ground.spec).unwrap();
}

#[test]
fn a_run_leaves_logs_and_disk_and_nothing_else() {
    let ground = Ground::new("files");
    let qemu = ground.started();
    let mode = fs::metadata(&ground.spec.dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    for name in ["disk.qcow2", "serial.log"] {
        assert_eq!(
            fs::metadata(ground.file(name)).unwrap().permissions().mode() & 0o777,
            0o600,
            "{name}"
        );
    }
    qemu.stop(&ground.spec, Duration::from_millis(100)).unwrap();
    qemu.start(&ground.spec).unwrap();
    qemu.kill(&ground.spec).unwrap();
    let mut names: Vec<String> = fs::read_dir(&ground.spec.dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "disk.qcow2",
            "qemu.log",
            "qemu.log.1",
            "serial.log",
            "serial.log.1"
        ]
    );
}

#[test]
fn the_process_is_out_of_reach_of_the_terminal() {
    let ground = Ground::new("session");
    let qemu = ground.started();
    let pid = qemu.endpoint(&ground.spec).unwrap().pid.unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name: state, parent, process group, session, terminal.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!(
        (fields[2], fields[3], fields[4]),
        (&*pid.to_string(), &*pid.to_string(), "0")
    );
}

#[test]
fn the_host_chooses_a_port_when_asked_to() {
    let mut ground = Ground::new("ports");
    ground.spec.forwards[1].host.set_port(0);
    let qemu = ground.started();
    let endpoint = qemu.endpoint(&ground.spec).unwrap();
    assert_eq!(endpoint.reach(8443), Some(ground.spec.forwards[0].host));
    let chosen = endpoint.reach(22).unwrap();
    assert_ne!(chosen.port(), 0);
    TcpStream::connect(chosen).unwrap();
}

#[test]
fn a_hanging_qemu_is_still_running_and_can_be_stopped() {
    let ground = Ground::new("hang");
    let qemu = ground.started();
    let pid = qemu.endpoint(&ground.spec).unwrap().pid.unwrap();
    signal("-STOP", pid);
    for _ in 0..4 {
        let start = Instant::now();
        assert_eq!(qemu.state(&ground.spec).unwrap(), MachineState::Running);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
    assert_eq!(
        qemu.endpoint(&ground.spec).unwrap().forwards,
        ground.spec.forwards
    );
    qemu.stop(&ground.spec, Duration::from_millis(200)).unwrap();
    assert_eq!(qemu.state(&ground.spec).unwrap(), MachineState::Stopped);
}

#[test]
fn a_pidfile_proves_nothing() {
    let ground = Ground::new("pidfile");
    let qemu = ground.started();
    let pid = qemu.endpoint(&ground.spec).unwrap().pid;
    // Damaged while it runs: found all the same.
    fs::write(ground.file("qemu.pid"), "\0\0\0").unwrap();
    assert_eq!(qemu.endpoint(&ground.spec).unwrap().pid, pid);
    qemu.kill(&ground.spec).unwrap();
    // Left over, and the pid belongs to somebody else by now: left alone.
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(ground.file("qemu.pid"), format!("{}\n", other.id())).unwrap();
    assert_eq!(qemu.state(&ground.spec).unwrap(), MachineState::Stopped);
    qemu.kill(&ground.spec).unwrap();
    assert!(
        other.try_wait().unwrap().is_none(),
        "somebody else's process was killed"
    );
    fs::write(ground.file("qemu.pid"), format!("{}\n", other.id())).unwrap();
    qemu.start(&ground.spec).unwrap();
    assert_eq!(qemu.state(&ground.spec).unwrap(), MachineState::Running);
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_missing_or_damaged_file_is_named() {
    let ground = Ground::new("missing");
    let qemu = ground.qemu();
    qemu.create(&ground.spec).unwrap();
    fs::remove_file(&ground.spec.extra_disks[0].path).unwrap();
    let error = qemu.start(&ground.spec).unwrap_err().to_string();
    assert!(error.contains("parts.img: No such file"), "{error}");
    fs::write(ground.file("disk.qcow2"), "not a disk").unwrap();
    let error = qemu.create(&ground.spec).unwrap_err().to_string();
    assert!(error.contains("disk.qcow2 is damaged"), "{error}");
    fs::write(&ground.spec.extra_disks[0].path, [0; 512]).unwrap();
    let error = qemu.start(&ground.spec).unwrap_err().to_string();
    assert!(
        error.contains("machine missing failed") && error.contains("qcow2"),
        "{error}"
    );
    assert_eq!(qemu.state(&ground.spec).unwrap(), MachineState::Stopped);
    assert!(
        !ground.file("ram.img").exists(),
        "a failed start left memory behind"
    );
    fs::remove_file(ground.file("disk.qcow2")).unwrap();
    assert!(matches!(qemu.start(&ground.spec), Err(DriverError::NoMachine(_))));
    fs::remove_file(&ground.spec.disk.base).unwrap();
    let error = qemu.create(&ground.spec).unwrap_err().to_string();
    assert!(error.contains("comma.raw: No such file"), "{error}");
}

#[test]
fn absent_or_old_programs_are_told_apart() {
    let ground = Ground::new("old");
    let bin = ground.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let config = QemuConfig {
        search_path: Some(bin.clone().into()),
        ..ground.config()
    };
    let qemu = Qemu::new(config);
    assert!(matches!(qemu.check(), Err(DriverError::NotInstalled { .. })));
    let program = bin.join(format!("qemu-system-{}", std::env::consts::ARCH));
    script(&program, "echo QEMU emulator version 7.2.9");
    match qemu.check() {
        Err(DriverError::Unsupported { what, hint }) => {
            assert!(
                what.ends_with("is version 7.2.9, and at least 8.2.0 is needed"),
                "{what}"
            );
            assert!(hint.contains("upgrade"), "{hint}");
        }
        other => panic!("{other:?}"),
    }
    script(&program, "echo hello");
    assert!(matches!(qemu.check(), Err(DriverError::Unhealthy { .. })));
    script(&program, "echo QEMU emulator version 10.0.2");
    let what = qemu.check().unwrap_err().to_string();
    assert_eq!(what, "qemu-img is not installed");
    script(&bin.join("qemu-img"), "echo qemu-img version 10.0.2");
    assert_eq!(qemu.check().unwrap().accelerator, "tcg");
}

#[test]
fn a_qemu_that_ends_at_once_is_quoted() {
    let ground = Ground::new("words");
    ground.qemu().create(&ground.spec).unwrap();
    let program = ground.dir.path().join("qemu");
    script(
        &program,
        "case $1 in --version) echo QEMU emulator version 10.0.2;; *) echo no luck today >&2; exit 3;; esac",
    );
    let qemu = Qemu::new(QemuConfig {
        program: Some(program),
        ..ground.config()
    });
    let error = qemu.start(&ground.spec).unwrap_err().to_string();
    assert_eq!(
        error,
        "machine words failed: qemu ended with exit status: 3\n    no luck today"
    );
}
