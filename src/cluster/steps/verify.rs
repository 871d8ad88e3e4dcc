//! The cluster is healthy, as far as the user wants to wait for it.

use super::Step;
use super::guest::with_node;
use crate::cluster::start::Run;
use crate::cluster::verdict;
use crate::error::Result;
use crate::provision::readiness;

pub(in crate::cluster) struct Verify;

impl Step for Verify {
    fn names(&self) -> (&'static str, &'static str) {
        ("Verifying Kubernetes", "waiting until the cluster is healthy")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        Ok(run.settled)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        with_node(run, |node| {
            readiness::wait(node, &run.request.wait, run.request.wait_timeout)
        })?;
        verdict::settle(run)
    }

    fn changes(&self) -> bool {
        false
    }
}
