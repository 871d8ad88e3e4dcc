//! Full disks, with a disk of our own: a mount that nobody else sees.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{Driver, DriverError, Effort, MachineSpec, MachineState, Result, Started};
use sampan_test_support::disk::{leave_kib, may_mount, mount};

use crate::ground::*;

fn on_a_disk(names: &[&str]) -> Ground {
    let dir = tempfile::tempdir().unwrap();
    mount("size=256m", dir.path());
    Ground::on(dir, names)
}

/// In our words, or in those of `qemu-img`.
fn is_full(error: &DriverError) -> bool {
    error.to_string().contains("No space left on device")
        || matches!(error, DriverError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
}

/// With a little more room each time, until it succeeds.
fn until_there_is_room(
    ground: &Ground,
    spec: &MachineSpec,
    act: impl Fn() -> Result<Effort>,
) -> (Vec<String>, u32) {
    let mut errors = Vec::new();
    for free in (256..).step_by(96) {
        leave_kib(ground.dir.path(), free);
        let before = count(spec);
        let Err(error) = act() else {
            // What was left is little, and the guest goes on writing.
            leave_kib(ground.dir.path(), 8 << 10);
            if ground.qemu.state(spec).unwrap() == MachineState::Paused {
                ground.qemu.start(spec).unwrap();
            }
            return (errors, before);
        };
        assert!(is_full(&error), "{free} KiB: {error}");
        errors.push(error.to_string());
        if ground.qemu.state(spec).unwrap() != MachineState::Running {
            assert!(
                ground.qemu.trouble(spec).unwrap().is_some(),
                "it is held: {error}"
            );
            // The guest has met the full disk as well.
            leave_kib(ground.dir.path(), 8 << 10);
            ground.qemu.start(spec).unwrap();
        }
        counts_to(spec, before + 1);
        whole(spec);
        assert_eq!(ground.snapshots().saved(&spec.dir).unwrap(), None);
        let names = names(&spec.dir);
        let of_a_run = ["disk.qcow2", "serial.log", "qemu.log", "qemu.pid"];
        let half = |name: &&String| {
            let other = [".sock", "disk.qcow2.run-1"];
            !other.iter().any(|end| name.ends_with(end)) && !of_a_run.contains(&name.trim_end_matches(".1"))
        };
        let left = names.iter().find(half);
        assert_eq!(left, None, "{error}");
    }
    unreachable!("an endless range")
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_machine_that_cannot_be_saved_runs_on() {
    if !may_mount("full::a_machine_that_cannot_be_saved_runs_on") {
        return;
    }
    let ground = on_a_disk(&["full"]);
    let spec = ground.counting();
    let layer = ground.path("layer");
    let (errors, at) = until_there_is_room(&ground, spec, || {
        let made = ground.snapshots().checkpoint(spec, &layer);
        assert_eq!(layer.exists(), made.is_ok());
        made
    });
    println!("{errors:#?}");
    // Not only the look ahead.
    assert!(errors.iter().any(|error| error.contains("are free")));
    assert!(errors.iter().any(|error| !error.contains("are free")));
    counts_to(spec, at + 1);
    let (errors, before) = until_there_is_room(&ground, spec, || ground.snapshots().save(spec));
    println!("{errors:#?}");
    leave_kib(ground.dir.path(), 100 << 10);
    ground.resumes(spec, before);
    ground.snapshots().restore(spec, &layer).unwrap();
    ground.resumes(spec, at);
}

#[test]
fn a_guest_held_by_a_full_disk_goes_on_when_there_is_room() {
    if !may_mount("full::a_guest_held_by_a_full_disk_goes_on_when_there_is_room") {
        return;
    }
    let ground = on_a_disk(&["held"]);
    let spec = ground.counting();
    assert_eq!(ground.qemu.trouble(spec).unwrap(), None);
    leave_kib(ground.dir.path(), 0);
    let end = Instant::now() + SOON;
    while ground.qemu.state(spec).unwrap() == MachineState::Running {
        assert!(Instant::now() < end, "it finds room");
        thread::sleep(Duration::from_millis(10));
    }
    let trouble = ground.qemu.trouble(spec).unwrap().unwrap();
    assert!(
        trouble.contains("no room for what it writes to its disk"),
        "{trouble}"
    );
    let error = ground.qemu.start(spec).unwrap_err();
    assert!(is_full(&error), "{error}");
    let before = count(spec);
    leave_kib(ground.dir.path(), 100 << 10);
    assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Running);
    counts_to(spec, before + 10);
    whole(spec);
    assert_eq!(ground.qemu.trouble(spec).unwrap(), None);
    // Held and saved, it tries to write again when it goes on.
    leave_kib(ground.dir.path(), 0);
    while ground.qemu.state(spec).unwrap() == MachineState::Running {
        assert!(Instant::now() < end, "it finds room");
        thread::sleep(Duration::from_millis(10));
    }
    leave_kib(ground.dir.path(), 100 << 10);
    let before = ground.saved(spec);
    ground.resumes(spec, before);
}
