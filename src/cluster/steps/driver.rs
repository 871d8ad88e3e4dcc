//! The driver is installed and works, and says with which accelerator.

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
        let health = run.driver.check()?;
        let mut line = format!("using the {} driver {}", run.driver.name(), health.version);
        if !health.accelerator.is_empty() {
            line.push_str(&format!(" with {}", health.accelerator));
        }
        if !health.reason.is_empty() {
            line.push_str(&format!(" ({})", health.reason));
        }
        run.ctx.reporter.info(&line);
        Ok(())
    }

    fn changes(&self) -> bool {
        false
    }
}
