//! The machine exists and runs, and commands can be run in its guest.

use std::time::Duration;

use sampan_driver::{MachineSpec, Started};

use super::{Step, guest};
use crate::cluster::start::{Run, is_running};
use crate::cluster::{keep, machine, verdict};
use crate::error::{Error, Kind, Result};
use crate::pki;

/// A guest under emulation on a busy host answers within a minute; this long means that it never will. Whoever waits less for the
/// cluster waits less for its guest.
const SSH_DEADLINE: Duration = Duration::from_secs(300);

/// A cloud image lets sshd start only when cloud-init has been through half of its work, all of it in Python.
const CLOUD_SSH_DEADLINE: Duration = Duration::from_secs(600);

/// How long a woken apiserver is asked beforehand; whoever needs an answer asks again.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// Makes and starts the machine.
pub(in crate::cluster) struct Machine;

impl Step for Machine {
    fn names(&self) -> (&'static str, &'static str) {
        ("Creating VM", "starting the machine")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        is_running(run)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        announce(run)?;
        launch(run).map_err(|error| match run.profile() {
            Ok(profile) => keep::explain(run.ctx, &*run.driver, profile, error),
            Err(_) => error,
        })?;
        keep::refresh(run.ctx, &*run.driver, run.profile()?)
    }
}

fn launch(run: &mut Run<'_>) -> Result<()> {
    let spec = machine::spec(run.ctx, run.profile()?)?;
    let Some(snapshots) = run.driver.snapshots() else {
        verdict::forget(&run.files)?;
        run.driver.create(&spec)?;
        run.launched = true;
        run.driver.start(&spec)?;
        return follow(run, &spec);
    };
    match &run.layer {
        Some(layer) => {
            snapshots.fork(&spec, &layer.files.state())?;
            verdict::settle_fork(&run.files, run.profile()?)?;
            run.is_fork = true;
        }
        None => run.driver.create(&spec)?,
    }
    // From here on the machine is ours to end, even if starting it fails half-way.
    run.launched = true;
    let started = snapshots.resume(&spec)?;
    match &started {
        Started::Booted(reason) => {
            run.woken = false;
            verdict::forget(&run.files)?;
            if let Some(reason) = reason {
                run.ctx.reporter.warn(&format!(
                    "what was saved of the machine cannot be used, it boots from its disk: {reason}"
                ));
            }
        }
        Started::Resumed => run.woken = true,
        // It was held, and nobody who holds a machine wants it to end.
        Started::Running => (run.woken, run.launched) = (true, false),
    }
    Ok(())
}

/// A guest with an address of its own is reached there from now on.
fn follow(run: &mut Run<'_>, spec: &MachineSpec) -> Result<()> {
    if run.driver.features().forwards {
        return Ok(());
    }
    let mut profile = run.profile()?.clone();
    profile.follow(&run.driver.endpoint(spec)?);
    profile.save(&run.ctx.layout)?;
    // Docker's certificate is for the address that the host knows it by.
    let (files, own) = (&run.files, Some(profile.address));
    pki::docker::ensure(&files.pki(), &files.docker(), profile.node(), own)?;
    run.profile = Some(profile);
    Ok(())
}

/// Says what the machine runs on, and why on nothing better.
fn announce(run: &Run<'_>) -> Result<()> {
    let health = run.driver.check()?;
    let mut line = format!("using {} {}", run.driver.name(), health.version);
    if !health.accelerator.is_empty() {
        line.push_str(&format!(" with {}", health.accelerator));
    }
    tracing::info!(reason = health.reason, "accelerator");
    if let Some(reason) = health
        .reason
        .split(" (")
        .next()
        .filter(|reason| !reason.is_empty())
    {
        line.push_str(&format!(": {reason}"));
    }
    run.ctx.reporter.info(&line);
    Ok(())
}

/// Waits until commands can be run in the guest.
pub(in crate::cluster) struct Connect;

impl Step for Connect {
    fn names(&self) -> (&'static str, &'static str) {
        ("Running Remotely", "waiting for the machine")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        run.settled = !run.woken && verdict::is_settled(run)?;
        Ok(run.settled)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let profile = run.profile()?;
        let spec = machine::spec(run.ctx, profile)?;
        let endpoint = run.driver.endpoint(&spec)?;
        let deadline = if by_cloud_init(run) {
            CLOUD_SSH_DEADLINE
        } else {
            SSH_DEADLINE
        };
        let deadline = deadline.min(run.request.wait_timeout);
        // An apiserver that has slept takes as long for its first answer as sshd does; then its connection is open, too.
        let api = run.woken.then(|| run.api()).transpose()?;
        let guest = std::thread::scope(|scope| {
            if let Some(api) = api {
                scope.spawn(|| api.is_ok("/readyz", FIRST_ANSWER));
            }
            machine::connect(run.ctx, &*run.driver, profile, &endpoint, deadline)
        });
        run.guest = Some(guest.map_err(|error| unreachable(run, error))?);
        Ok(())
    }

    fn changes(&self) -> bool {
        false
    }
}

/// A guest that does not answer: because its machine has ended, or because it hangs.
fn unreachable(run: &Run<'_>, error: Error) -> Error {
    match is_running(run) {
        Ok(false) => Error::new(Kind::Driver, "the machine ended while it booted")
            .hint("see its serial log below profiles/NAME/machine, then start again")
            .because(error),
        _ if by_cloud_init(run) => error.hint(
            "cloud-init lets nobody in before it has made the keys: what it said is at the end of the machine's serial log",
        ),
        _ => error,
    }
}

/// Whether the guest is set up by cloud-init.
fn by_cloud_init(run: &Run<'_>) -> bool {
    let parts = run
        .profile()
        .and_then(|profile| guest::parts(&run.ctx.layout, profile));
    parts.is_ok_and(|parts| parts.cloud)
}
