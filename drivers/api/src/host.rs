//! Runs described commands on the host.

use std::io::{self, Read, Write};
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::{Command, CommandError, Failure, Output, Runner, Stream};

/// The host itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host;

impl Host {
    /// The error of a command that failed here.
    pub fn error(command: &Command, failure: Failure) -> CommandError {
        CommandError {
            command: command.to_string(),
            place: "the host".to_owned(),
            failure,
            output: Output::default(),
        }
    }

    /// The described command as a process that was not started yet, with no standard streams chosen.
    pub fn process(command: &Command) -> Process {
        let mut process = Process::new(&command.program);
        process
            .args(&command.args)
            .envs(command.env.iter().map(|(key, value)| (key, value)));
        process
    }
}

impl Runner for Host {
    fn place(&self) -> String {
        "the host".to_owned()
    }

    fn run_streamed(
        &self,
        command: &Command,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(), CommandError> {
        tracing::debug!(%command, "run on the host");
        run(command, on_output).map_err(|failure| Self::error(command, failure))
    }
}

fn run(command: &Command, on_output: &mut dyn FnMut(Stream, &[u8])) -> Result<(), Failure> {
    let stdin = if command.stdin.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    let spawned = Host::process(command)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::NotFound),
        Err(error) => return Err(error.into()),
    };
    let status = attend(&mut child, command, on_output);
    if status.is_err() {
        // Ours to end: nobody else knows of it. It may have ended by itself meanwhile.
        let _ = child.kill();
        let _ = child.wait();
    }
    succeeded(status?)
}

/// Feeds and drains a child until it ends or its deadline passes.
fn attend(
    child: &mut Child,
    command: &Command,
    on_output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<ExitStatus, Failure> {
    let end = Instant::now() + command.deadline;
    let (sender, receiver) = mpsc::channel();
    if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), command.stdin.clone()) {
        // A child that does not read all of its input closes the pipe; its exit status says whether that matters.
        thread::spawn(move || drop(pipe.write_all(&bytes)));
    }
    if let Some(pipe) = child.stdout.take() {
        drain(pipe, Stream::Stdout, sender.clone());
    }
    if let Some(pipe) = child.stderr.take() {
        drain(pipe, Stream::Stderr, sender.clone());
    }
    drop(sender);
    loop {
        match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok((stream, bytes)) => on_output(stream, &bytes),
            Err(RecvTimeoutError::Timeout) => return Err(Failure::Deadline(command.deadline)),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(2));
    }
    Err(Failure::Deadline(command.deadline))
}

fn drain(mut pipe: impl Read + Send + 'static, stream: Stream, sender: mpsc::Sender<(Stream, Vec<u8>)>) {
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            if sender.send((stream, buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    });
}

fn succeeded(status: ExitStatus) -> Result<(), Failure> {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::Status(code)),
        (None, signal) => Err(Failure::Signal(signal.unwrap_or_default().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_input_and_status_come_through() {
        let output = Host
            .run(&Command::shell("cat; echo err >&2").stdin("in"))
            .unwrap();
        assert_eq!(
            (output.text().as_str(), output.stderr.as_slice()),
            ("in", &b"err\n"[..])
        );
        let error = Host.run(&Command::shell("echo why >&2; exit 7")).unwrap_err();
        assert_eq!(error.status(), Some(7));
        assert!(error.to_string().ends_with("exit status 7\n    why"), "{error}");
    }

    #[test]
    fn a_missing_program_and_a_deadline_are_told_apart() {
        let missing = Host.run(&Command::new("sampan-no-such-program")).unwrap_err();
        assert!(matches!(missing.failure, Failure::NotFound), "{missing}");
        let slow = Command::new("sleep")
            .arg("30")
            .deadline(Duration::from_millis(50));
        let late = Host.run(&slow).unwrap_err();
        assert!(matches!(late.failure, Failure::Deadline(_)), "{late}");
    }

    #[test]
    fn a_file_is_written_whole_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b/c");
        Host.write_file(path.to_str().unwrap(), 0o640, b"text").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"text");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o640);
    }
}
