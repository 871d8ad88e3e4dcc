//! The system disk: a qcow2 layer over a base that is never written to.

use std::fs::{self, File, Permissions};
use std::io::{Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sampan_driver::{Command, Disk, DriverError, Host, MachineSpec, Result, Runner};

use crate::files;

const MIB: u64 = 1 << 20;

/// Extended L2 tables let a small write into a new cluster copy 4 KiB of the base instead of a whole cluster.
const OPTIONS: &str = "extended_l2=on,cluster_size=128k";

/// Makes the disk if it is not there; makes it larger if more is asked for. It never gets smaller.
/// A disk in use (`in_use`: the machine runs or is saved) is left alone.
pub(crate) fn ensure(image_tool: &Path, spec: &MachineSpec, in_use: bool) -> Result<()> {
    let path = spec.dir.join(files::DISK);
    if !path.exists() {
        return make(image_tool, &spec.disk, &path);
    }
    let wanted = spec.disk.size_mib * MIB;
    let size = virtual_size(&path, &spec.name)?;
    if wanted < size {
        tracing::debug!(size, wanted, "the disk keeps its size");
    }
    if wanted <= size || in_use {
        return Ok(());
    }
    let resize = qemu_img(image_tool)
        .args(["resize", "-q", "-f", "qcow2"])
        .path(&path)
        .arg(wanted.to_string());
    Host.run(&resize)?;
    Ok(())
}

fn make(image_tool: &Path, disk: &Disk, path: &Path) -> Result<()> {
    let base = fs::metadata(&disk.base)
        .map_err(DriverError::io(&disk.base))?
        .len();
    let size = base.max(disk.size_mib * MIB);
    layer(image_tool, "raw", &disk.base, size, path)
}

/// Makes a layer over another machine's or snapshot's disk, as large as that is.
pub(crate) fn overlay(image_tool: &Path, name: &str, below: &Path, new: &Path) -> Result<()> {
    layer(image_tool, "qcow2", below, virtual_size(below, name)?, new)
}

fn layer(image_tool: &Path, format: &str, below: &Path, size: u64, new: &Path) -> Result<()> {
    let made = new.with_file_name(format!("{}{}", files::DISK_MADE_BY, std::process::id()));
    files::remove(&made)?;
    // Its one true name: a cache may have been reached through a link that is gone the next time.
    let below = files::real(below);
    let create = qemu_img(image_tool)
        .args([
            "create", "-q", "-u", "-f", "qcow2", "-F", format, "-o", OPTIONS, "-b",
        ])
        .path(&below)
        .path(&made)
        .arg(size.to_string());
    Host.run(&create)
        .inspect_err(|_| fs::remove_file(&made).unwrap_or_default())?;
    let settle = |file: File| {
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.sync_all()
    };
    File::open(&made)
        .and_then(settle)
        .and_then(|()| fs::rename(&made, new))
        .map_err(DriverError::io(new))
}

/// Nobody has this many layers; a chain that goes in a circle would.
const CHAIN_LIMIT: usize = 1000;

/// The images a qcow2 image stands on, topmost first, as far as they are qcow2 themselves, and the base below them.
pub(crate) fn chain(path: &Path) -> Vec<PathBuf> {
    let below = |path: &PathBuf| {
        let below = backing(path).ok().flatten()?;
        Some(path.parent()?.join(below))
    };
    std::iter::successors(below(&path.to_owned()), below)
        .take(CHAIN_LIMIT)
        .collect()
}

/// Whether the image `above` is a layer directly over the file `below`, whatever name it has for it.
pub(crate) fn is_over(above: &Path, below: &Path) -> bool {
    let named = backing(above).ok().flatten();
    named.is_some_and(|named| files::same(&above.with_file_name(named), below))
}

/// The name of the backing file in a qcow2 image's header: its place at byte 8, its length at byte 16.
fn backing(path: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut header = [0; 20];
    let mut file = File::open(path)?;
    file.read_exact(&mut header)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (place, length) = (number(&header[8..16]), number(&header[16..20]));
    if !header.starts_with(b"QFI\xfb") || place == 0 || length > 1023 {
        return Ok(None);
    }
    file.seek(std::io::SeekFrom::Start(place))?;
    let mut name = String::new();
    file.take(length).read_to_string(&mut name)?;
    Ok(Some(PathBuf::from(name)))
}

fn qemu_img(program: &Path) -> Command {
    Command::new(program.to_string_lossy())
}

/// The size the guest sees, read from the image's header: magic at byte 0, size at byte 24, big-endian.
fn virtual_size(path: &Path, name: &str) -> Result<u64> {
    let mut header = Vec::new();
    let file = File::open(path).map_err(DriverError::io(path))?;
    file.take(32)
        .read_to_end(&mut header)
        .map_err(DriverError::io(path))?;
    match (
        header.get(..4),
        header.get(24..32).and_then(|size| size.try_into().ok()),
    ) {
        (Some(b"QFI\xfb"), Some(size)) => Ok(u64::from_be_bytes(size)),
        _ => Err(DriverError::Failed {
            name: name.to_owned(),
            what: format!("{} is damaged: not a qcow2 image", path.display()),
        }),
    }
}

/// Says which of the files a machine is made of is missing, before QEMU says it in its own way.
pub(crate) fn check_files(spec: &MachineSpec) -> Result<()> {
    let below = chain(&spec.dir.join(files::DISK));
    let boot = spec.boot.iter().flat_map(|boot| [&boot.kernel, &boot.initrd]);
    let extra = spec.extra_disks.iter().map(|disk| &disk.path);
    if below.len() == CHAIN_LIMIT {
        return Err(DriverError::Failed {
            name: spec.name.clone(),
            what: format!("{}: the images below it go in a circle", below[0].display()),
        });
    }
    let all = std::iter::once(&spec.disk.base).chain(&below);
    for path in all.chain(extra).chain(boot) {
        File::open(path).map_err(DriverError::io(path))?;
    }
    Ok(())
}

/// MiB that are free for an ordinary user.
pub(crate) fn free(dir: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(dir).map_err(|errno| DriverError::io(dir)(errno.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize) / MIB)
}

/// The guest's memory is a file with holes: if the file system fills up while the guest runs, QEMU is killed by a bus
/// error. So there has to be room for all of it.
pub(crate) fn check_room(spec: &MachineSpec, needed: u64) -> Result<()> {
    let free = free(&spec.dir)?;
    if free >= needed {
        return Ok(());
    }
    tracing::debug!(free, needed, "no room for the machine's memory");
    let what = format!("{free} MiB are free, its memory needs {needed} MiB");
    Err(DriverError::io(&spec.dir)(std::io::Error::new(
        std::io::ErrorKind::StorageFull,
        what,
    )))
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
