//! `delete`: the one verb that destroys: the machine, its files and the kubeconfig entries.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sampan_driver::DriverError;

use super::machine::{self, Machine};
use super::{Context, cache, drivers, profile, snapshot, template};
use crate::error::{Error, Kind, Result};
use crate::kubeconfig::Files;
use crate::supervisor;

const LOCK_DEADLINE: Duration = Duration::from_secs(60);

/// Deletes a profile; false when there was nothing of it. A damaged profile is deleted too.
///
/// # Errors
/// When its machine cannot be ended or a file cannot be removed; what is left is still a profile that `delete` takes.
pub fn delete(ctx: &Context, name: &str) -> Result<bool> {
    let files = ctx.layout.profile(name);
    let present = profile::exists(&ctx.layout, name);
    if present {
        let lock = profile::lock(ctx, name, LOCK_DEADLINE)?;
        remove_machine(ctx, name)?;
        supervisor::end(&files)?;
        remove_dir(&files.dir)?;
        // The name goes while the lock is held, so nobody waits on a file that is gone.
        let _ = fs::remove_file(&files.lock);
        drop(lock);
    }
    snapshot::forget_all(ctx, name)?;
    // The profile is gone; what else could go now goes the next time.
    for swept in [cache::sweep(ctx), template::end_abandoned(ctx)] {
        if let Err(error) = swept {
            ctx.reporter.warn(&format!("something of it stays: {error}"));
        }
    }
    let entries = Files::new(ctx.kubeconfig.clone()).remove(name)?;
    if profile::current(&ctx.layout).as_deref() == Some(name) {
        let path = ctx.layout.current_profile();
        fs::remove_file(&path).map_err(Error::io(&path))?;
    }
    Ok(present || entries)
}

/// Ends the machine, whatever state the profile's files are in.
fn remove_machine(ctx: &Context, name: &str) -> Result<()> {
    match profile::load(&ctx.layout, name) {
        Ok(profile) => {
            let machine = Machine::of(ctx, profile)?;
            Ok(machine.driver.remove(&machine.spec)?)
        }
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::HostConfig) => {
            // Which driver it had is lost: each one looks for a machine of its own in the directory.
            for driver in drivers::driver_names(&ctx.drivers) {
                let driver = drivers::open_driver(&driver, &ctx.layout, &ctx.drivers)?;
                match driver.remove(&machine::orphan(ctx, name)) {
                    // One that does not work, as a rule a program of somebody's, has no say in what was never its machine.
                    Err(error @ DriverError::Unhealthy { .. }) => ctx.reporter.warn(&format!(
                        "if the machine was one of the driver {}, it may still run: {error}",
                        driver.name()
                    )),
                    removed => removed?,
                }
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Removes all of sampan's own directories; for `delete --all --purge`, after the profiles are gone.
///
/// # Errors
/// When something cannot be removed.
pub fn purge(ctx: &Context) -> Result<()> {
    for dir in [&ctx.layout.data, &ctx.layout.cache, &ctx.layout.config] {
        remove_dir(dir)?;
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(dir)(error)),
        _ => Ok(()),
    }
}
