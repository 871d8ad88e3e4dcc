//! `ssh`: a shell or a command on the node, with our own standard streams and its exit status.

use std::io::IsTerminal;

use sampan_driver::{Command, Failure, Host, Runner, Stream};

use crate::cli::SshArgs;
use crate::cluster::{self, Access};
use crate::error::{Error, Kind, Result};
use crate::remote;

use super::{App, host};

/// A command without the user's OpenSSH may run this long: nobody can be asked, and a day is not a mistake.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

pub(super) fn run(app: &App, args: &SshArgs) -> Result<u8> {
    command(app, &app.profile()?, &args.command)
}

/// Runs words on the node as `ssh` does: joined by spaces and read by the login shell there.
pub(super) fn command(app: &App, name: &str, words: &[String]) -> Result<u8> {
    let ctx = app.context()?;
    let access = cluster::access(&ctx, name)?;
    let line = (!words.is_empty()).then(|| words.join(" "));
    if let Some(runner) = &access.endpoint.runner {
        return through(app, &**runner, line.as_deref());
    }
    let Some(client) = host::find_program("ssh") else {
        return without_client(app, &access, line.as_deref());
    };
    let tty = std::io::stdin().is_terminal() && (line.is_none() || std::io::stdout().is_terminal());
    let known_hosts = access.target.key.with_file_name("known_hosts");
    let command = remote::openssh(&access.target, &client, &known_hosts, line.as_deref(), tty)?;
    tracing::debug!(%command, "become");
    Err(host::become_program(Host::process(&command)))
}

/// Runs a line by our own SSH: no terminal and no input, but its output and its exit status.
fn without_client(app: &App, access: &Access, line: Option<&str>) -> Result<u8> {
    let Some(line) = line else {
        return Err(Error::new(
            Kind::HostTool,
            "a shell on the node needs the program ssh, which is not in PATH",
        )
        .hint("install OpenSSH's client, or run one command: sampan ssh -- uname -a"));
    };
    let session = remote::connect(
        &access.target,
        std::time::Duration::from_secs(30),
        &crate::progress::Cancel::default(),
    )?;
    let status = session.line(line, DEADLINE, &mut |stream, bytes| pass(app, stream, bytes))?;
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}

/// Runs a line in a machine that brings its own way to run commands.
fn through(app: &App, runner: &dyn Runner, line: Option<&str>) -> Result<u8> {
    let Some(line) = line else {
        return Err(
            Error::new(Kind::Unimplemented, "this driver has no shell on the node")
                .hint("run one command: sampan ssh -- uname -a"),
        );
    };
    let command = Command::new("sh").args(["-c", line]).deadline(DEADLINE);
    match runner.run_streamed(&command, &mut |stream, bytes| pass(app, stream, bytes)) {
        Ok(()) => Ok(0),
        Err(error) => match error.failure {
            Failure::Status(status) => Ok(u8::try_from(status).unwrap_or(u8::MAX)),
            _ => Err(error.into()),
        },
    }
}

fn pass(app: &App, stream: Stream, bytes: &[u8]) {
    match stream {
        Stream::Stdout => app.ui.bytes(bytes),
        Stream::Stderr => app.ui.error_bytes(bytes),
    }
}
