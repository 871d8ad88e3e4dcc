//! Names of the files in a machine's directory, and what is done with files everywhere.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

pub(crate) use sampan_driver::files::{make_dir, real, remove, remove_dir, rotate};
use sampan_driver::{DriverError, Result};

/// The system disk: a qcow2 layer over the base.
pub(crate) const DISK: &str = "disk.qcow2";
/// The guest's memory while the machine runs.
pub(crate) const RAM: &str = "ram.img";
/// The guest's console; the boot before is kept with `.1` appended.
pub(crate) const SERIAL_LOG: &str = "serial.log";
/// What QEMU itself printed; the run before is kept with `.1` appended.
pub(crate) const QEMU_LOG: &str = "qemu.log";
/// Process id, written and locked by QEMU.
pub(crate) const PIDFILE: &str = "qemu.pid";
/// QMP socket of whoever changes the machine. A socket serves one client at a time, hence a second one.
pub(crate) const QMP: &str = "qmp.sock";
/// QMP socket of whoever only asks.
pub(crate) const QUERY: &str = "query.sock";

/// The devices of a saved machine (and, for want of a better way, its memory), in QEMU's migration format.
pub(crate) const DEVICES: &str = "device.state";
/// Says that there is a saved state and what it belongs to. The last file to appear, the first to go.
pub(crate) const SAVED: &str = "saved.json";
/// The same while it is written.
pub(crate) const SAVED_NEW: &str = "saved.json.new";
/// A saved machine's memory and devices while they are written.
pub(crate) const RAM_NEW: &str = "ram.img.new";
/// See [`RAM_NEW`].
pub(crate) const DEVICES_NEW: &str = "device.state.new";
/// A disk that is about to take the place of the system disk.
pub(crate) const DISK_NEXT: &str = "disk.qcow2.next";

/// A disk while it is made, with the process id of its maker appended: a tool whose caller was killed may still write to it.
pub(crate) const DISK_MADE_BY: &str = "disk.qcow2.made-by-";

/// Further names of the disk, for a QEMU that came to it while it ran (with a number appended). QEMU opens its files again by
/// name, so a name must not come to mean another file under it.
pub(crate) const DISK_OF_A_RUN: &str = "disk.qcow2.run-";

/// What is left in the directory when a machine has ended and must not be there.
pub(crate) const OF_A_RUN: [&str; 6] = [PIDFILE, QMP, QUERY, RAM_NEW, DEVICES_NEW, SAVED_NEW];
/// What must not be there either, unless a saved state is made of it.
pub(crate) const OF_A_STATE: [&str; 2] = [RAM, DEVICES];
/// Beginnings of names that must not be there.
pub(crate) const PREFIXES: [&str; 2] = [DISK_MADE_BY, DISK_OF_A_RUN];

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(DriverError::io(to))
}

/// Sees to it that a file, or the names in a directory, are on disk.
pub(crate) fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(DriverError::io(path))
}

/// Nobody writes to it any more; it is on disk.
pub(crate) fn seal(path: &Path) -> Result<()> {
    let seal = |file: File| {
        file.set_permissions(Permissions::from_mode(0o400))?;
        file.sync_all()
    };
    File::open(path).and_then(seal).map_err(DriverError::io(path))
}

/// Whether both are names of one file.
pub(crate) fn same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
    identity(one).is_some_and(|file| Some(file) == identity(other))
}
