//! Names of the files in a machine's directory.

use std::path::{Path, PathBuf};

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

/// What is left in the directory when a machine has ended and must not be there.
pub(crate) const OF_A_RUN: [&str; 7] = [PIDFILE, QMP, QUERY, RAM_NEW, DEVICES_NEW, DISK_NEXT, SAVED_NEW];
/// What must not be there either, unless a saved state is made of it.
pub(crate) const OF_A_STATE: [&str; 2] = [RAM, DEVICES];

/// The directory under its one true name, even when it or its parents are gone: a process is recognised by it.
pub(crate) fn real(dir: &Path) -> PathBuf {
    match (dir.canonicalize(), dir.parent(), dir.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        (Err(_), ..) => dir.to_owned(),
    }
}
