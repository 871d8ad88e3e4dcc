//! The optional ability to save machines with their memory and to go on from there.
//!
//! A *layer* is a directory with a saved machine in it that is never written to again: memory, devices and disk. Any
//! number of machines can be forked from one. A layer of a machine that was powered off has only a disk, which is booted.
//! A machine's own saved state lies in its own directory and is used once: when the machine runs again, its disk moves on,
//! and what was saved no longer fits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::driver::Result;
use crate::spec::MachineSpec;

/// Saves machines and goes on with them. Callers hold the profile's lock, and flush the guest's file systems (`sync`)
/// before they save: the disk of a saved machine has to be fit to boot from when its memory cannot be used any more.
///
/// Whatever is interrupted (a signal, a power cut, a full disk), a machine is left that starts: where its memory is lost,
/// from its disk. Failed attempts to save leave the machine running.
pub trait Snapshot: Send + Sync {
    /// All that a saved state depends on: the hypervisor's version and what the guest sees of the machine. A saved state
    /// goes on only in a machine of the same identity, so a layer's key has to contain it. Takes a few milliseconds.
    ///
    /// # Errors
    /// Those of [`crate::Driver::check`].
    fn identity(&self, spec: &MachineSpec) -> Result<String>;

    /// Turns a machine into a layer in `into`, a directory on the same file system that is made if need be. A running machine
    /// is saved first, as [`Snapshot::save`] does; one that is saved or was never started since it was forked gives a layer with
    /// that memory, one that is powered off a layer without memory (a disk to boot). The layer may be renamed afterwards, but
    /// not once machines were forked from it. The machine is absent then. If it fails, the machine runs on or can be started;
    /// called again with the same `into` after it was interrupted, it completes.
    ///
    /// # Errors
    /// [`crate::DriverError::NoMachine`] when there is none; when `into` is in use or files cannot be written.
    fn freeze(&self, spec: &MachineSpec, into: &Path) -> Result<Effort>;

    /// Makes a layer of a machine, which goes on as it was: a running one runs, one that is held is held, a saved one is still saved, one that is powered off boots
    /// its disk (and its layer has no memory). Nothing is copied of a machine at rest. `into` must keep its name: from then on
    /// the machine stands on the layer. If it fails, the machine is as it was; then `into` may be removed unless
    /// [`Snapshot::uses`] names it.
    ///
    /// # Errors
    /// As [`Snapshot::freeze`].
    fn checkpoint(&self, spec: &MachineSpec, into: &Path) -> Result<Effort>;

    /// Creates a machine that continues from a layer when it is started; from a layer without memory, it boots. A machine that
    /// exists is left as it is.
    ///
    /// # Errors
    /// When the layer is incomplete or files cannot be written.
    fn fork(&self, spec: &MachineSpec, from: &Path) -> Result<()>;

    /// Takes a machine, running or not, back to a layer: what it did since is lost. It does not run afterwards; its next
    /// start continues from the layer, or boots its disk where that is all there is. If it fails, the machine is as it was, though perhaps ended.
    ///
    /// # Errors
    /// As [`Snapshot::fork`].
    fn restore(&self, spec: &MachineSpec, from: &Path) -> Result<()>;

    /// Saves a running machine in its own directory and ends it: its process is gone and its memory is free. The next start
    /// continues where it was.
    ///
    /// # Errors
    /// [`crate::DriverError::NoMachine`] when it does not run; when files cannot be written: then it runs on.
    fn save(&self, spec: &MachineSpec) -> Result<Effort>;

    /// Starts a machine as [`crate::Driver::start`] does, and tells how.
    ///
    /// # Errors
    /// Those of [`crate::Driver::start`].
    fn resume(&self, spec: &MachineSpec) -> Result<Started>;

    /// Holds a running machine between two instructions. [`crate::Driver::start`] lets it go on.
    ///
    /// # Errors
    /// [`crate::DriverError::NoMachine`] when it does not run.
    fn pause(&self, spec: &MachineSpec) -> Result<()>;

    /// Whether a directory (a layer's, or a machine's own) holds a complete saved state, and which files it consists of: just one,
    /// the disk, for a layer without memory. A machine that is powered off has none. Cheap.
    ///
    /// # Errors
    /// When it is damaged: a file is missing or has another size than when it was saved.
    fn saved(&self, dir: &Path) -> Result<Option<Vec<PathBuf>>>;

    /// Forgets a machine's saved state, so that its next start boots its disk. Without one, succeeds.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn discard(&self, spec: &MachineSpec) -> Result<()>;

    /// The files outside its own directory that a machine depends on now: images below its disk and, while it is a fork,
    /// the memory it shares. Nothing of that may be removed.
    ///
    /// # Errors
    /// When it cannot be determined.
    fn uses(&self, spec: &MachineSpec) -> Result<Vec<PathBuf>>;

    /// Memory a running machine really holds, in bytes: pages shared with others count in proportion (PSS).
    ///
    /// # Errors
    /// [`crate::DriverError::NoMachine`] when it does not run.
    fn resident(&self, spec: &MachineSpec) -> Result<u64>;
}

/// What saving a machine took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Effort {
    /// How long the guest stood still (for ever, when the machine ended: then until all was safe on disk).
    pub paused: Duration,
    /// Bytes of memory and devices that were written.
    pub written: u64,
}

/// How a machine was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Started {
    /// It had a process already.
    Running,
    /// It continues where it was saved.
    Resumed,
    /// It booted: nothing was saved, or (with the reason) what was saved could not be used and was discarded.
    Booted(Option<String>),
}
