//! `stop`: the guest powers off; its disk and everything in the cluster stay.

use std::time::Duration;

use sampan_driver::MachineState;

use super::events::{self, Transient};
use super::{Context, drivers, machine, profile};
use crate::error::Result;

/// How long `stop` waits for another verb on the same profile.
const LOCK_DEADLINE: Duration = Duration::from_secs(300);

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
    let running = matches!(driver.state(&spec)?, MachineState::Running | MachineState::Paused);
    if running {
        // Only for the eyes of `status`: on a full disk, of all times, a cluster must be stoppable.
        let _ = events::write(&files, Transient::Stopping, "");
    }
    let stopped = driver.stop(&spec, deadline);
    events::clear(&files);
    drop(lock);
    stopped?;
    Ok(running)
}
