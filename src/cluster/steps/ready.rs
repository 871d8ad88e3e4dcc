//! The ready snapshot that a new machine is forked from: found, or made.

use sampan_driver::MachineState;

use super::Step;
use crate::cluster::start::Run;
use crate::cluster::{machine, template};
use crate::error::Result;

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
        run.layer = Some(template::ensure(run.ctx, &*run.driver, run.profile()?)?);
        Ok(())
    }
}
