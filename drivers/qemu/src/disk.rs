//! The system disk: a qcow2 layer over a base that is never written to.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sampan_driver::{Command, Disk, DriverError, Host, MachineSpec, Result, Runner};

use crate::files;

const MIB: u64 = 1 << 20;

/// Extended L2 tables let a small write into a new cluster copy 4 KiB of the base instead of a whole cluster.
const OPTIONS: &str = "extended_l2=on,cluster_size=128k";

/// Makes the disk if it is not there; makes it larger if more is asked for. It never gets smaller.
/// A disk in use (`running`) is left alone.
pub(crate) fn ensure(image_tool: &Path, spec: &MachineSpec, running: bool) -> Result<()> {
    let path = spec.dir.join(files::DISK);
    if !path.exists() {
        return make(image_tool, &spec.disk, &path);
    }
    let wanted = spec.disk.size_mib * MIB;
    let size = virtual_size(&path, &spec.name)?;
    if wanted < size {
        tracing::debug!(size, wanted, "the disk keeps its size");
    }
    if wanted <= size || running {
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
    let new = path.with_extension("qcow2.new");
    let create = qemu_img(image_tool)
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-o", OPTIONS, "-b"])
        .path(&disk.base)
        .path(&new)
        .arg(size.to_string());
    Host.run(&create)?;
    let settle = |file: File| {
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.sync_all()
    };
    File::open(&new).and_then(settle).map_err(DriverError::io(&new))?;
    fs::rename(&new, path).map_err(DriverError::io(path))
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
    let boot = spec.boot.iter().flat_map(|boot| [&boot.kernel, &boot.initrd]);
    let extra = spec.extra_disks.iter().map(|disk| &disk.path);
    for path in std::iter::once(&spec.disk.base).chain(extra).chain(boot) {
        File::open(path).map_err(DriverError::io(path))?;
    }
    Ok(())
}

/// The guest's memory is a file with holes: if the file system fills up while the guest runs, QEMU is killed by a bus
/// error. So there has to be room for all of it.
pub(crate) fn check_room(spec: &MachineSpec) -> Result<()> {
    let stat = rustix::fs::statvfs(&spec.dir).map_err(|errno| DriverError::io(&spec.dir)(errno.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize) / MIB;
    if free >= spec.memory_mib {
        return Ok(());
    }
    tracing::debug!(free, needed = spec.memory_mib, "no room for the machine's memory");
    let what = format!("{free} MiB are free, its memory needs {} MiB", spec.memory_mib);
    Err(DriverError::io(&spec.dir)(std::io::Error::new(
        std::io::ErrorKind::StorageFull,
        what,
    )))
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
