use std::path::PathBuf;

use super::*;

struct Ground {
    _dir: tempfile::TempDir,
    spec: MachineSpec,
}

fn ground(size_mib: u64) -> Ground {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base.raw");
    File::create(&base).unwrap().set_len(3 * MIB).unwrap();
    let spec = MachineSpec {
        name: "d".into(),
        dir: dir.path().to_owned(),
        cpus: 1,
        memory_mib: 16,
        disk: Disk { base, size_mib },
        extra_disks: Vec::new(),
        boot: None,
        forwards: Vec::new(),
    };
    Ground { _dir: dir, spec }
}

fn ensure(spec: &MachineSpec, running: bool) -> u64 {
    super::ensure(Path::new("qemu-img"), spec, running).unwrap();
    virtual_size(&spec.dir.join(files::DISK), "d").unwrap()
}

#[test]
fn the_disk_grows_and_never_shrinks() {
    let mut ground = ground(8);
    assert_eq!(ensure(&ground.spec, false), 8 * MIB);
    ground.spec.disk.size_mib = 16;
    assert_eq!(ensure(&ground.spec, true), 8 * MIB, "a disk in use is left alone");
    assert_eq!(ensure(&ground.spec, false), 16 * MIB);
    ground.spec.disk.size_mib = 4;
    assert_eq!(ensure(&ground.spec, false), 16 * MIB);
    let info = qemu_img(Path::new("qemu-img"))
        .arg("info")
        .path(&ground.spec.dir.join(files::DISK));
    let info = Host.run(&info).unwrap().text();
    assert!(
        info.contains("base.raw") && info.contains("extended l2: true"),
        "{info}"
    );
}

#[test]
fn the_disk_is_at_least_as_large_as_its_base_and_a_half_made_one_is_replaced() {
    let ground = ground(1);
    let half = ground
        .spec
        .dir
        .join(format!("{}{}", files::DISK_MADE_BY, std::process::id()));
    fs::write(&half, "half").unwrap();
    assert_eq!(ensure(&ground.spec, false), 3 * MIB);
    assert!(!half.exists());
}

#[test]
fn memory_needs_room_on_the_disk() {
    let mut ground = ground(1);
    check_room(&ground.spec, ground.spec.memory_mib).unwrap();
    ground.spec.memory_mib = 1 << 40;
    match check_room(&ground.spec, ground.spec.memory_mib) {
        Err(DriverError::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::StorageFull),
        other => panic!("{other:?}"),
    }
}

#[test]
fn missing_files_are_named() {
    let mut ground = ground(1);
    check_files(&ground.spec).unwrap();
    ground.spec.disk.base = PathBuf::from("/no/base.raw");
    assert!(
        check_files(&ground.spec)
            .unwrap_err()
            .to_string()
            .starts_with("/no/base.raw: ")
    );
    let error = super::ensure(Path::new("qemu-img"), &ground.spec, false).unwrap_err();
    assert!(error.to_string().starts_with("/no/base.raw: "), "{error}");
}

#[test]
fn a_base_behind_a_link_is_found_without_it() {
    let mut ground = ground(8);
    let (base, link) = (ground.spec.disk.base.clone(), ground.spec.dir.join("link"));
    std::os::unix::fs::symlink(&ground.spec.dir, &link).unwrap();
    ground.spec.disk.base = link.join("base.raw");
    ensure(&ground.spec, false);
    fs::remove_file(&link).unwrap();
    let named = backing(&ground.spec.dir.join(files::DISK)).unwrap().unwrap();
    assert!(files::same(&named, &base), "{}", named.display());
}
