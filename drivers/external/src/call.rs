//! One call: a process that gets a request and gives an answer, or an error that says why there is none.
//!
//! Its streams are files, not pipes: a driver whose machine inherits them does not keep the caller waiting for their end.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{DriverError, Result};
use serde_json::Value;

use crate::protocol::{ANSWER_LIMIT, Answer, Call, Kind, Request, VERSION};

const TICK: Duration = Duration::from_millis(2);
/// How much of what a driver said is shown.
const SHOWN: usize = 400;

/// Asks `program` and returns its result.
///
/// # Errors
/// What the driver says; [`DriverError::Unhealthy`] when it says nothing that makes sense, in time.
pub(crate) fn ask(program: &Path, cache: &Path, call: &Call, deadline: Duration) -> Result<Value> {
    let request = Request {
        protocol: VERSION,
        cache: cache.to_owned(),
        call: call.clone(),
    };
    let broken = |why: String| unhealthy(program, call, &why);
    let mut spoken = Spoken::new(&request).map_err(DriverError::io(program))?;
    let mut child = spoken.spawn(program).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => DriverError::NotInstalled {
            what: program.display().to_string(),
            hint: "install the driver, or choose another one".to_owned(),
        },
        _ => broken(format!("cannot be run: {error}")),
    })?;
    tracing::debug!(program = %program.display(), method = call.name(), "ask a driver");
    let ended = attend(&mut child, &spoken, deadline);
    let stderr = spoken.stderr();
    let status = ended.map_err(|why| broken(format!("{why}{stderr}")))?;
    let text = spoken.stdout().map_err(DriverError::io(program))?;
    tracing::debug!(%status, text, stderr, "the driver's answer");
    if text.trim().is_empty() {
        return Err(broken(format!("ended with {status} and no answer{stderr}")));
    }
    let answer = read(&text).map_err(|why| broken(format!("{why}{stderr}")))?;
    let Some(mut trouble) = answer.error else {
        return Ok(answer.result);
    };
    if call.spec().is_none() && trouble.kind == Kind::Failed {
        // Without a machine it is the driver itself that failed.
        trouble.kind = Kind::Unhealthy;
    }
    let machine = call.spec().map_or("host", |spec| spec.name.as_str());
    let said = format!("gave an error that lacks its port: {}", trouble.message);
    Err(trouble.into_error(machine).unwrap_or_else(|| broken(said)))
}

/// The error of a driver that does not keep to the protocol.
pub(crate) fn unhealthy(program: &Path, call: &Call, why: &str) -> DriverError {
    DriverError::Unhealthy {
        what: format!("the driver {}, asked to `{}`, {why}", program.display(), call.name()),
        hint: "update the driver, or report this to its authors; sampan's docs/drivers.md describes the protocol".to_owned(),
    }
}

/// Reads an answer. Its version comes first: another version may look different in all else.
fn read(text: &str) -> Result<Answer, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("gave no JSON ({error}): {}", shown(text)))?;
    match value.get("protocol").and_then(Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            return Err(format!(
                "speaks version {version} of the protocol, this sampan version {VERSION}"
            ));
        }
        None => return Err(format!("does not say its protocol's version: {}", shown(text))),
    }
    serde_json::from_value(value).map_err(|error| format!("gave a wrong answer ({error}): {}", shown(text)))
}

fn shown(text: &str) -> String {
    let short: String = text.trim().chars().take(SHOWN).collect();
    short.escape_debug().to_string()
}

/// Waits for the end of the process, within limits of time and length. A driver that keeps to none is ended, with all that it
/// started and did not detach.
fn attend(child: &mut Child, spoken: &Spoken, deadline: Duration) -> Result<ExitStatus, String> {
    let end = Instant::now() + deadline;
    let why = loop {
        let length = |file: &File| file.metadata().map_or(0, |metadata| metadata.len());
        if length(&spoken.stdout).max(length(&spoken.stderr)) > ANSWER_LIMIT {
            break format!("said more than {} KiB", ANSWER_LIMIT >> 10);
        }
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() >= end => {
                break format!("gave no answer within {} s", deadline.as_secs_f32());
            }
            Ok(None) => thread::sleep(TICK),
            Err(error) => break format!("cannot be waited for: {error}"),
        }
    };
    let group = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // It may have ended by itself meanwhile.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
    Err(why)
}

/// The three streams of a driver.
struct Spoken {
    stdin: File,
    stdout: File,
    stderr: File,
}

impl Spoken {
    fn new(request: &Request) -> io::Result<Self> {
        let mut stdin = tempfile::tempfile()?;
        serde_json::to_writer(&stdin, request)?;
        stdin.write_all(b"\n")?;
        stdin.rewind()?;
        Ok(Self {
            stdin,
            stdout: tempfile::tempfile()?,
            stderr: tempfile::tempfile()?,
        })
    }

    /// In a process group of its own: a Ctrl-C that is meant for sampan does not end a driver in the middle of things.
    fn spawn(&self, program: &Path) -> io::Result<Child> {
        Command::new(program)
            .stdin(Stdio::from(self.stdin.try_clone()?))
            .stdout(Stdio::from(self.stdout.try_clone()?))
            .stderr(Stdio::from(self.stderr.try_clone()?))
            .process_group(0)
            .spawn()
    }

    fn stdout(&mut self) -> io::Result<String> {
        let bytes = content(&mut self.stdout)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The last lines of what it complained, to be put behind an error.
    fn stderr(&mut self) -> String {
        const LINES: usize = 8;
        let bytes = content(&mut self.stderr).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LINES)..]
            .iter()
            .map(|line| format!("\n    {}", line.chars().take(SHOWN).collect::<String>()))
            .collect()
    }
}

fn content(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(ANSWER_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}
