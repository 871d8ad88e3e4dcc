//! The real VBoxManage, where there is one; its settings are in a directory of the test's own, so nobody's machines are touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sampan_driver::{
    Command, Driver, DriverError, Forward, Host, MachineSpec, MachineState, Runner, contract,
};
use sampan_driver_virtualbox::{VirtualBox, VirtualBoxConfig};

use crate::ground::Ground;
use crate::replay::Recorder;

pub(crate) const ALL: &[(&str, fn())] = &[("a_real_virtualbox_does_what_is_expected", a_real_virtualbox)];

/// The real one: named by `SAMPAN_TEST_VBOXMANAGE`, or in PATH.
fn real() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("SAMPAN_TEST_VBOXMANAGE") {
        return Some(path.into());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join("VBoxManage"))
        .find(|path| path.is_file())
}

fn a_real_virtualbox() {
    let Some(program) = real() else {
        eprintln!("skipped: there is no VBoxManage; SAMPAN_TEST_VBOXMANAGE names one");
        return;
    };
    let mut ground = Ground::new("real");
    fix_ports(&mut ground.spec);
    fs::write(&ground.spec.disk.base, [7; 1 << 20]).unwrap();
    // Not written by this process: a file another thread's child still has open for writing cannot be run.
    let wrapper = ground.dir.path().join("VBoxManage");
    let text = format!(
        "#!/bin/sh\nexport VBOX_USER_HOME='{}' VBOX_IPC_SOCKETID='{}'\nexec '{}' \"$@\"\n",
        ground.dir.path().join("home").display(),
        std::process::id(),
        program.display()
    );
    Host.write_file(wrapper.to_str().unwrap(), 0o755, text.as_bytes())
        .unwrap();

    let recorder = Arc::new(Recorder::new(&ground.spec));
    let config = VirtualBoxConfig {
        program: Some(wrapper.clone()),
        search_path: None,
    };
    let driver = VirtualBox::with_runner(config, recorder.clone());
    match driver.check() {
        Ok(health) => {
            eprintln!("VirtualBox {} works here: the whole life", health.version);
            contract::whole_life(&driver, &ground.spec).unwrap();
        }
        Err(error) => eprintln!("VirtualBox cannot start machines here ({error}): everything up to that"),
    }
    life_without_running(&driver, &ground.spec);
    reads_what_is_below(&driver, &ground.spec, &wrapper);
    recorder.keep();
    behind_our_back(&driver, &ground.spec, &wrapper);
    let vbox = |args: &[&str]| vbox(&wrapper, args);
    assert!(
        !vbox(&["list", "hdds"]).contains(&*ground.spec.dir.to_string_lossy()),
        "disks are left"
    );
    assert!(!vbox(&["list", "vms"]).contains("sampan-"), "machines are left");
}

/// Ports that are the same in each recording.
pub(crate) fn fix_ports(spec: &mut MachineSpec) {
    spec.forwards = vec![
        Forward::tcp("127.0.0.1:46443".parse().unwrap(), 8443),
        Forward::udp("127.0.0.1:46053".parse().unwrap(), 53),
    ];
}

/// All that a host without VirtualBox's kernel module can do; one that has it starts the machine, and ends it.
pub(crate) fn life_without_running(driver: &VirtualBox, spec: &MachineSpec) {
    let state = || driver.state(spec).unwrap();
    for _ in 0..2 {
        driver.remove(spec).unwrap();
        driver.kill(spec).unwrap();
    }
    assert_eq!(state(), MachineState::Absent);
    assert!(matches!(driver.start(spec), Err(DriverError::NoMachine(_))));
    for _ in 0..2 {
        driver.create(spec).unwrap();
        assert_eq!(state(), MachineState::Stopped);
    }
    assert!(matches!(driver.endpoint(spec), Err(DriverError::NoMachine(_))));
    match driver.start(spec) {
        Ok(()) => driver.kill(spec).unwrap(),
        Err(DriverError::Unhealthy { what, hint }) => {
            assert!(
                what.contains("kernel module") && hint.contains("modprobe"),
                "{what}: {hint}"
            );
        }
        Err(other) => panic!("{other:?}"),
    }
    assert_eq!(state(), MachineState::Stopped);
}

