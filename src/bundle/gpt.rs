//! The partition table of a disk image, as far as it takes to find the root file system.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

const SECTOR: u64 = 512;
/// More than any table has.
const MOST_ENTRIES: u32 = 1024;

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    /// What it is for, as a GUID in lower case.
    pub(super) kind: String,
    /// Its own GUID, as `PARTUUID=` wants it.
    pub(super) id: String,
    /// Where it begins, in bytes.
    pub(super) offset: u64,
    /// How long it is, in bytes.
    pub(super) size: u64,
}

/// Types of root partitions: 64-bit PC, 64-bit Arm; and that of any Linux file system.
const ROOTS: [&str; 3] = [
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "b921b045-1df0-41c3-af44-4c6f280d3fae",
    "0fc63daf-8483-4772-8e79-3d69d8477de4",
];

/// The partition with the root file system; none when the disk has no such table or partition.
pub(super) fn root(disk: &Path) -> io::Result<Option<Partition>> {
    let partitions = read(&mut File::open(disk)?)?;
    let of_kind = |kind: &&str| {
        let all = partitions.iter().filter(|one| one.kind == **kind);
        all.max_by_key(|one| one.size).cloned()
    };
    Ok(ROOTS.iter().find_map(of_kind))
}

fn read(disk: &mut (impl Read + Seek)) -> io::Result<Vec<Partition>> {
    let mut header = [0; 92];
    disk.seek(SeekFrom::Start(SECTOR))?;
    if let Err(error) = disk.read_exact(&mut header) {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => Ok(Vec::new()),
            _ => Err(error),
        };
    }
    let count = number(&header[80..84]) as u32;
    let size = number(&header[84..88]) as usize;
    if !header.starts_with(b"EFI PART") || count > MOST_ENTRIES || !(128..=4096).contains(&size) {
        return Ok(Vec::new());
    }
    let Some(table) = number(&header[72..80]).checked_mul(SECTOR) else {
        return Ok(Vec::new());
    };
    disk.seek(SeekFrom::Start(table))?;
    let mut partitions = Vec::new();
    let mut entry = vec![0; size];
    for _ in 0..count {
        disk.read_exact(&mut entry)?;
        partitions.extend(partition(&entry));
    }
    Ok(partitions)
}

fn partition(entry: &[u8]) -> Option<Partition> {
    let (first, last) = (number(&entry[32..40]), number(&entry[40..48]));
    if entry[..16].iter().all(|byte| *byte == 0) {
        return None;
    }
    Some(Partition {
        kind: guid(&entry[..16]),
        id: guid(&entry[16..32]),
        offset: first.checked_mul(SECTOR)?,
        size: last.checked_sub(first)?.checked_add(1)?.checked_mul(SECTOR)?,
    })
}

/// Little-endian.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Its first three groups are little-endian, the others are not.
fn guid(bytes: &[u8]) -> String {
    let group = |from: usize, to: usize| -> String {
        bytes[from..to].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    format!(
        "{:08x}-{:04x}-{:04x}-{}-{}",
        number(&bytes[..4]),
        number(&bytes[4..6]),
        number(&bytes[6..8]),
        group(8, 10),
        group(10, 16)
    )
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A disk with an EFI partition and a root partition of these types, as Debian's cloud image has them.
    pub(in super::super) fn disk(dir: &Path, root: &str) -> PathBuf {
        let path = dir.join("disk.raw");
        let file = File::create(&path).unwrap();
        file.set_len(8 << 20).unwrap();
        let script = format!(
            "label: gpt\n{p}15 : start=2048, size=2048, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n\
             {p}1 : start=4096, size=8192, type={root}, uuid=7D0CFE1A-52A3-4C65-9F3F-0C10D6A50001\n",
            p = path.display()
        );
        let sfdisk = sampan_driver::Command::new("sh")
            .args(["-c", "PATH=\"$PATH:/usr/sbin:/sbin\"; exec sfdisk --quiet \"$0\""])
            .path(&path)
            .stdin(script);
        sampan_driver::Runner::run(&sampan_driver::Host, &sfdisk).unwrap();
        path
    }

    #[test]
    fn the_root_partition_is_found_by_its_type() {
        for kind in [ROOTS[0], ROOTS[2]] {
            let dir = tempfile::tempdir().unwrap();
            let expected = Partition {
                kind: kind.to_owned(),
                id: "7d0cfe1a-52a3-4c65-9f3f-0c10d6a50001".to_owned(),
                offset: 4096 * 512,
                size: 8192 * 512,
            };
            assert_eq!(root(&disk(dir.path(), kind)).unwrap(), Some(expected));
        }
    }

    #[test]
    fn what_is_no_such_disk_has_no_root() {
        let dir = tempfile::tempdir().unwrap();
        let swap = disk(dir.path(), "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F");
        assert_eq!(root(&swap).unwrap(), None);
        for bytes in [vec![], vec![0; 100], vec![0x55; 4096], {
            // A table that would be endless, at an address beyond all disks.
            let mut bytes = vec![0xff; 4096];
            bytes[512..520].copy_from_slice(b"EFI PART");
            bytes
        }] {
            let path = dir.path().join("other");
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(root(&path).unwrap(), None);
        }
    }
}
