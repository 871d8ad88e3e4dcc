//! What the stand-in for VirtualBox remembers: one file, changed under a lock.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Books {
    pub(crate) vms: BTreeMap<String, Vm>,
    /// Location and UUID of disks, and the UUID below.
    pub(crate) media: BTreeMap<PathBuf, (String, Option<String>)>,
}

/// A machine.
#[derive(Default, Clone, Serialize, Deserialize)]
pub(crate) struct Vm {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) state: String,
    pub(crate) pid: u32,
    /// Name, and "tcp,127.0.0.1,80,10.0.2.15,80".
    pub(crate) rules: BTreeMap<String, String>,
    /// Those that the machine's process listens for.
    pub(crate) bound: Vec<String>,
    pub(crate) controllers: Vec<String>,
    pub(crate) ports: BTreeMap<u32, PathBuf>,
}

impl Vm {
    pub(crate) fn settings(&self) -> PathBuf {
        self.folder.join(&self.name).join(format!("{}.vbox", self.name))
    }
}

/// What goes wrong.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Knobs {
    /// Printed before anything else.
    pub(crate) warning: String,
    pub(crate) version: String,
    /// The verb that never ends.
    pub(crate) hang: String,
    /// The verb that fails, and its words.
    pub(crate) fail: (String, String),
}

pub(crate) fn knobs(dir: &Path) -> Knobs {
    let text = fs::read_to_string(dir.join("knobs.json")).unwrap_or_else(|_| "{}".to_owned());
    serde_json::from_str(&text).unwrap()
}

/// Reads, changes and writes the books; nobody else does meanwhile.
pub(crate) fn change<T>(dir: &Path, change: impl FnOnce(&mut Books) -> T) -> T {
    let lock = File::create(dir.join("lock")).unwrap();
    lock.lock().unwrap();
    let path = dir.join("books.json");
    let mut books: Books = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).unwrap(),
        Err(_) => Books::default(),
    };
    // A machine whose process was killed by somebody else.
    for vm in books.vms.values_mut() {
        if matches!(
            vm.state.as_str(),
            "running" | "paused" | "stopping" | "gurumeditation"
        ) && !alive(vm.pid)
        {
            vm.state = "aborted".to_owned();
            vm.bound.clear();
        }
    }
    let result = change(&mut books);
    let new = dir.join("books.new");
    fs::write(&new, serde_json::to_string_pretty(&books).unwrap()).unwrap();
    fs::rename(new, path).unwrap();
    result
}

/// Waits for something to be in the books.
pub(crate) fn wait(dir: &Path, what: &str, mut happened: impl FnMut(&Books) -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !change(dir, |books| happened(books)) {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
