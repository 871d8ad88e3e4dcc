//! What is told to the cluster, and to the guest: statuses, events, the time, certificates.

use std::time::{Duration, SystemTime};

use sampan_driver::MachineState;
use tokio::time::{Instant as Tick, timeout};

use super::super::api::Tale;
use super::super::clock::{self, Clocks};
use super::{RETRY, Supervisor};
use crate::cluster::{self, Context, Profile};
use crate::error::{Kind, Result};

/// How long telling the cluster one thing may take.
const TELL_LIMIT: Duration = Duration::from_secs(10);

/// How many things are kept for an apiserver that does not answer.
const UNTOLD: usize = 1000;

impl Supervisor<'_> {
    /// Tells the cluster, one thing after the other.
    pub(super) fn tell(&mut self, tales: Vec<Tale>) {
        for tale in tales {
            // What was to be said of a status before is out of date.
            if let Tale::Status(id, _) = &tale {
                self.untold
                    .retain(|other| !matches!(other, Tale::Status(of, _) if of == id));
            }
            self.untold.push(tale);
        }
        let too_many = self.untold.len().saturating_sub(UNTOLD);
        self.untold.drain(..too_many);
        if self.untold.is_empty() || self.telling.is_some() {
            return;
        }
        let (teller, tales) = (self.teller.clone(), std::mem::take(&mut self.untold));
        self.telling = Some(tokio::spawn(async move {
            let mut failed = Vec::new();
            for tale in tales {
                match timeout(TELL_LIMIT, teller.tell(&tale)).await {
                    Ok(Ok(())) => {}
                    // Its Service is gone, or the cluster does not want to hear it.
                    Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) => {
                        tracing::debug!(?tale, %status, "refused");
                    }
                    _ => failed.push(tale),
                }
            }
            failed
        }));
    }

    pub(super) fn told(&mut self, failed: Option<Vec<Tale>>) {
        self.telling = None;
        let failed = failed.unwrap_or_default();
        if failed.is_empty() {
            return self.tell(Vec::new());
        }
        let count = failed.len();
        self.log.line(&format!(
            "trouble: {count} things could not be told to the cluster"
        ));
        // With the next look at everything; what is newer by then comes after them.
        self.untold.splice(0..0, failed);
        self.retry.get_or_insert_with(|| Tick::now() + RETRY);
    }

    /// Steps the guest's clock when the host has slept or its clock was set.
    pub(super) fn compare_clocks(&mut self) {
        let now = Clocks::now();
        if let Some(apart) = now.apart(&self.clocks) {
            self.log
                .line(&format!("clock: the host's went {apart} ms further than time"));
            self.behind = true;
        }
        self.clocks = now;
        if self.behind && self.stepping.is_none() {
            let (ctx, profile) = (self.ctx.clone(), self.profile.clone());
            self.stepping = Some(tokio::task::spawn_blocking(move || step_clock(&ctx, &profile)));
        }
    }

    /// Has the certificates looked at once in a while, as a machine may run for longer than they last.
    pub(super) fn renew_certificates(&mut self) {
        if self.renewing.is_none() && self.renewal.is_due(SystemTime::now()) {
            let (ctx, name) = (self.ctx.clone(), self.profile.spec.name.clone());
            self.renewing = Some(tokio::task::spawn_blocking(move || cluster::renew(&ctx, &name)));
        }
    }

    pub(super) fn renewed(&mut self, done: Option<Result<bool>>) {
        self.renewing = None;
        self.renewal
            .looked(SystemTime::now(), matches!(done, Some(Ok(_))));
        match done {
            Some(Ok(true)) => {
                self.log.line("certificates: renewed");
                self.refresh();
            }
            Some(Ok(false)) | None => {}
            // A held cluster, or another verb at work.
            Some(Err(error)) if matches!(error.kind(), Kind::Locked | Kind::NotRunning) => {
                tracing::debug!(%error, "certificates");
            }
            Some(Err(error)) => self.log.line(&format!("trouble: certificates: {error}")),
        }
    }

    pub(super) fn stepped(&mut self, done: Option<Result<()>>) {
        self.stepping = None;
        match done {
            Some(Ok(())) => {
                self.behind = false;
                self.log.line("clock: the guest's is set");
                // Connections do not outlive a long sleep, and nobody says so.
                self.refresh();
            }
            // Tried again with the next comparison.
            Some(Err(error)) => tracing::debug!(%error, "the guest's clock"),
            None => {}
        }
    }
}

/// Sets the guest's clock; one that is held gets it when it goes on.
fn step_clock(ctx: &Context, profile: &Profile) -> Result<()> {
    let driver = cluster::open_driver(&profile.spec.driver, &ctx.layout, &ctx.drivers)?;
    let spec = cluster::machine_spec(ctx, profile)?;
    if driver.state(&spec)? != MachineState::Running {
        return Ok(());
    }
    let endpoint = driver.endpoint(&spec)?;
    let guest = cluster::connect_machine(ctx, &*driver, profile, &endpoint, Duration::from_secs(20))?;
    guest.run(&clock::step(SystemTime::now()))?;
    Ok(())
}