fn vbox(wrapper: &Path, args: &[&str]) -> String {
    let command = Command::new(wrapper.to_string_lossy()).args(args.iter().copied());
    Host.run(&command).unwrap().text()
}

fn id(wrapper: &Path) -> String {
    let text = vbox(wrapper, &["list", "vms"]);
    let (_, id) = text.rsplit_once('{').unwrap();
    id.trim_end_matches('}').to_owned()
}

/// The machine's disk is the base and zeros behind it, in VirtualBox's own eyes; it has the forwards, and nothing is copied.
fn reads_what_is_below(driver: &VirtualBox, spec: &MachineSpec, wrapper: &Path) {
    driver.create(spec).unwrap();
    let disk = spec.dir.join("disk.vdi");
    let id = id(wrapper);
    let info = vbox(wrapper, &["showvminfo", &id, "--machinereadable"]);
    for line in [
        "VMState=\"poweroff\"",
        "memory=64",
        "rtcuseutc=\"on\"",
        "effparavirtprovider=\"kvm\"",
        "storagecontrollertype0=\"VirtioSCSI\"",
        "nictype1=\"virtio\"",
        "tcp-127.0.0.1-46443,tcp,127.0.0.1,46443,10.0.2.15,8443\"",
        "udp-127.0.0.1-46053,udp,127.0.0.1,46053,10.0.2.15,53\"",
        &format!("\"disks-0-0\"=\"{}\"", disk.display()),
        &format!("uartmode1=\"file,{}\"", spec.dir.join("serial.log").display()),
    ] {
        assert!(info.contains(line), "{line} is not in\n{info}");
    }
    assert!(info.contains("\"disks-2-0\"=\"/"), "{info}");
    // Taken from the machine, since a disk that is in use cannot be copied.
    let copy = spec.dir.with_file_name("copy.raw");
    vbox(
        wrapper,
        &[
            "clonemedium",
            "disk",
            disk.to_str().unwrap(),
            copy.to_str().unwrap(),
            "--format",
            "RAW",
        ],
    );
    let bytes = fs::read(&copy).unwrap();
    assert_eq!(bytes.len(), 8 << 20);
    assert!(bytes[..1 << 20].iter().all(|byte| *byte == 7), "not the base");
    assert!(bytes[1 << 20..].iter().all(|byte| *byte == 0), "not zeros");
    vbox(wrapper, &["closemedium", "disk", copy.to_str().unwrap()]);
}

/// Renamed, forgotten, without its settings, without any files.
fn behind_our_back(driver: &VirtualBox, spec: &MachineSpec, wrapper: &Path) {
    let id = id(wrapper);
    vbox(wrapper, &["modifyvm", &id, "--name", "mine"]);
    driver.create(spec).unwrap();
    assert!(
        vbox(wrapper, &["list", "vms"]).contains("\"mine\""),
        "made anew though it was there"
    );

    vbox(wrapper, &["unregistervm", &id]);
    assert_eq!(driver.state(spec).unwrap(), MachineState::Stopped);
    driver.create(spec).unwrap();
    assert!(
        vbox(wrapper, &["list", "vms"]).contains(&id),
        "not made known again"
    );

    fs::remove_dir_all(spec.dir.join("vm")).unwrap();
    driver.create(spec).unwrap();
    assert_eq!(driver.state(spec).unwrap(), MachineState::Stopped);

    fs::remove_dir_all(&spec.dir).unwrap();
    assert_eq!(driver.state(spec).unwrap(), MachineState::Absent);
    driver.create(spec).unwrap();
    assert_eq!(driver.state(spec).unwrap(), MachineState::Stopped);
    fs::remove_dir_all(&spec.dir).unwrap();
    for _ in 0..2 {
        driver.remove(spec).unwrap();
        assert_eq!(driver.state(spec).unwrap(), MachineState::Absent);
    }
}
