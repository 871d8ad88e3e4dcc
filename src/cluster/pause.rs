//! `pause` and `unpause`: a machine is held between two instructions, and goes on.

use std::time::Duration;

use sampan_driver::MachineState;

use super::start::{self, StartRequest};
use super::taking::Subject;
use super::{Context, profile, template};
use crate::error::{Error, Kind, Result};
use crate::provision::readiness::Component;

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
    let machine = Subject::open(ctx, name)?;
    match machine.state()? {
        MachineState::Paused => return Ok(false),
        MachineState::Running => {}
        MachineState::Stopped | MachineState::Absent => return Err(not_running(name)),
    }
    // If the machine ends while it is held, its disk is what is left.
    template::sync(ctx, &*machine.driver, &machine.profile)?;
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
    let machine = Subject::open(ctx, name)?;
    match machine.state()? {
        MachineState::Paused => {}
        MachineState::Running => return Ok(false),
        MachineState::Stopped | MachineState::Absent => return Err(not_running(name)),
    }
    let request = StartRequest {
        spec: machine.profile.spec,
        wait: Component::ALL.to_vec(),
        wait_timeout: WAKE_DEADLINE,
        keep_context: true,
        download_only: false,
        fresh: false,
        place: None,
    };
    drop(lock);
    start::unpause(ctx, &request)?;
    Ok(true)
}

fn not_running(name: &str) -> Error {
    Error::new(Kind::NotRunning, format!("cluster \"{name}\" is not running"))
        .hint(format!("run `sampan start -p {name}`"))
}
