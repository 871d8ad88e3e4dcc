//! Names of the files in a machine's directory.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub(crate) use sampan_driver::files::{make_dir, real, remove, remove_dir};
use sampan_driver::{DriverError, Result};

/// The system disk, a raw image. The machine exists when it does.
pub(crate) const DISK: &str = "disk.raw";
/// A disk while it is made.
pub(crate) const DISK_NEW: &str = "disk.raw.new";
/// The machine's UUID.
pub(crate) const UUID: &str = "uuid";
/// The network card's address, once it was seen in a lease.
pub(crate) const MAC: &str = "mac";
/// The guest's IP address when it was started last.
pub(crate) const ADDRESS: &str = "address";
/// Process id, written by hyperkit.
pub(crate) const PIDFILE: &str = "hyperkit.pid";
/// What hyperkit itself printed.
pub(crate) const LOG: &str = "hyperkit.log";
/// A link to the console's terminal, made by hyperkit.
pub(crate) const TTY: &str = "tty";
/// What the console printed last, as a ring of 64 KiB that hyperkit writes to.
pub(crate) const RING: &str = "console-ring";
/// The same as text.
pub(crate) const SERIAL_LOG: &str = "serial.log";

/// What must not be there when the machine starts: hyperkit refuses to write over a pidfile.
pub(crate) const OF_A_RUN: [&str; 4] = [PIDFILE, TTY, RING, ADDRESS];

/// Writes a small file for its owner alone.
pub(crate) fn write(path: &Path, text: &[u8]) -> Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text));
    written.map_err(DriverError::io(path))
}

/// A small file's text without white space at its ends; none when it is not there or cannot be read.
pub(crate) fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}
