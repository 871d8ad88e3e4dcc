//! The ready snapshot that a new machine is forked from: found, or made.

use sampan_driver::MachineState;

use super::Step;
use crate::cluster::start::Run;
use crate::cluster::{keep, machine, template};
use crate::error::{Error, Kind, Result};

/// Somebody may remove a layer right after it was found, but not always.
const TRIES: usize = 3;

pub(in crate::cluster) struct Ready;

impl Step for Ready {
    fn names(&self) -> (&'static str, &'static str) {
        ("Pulling Base Image", "taking the ready snapshot")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        let can = run.driver.snapshots().is_some() && !run.request.fresh;
        // A machine that exists is the user's.
        Ok(!can || run.driver.state(&machine::spec(run.ctx, run.profile()?)?)? != MachineState::Absent)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        for _ in 0..TRIES {
            let layer = template::ensure(run.ctx, &*run.driver, run.profile()?)?;
            if keep::claim(run.ctx, &run.files, &layer)? {
                run.layer = Some(layer);
                return Ok(());
            }
        }
        Err(
            Error::new(Kind::HostPath, "the ready snapshot is removed again and again")
                .hint("see who removes things from sampan's cache, then start again"),
        )
    }
}
