//! Long host commands of a build: their output goes to a log file; Ctrl-C, a deadline and the death of this process end them with
//! all their children; a failure shows the log's end and where the rest is.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{Command, Host};

use crate::error::{Error, Kind, Result};
use crate::progress::Cancel;
use crate::store::atomic;

const TAIL_LINES: usize = 12;
/// Ends the command when this process is gone.
const GUARD: &str = include_str!("job.sh");

/// Runs a command to its end. `what` is what the user knows it as ("component runc"). Also ends when `stop` is set.
///
/// # Errors
/// [`Kind::Bundle`] when it failed, [`Kind::Interrupted`], or [`Kind::HostTool`] when it could not be run.
pub(super) fn run(what: &str, command: &Command, log: &Path, cancel: &Cancel, stop: &Cancel) -> Result<()> {
    if let Some(parent) = log.parent() {
        atomic::make_dir(parent)?;
    }
    let mut file = File::create(log).map_err(Error::io(log))?;
    writeln!(file, "$ {command}").map_err(Error::io(log))?;
    let streams = file
        .try_clone()
        .and_then(|out| Ok((out, file.try_clone()?)))
        .map_err(Error::io(log))?;
    let mut guarded = command.clone();
    guarded.program = "sh".to_owned();
    guarded.args = ["-c", GUARD, "sampan-job", &command.program]
        .map(str::to_owned)
        .to_vec();
    guarded.args.extend(command.args.iter().cloned());
    let mut child = Host::process(&guarded)
        .stdin(Stdio::piped())
        .stdout(streams.0)
        .stderr(streams.1)
        // A group of its own, so that all of it can be ended: `go build` and mmdebstrap have many children.
        .process_group(0)
        .spawn()
        .map_err(|error| Error::new(Kind::HostTool, "`sh` could not be run").because(error))?;
    // Dropped at the end of this function; until then the guard waits.
    let _guard = child.stdin.take();
    let status = wait(&mut child, command, cancel, stop);
    if status.is_err() {
        end_group(&mut child);
    }
    let why = match status? {
        Some(status) if status.success() => return Ok(()),
        Some(status) => describe(status),
        None => format!("still running after {} s", command.deadline.as_secs()),
    };
    let _ = writeln!(file, "{why}");
    end_group(&mut child);
    Err(failure(what, &why, log))
}

/// The exit status, or `None` when the deadline passed.
fn wait(child: &mut Child, command: &Command, cancel: &Cancel, stop: &Cancel) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + command.deadline;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status)),
            Ok(None) => {}
            Err(error) => {
                return Err(
                    Error::new(Kind::HostTool, format!("`{}` was lost", command.program)).because(error),
                );
            }
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        cancel.check()?;
        stop.check()?;
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ends what is left of the child's group: SIGTERM, so that scripts clean up, then SIGKILL.
fn end_group(child: &mut Child) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return;
    };
    let end = Instant::now() + Duration::from_secs(5);
    let mut signal = Signal::TERM;
    // An error means that nobody of the group is left.
    while kill_process_group(group, signal).is_ok() {
        let gone = matches!(child.try_wait(), Ok(Some(_)) | Err(_));
        if gone && signal == Signal::KILL {
            return;
        }
        if Instant::now() >= end {
            signal = Signal::KILL;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn failure(what: &str, why: &str, log: &Path) -> Error {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .skip(1)
        .filter(|line| !line.trim().is_empty() && *line != why)
        .collect();
    let tail: String = lines[lines.len().saturating_sub(TAIL_LINES)..]
        .iter()
        .map(|line| format!("\n    {line}"))
        .collect();
    let full = text.contains("no space left on device") || text.contains("No space left on device");
    let kind = if full { Kind::Storage } else { Kind::Bundle };
    let error = Error::new(kind, format!("{what} could not be built: {why}{tail}"))
        .hint(format!("the whole log: {}", log.display()));
    if full {
        error.hint("free some space, or set SAMPAN_HOME to a directory on a larger disk")
    } else {
        error.hint("`sampan bundle build` goes on with what is not built yet")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_script(script: &str, log: &Path, cancel: &Cancel) -> Result<()> {
        run(
            "component x",
            &Command::shell(script),
            log,
            cancel,
            &Cancel::default(),
        )
    }

    #[test]
    fn a_failure_shows_what_why_and_where() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("logs/x.log");
        run_script("echo fine", &log, &Cancel::default()).unwrap();
        assert!(std::fs::read_to_string(&log).unwrap().ends_with("fine\n"));
        let error = run_script("echo broken >&2; exit 3", &log, &Cancel::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "component x could not be built: exit status 3\n    broken"
        );
        assert!(error.hints()[0].contains("logs/x.log"));
        let error = run_script(
            "echo write: No space left on device; exit 1",
            &log,
            &Cancel::default(),
        )
        .unwrap_err();
        assert_eq!(error.kind(), Kind::Storage);
    }

    #[test]
    fn an_interrupt_ends_the_command_and_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let (log, pid) = (dir.path().join("x.log"), dir.path().join("pid"));
        let cancel = Cancel::default();
        let script = format!(
            "sleep 300 & echo $! >{0}.new; mv {0}.new {0}; wait",
            pid.display()
        );
        let error = thread::scope(|scope| {
            let job = scope.spawn(|| run_script(&script, &log, &cancel));
            let end = Instant::now() + Duration::from_secs(20);
            while !pid.exists() {
                assert!(Instant::now() < end);
                thread::sleep(Duration::from_millis(5));
            }
            cancel.flag().store(true, std::sync::atomic::Ordering::Relaxed);
            job.join().unwrap().unwrap_err()
        });
        assert_eq!(error.kind(), Kind::Interrupted);
        let child = std::fs::read_to_string(&pid).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "still there: {stat}");
    }

    #[test]
    fn a_command_ends_with_the_process_that_started_it() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", GUARD, "sampan-job", "sh", "-c", "sleep 300; true"])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        assert!(child.try_wait().unwrap().is_none());
        // What the system does when the holder of the other end is killed.
        drop(child.stdin.take());
        let end = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "still running");
            thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.signal(), Some(15));
    }
}
