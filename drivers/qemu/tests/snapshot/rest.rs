//! Layers of machines at rest: saved, forked and never started, powered off.

use std::fs;
use std::os::unix::fs::MetadataExt;

use sampan_driver::{Driver, DriverError, Effort, MachineSpec, MachineState, Started};

use crate::ground::*;

fn inode(path: &std::path::Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn a_saved_machine_gives_a_layer_and_is_still_saved() {
    let ground = Ground::new(&["saved", "fork"]);
    let spec = ground.counting();
    let at = ground.saved(spec);
    let (layer, memory) = (ground.path("layer"), inode(&spec.dir.join("ram.img")));
    let effort = ground.snapshots().checkpoint(spec, &layer).unwrap();
    assert_eq!(effort, Effort::default());
    assert_eq!(inode(&layer.join("ram.img")), memory, "memory was copied");
    assert!(!spec.dir.join("ram.img").exists());
    assert_eq!(ground.snapshots().saved(&spec.dir).unwrap().unwrap().len(), 3);
    assert!(ground.snapshots().checkpoint(spec, &layer).is_err());
    ground.resumes(spec, at);
    // Saved once more it has its own memory, and the layer's is as it was.
    let later = ground.saved(spec);
    ground.resumes(spec, later);
    let fork = &ground.specs[1];
    ground.snapshots().fork(fork, &layer).unwrap();
    ground.resumes(fork, at);
    ground.snapshots().restore(spec, &layer).unwrap();
    ground.resumes(spec, at);
}

#[test]
fn a_fork_that_never_ran_gives_layers_that_stand_alone() {
    let ground = Ground::new(&["source", "fork", "second", "third"]);
    let (layer, at) = ground.frozen();
    let [_, fork, second, third] = &ground.specs[..] else {
        panic!()
    };
    let [again, last] = [ground.path("again"), ground.path("last")];
    ground.snapshots().fork(fork, &layer).unwrap();
    ground.snapshots().checkpoint(fork, &again).unwrap();
    assert_eq!(inode(&again.join("ram.img")), inode(&layer.join("ram.img")));
    ground.snapshots().fork(second, &again).unwrap();
    ground.snapshots().freeze(second, &last).unwrap();
    assert_eq!(ground.qemu.state(second).unwrap(), MachineState::Absent);
    ground.snapshots().fork(third, &last).unwrap();
    let real = |name: &str| ground.dir.path().canonicalize().unwrap().join(name);
    let expected = [
        "again/disk.qcow2",
        "base.raw",
        "last/device.state",
        "last/disk.qcow2",
        "last/ram.img",
        "layer/disk.qcow2",
    ];
    assert_eq!(ground.snapshots().uses(third).unwrap(), expected.map(real));
    for name in ["ram.img", "device.state"] {
        fs::remove_file(layer.join(name)).unwrap();
        fs::remove_file(again.join(name)).unwrap();
    }
    ground.resumes(third, at);
}

#[test]
fn a_machine_that_is_powered_off_gives_a_disk_to_boot() {
    let ground = Ground::new(&["off", "fork", "saved"]);
    let [spec, fork, saved] = &ground.specs[..] else {
        panic!()
    };
    ground.counting();
    ground.qemu.kill(spec).unwrap();
    let (layer, at) = (ground.path("layer"), count(spec));
    ground.snapshots().checkpoint(spec, &layer).unwrap();
    assert_eq!(ground.snapshots().saved(&spec.dir).unwrap(), None);
    assert_eq!(
        ground.snapshots().saved(&layer).unwrap().unwrap(),
        [layer.join("disk.qcow2")]
    );
    let boots = |spec: &MachineSpec, from: u32| {
        assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Booted(None));
        counts_to(spec, from + 1);
        assert!(console(spec).starts_with("B\n"));
        assert_eq!(counts(spec)[0], from + 1, "another disk");
    };
    boots(spec, at);
    ground.snapshots().fork(fork, &layer).unwrap();
    boots(fork, at);
    assert!(
        ground
            .snapshots()
            .uses(fork)
            .unwrap()
            .contains(&layer.canonicalize().unwrap().join("disk.qcow2"))
    );
    // Back from a saved state, which is lost.
    counts_to(spec, at + 20);
    ground.saved(spec);
    ground.snapshots().restore(spec, &layer).unwrap();
    assert_eq!(ground.snapshots().saved(&spec.dir).unwrap(), None);
    assert!(!spec.dir.join("ram.img").exists());
    boots(spec, at);
    let off = ground.path("frozen");
    ground.qemu.kill(spec).unwrap();
    let at = count(spec);
    ground.snapshots().freeze(spec, &off).unwrap();
    assert_eq!(ground.qemu.state(spec).unwrap(), MachineState::Absent);
    ground.snapshots().fork(saved, &off).unwrap();
    boots(saved, at);
}

