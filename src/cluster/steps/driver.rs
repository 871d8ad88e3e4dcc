//! The driver is installed and works: known before anything long begins.

use super::Step;
use crate::cluster::start::{Run, is_running};
use crate::error::Result;

pub(in crate::cluster) struct Driver;

impl Step for Driver {
    fn names(&self) -> (&'static str, &'static str) {
        ("Selecting Driver", "checking the driver")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        // A machine that runs is proof enough.
        is_running(run)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        run.driver.check()?;
        Ok(())
    }

    fn changes(&self) -> bool {
        false
    }
}
