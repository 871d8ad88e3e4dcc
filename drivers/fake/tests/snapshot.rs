//! A fake machine is saved, resumed and forked as the contract says; what goes wrong is told to.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use sampan_driver::{
    Command, Disk, Driver, DriverError, Forward, MachineSpec, MachineState, Snapshot, Started,
};
use sampan_driver_fake::Fake;
use tempfile::TempDir;

/// A directory with a driver; its machines end with it.
struct Ground {
    dir: TempDir,
    driver: Fake,
    specs: Vec<MachineSpec>,
}

impl Ground {
    fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("base"), "").unwrap();
        fs::create_dir(dir.path().join("cache")).unwrap();
        let program = PathBuf::from(env!("CARGO_BIN_EXE_fake-machine"));
        Self {
            driver: Fake::new(dir.path().join("cache"), program),
            specs: names.iter().map(|name| spec(dir.path(), name)).collect(),
            dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn tell(&self, text: &str) {
        fs::write(self.path("cache/fake.toml"), text).unwrap();
    }

    fn snapshots(&self) -> &dyn Snapshot {
        self.driver.snapshots().unwrap()
    }

    /// The first machine, running, with a file on disk and one in memory.
    fn started(&self) -> &MachineSpec {
        let spec = &self.specs[0];
        self.driver.create(spec).unwrap();
        assert_eq!(self.snapshots().resume(spec).unwrap(), Started::Booted(None));
        self.put(spec, "/etc/kept", "disk");
        self.put(spec, "/run/kept", "memory");
        spec
    }

    fn put(&self, spec: &MachineSpec, path: &str, text: &str) {
        let runner = self.driver.endpoint(spec).unwrap().runner.unwrap();
        runner.write_file(path, 0o644, text.as_bytes()).unwrap();
    }

    /// What a file of the guest holds; none when it is not there.
    fn get(&self, spec: &MachineSpec, path: &str) -> Option<String> {
        let runner = self.driver.endpoint(spec).unwrap().runner.unwrap();
        Some(runner.run(&Command::new("cat").arg(path)).ok()?.text())
    }

    fn kept(&self, spec: &MachineSpec) -> (Option<String>, Option<String>) {
        (self.get(spec, "/etc/kept"), self.get(spec, "/run/kept"))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for spec in &self.specs {
            let _ = self.driver.remove(spec);
        }
    }
}

fn spec(dir: &Path, name: &str) -> MachineSpec {
    let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    MachineSpec {
        name: name.into(),
        dir: dir.join(name),
        cpus: 2,
        memory_mib: 2048,
        disk: Disk {
            base: dir.join("base"),
            size_mib: 4096,
        },
        extra_disks: Vec::new(),
        boot: None,
        forwards: vec![Forward::tcp(host, 8443)],
    }
}

fn both() -> (Option<String>, Option<String>) {
    (Some("disk".into()), Some("memory".into()))
}

#[test]
fn a_saved_machine_goes_on_once_and_boots_after_a_crash() {
    let ground = Ground::new(&["a"]);
    let spec = ground.started();
    ground.snapshots().save(spec).unwrap();
    assert_eq!(ground.driver.state(spec).unwrap(), MachineState::Stopped);
    assert!(ground.snapshots().saved(&spec.dir).unwrap().is_some());
    ground.driver.create(spec).unwrap();
    assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Resumed);
    assert_eq!(ground.kept(spec), both());
    assert_eq!(ground.snapshots().saved(&spec.dir).unwrap(), None);
    assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Running);
    assert!(ground.snapshots().resident(spec).unwrap() > 100_000);
    ground.driver.kill(spec).unwrap();
    assert!(matches!(
        ground.snapshots().save(spec),
        Err(DriverError::NoMachine(_))
    ));
    assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Booted(None));
    assert_eq!(ground.kept(spec), (Some("disk".into()), None));
}

#[test]
fn a_state_that_does_not_fit_is_discarded_and_the_disk_booted() {
    let ground = Ground::new(&["a"]);
    let spec = ground.started();
    let boots = |spec: &MachineSpec, why: &str| {
        let how = ground.snapshots().resume(spec).unwrap();
        assert!(
            matches!(&how, Started::Booted(Some(text)) if text.contains(why)),
            "{how:?}"
        );
        assert_eq!(ground.kept(spec), (Some("disk".into()), None));
    };
    ground.snapshots().save(spec).unwrap();
    boots(
        &MachineSpec {
            cpus: 3,
            ..spec.clone()
        },
        "cpus=3",
    );
    ground.snapshots().save(spec).unwrap();
    ground.tell("version = '99'");
    boots(spec, "fake 99");
    ground.snapshots().save(spec).unwrap();
    ground.tell("version = '99'\nfail_at = 'resume'");
    boots(spec, "told to refuse it");
}

