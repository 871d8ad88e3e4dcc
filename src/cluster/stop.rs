//! `stop`: the guest powers off; its disk and everything in the cluster stay.

use std::time::Duration;

use sampan_driver::{Command, Driver, MachineSpec, MachineState};

use super::events::{self, Transient};
use super::{Context, Profile, drivers, machine, profile};
use crate::error::Result;

/// How long `stop` waits for another verb on the same profile.
const LOCK_DEADLINE: Duration = Duration::from_secs(300);

/// How long the guest may take to hear that it shall power off.
const ASK_DEADLINE: Duration = Duration::from_secs(20);

/// Stops a profile's machine; true when it was running. The guest is asked to power off and killed after `deadline`.
///
/// # Errors
/// When the profile is not there, or its machine can be neither stopped nor killed.
pub fn stop(ctx: &Context, name: &str, deadline: Duration) -> Result<bool> {
    let files = ctx.layout.profile(name);
    // A lock of a profile that is not there would stay behind.
    profile::load(&ctx.layout, name)?;
    let lock = profile::lock(ctx, name, LOCK_DEADLINE)?;
    // Whoever held the lock may have changed or deleted it.
    let profile = profile::load(&ctx.layout, name)?;
    let driver = drivers::open_driver(&profile.spec.driver, &ctx.layout, &ctx.drivers)?;
    let spec = machine::spec(ctx, &profile)?;
    let state = driver.state(&spec)?;
    let running = matches!(state, MachineState::Running | MachineState::Paused);
    if running {
        // Only for the eyes of `status`: on a full disk, of all times, a cluster must be stoppable.
        let _ = events::write(&files, Transient::Stopping, "");
    }
    if state == MachineState::Running
        && let Err(error) = power_off(ctx, &*driver, &profile, &spec)
    {
        tracing::debug!(%error, "the guest cannot be asked to power off");
    }
    let stopped = driver.stop(&spec, deadline);
    events::clear(&files);
    drop(lock);
    stopped?;
    Ok(running)
}

/// Tells the guest to power off. The driver's power button alone does not do: a node runs no daemon that listens to it.
fn power_off(ctx: &Context, driver: &dyn Driver, profile: &Profile, spec: &MachineSpec) -> Result<()> {
    let guest = machine::connect(ctx, driver, profile, &driver.endpoint(spec)?, ASK_DEADLINE)?;
    let poweroff = Command::new("systemctl").args(["poweroff", "--no-block"]);
    guest.run(&poweroff.deadline(ASK_DEADLINE))?;
    Ok(())
}
