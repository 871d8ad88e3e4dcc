//! One authenticated connection that runs commands, and makes itself anew when it was lost.

use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sampan_driver::{Command, CommandError, Failure, Output, Runner, Stream};

use super::line::{self, PidFilter};
use super::wire::{Clock, Ended, Trouble, Wire};
use super::{Target, connect};
use crate::error::Result;
use crate::progress::Cancel;

/// How long a lost connection may take to come back before a command.
const RECONNECT: Duration = Duration::from_secs(30);
/// How long an overdue command may take to be ended.
const ENDING: Duration = Duration::from_secs(5);

/// A connection to a guest. Commands given to it from several threads run one after the other; for more at a time, make
/// more sessions. When the user asks to stop, the running command is ended in the guest and fails with
/// [`io::ErrorKind::Interrupted`].
pub struct Session {
    target: Target,
    cancel: Cancel,
    wire: Mutex<Option<Wire>>,
}

impl Session {
    pub(super) fn new(target: Target, cancel: Cancel, wire: Wire) -> Self {
        Self {
            target,
            cancel,
            wire: Mutex::new(Some(wire)),
        }
    }

    /// Where this session leads.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Runs a line in the user's login shell of the guest, without input, and returns its exit status; by a signal it is 128 and
    /// the signal's number, as a shell has it.
    ///
    /// # Errors
    /// When it could not be run to its end.
    pub fn line(
        &self,
        line: &str,
        deadline: Duration,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<i32, CommandError> {
        let fail = |failure| self.error(line.to_owned(), failure);
        match self.exec(line, &mut io::empty(), Clock::total(deadline), on_output) {
            Ok(Ended::Status(status)) => Ok(status),
            Ok(Ended::Signal(name)) => Ok(128 + signal_number(&name)),
            Err(trouble) => Err(fail(failure(trouble, deadline))),
        }
    }

    /// Runs a line with input in the guest. A command that is overdue or not wanted any more is ended there, too.
    pub(super) fn exec(
        &self,
        line: &str,
        input: &mut dyn Read,
        mut clock: Clock,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ended, Trouble> {
        // A thread that panicked while it held the wire leaves it in its place; whether it still works shows at once.
        let mut slot = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        let wire = match slot.take() {
            Some(wire) => wire,
            None => connect::again(&self.target, clock.left().min(RECONNECT), &self.cancel)
                .map_err(|error| Trouble::Io(io::Error::other(error)))?,
        };
        let mut filter = PidFilter::default();
        let ended = wire.exec(
            &line::telling_pid(line),
            input,
            &mut clock,
            &mut |stream, bytes| {
                filter.pass(stream, bytes, on_output);
            },
        );
        filter.finish(on_output);
        match (&ended, filter.pid) {
            (Ok(_), _) => *slot = Some(wire),
            (Err(Trouble::Deadline | Trouble::Cancelled), Some(pid)) => {
                // What libssh2 was in the middle of cannot be taken back: the connection is given up, and a new one ends the command.
                drop(wire);
                self.end(pid);
            }
            (Err(_), _) => {}
        }
        ended
    }

    /// Ends a command in the guest as well as it can be done: the guest may be the one that hangs.
    fn end(&self, pid: u32) {
        let ended = connect::again(&self.target, ENDING, &Cancel::default())
            .map_err(|error| error.to_string())
            .and_then(|wire| {
                wire.exec(
                    &line::ending(pid),
                    &mut io::empty(),
                    &mut Clock::total(ENDING),
                    &mut |_, _| {},
                )
                .map_err(|trouble| format!("{trouble:?}"))
            });
        if let Err(error) = ended {
            tracing::warn!(pid, %error, "an overdue command may still run in the guest");
        }
    }

    pub(super) fn error(&self, command: String, failure: Failure) -> CommandError {
        CommandError {
            command,
            place: self.place(),
            failure,
            output: Output::default(),
        }
    }
}

/// What stopped a command, in the words of the contract.
pub(super) fn failure(trouble: Trouble, deadline: Duration) -> Failure {
    match trouble {
        Trouble::Deadline => Failure::Deadline(deadline),
        Trouble::Cancelled => Failure::Io(io::Error::new(io::ErrorKind::Interrupted, "interrupted")),
        Trouble::Ssh(error) => Failure::Io(io::Error::other(format!(
            "the connection failed: {}",
            error.message()
        ))),
        Trouble::Io(error) => Failure::Io(error),
    }
}

impl Runner for Session {
    fn place(&self) -> String {
        self.target.place.clone()
    }

    fn run_streamed(
        &self,
        command: &Command,
        on_output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(), CommandError> {
        tracing::debug!(%command, place = self.target.place, "run in the guest");
        let mut input: &[u8] = command.stdin.as_deref().unwrap_or_default();
        let ended = self.exec(
            &line::of(command),
            &mut input,
            Clock::total(command.deadline),
            on_output,
        );
        let failure = match ended {
            Ok(Ended::Status(0)) => return Ok(()),
            // The shell that was to become the program says so; a shell that runs a script may mean any program.
            Ok(Ended::Status(127)) if command.program != "sh" => Failure::NotFound,
            Ok(Ended::Status(status)) => Failure::Status(status),
            Ok(Ended::Signal(name)) => Failure::Signal(name),
            Err(trouble) => failure(trouble, command.deadline),
        };
        Err(self.error(command.to_string(), failure))
    }
}

/// The number of a signal that sshd named; those a command is likely to end by.
fn signal_number(name: &str) -> i32 {
    match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "ABRT" => 6,
        "FPE" => 8,
        "KILL" => 9,
        "SEGV" => 11,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        _ => 0,
    }
}