#[test]
fn a_layer_that_is_gone_for_a_while_costs_nothing() {
    let ground = Ground::new(&["source", "fork"]);
    let (layer, at) = ground.frozen();
    let fork = &ground.specs[1];
    ground.snapshots().fork(fork, &layer).unwrap();
    fs::rename(&layer, ground.path("away")).unwrap();
    let error = ground.snapshots().resume(fork).unwrap_err().to_string();
    assert!(error.contains("layer/disk.qcow2"), "{error}");
    assert_eq!(ground.qemu.state(fork).unwrap(), MachineState::Stopped);
    fs::rename(ground.path("away"), &layer).unwrap();
    ground.resumes(fork, at);
}

#[test]
fn a_machine_that_is_not_there_gives_nothing() {
    let ground = Ground::new(&["none"]);
    let (spec, layer) = (&ground.specs[0], ground.path("layer"));
    for made in [
        ground.snapshots().checkpoint(spec, &layer),
        ground.snapshots().freeze(spec, &layer),
    ] {
        assert!(matches!(made, Err(DriverError::NoMachine(_))), "{made:?}");
    }
    assert_eq!(ground.snapshots().saved(&layer).unwrap(), None);
}

#[test]
fn an_interrupted_freeze_is_called_again() {
    let ground = Ground::new(&["frozen", "fork"]);
    let [spec, fork] = &ground.specs[..] else { panic!() };
    ground.counting();
    let at = ground.saved(spec);
    let layer = ground.path("layer");
    // Links were made and no more.
    fs::create_dir(&layer).unwrap();
    for name in ["disk.qcow2", "ram.img"] {
        fs::hard_link(spec.dir.join(name), layer.join(name)).unwrap();
    }
    ground.snapshots().checkpoint(spec, &layer).unwrap();
    // The machine stands on a layer without a record, under its new disk's temporary name.
    fs::remove_file(layer.join("saved.json")).unwrap();
    fs::rename(spec.dir.join("disk.qcow2"), spec.dir.join("disk.qcow2.next")).unwrap();
    fs::hard_link(layer.join("disk.qcow2"), spec.dir.join("disk.qcow2")).unwrap();
    assert_eq!(ground.snapshots().saved(&spec.dir).unwrap().unwrap().len(), 3);
    assert!(
        ground
            .snapshots()
            .uses(spec)
            .unwrap()
            .contains(&layer.canonicalize().unwrap().join("disk.qcow2"))
    );
    ground.snapshots().freeze(spec, &layer).unwrap();
    ground.snapshots().freeze(spec, &layer).unwrap();
    assert_eq!(ground.qemu.state(spec).unwrap(), MachineState::Absent);
    ground.snapshots().fork(fork, &layer).unwrap();
    ground.resumes(fork, at);
    // Somebody's layer is nobody else's.
    ground.qemu.create(spec).unwrap();
    assert!(ground.snapshots().freeze(spec, &layer).is_err());
    assert_eq!(ground.qemu.state(spec).unwrap(), MachineState::Stopped);
    assert!(ground.snapshots().saved(&layer).unwrap().is_some());
}
