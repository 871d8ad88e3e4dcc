//! Saving and going on, with the real QEMU and a guest of one sector (`guest.s`): it counts in memory and on its disk and
//! writes the count to the serial port eighteen times a second, and `B` first when it boots. So its console tells where it
//! goes on, and (`X`) whether memory and disk fit together.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod arm;
mod faults;
mod full;
mod ground;
mod rest;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use sampan_driver::{Driver, DriverError, MachineSpec, MachineState, Started};

use ground::*;

#[test]
fn a_saved_machine_goes_on_and_again() {
    let ground = Ground::new(&["saved"]);
    let spec = ground.counting();
    for _ in 0..2 {
        let before = count(spec);
        let effort = ground.snapshots().save(spec).unwrap();
        assert!(effort.written < 16 << 20, "{effort:?}");
        assert_eq!(ground.qemu.state(spec).unwrap(), MachineState::Stopped);
        assert_eq!(ground.snapshots().saved(&spec.dir).unwrap().unwrap().len(), 3);
        ground.qemu.create(spec).unwrap();
        ground.resumes(spec, before);
        assert_eq!(ground.snapshots().saved(&spec.dir).unwrap(), None);
        assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Running);
    }
    // What was saved is used once: after a crash the disk is booted.
    ground.qemu.kill(spec).unwrap();
    assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Booted(None));
    assert!(matches!(
        ground.snapshots().save(&MachineSpec {
            dir: ground.path("none"),
            ..spec.clone()
        }),
        Err(DriverError::NoMachine(_))
    ));
}

#[test]
fn forks_diverge_from_each_other_and_can_be_saved_themselves() {
    let ground = Ground::new(&["source", "one", "two"]);
    let (layer, frozen) = ground.frozen();
    let [source, one, two] = &ground.specs[..] else {
        panic!()
    };
    assert_eq!(ground.qemu.state(source).unwrap(), MachineState::Absent);
    for name in ["ram.img", "disk.qcow2", "device.state"] {
        let mode = fs::metadata(layer.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400, "{name}");
    }
    let memory = fs::read(layer.join("ram.img")).unwrap();
    ground.snapshots().fork(one, &layer).unwrap();
    ground.snapshots().fork(one, &layer).unwrap();
    ground.resumes(one, frozen);
    counts_to(one, frozen + 60);
    // The second begins where the layer is, not where the first is by now.
    ground.snapshots().fork(two, &layer).unwrap();
    ground.resumes(two, frozen);
    assert!(counts(two)[0] < frozen + 60);
    assert!(ground.snapshots().resident(one).unwrap() > 1 << 20);
    let uses = ground.snapshots().uses(one).unwrap();
    let real = layer.canonicalize().unwrap();
    assert_eq!(
        uses,
        [
            ground.path("base.raw"),
            real.join("disk.qcow2"),
            real.join("ram.img")
        ]
    );

    let before = count(one);
    ground.snapshots().save(one).unwrap();
    ground.resumes(one, before);
    let before = count(one);
    let effort = ground.snapshots().save(one).unwrap();
    assert!(
        effort.written < 4 << 20,
        "only what changed is written: {effort:?}"
    );
    ground.resumes(one, before);
    assert!(
        !ground
            .snapshots()
            .uses(one)
            .unwrap()
            .contains(&real.join("ram.img"))
    );
    assert!(
        fs::read(layer.join("ram.img")).unwrap() == memory,
        "the layer was written to"
    );
}

