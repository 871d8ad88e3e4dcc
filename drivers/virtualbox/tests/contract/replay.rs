//! What a real VBoxManage said, word by word, and the driver's calls that it said it to.
//!
//! The test with a real VBoxManage writes it down when `SAMPAN_TEST_RECORD` names a file; here it is played back. A call that
//! differs from what was recorded fails the test.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sampan_driver::{Command, CommandError, Failure, Host, MachineSpec, Output, Runner, Stream};
use sampan_driver_virtualbox::{VirtualBox, VirtualBoxConfig};
use serde::{Deserialize, Serialize};

use crate::ground::Ground;
use crate::real::{fix_ports, life_without_running};

pub(crate) const ALL: &[(&str, fn())] = &[("a_recorded_life_goes_the_same_way_again", recorded_life)];

const RECORDED: &str = include_str!("recorded/7.2.22.jsonl");

/// A call of VBoxManage.
#[derive(Serialize, Deserialize)]
struct Call {
    args: Vec<String>,
    status: i32,
    stdout: String,
    stderr: String,
    /// Files of the machine after it.
    files: Vec<PathBuf>,
}

/// What differs from machine to machine: its directory, and the UUID that depends on it.
struct Names {
    root: String,
    dir: PathBuf,
    id: Mutex<String>,
}

impl Names {
    fn new(spec: &MachineSpec) -> Self {
        Self {
            root: spec.dir.parent().unwrap().to_string_lossy().into_owned(),
            dir: spec.dir.clone(),
            id: Mutex::default(),
        }
    }

    /// The first question is about a machine.
    fn learn(&self, args: &[String]) -> String {
        let mut id = self.id.lock().unwrap();
        if let [verb, uuid, ..] = args
            && verb == "showvminfo"
            && id.is_empty()
        {
            id.clone_from(uuid);
        }
        id.clone()
    }

    fn plain(&self, text: &str, id: &str) -> String {
        let text = text.replace(&self.root, "[ROOT]");
        if id.is_empty() {
            return text;
        }
        text.replace(id, "[ID]").replace(&id[..8], "[ID8]")
    }

    fn real(&self, text: &str, id: &str) -> String {
        text.replace("[ROOT]", &self.root)
            .replace("[ID]", id)
            .replace("[ID8]", id.get(..8).unwrap_or_default())
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.dir.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    found.push(path.strip_prefix(&self.dir).unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }
}

/// Runs commands and writes down what came of them.
pub(crate) struct Recorder {
    names: Names,
    calls: Mutex<Vec<Call>>,
}

impl Recorder {
    pub(crate) fn new(spec: &MachineSpec) -> Self {
        Self {
            names: Names::new(spec),
            calls: Mutex::default(),
        }
    }

    /// Writes what was recorded until now, where somebody wants it.
    pub(crate) fn keep(&self) {
        let Some(path) = std::env::var_os("SAMPAN_TEST_RECORD") else {
            return;
        };
        let calls = self.calls.lock().unwrap();
        let lines: String = calls
            .iter()
            .map(|call| serde_json::to_string(call).unwrap() + "\n")
            .collect();
        fs::write(path, lines).unwrap();
    }
}

impl Runner for Recorder {
    fn place(&self) -> String {
        Host.place()
    }

    fn run_streamed(
        &self,
        command: &Command,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(), CommandError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let result = Host.run_streamed(command, &mut |stream, bytes| {
            match stream {
                Stream::Stdout => stdout.extend_from_slice(bytes),
                Stream::Stderr => stderr.extend_from_slice(bytes),
            }
            on_output(stream, bytes);
        });
        let id = self.names.learn(&command.args);
        let plain = |text: &str| self.names.plain(text, &id);
        let text = |bytes: &[u8]| plain(&String::from_utf8_lossy(bytes));
        self.calls.lock().unwrap().push(Call {
            args: command.args.iter().map(|arg| plain(arg)).collect(),
            status: result
                .as_ref()
                .err()
                .map_or(0, |error| error.status().unwrap_or(-1)),
            stdout: text(&stdout),
            stderr: text(&stderr),
            files: self
                .names
                .files()
                .iter()
                .map(|path| plain(&path.to_string_lossy()).into())
                .collect(),
        });
        result
    }
}

/// Says what was recorded, to the very calls that were recorded.
struct Player {
    names: Names,
    calls: Mutex<VecDeque<Call>>,
}

impl Player {
    /// Makes the machine's directory look as it did after a call.
    fn set_files(&self, wanted: &[PathBuf]) {
        let has = self.names.files();
        let full = |path: &Path| self.names.dir.join(path);
        for gone in has.iter().filter(|path| !wanted.contains(path)) {
            fs::remove_file(full(gone)).unwrap();
        }
        for new in wanted.iter().filter(|path| !has.contains(path)) {
            fs::create_dir_all(full(new).parent().unwrap()).unwrap();
            fs::write(full(new), "").unwrap();
        }
    }
}

impl Runner for Player {
    fn place(&self) -> String {
        Host.place()
    }

    fn run_streamed(
        &self,
        command: &Command,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(), CommandError> {
        let id = self.names.learn(&command.args);
        let call = self.calls.lock().unwrap().pop_front();
        let call = call.unwrap_or_else(|| panic!("`{command}` was not recorded"));
        let args: Vec<String> = call.args.iter().map(|arg| self.names.real(arg, &id)).collect();
        assert_eq!(command.args, args, "another call than the one that was recorded");
        let files: Vec<PathBuf> = call
            .files
            .iter()
            .map(|path| self.names.real(&path.to_string_lossy(), &id).into())
            .collect();
        self.set_files(&files);
        on_output(Stream::Stdout, self.names.real(&call.stdout, &id).as_bytes());
        on_output(Stream::Stderr, self.names.real(&call.stderr, &id).as_bytes());
        match call.status {
            0 => Ok(()),
            status => Err(CommandError {
                command: command.to_string(),
                place: self.place(),
                failure: Failure::Status(status),
                output: Output::default(),
            }),
        }
    }
}

fn recorded_life() {
    let mut ground = Ground::new("real");
    fix_ports(&mut ground.spec);
    let calls: VecDeque<Call> = RECORDED
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let player = Arc::new(Player {
        names: Names::new(&ground.spec),
        calls: Mutex::new(calls),
    });
    let config = VirtualBoxConfig {
        program: Some(ground.bin().join("VBoxManage")),
        search_path: None,
    };
    let driver = VirtualBox::with_runner(config, player.clone());
    // Where it was recorded there was no kernel module.
    let warned = sampan_driver::Driver::check(&driver).unwrap_err().to_string();
    assert_eq!(
        warned,
        "VirtualBox's kernel module is not loaded (VirtualBox 7.2.22)"
    );
    life_without_running(&driver, &ground.spec);
}
