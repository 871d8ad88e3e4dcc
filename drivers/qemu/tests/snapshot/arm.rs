//! The same on an Arm machine, which is emulated on any host: QEMU's other board, and its devices, are saved and go on like a PC's.
//! Without QEMU's program for it nothing is tested (`./dev test` installs it).

#![expect(clippy::print_stdout, reason = "a test that leaves itself out says so")]

use std::fs;

use sampan_driver::{DirectBoot, Driver, DriverError};
use sampan_driver_qemu::{Accelerator, Arch, Qemu, QemuConfig};

use super::ground::*;

/// The program in `arm.s`.
const GUEST: [u32; 26] = [
    0xd2a12001, 0xd2a80414, 0x52800840, 0xb9000020, 0x52800140, 0xb9000020, 0xb900029f, 0xb9400293,
    0x11000673, 0xb9000293, 0x52800103, 0x13937273, 0x12000e60, 0x7100281f, 0x1100c000, 0x5400004b,
    0x11009c00, 0xb9000020, 0x71000463, 0x54ffff01, 0x52800140, 0xb9000020, 0xd2a00802, 0xf1000442,
    0x54ffffe1, 0x17ffffee,
];

/// Machines of these names, if there is a QEMU for them.
fn arm(names: &[&str]) -> Option<Ground> {
    let mut ground = Ground::new(names);
    ground.qemu = Qemu::new(QemuConfig {
        cache_dir: ground.path("cache"),
        arch: Some(Arch::Aarch64),
        ..QemuConfig::default()
    });
    match ground.qemu.check() {
        Err(DriverError::NotInstalled { what, .. }) => {
            println!("{what} is not installed: nothing is tested");
            return None;
        }
        health if !cfg!(target_arch = "aarch64") => {
            let health = health.unwrap();
            assert_eq!(health.accelerator, Accelerator::Tcg.name());
            assert!(health.reason.contains("architecture"), "{}", health.reason);
        }
        health => drop(health.unwrap()),
    }
    let (kernel, initrd) = (ground.path("kernel"), ground.path("initrd"));
    fs::write(&kernel, GUEST.map(u32::to_le_bytes).as_flattened()).unwrap();
    fs::write(&initrd, "none").unwrap();
    for spec in &mut ground.specs {
        spec.boot = Some(DirectBoot {
            kernel: kernel.clone(),
            initrd: initrd.clone(),
            cmdline: "console=ttyAMA0".into(),
        });
    }
    Some(ground)
}

#[test]
fn an_arm_machine_is_saved_and_goes_on_and_its_forks_do() {
    let Some(ground) = arm(&["arm", "fork"]) else {
        return;
    };
    let spec = ground.counting();
    let before = count(spec);
    let effort = ground.snapshots().save(spec).unwrap();
    assert!(effort.written < 16 << 20, "{effort:?}");
    ground.resumes(spec, before);
    let (layer, frozen) = (ground.path("layer"), count(spec));
    ground.snapshots().freeze(spec, &layer).unwrap();
    let fork = &ground.specs[1];
    ground.snapshots().fork(fork, &layer).unwrap();
    ground.resumes(fork, frozen);
    let before = ground.saved(fork);
    ground.resumes(fork, before);
}
