//! The system disk: a raw copy of the base. hyperkit's own qcow2 support is optional and slow, so there is no layer over a shared
//! base; but a copy costs what is in it, not its size: APFS shares the blocks, other file systems get the holes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sampan_driver::{Disk, DriverError, MachineSpec, Result};

use crate::files;

const MIB: u64 = 1 << 20;

/// Makes the disk if it is not there; makes it larger if more is asked for and it is not in use. It never gets smaller.
pub(crate) fn ensure(spec: &MachineSpec, in_use: bool) -> Result<()> {
    let path = spec.dir.join(files::DISK);
    if !path.exists() {
        return make(&spec.disk, &spec.dir.join(files::DISK_NEW), &path);
    }
    let wanted = spec.disk.size_mib * MIB;
    let size = fs::metadata(&path).map_err(DriverError::io(&path))?.len();
    if wanted <= size || in_use {
        return Ok(());
    }
    let grown = OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(wanted));
    grown.map_err(DriverError::io(&path))
}

/// Whatever is interrupted, there is no disk or a whole one.
fn make(disk: &Disk, new: &Path, path: &Path) -> Result<()> {
    files::remove(new)?;
    let base = File::open(&disk.base).map_err(DriverError::io(&disk.base))?;
    let made = copy(&base, &disk.base, new).and_then(|copy| {
        let size = copy.metadata()?.len();
        copy.set_len(size.max(disk.size_mib * MIB))?;
        copy.sync_all()?;
        fs::rename(new, path)
    });
    made.map_err(|error| {
        let _ = fs::remove_file(new);
        DriverError::io(path)(error)
    })
}

fn copy(base: &File, base_path: &Path, new: &Path) -> io::Result<File> {
    if cfg!(target_os = "macos") {
        // A clone where the file system can: no blocks are copied.
        fs::copy(base_path, new)?;
        let owner = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
        fs::set_permissions(new, owner)?;
        return OpenOptions::new().write(true).open(new);
    }
    let mut copy = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)?;
    sparse(base, &mut copy)?;
    Ok(copy)
}

/// Copies what is not zero.
fn sparse(mut from: &File, to: &mut File) -> io::Result<()> {
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut block = vec![0; 256 * 1024];
    let mut at = 0;
    while at < size {
        // The next byte that is not in a hole; file systems without holes say: this one.
        match rustix::fs::seek(from, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => at = data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(_) => drop(from.seek(SeekFrom::Start(at))?),
        }
        let count = from.read(&mut block)?;
        if count == 0 {
            break;
        }
        if block[..count].iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(at))?;
            to.write_all(&block[..count])?;
        }
        at += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn spec(dir: &Path) -> MachineSpec {
        MachineSpec {
            name: "test".into(),
            dir: dir.to_owned(),
            cpus: 1,
            memory_mib: 64,
            disk: Disk {
                base: dir.join("base"),
                size_mib: 8,
            },
            extra_disks: Vec::new(),
            boot: None,
            forwards: Vec::new(),
        }
    }

    #[test]
    fn a_copy_has_the_holes_of_the_base_and_the_size_that_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = spec(dir.path());
        let mut base = File::create(&spec.disk.base).unwrap();
        base.set_len(4 * MIB).unwrap();
        base.write_all(b"begin").unwrap();
        base.seek(SeekFrom::Start(3 * MIB + 17)).unwrap();
        base.write_all(b"middle").unwrap();
        ensure(&spec, false).unwrap();
        let path = dir.path().join(files::DISK);
        let copy = fs::read(&path).unwrap();
        let mut expected = fs::read(&spec.disk.base).unwrap();
        expected.resize(8 << 20, 0);
        assert!(copy == expected, "the copy is another");
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(
            metadata.blocks() * 512 < 2 * MIB,
            "{} blocks for two pieces",
            metadata.blocks()
        );
        // What the guest wrote stays, and a disk never gets smaller.
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all(b"guest")
            .unwrap();
        spec.disk.size_mib = 2;
        ensure(&spec, false).unwrap();
        spec.disk.size_mib = 16;
        ensure(&spec, true).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 8 * MIB);
        ensure(&spec, false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 16 * MIB);
        assert!(fs::read(&path).unwrap().starts_with(b"guest"));
    }

    #[test]
    fn what_an_interrupted_copy_left_is_made_anew_and_a_missing_base_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let spec = spec(dir.path());
        let error = ensure(&spec, false).unwrap_err().to_string();
        assert!(error.contains("base: No such file"), "{error}");
        fs::write(&spec.disk.base, [1; 4096]).unwrap();
        fs::write(dir.path().join(files::DISK_NEW), "half").unwrap();
        ensure(&spec, false).unwrap();
        assert!(!dir.path().join(files::DISK_NEW).exists());
        assert!(
            fs::read(dir.path().join(files::DISK))
                .unwrap()
                .starts_with(&[1; 4096])
        );
    }
}
