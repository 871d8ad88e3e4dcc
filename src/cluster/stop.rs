//! `stop`: the machine is saved with its memory, or the guest powers off; its disk and everything in the cluster stay.

use std::time::Duration;

use sampan_driver::{Command, MachineState};

use super::events::{self, Transient};
use super::machine::Machine;
use super::{Context, profile};
use crate::error::{Kind, Result};
use crate::supervisor;

/// How long `stop` waits for another verb on the same profile.
const LOCK_DEADLINE: Duration = Duration::from_secs(300);

/// How long the guest may take to hear that it shall power off.
const ASK_DEADLINE: Duration = Duration::from_secs(20);

/// What becomes of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StopMode {
    /// It is saved with its memory and goes on at the next start.
    #[default]
    Save,
    /// Its guest powers off.
    Shutdown,
}

/// What came of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Whether there was anything to stop.
    pub was_running: bool,
    /// Whether the machine's memory is kept now.
    pub saved: bool,
}

/// Stops a profile's machine. One that cannot be saved powers off, with a warning; a guest that does not power off within `deadline`
/// is killed.
///
/// # Errors
/// When the profile is not there, the disk is full, or the machine can be neither stopped nor killed.
pub fn stop(ctx: &Context, name: &str, mode: StopMode, deadline: Duration) -> Result<Stopped> {
    let files = ctx.layout.profile(name);
    // A lock of a profile that is not there would stay behind.
    profile::load(&ctx.layout, name)?;
    let lock = profile::lock(ctx, name, LOCK_DEADLINE)?;
    // Whoever held the lock may have changed or deleted it.
    let machine = Machine::open(ctx, name)?;
    let state = machine.state()?;
    let was_running = matches!(state, MachineState::Running | MachineState::Paused);
    if was_running {
        // Only for the eyes of `status`: on a full disk, of all times, a cluster must be stoppable.
        let _ = events::write(&files, Transient::Stopping, "");
    }
    let stopped = match mode {
        StopMode::Save if was_running => save(&machine, state, deadline),
        // What was saved of it stays.
        StopMode::Save => Ok(false),
        StopMode::Shutdown => shut_down(&machine, state, deadline),
    };
    events::clear(&files);
    let saved = stopped?;
    // It ends with its machine; whoever stops a cluster shall find nothing of it running.
    if let Err(error) = supervisor::end(&files) {
        ctx.reporter.warn(&error.to_string());
    }
    drop(lock);
    Ok(Stopped { was_running, saved })
}

/// Saves the machine, or powers it off where it cannot be saved; true when it was saved.
fn save(machine: &Machine<'_>, state: MachineState, deadline: Duration) -> Result<bool> {
    let Some(snapshots) = machine.driver.snapshots() else {
        return shut_down(machine, state, deadline);
    };
    // If what is saved cannot be used one day, the machine boots its disk.
    let synced = match state {
        MachineState::Running => machine.sync(),
        // It was synced before it was held.
        _ => Ok(()),
    };
    let saved = synced.and_then(|()| Ok(snapshots.save(&machine.spec)?));
    match saved {
        Ok(effort) => {
            tracing::info!(paused = ?effort.paused, bytes = effort.written, "saved");
            Ok(true)
        }
        Err(error) if matches!(error.kind(), Kind::Storage | Kind::Interrupted) => {
            Err(error.hint("`sampan stop --shutdown` powers the machine off and needs no room"))
        }
        Err(error) => {
            machine.ctx.reporter.warn(&format!(
                "the machine cannot be saved and is powered off: {error}"
            ));
            shut_down(machine, machine.state()?, deadline)
        }
    }
}

/// Powers the machine off; what was saved of a stopped one is given up, so that it boots next.
pub(super) fn shut_down(machine: &Machine<'_>, state: MachineState, deadline: Duration) -> Result<bool> {
    if state == MachineState::Running
        && let Err(error) = power_off(machine)
    {
        tracing::debug!(%error, "the guest cannot be asked to power off");
    }
    machine.driver.stop(&machine.spec, deadline)?;
    if let Some(snapshots) = machine.driver.snapshots() {
        snapshots.discard(&machine.spec)?;
    }
    Ok(false)
}

/// Tells the guest to power off. The driver's power button alone does not do: a node runs no daemon that listens to it.
fn power_off(machine: &Machine<'_>) -> Result<()> {
    let poweroff = Command::new("systemctl").args(["poweroff", "--no-block"]);
    machine
        .guest(ASK_DEADLINE)?
        .run(&poweroff.deadline(ASK_DEADLINE))?;
    Ok(())
}
