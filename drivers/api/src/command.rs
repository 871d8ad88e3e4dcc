//! Commands as values: described first, run later, shown as one would paste them into a shell.

use std::fmt;
use std::path::Path;
use std::time::Duration;

/// A command for the host or a guest. `Display` is the line one would paste into a POSIX shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program name or path.
    pub program: String,
    /// Arguments, without the program itself.
    pub args: Vec<String>,
    /// Environment added to what the runner has already.
    pub env: Vec<(String, String)>,
    /// Bytes fed to standard input; none means an empty input.
    pub stdin: Option<Vec<u8>>,
    /// How long the command may take before it is stopped and reported as [`Failure::Deadline`].
    pub deadline: Duration,
    /// A secret in the arguments or the input: `Display` then shows the program only.
    pub secret: bool,
}

impl Command {
    /// A command with a deadline of one minute.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: None,
            deadline: Duration::from_secs(60),
            secret: false,
        }
    }

    /// A line for `sh -c`, with `set -e`: for the few things that need a shell.
    pub fn shell(script: impl Into<String>) -> Self {
        Self::new("sh").args(["-ec".to_owned(), script.into()])
    }

    /// Appends one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Appends a path as an argument (lossy where it is not UTF-8).
    #[must_use]
    pub fn path(self, path: &Path) -> Self {
        self.arg(path.to_string_lossy())
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Feeds these bytes to standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Sets how long the command may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Hides arguments from messages and logs.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.secret {
            return write!(f, "{} …", self.program);
        }
        for (key, value) in &self.env {
            write!(f, "{key}={} ", quote(value))?;
        }
        f.write_str(&quote(&self.program))?;
        for arg in &self.args {
            write!(f, " {}", quote(arg))?;
        }
        Ok(())
    }
}

/// Quotes one word for a POSIX shell; a NUL byte, which no shell can hold, is dropped.
fn quote(word: &str) -> String {
    match shlex::try_quote(word) {
        Ok(quoted) => quoted.into_owned(),
        Err(_) => quote(&word.replace('\0', "")),
    }
}

/// What a command printed; its exit status was 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, without white space at the ends.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// Which of the two streams a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It ran and ended with a status other than 0.
    #[error("exit status {0}")]
    Status(i32),
    /// It was ended by a signal.
    #[error("ended by signal {0}")]
    Signal(String),
    /// The program is not there.
    #[error("not found")]
    NotFound,
    /// It took longer than its deadline and was stopped.
    #[error("still running after {}s", .0.as_secs())]
    Deadline(Duration),
    /// It could not be run, or the connection to where it runs broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// A failed command: what was run, where, why it failed and what it printed.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` failed on {place}: {failure}{}", tail(.output))]
pub struct CommandError {
    /// The command as one could paste it.
    pub command: String,
    /// Where it ran: "the host", or the machine's name.
    pub place: String,
    /// Why it failed.
    pub failure: Failure,
    /// What it printed until then.
    pub output: Output,
}

impl CommandError {
    /// The exit status, if the command ran to its end.
    pub fn status(&self) -> Option<i32> {
        match self.failure {
            Failure::Status(status) => Some(status),
            _ => None,
        }
    }
}

/// The last lines of what a command printed, standard error first: enough to see what went wrong.
fn tail(output: &Output) -> String {
    let bytes = if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    last_lines(&String::from_utf8_lossy(bytes), 12)
}

/// The last lines of a text, at most so many, each on a line of its own that is indented: to be put behind an error. Empty ones do
/// not count.
pub fn last_lines(text: &str, most: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(most)..]
        .iter()
        .map(|line| format!("\n    {line}"))
        .collect()
}

/// The one interface that runs commands, on the host or in a guest.
pub trait Runner: Send + Sync {
    /// Where commands run, for messages: "the host", or the machine's name.
    fn place(&self) -> String;

    /// Runs a command and hands each piece of output over as it comes.
    ///
    /// # Errors
    /// When the command could not be run, ended with another status than 0 or outlived its deadline.
    fn run_streamed(
        &self,
        command: &Command,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(), CommandError>;

    /// Runs a command and returns all that it printed.
    ///
    /// # Errors
    /// As [`Runner::run_streamed`]; the error carries what was printed.
    fn run(&self, command: &Command) -> Result<Output, CommandError> {
        let mut output = Output::default();
        let result = self.run_streamed(command, &mut |stream, bytes| match stream {
            Stream::Stdout => output.stdout.extend_from_slice(bytes),
            Stream::Stderr => output.stderr.extend_from_slice(bytes),
        });
        match result {
            Ok(()) => Ok(output),
            Err(mut error) => {
                error.output = output;
                Err(error)
            }
        }
    }

    /// Writes a file of at most a few megabytes whole: to a temporary name beside it, synced, then renamed. `mode` is the
    /// permission bits. Parent directories are made. A runner may do this better than by a shell.
    ///
    /// # Errors
    /// As [`Runner::run`].
    fn write_file(&self, path: &str, mode: u32, contents: &[u8]) -> Result<(), CommandError> {
        let path = quote(path);
        let script = format!(
            "umask 077; mkdir -p \"$(dirname {path})\"; cat > {path}.sampan-new; chmod {mode:o} {path}.sampan-new; \
             mv -f {path}.sampan-new {path}"
        );
        self.run(&Command::shell(script).stdin(contents)).map(drop)
    }

    /// Whether a command succeeds; failing to run it at all is an error.
    ///
    /// # Errors
    /// When the command could not be run to its end.
    fn succeeds(&self, command: &Command) -> Result<bool, CommandError> {
        match self.run(command) {
            Ok(_) => Ok(true),
            Err(error) if error.status().is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_shows_as_one_would_paste_it() {
        let command = Command::new("qemu-img")
            .args(["create", "-f", "qcow2", "my disk.qcow2"])
            .env("LC_ALL", "C");
        assert_eq!(
            command.to_string(),
            "LC_ALL=C qemu-img create -f qcow2 'my disk.qcow2'"
        );
        assert_eq!(command.secret().to_string(), "qemu-img …");
    }

    #[test]
    fn an_error_shows_the_end_of_standard_error() {
        let error = CommandError {
            command: "false".into(),
            place: "the host".into(),
            failure: Failure::Status(1),
            output: Output {
                stdout: b"out".to_vec(),
                stderr: b"first\n\nsecond\n".to_vec(),
            },
        };
        assert_eq!(
            error.to_string(),
            "`false` failed on the host: exit status 1\n    first\n    second"
        );
    }
}
