//! A machine that goes on where it was saved: its guest learns what time it is, and that it may be a fork.

use super::Step;
use super::guest::with_node;
use crate::cluster::start::Run;
use crate::cluster::verdict;
use crate::error::Result;
use crate::provision;

pub(in crate::cluster) struct Wake;

impl Step for Wake {
    fn names(&self) -> (&'static str, &'static str) {
        ("Configuring Localhost Environment", "setting the clock")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        Ok(!run.woken)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let is_fork = run.is_fork;
        with_node(run, |node| provision::wake(node, is_fork))?;
        run.settled = verdict::is_noted(run)?;
        Ok(())
    }

    fn changes(&self) -> bool {
        false
    }
}
