use super::*;

fn identity() -> Identity {
    Identity {
        qemu: "QEMU emulator version 10.0.2".into(),
        processor: String::new(),
        machine: ["-smp", "2", "-m", "4096M"].map(String::from).to_vec(),
    }
}

/// A directory with all files of a saved state.
fn saved() -> (tempfile::TempDir, Record) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        (files::RAM, "memory"),
        (files::DEVICES, "devices"),
        (files::DISK, "disk"),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let record = Record::of(dir.path(), identity(), Memory::File).unwrap();
    record.write(dir.path()).unwrap();
    (dir, record)
}

#[test]
fn a_record_is_read_as_it_was_written_and_forgotten_for_good() {
    let (dir, record) = saved();
    assert_eq!(Record::read(dir.path()), Ok(Some(record.clone())));
    assert_eq!(record.check(dir.path(), &identity()), Ok(()));
    assert_eq!(record.files(dir.path()).len(), 3);
    Record::forget(dir.path()).unwrap();
    Record::forget(dir.path()).unwrap();
    assert_eq!(Record::read(dir.path()), Ok(None));
}

#[test]
fn whatever_does_not_fit_is_named() {
    let (dir, record) = saved();
    let check = |now: &Identity| record.check(dir.path(), now).unwrap_err();
    let mut now = identity();
    now.machine[3] = "8192M".into();
    assert_eq!(check(&now), "the machine was changed: 8192M instead of 4096M");
    now.qemu = "QEMU emulator version 11.0.0".into();
    let expected = "it was saved by QEMU emulator version 10.0.2, and this is QEMU emulator version 11.0.0";
    assert_eq!(check(&now), expected);
    fs::write(dir.path().join(files::RAM), "half").unwrap();
    assert!(check(&identity()).ends_with("ram.img has 4 bytes instead of 6"));
    fs::write(dir.path().join(files::RAM), "memory").unwrap();
    fs::remove_file(dir.path().join(files::DEVICES)).unwrap();
    assert!(check(&identity()).contains("device.state"));
}

#[test]
fn a_disk_that_moved_on_or_was_replaced_does_not_fit() {
    let (dir, record) = saved();
    let disk = dir.path().join(files::DISK);
    let copy = dir.path().join("copy");
    fs::write(&copy, "disk").unwrap();
    fs::rename(&copy, &disk).unwrap();
    let reason = record.check(dir.path(), &identity()).unwrap_err();
    assert_eq!(reason, "its disk was changed after it was saved");
}

#[test]
fn damage_is_told_in_words() {
    let (dir, record) = saved();
    let path = dir.path().join(files::SAVED);
    fs::write(&path, "{").unwrap();
    assert!(Record::read(dir.path()).unwrap_err().contains("is damaged"));
    let newer = Record { format: 2, ..record };
    newer.write(dir.path()).unwrap();
    assert!(Record::read(dir.path()).unwrap_err().contains("unknown format 2"));
}

#[test]
fn where_a_machine_starts_from_depends_on_what_was_saved_and_on_the_host() {
    let (dir, record) = saved();
    let own = dir.path().canonicalize().unwrap().join(files::RAM);
    assert_eq!(record.start(dir.path(), true), Start::View(own));
    assert_eq!(record.start(dir.path(), false), Start::File);
    let forked = record
        .clone()
        .forked(Path::new("/layer"), &dir.path().join(files::DISK))
        .unwrap();
    assert_eq!(
        forked.start(dir.path(), false),
        Start::View("/layer/ram.img".into())
    );
    assert_eq!(forked.files(dir.path())[0], Path::new("/layer/ram.img"));
    let stream = Record {
        memory: Memory::Stream,
        ..record
    };
    assert_eq!(stream.start(dir.path(), true), Start::Stream);
}