#[test]
fn forks_diverge_and_stand_on_their_layer_for_ever() {
    let ground = Ground::new(&["source", "one", "two"]);
    let source = ground.started();
    let [_, one, two] = &ground.specs[..] else {
        panic!()
    };
    let (new, layer) = (ground.path("layer.new"), ground.path("layer"));
    ground.snapshots().freeze(source, &new).unwrap();
    fs::rename(new, &layer).unwrap();
    assert_eq!(ground.driver.state(source).unwrap(), MachineState::Absent);
    assert_eq!(ground.snapshots().saved(&layer).unwrap().unwrap().len(), 2);
    for spec in [one, two] {
        ground.snapshots().fork(spec, &layer).unwrap();
        assert!(
            ground
                .snapshots()
                .uses(spec)
                .unwrap()
                .contains(&layer.join("memory.tar"))
        );
        assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Resumed);
        assert_eq!(ground.kept(spec), both());
    }
    ground.put(one, "/etc/kept", "mine");
    assert_eq!(ground.kept(two), both());
    assert_eq!(
        ground.snapshots().uses(one).unwrap(),
        [ground.dir.path().join("base"), layer.join("disk.tar")]
    );

    // A layer of a running machine, and back to it.
    let snapshot = ground.path("snapshot");
    let before = ground.driver.endpoint(one).unwrap().pid;
    ground.snapshots().checkpoint(one, &snapshot).unwrap();
    assert_eq!(ground.driver.endpoint(one).unwrap().pid, before);
    assert_eq!(ground.driver.state(one).unwrap(), MachineState::Running);
    ground.put(one, "/etc/kept", "later");
    ground.snapshots().restore(one, &snapshot).unwrap();
    assert_eq!(ground.driver.state(one).unwrap(), MachineState::Stopped);
    assert_eq!(ground.snapshots().resume(one).unwrap(), Started::Resumed);
    assert_eq!(ground.kept(one), (Some("mine".into()), Some("memory".into())));
    let uses = ground.snapshots().uses(one).unwrap();
    assert!(uses.contains(&snapshot.join("disk.tar")) && uses.contains(&layer.join("disk.tar")));

    // Without its layer a fork has half a disk.
    ground.driver.kill(one).unwrap();
    fs::remove_file(layer.join("disk.tar")).unwrap();
    assert!(
        matches!(ground.snapshots().resume(one), Err(DriverError::Io { path, .. }) if path == layer.join("disk.tar"))
    );
    assert!(ground.snapshots().saved(&layer).is_err(), "a damaged layer");
    assert!(ground.snapshots().restore(two, &layer).is_err());
}

#[test]
fn a_held_machine_is_paused_and_can_be_woken_saved_and_stopped() {
    let ground = Ground::new(&["a"]);
    let spec = ground.started();
    for _ in 0..2 {
        ground.snapshots().pause(spec).unwrap();
        assert_eq!(ground.driver.state(spec).unwrap(), MachineState::Paused);
    }
    assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Running);
    assert_eq!(ground.driver.state(spec).unwrap(), MachineState::Running);
    ground.snapshots().pause(spec).unwrap();
    ground.snapshots().save(spec).unwrap();
    assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Resumed);
    assert_eq!(ground.kept(spec), both());
    ground.snapshots().pause(spec).unwrap();
    ground
        .driver
        .stop(spec, std::time::Duration::from_secs(5))
        .unwrap();
    assert_eq!(ground.driver.state(spec).unwrap(), MachineState::Stopped);
}

#[test]
fn on_a_full_disk_a_machine_runs_on() {
    let ground = Ground::new(&["a"]);
    let spec = ground.started();
    for point in ["save", "freeze", "checkpoint"] {
        ground.tell(&format!("full_at = '{point}'"));
        let into = ground.path(point);
        let result = match point {
            "save" => ground.snapshots().save(spec),
            "freeze" => ground.snapshots().freeze(spec, &into),
            _ => ground.snapshots().checkpoint(spec, &into),
        };
        assert!(
            matches!(&result, Err(DriverError::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull),
            "{point}: {result:?}"
        );
        assert_eq!(
            ground.driver.state(spec).unwrap(),
            MachineState::Running,
            "{point}"
        );
        assert_eq!(ground.snapshots().saved(&into).unwrap(), None, "{point}");
        assert_eq!(ground.kept(spec), both(), "{point}");
    }
}

#[test]
fn layers_are_made_of_machines_at_rest_too() {
    let ground = Ground::new(&["a", "b", "c"]);
    let spec = ground.started();
    let [_, saved, off] = &ground.specs[..] else {
        panic!()
    };
    ground.snapshots().save(spec).unwrap();
    let layer = ground.path("saved");
    ground.snapshots().checkpoint(spec, &layer).unwrap();
    assert!(
        ground.snapshots().checkpoint(spec, &layer).is_err(),
        "it is in use"
    );
    ground.snapshots().fork(saved, &layer).unwrap();
    for spec in [spec, saved] {
        assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Resumed);
        assert_eq!(ground.kept(spec), both());
    }
    ground.driver.kill(spec).unwrap();
    let layer = ground.path("off");
    ground.snapshots().checkpoint(spec, &layer).unwrap();
    assert_eq!(
        ground.snapshots().saved(&layer).unwrap().unwrap(),
        [layer.join("disk.tar")]
    );
    ground.snapshots().fork(off, &layer).unwrap();
    for spec in [spec, off] {
        assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Booted(None));
        assert_eq!(ground.kept(spec), (Some("disk".into()), None));
    }
}

#[test]
fn an_interrupted_save_or_freeze_is_completed() {
    let ground = Ground::new(&["a"]);
    let spec = ground.started();
    // Whoever saves fails before the process is ended.
    ground.tell("fail_at = 'save-end'");
    assert!(ground.snapshots().save(spec).is_err());
    assert!(ground.driver.endpoint(spec).is_ok());
    ground.tell("");
    assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Resumed);
    assert_eq!(ground.kept(spec), both());
    let layer = ground.path("layer");
    ground.tell("fail_at = 'freeze-end'");
    assert!(ground.snapshots().freeze(spec, &layer).is_err());
    ground.tell("");
    ground.snapshots().freeze(spec, &layer).unwrap();
    ground.snapshots().freeze(spec, &layer).unwrap();
    assert_eq!(ground.driver.state(spec).unwrap(), MachineState::Absent);
    ground.snapshots().fork(spec, &layer).unwrap();
    assert_eq!(ground.snapshots().resume(spec).unwrap(), Started::Resumed);
    assert_eq!(ground.kept(spec), both());
}
