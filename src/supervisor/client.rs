//! Everybody else's side: finding the supervisor of a profile, starting it, asking it, ending it.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use process_wrap::std::{ChildWrapper, CommandWrap, ProcessSession};
use rustix::process::{Pid, Signal, kill_process};
use sampan_driver::MachineState;

use super::ports::RuleState;
use super::protocol::{self, Answer, Ask, LINE_LIMIT, VERSION};
use super::socket;
use super::{ContainerPort, Publication};
use crate::cluster::{self, Context};
use crate::error::{Error, Kind, Result};
use crate::layout::ProfileLayout;
use crate::store::lock;

/// How long a supervisor may take to answer. It does nothing else meanwhile, but its host may be busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How long one that was just started may take: its program has to be read from disk.
const START_LIMIT: Duration = Duration::from_secs(15);

/// How long a verb that has other things to do waits for it.
const NUDGE_LIMIT: Duration = Duration::from_millis(500);

/// How long it waits for the API and for its own work before it answers what is published, and a little more.
const PUBLISHED_LIMIT: Duration = Duration::from_secs(20);

/// How long one that was asked to end may take, before it is killed.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Sees to it that the profile's supervisor runs, and that it is of this version. Cheap when it does: one connection.
///
/// # Errors
/// [`Kind::NotFound`] without such a profile, [`Kind::NotRunning`] when its machine does not run, [`Kind::DriverUnsupported`] when its driver
/// cannot publish; [`Kind::Internal`] when it does not come up, with where its log is.
pub fn ensure(ctx: &Context, profile: &str) -> Result<()> {
    let Some(mut child) = begin(ctx, profile, Ask::Hello)? else {
        return Ok(());
    };
    let files = ctx.layout.profile(profile);
    let end = Instant::now() + START_LIMIT;
    loop {
        if is_there(&files) {
            // Whoever stays its parent has to take note of its end, or it stays in the process table.
            thread::spawn(move || child.wait());
            return Ok(());
        }
        let ended = child.try_wait().ok().flatten();
        if ended.is_some_and(|status| !status.success()) || Instant::now() >= end {
            return Err(silent(&files));
        }
        ctx.cancel.check()?;
        thread::sleep(Duration::from_millis(5));
    }
}

/// As [`ensure`], for verbs that have other things to do: it is started and not waited for long; where it is there already and the guest
/// `has_slept`, it is told to look at everything anew. What goes wrong is for the next verb that needs it.
pub(crate) fn nudge(ctx: &Context, profile: &str, has_slept: bool) {
    let ask = if has_slept { Ask::Refresh } else { Ask::Hello };
    match begin(ctx, profile, ask) {
        Ok(None) => {}
        Ok(Some(mut child)) => {
            let files = ctx.layout.profile(profile);
            let end = Instant::now() + NUDGE_LIMIT;
            // Once it answers, whoever wants to end it finds it.
            while !is_there(&files) && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
            thread::spawn(move || child.wait());
        }
        Err(error) => tracing::debug!(profile, %error, "no supervisor"),
    }
}

/// What is published of all Services, as soon as the supervisor has done all that is to be done.
///
/// # Errors
/// As [`ensure`]; [`Kind::ApiStopped`] when it knows of no Services as the apiserver does not answer.
pub fn published(ctx: &Context, profile: &str) -> Result<Vec<Publication>> {
    let answer = asked(ctx, profile, Ask::Published)?;
    match answer.trouble {
        None => Ok(answer.published),
        Some(trouble) => Err(Error::new(
            Kind::ApiStopped,
            format!("the services of cluster \"{profile}\" are not known: {trouble}"),
        )
        .hint("see `sampan status` and `sampan logs`")),
    }
}

/// What has become of the user's own forwards ([`super::ports`]), after they were read anew, and of the ports of Docker's own containers.
///
/// # Errors
/// As [`ensure`].
pub fn rules(ctx: &Context, profile: &str) -> Result<(Vec<RuleState>, Vec<ContainerPort>)> {
    let answer = asked(ctx, profile, Ask::Rules)?;
    Ok((answer.rules, answer.containers))
}

/// Tells what is published, and again whenever that changes, until the context is cancelled. A supervisor that dies is started again.
///
/// # Errors
/// As [`ensure`], at any time; [`Kind::Interrupted`] when the context was cancelled.
pub fn follow(
    ctx: &Context,
    profile: &str,
    mut changed: impl FnMut(&[Publication], &[ContainerPort], &[RuleState], Option<&str>),
) -> Result<()> {
    /// How often the context is looked at.
    const TICK: Duration = Duration::from_millis(200);
    loop {
        ensure(ctx, profile)?;
        let files = ctx.layout.profile(profile);
        let Ok(stream) = opened(&files, Ask::Follow, TICK) else {
            continue;
        };
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            ctx.cancel.check()?;
            match stream.read_until(b'\n', &mut line) {
                Ok(_) if line.ends_with(b"\n") => {
                    if let Ok(answer) = serde_json::from_slice::<Answer>(&line) {
                        let trouble = answer.trouble.as_deref();
                        changed(&answer.published, &answer.containers, &answer.rules, trouble);
                    }
                    line.clear();
                }
                Ok(_) => break,
                // Nothing new; what was read of a line stays.
                Err(error) if is_timeout(&error) => {}
                Err(_) => break,
            }
        }
        // It ended: with its machine, as a rule, which then takes a moment to be gone.
        thread::sleep(TICK);
    }
}

