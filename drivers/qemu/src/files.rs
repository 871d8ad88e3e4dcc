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

/// What is left in the directory when a machine has ended and must not be there.
pub(crate) const OF_A_RUN: [&str; 4] = [RAM, PIDFILE, QMP, QUERY];

/// The directory under its one true name, even when it or its parents are gone: a process is recognised by it.
pub(crate) fn real(dir: &Path) -> PathBuf {
    match (dir.canonicalize(), dir.parent(), dir.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        (Err(_), ..) => dir.to_owned(),
    }
}