#[test]
fn a_state_that_does_not_fit_is_discarded_and_the_disk_booted() {
    let ground = Ground::new(&["misfit"]);
    let spec = ground.counting();
    let save = |spec: &MachineSpec| ground.snapshots().save(spec).unwrap();
    save(spec);
    boots_instead(
        &ground,
        &MachineSpec {
            memory_mib: 96,
            ..spec.clone()
        },
        "the machine was changed",
    );
    save(&MachineSpec {
        memory_mib: 96,
        ..spec.clone()
    });
    fs::remove_file(spec.dir.join("ram.img")).unwrap();
    assert!(ground.snapshots().saved(&spec.dir).is_err());
    boots_instead(
        &ground,
        &MachineSpec {
            memory_mib: 96,
            ..spec.clone()
        },
        "ram.img",
    );
    ground.qemu.kill(spec).unwrap();
    ground.qemu.start(spec).unwrap();
    save(spec);
    let record = spec.dir.join("saved.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("emulator version", "emulator version 1.")).unwrap();
    boots_instead(&ground, spec, "it was saved by QEMU emulator version 1.");
    save(spec);
    let state = spec.dir.join("device.state");
    let size = fs::metadata(&state).unwrap().len();
    fs::write(&state, vec![7; size as usize]).unwrap();
    boots_instead(&ground, spec, "qemu does not take the saved state");
    save(spec);
    fs::write(&record, "{").unwrap();
    assert!(ground.snapshots().saved(&spec.dir).is_err());
    match ground.snapshots().resume(spec).unwrap() {
        Started::Booted(Some(reason)) => assert!(reason.contains("damaged"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_taken_port_costs_nothing() {
    let ground = Ground::new(&["port"]);
    let spec = ground.counting();
    let before = count(spec);
    ground.snapshots().save(spec).unwrap();
    let listener = TcpListener::bind(spec.forwards[0].host).unwrap();
    assert!(matches!(
        ground.qemu.start(spec),
        Err(DriverError::PortTaken { .. })
    ));
    drop(listener);
    ground.resumes(spec, before);
}

#[test]
fn a_checkpoint_is_a_layer_to_return_to() {
    let ground = Ground::new(&["checked", "other"]);
    let spec = ground.counting();
    let [first, second] = [ground.path("first"), ground.path("second")];
    let at_first = count(spec);
    ground.snapshots().checkpoint(spec, &first).unwrap();
    assert_eq!(ground.qemu.state(spec).unwrap(), MachineState::Running);
    assert!(
        ground.snapshots().checkpoint(spec, &first).is_err(),
        "a layer was overwritten"
    );
    counts_to(spec, at_first + 40);
    let at_second = count(spec);
    ground.snapshots().checkpoint(spec, &second).unwrap();
    counts_to(spec, at_second + 40);
    let before = count(spec);
    ground.snapshots().save(spec).unwrap();
    ground.resumes(spec, before);
    ground.snapshots().restore(spec, &first).unwrap();
    ground.resumes(spec, at_first);
    ground.snapshots().restore(spec, &second).unwrap();
    ground.resumes(spec, at_second);
    // Of a fork, too; and another machine can begin there.
    let third = ground.path("third");
    let at_third = count(spec);
    ground.snapshots().checkpoint(spec, &third).unwrap();
    let other = &ground.specs[1];
    ground.snapshots().fork(other, &third).unwrap();
    ground.resumes(other, at_third);
    counts_to(spec, at_third + 5);
    assert!(
        ground
            .snapshots()
            .uses(other)
            .unwrap()
            .contains(&second.canonicalize().unwrap().join("disk.qcow2"))
    );
}

#[test]
fn a_machine_can_be_held() {
    let ground = Ground::new(&["held"]);
    let spec = ground.counting();
    ground.snapshots().pause(spec).unwrap();
    assert_eq!(ground.qemu.state(spec).unwrap(), MachineState::Paused);
    let before = count(spec);
    ground.snapshots().save(spec).unwrap();
    ground.resumes(spec, before);
}

#[test]
fn an_incomplete_layer_is_refused() {
    let ground = Ground::new(&["source", "fork"]);
    let (layer, _) = ground.frozen();
    let fork = &ground.specs[1];
    fs::remove_file(layer.join("device.state")).unwrap();
    let error = ground.snapshots().fork(fork, &layer).unwrap_err().to_string();
    assert!(error.contains("device.state"), "{error}");
    fs::remove_file(layer.join("saved.json")).unwrap();
    let error = ground.snapshots().fork(fork, &layer).unwrap_err().to_string();
    assert!(error.contains("it is not complete"), "{error}");
    assert_eq!(ground.qemu.state(fork).unwrap(), MachineState::Absent);
}

/// Kills QEMU somewhere within a save; whatever came of it, the machine starts, and either goes on or boots.
#[test]
fn qemu_killed_while_it_is_saved() {
    let ground = Ground::new(&["source", "killed"]);
    let (layer, _) = ground.frozen();
    let spec = &ground.specs[1];
    ground.snapshots().fork(spec, &layer).unwrap();
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = seed;
    for round in 0..6 {
        let started = ground.snapshots().resume(spec).unwrap();
        counts_to(spec, 1);
        let pid = ground.qemu.endpoint(spec).unwrap().pid.unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let delay = Duration::from_micros((random >> 33) % 150_000);
        let saved = thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(delay);
                kill(pid);
            });
            ground.snapshots().save(spec)
        });
        println!("round {round}: {started:?}, killed after {delay:?}: {saved:?}");
        let complete = ground.snapshots().saved(&spec.dir).unwrap().is_some();
        assert_eq!(complete, saved.is_ok());
    }
    ground.qemu.start(spec).unwrap();
    counts_to(spec, 1);
}

/// As a killed sampan leaves things: each temporary file of a save, and a QEMU that waits for its state.
#[test]
fn what_a_killed_save_or_start_leaves_behind_is_overcome() {
    let ground = Ground::new(&["left"]);
    let spec = ground.counting();
    ground.qemu.kill(spec).unwrap();
    for name in [
        "ram.img",
        "ram.img.new",
        "device.state",
        "device.state.new",
        "saved.json.new",
        "disk.qcow2.next",
    ] {
        fs::write(spec.dir.join(name), "half").unwrap();
    }
    assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Booted(None));
    counts_to(spec, 5);
    let before = count(spec);
    ground.snapshots().save(spec).unwrap();
    let record = fs::read(spec.dir.join("saved.json")).unwrap();
    let state = fs::read(spec.dir.join("device.state")).unwrap();
    ground.resumes(spec, before);
    ground.snapshots().pause(spec).unwrap();
    // Its start was not complete when the record was still there.
    fs::write(spec.dir.join("saved.json"), record).unwrap();
    fs::write(spec.dir.join("device.state"), state).unwrap();
    let started = ground.snapshots().resume(spec).unwrap();
    assert!(
        matches!(started, Started::Resumed | Started::Booted(Some(_))),
        "{started:?}"
    );
    counts_to(spec, 1);
    assert!(
        names(&spec.dir)
            .iter()
            .all(|name| !name.ends_with(".new") && !name.ends_with(".next"))
    );
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
