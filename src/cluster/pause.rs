//! `pause` and `unpause`: a machine is held between two instructions, and goes on.

use std::time::Duration;

use sampan_driver::MachineState;

use super::machine::Machine;
use super::start::{self, StartRequest};
use super::{Context, profile};
use crate::error::{Error, Kind, Result};

/// How long both wait for another verb on the same profile.
const LOCK_DEADLINE: Duration = Duration::from_secs(300);

/// How long a guest that goes on may take to answer.
const WAKE_DEADLINE: Duration = Duration::from_secs(120);

/// Holds a running machine; false when it was held already.
///
/// # Errors
/// [`Kind::NotRunning`] when it does not run, [`Kind::DriverUnsupported`] when its driver cannot.
pub fn pause(ctx: &Context, name: &str) -> Result<bool> {
    profile::load(&ctx.layout, name)?;
    let _lock = profile::lock(ctx, name, LOCK_DEADLINE)?;
    let machine = Machine::open(ctx, name)?;
    match machine.state()? {
        MachineState::Paused => return Ok(false),
        MachineState::Running => {}
        MachineState::Stopped | MachineState::Absent => return Err(not_running(name)),
    }
    // If the machine ends while it is held, its disk is what is left.
    machine.sync()?;
    machine.snapshots()?.pause(&machine.spec)?;
    Ok(true)
}

/// Lets a machine that is held go on, and sets its clock; false when it was not held.
///
/// # Errors
/// [`Kind::NotRunning`] when it does not run; when its guest does not answer: it runs on then.
pub fn unpause(ctx: &Context, name: &str) -> Result<bool> {
    profile::load(&ctx.layout, name)?;
    let lock = profile::lock(ctx, name, LOCK_DEADLINE)?;
    let machine = Machine::open(ctx, name)?;
    match machine.state()? {
        MachineState::Paused => {}
        MachineState::Running => return Ok(false),
        MachineState::Stopped | MachineState::Absent => return Err(not_running(name)),
    }
    drop(lock);
    start::unpause(ctx, &StartRequest::of(machine.profile.spec, WAKE_DEADLINE))?;
    Ok(true)
}

fn not_running(name: &str) -> Error {
    Error::new(Kind::NotRunning, format!("cluster \"{name}\" is not running"))
        .hint(format!("run `sampan start -p {name}`"))
}