/// Ends the profile's supervisor, if there is one, and waits until it is gone.
///
/// # Errors
/// [`Kind::Internal`] when it cannot be ended.
pub(crate) fn end(files: &ProfileLayout) -> Result<()> {
    if !files.supervisor_socket().exists() && lock::holder(&files.supervisor_lock()).is_none() {
        return Ok(());
    }
    if let Ok(mut stream) = opened(files, Ask::Quit, END_LIMIT) {
        // It keeps the connection open until it has ended.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let end = Instant::now() + END_LIMIT;
    while let Some(holder) = lock::holder(&files.supervisor_lock()) {
        if Instant::now() >= end {
            let what = format!("the supervisor, process {}, cannot be ended", holder.pid);
            return Err(
                Error::new(Kind::Internal, what).hint(format!("end it with `kill -9 {}`", holder.pid))
            );
        }
        // It did not answer: it hangs, or has just begun. Whoever holds the lock right now is the one.
        let pid = i32::try_from(holder.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| holder.pid != std::process::id()) {
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(5));
    }
    // One that was killed leaves it.
    let _ = fs::remove_file(files.supervisor_socket());
    Ok(())
}

/// Asks `first` of the supervisor that is there; where none of this version is, starts one and gives its process.
fn begin(ctx: &Context, profile: &str, first: Ask) -> Result<Option<Box<dyn ChildWrapper>>> {
    let files = ctx.layout.profile(profile);
    match asked_once(&files, first, ANSWER_LIMIT) {
        Ok(answer) if answer.version == VERSION => return Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
        // Of another version, or one that hangs.
        _ => {
            if cluster::load(&ctx.layout, profile).is_ok() {
                end(&files)?;
            }
        }
    }
    check(ctx, profile)?;
    let program = &ctx.drivers.program;
    let mut command = Command::new(program);
    command.args(["supervise", "--profile", profile]);
    for (flag, dir) in [
        ("--config", &ctx.layout.config),
        ("--data", &ctx.layout.data),
        ("--cache", &ctx.layout.cache),
    ] {
        command.arg(flag).arg(dir);
    }
    let log = super::log::open(&files.supervisor_log()).map_err(Error::io(&files.supervisor_log()))?;
    let errors = log.try_clone().map_err(Error::io(&files.supervisor_log()))?;
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    let child = CommandWrap::from(command)
        .wrap(ProcessSession)
        .spawn()
        .map_err(Error::io(program))?;
    Ok(Some(child))
}

/// Whether there is anything to supervise.
fn check(ctx: &Context, name: &str) -> Result<()> {
    let profile = cluster::load(&ctx.layout, name)?;
    let driver = cluster::open_driver(&profile.spec.driver, &ctx.layout, &ctx.drivers)?;
    if driver.port_forward().is_none() {
        return Err(Error::new(
            Kind::DriverUnsupported,
            format!(
                "the driver {} cannot publish ports of a running cluster",
                driver.name()
            ),
        )
        .hint("`sampan service NAME` tells where a service is, or reaches it as long as it runs; so does `kubectl port-forward`"));
    }
    match driver.state(&cluster::machine_spec(ctx, &profile)?)? {
        MachineState::Running | MachineState::Paused => Ok(()),
        MachineState::Stopped | MachineState::Absent => Err(Error::new(
            Kind::NotRunning,
            format!("cluster \"{name}\" is not running"),
        )
        .hint(format!("run `sampan start -p {name}`"))),
    }
}

/// Asks the supervisor, and once more when it ended meanwhile.
fn asked(ctx: &Context, profile: &str, ask: Ask) -> Result<Answer> {
    let files = ctx.layout.profile(profile);
    ensure(ctx, profile)?;
    asked_once(&files, ask, PUBLISHED_LIMIT)
        .or_else(|_| {
            ensure(ctx, profile)?;
            asked_once(&files, ask, PUBLISHED_LIMIT).map_err(Error::io(&files.supervisor_socket()))
        })
        .map_err(|error: Error| match error.kind() {
            Kind::HostPath => silent(&files),
            _ => error,
        })
}

/// Whether a supervisor of this version answers.
pub(super) fn is_there(files: &ProfileLayout) -> bool {
    asked_once(files, Ask::Hello, ANSWER_LIMIT).is_ok_and(|answer| answer.version == VERSION)
}

fn asked_once(files: &ProfileLayout, ask: Ask, limit: Duration) -> io::Result<Answer> {
    let stream = opened(files, ask, limit)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(LINE_LIMIT)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        // It ends right now.
        return Err(ErrorKind::ConnectionRefused.into());
    }
    Ok(serde_json::from_slice(&line)?)
}

fn opened(files: &ProfileLayout, ask: Ask, limit: Duration) -> io::Result<UnixStream> {
    let stream = socket::connect(&files.supervisor_socket(), limit)?;
    protocol::put(&stream, ask, limit).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => ErrorKind::ConnectionRefused.into(),
        _ => error,
    })?;
    Ok(stream)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// One that was started and does not answer.
fn silent(files: &ProfileLayout) -> Error {
    let log = files.supervisor_log();
    let text = fs::read_to_string(&log).unwrap_or_default();
    let error = Error::new(
        Kind::Internal,
        "the process that publishes ports does not come up",
    );
    let lines: Vec<String> = text.lines().rev().take(3).map(str::to_owned).collect();
    let lines: Vec<String> = lines.into_iter().rev().collect();
    let error = if lines.is_empty() {
        error
    } else {
        error.detail(&format!("end of {}", log.display()), &lines)
    };
    error.hint("try again; the cluster itself is not touched by this")
}
