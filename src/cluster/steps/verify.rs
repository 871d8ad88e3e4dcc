//! The cluster is healthy, as far as the user wants to wait for it.

use super::Step;
use super::guest::with_node;
use crate::cluster::start::Run;
use crate::cluster::verdict;
use crate::error::Result;
use crate::provision::{self, readiness};

pub(in crate::cluster) struct Verify;

impl Step for Verify {
    fn names(&self) -> (&'static str, &'static str) {
        ("Verifying Kubernetes", "waiting until the cluster is healthy")
    }

    fn is_done(&self, run: &mut Run<'_>) -> Result<bool> {
        Ok(run.settled && !run.woken)
    }

    fn run(&self, run: &mut Run<'_>) -> Result<()> {
        let (wait, deadline) = (&run.request.wait, run.request.wait_timeout);
        with_node(run, |node| match run.settled {
            // It was healthy when it was saved; what there is to see is whether it goes on.
            true => readiness::wait_awake(node, deadline),
            false => readiness::wait(node, wait, deadline),
        })?;
        if run.is_fork {
            with_node(run, provision::rename)?;
        }
        verdict::settle(run)
    }

    fn changes(&self) -> bool {
        false
    }
}
