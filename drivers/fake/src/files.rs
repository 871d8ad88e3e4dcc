//! Names in a machine's directory, and the description of the machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sampan_driver::{DriverError, Forward, Result};
use serde::{Deserialize, Serialize};

/// What the machine's process needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) cache: PathBuf,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) forwards: Vec<Forward>,
    /// The disk of programs and images, where there is one: here a text with an image's name in every line.
    pub(crate) parts: Option<PathBuf>,
}

/// The files of one machine.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    dir: PathBuf,
}

impl Files {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The machine's description; the machine exists when it does.
    pub(crate) fn machine(&self) -> PathBuf {
        self.dir.join("machine.json")
    }

    pub(crate) fn pidfile(&self) -> PathBuf {
        self.dir.join("pid")
    }

    /// Written by the process: "ok" when it listens everywhere, or the address it could not listen on.
    pub(crate) fn listening(&self) -> PathBuf {
        self.dir.join("listening")
    }

    /// The port of 127.0.0.1 at which the running machine takes orders about its forwards.
    pub(crate) fn control(&self) -> PathBuf {
        self.dir.join("control")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("serial.log")
    }

    /// All that the guest remembers: the names below are in there, so that it is replaced as a whole.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// What the cluster holds: survives stops and kills, as etcd does.
    pub(crate) fn objects(&self) -> PathBuf {
        self.state().join("objects.json")
    }

    /// The name of the cluster's node, once there is one.
    pub(crate) fn node(&self) -> PathBuf {
        self.state().join("node")
    }

    /// Where a path of the guest is on the host. Parts like `..` are dropped.
    pub(crate) fn guest(&self, path: &str) -> PathBuf {
        let parts = path.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
        parts.fold(self.state().join("guest"), |dir, part| dir.join(part))
    }

    pub(crate) fn exists(&self) -> bool {
        self.machine().exists()
    }

    pub(crate) fn create(&self, machine: &Machine) -> Result<()> {
        fs::create_dir_all(&self.dir).map_err(DriverError::io(&self.dir))?;
        let text = serde_json::to_vec_pretty(machine).map_err(io::Error::from);
        text.and_then(|text| write(&self.machine(), &text))
            .map_err(DriverError::io(self.machine()))
    }

    pub(crate) fn load(&self) -> Result<Machine> {
        let text = fs::read(self.machine()).map_err(DriverError::io(self.machine()))?;
        serde_json::from_slice(&text).map_err(|error| DriverError::io(self.machine())(error.into()))
    }
}

/// Writes a file whole, with the directories above it.
pub(crate) fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, contents)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_the_guest_leads_out_of_it() {
        let files = Files::new(Path::new("/m"));
        assert_eq!(files.guest("/etc/../../x"), Path::new("/m/state/guest/etc/x"));
    }
}
