//! Certificates of a cluster that runs for months: what `start` and waking do about them, without either.

use std::time::{Duration, SystemTime};

use super::{Context, access, kubeconfig};
use crate::error::{Error, Kind, Result};
use crate::store::lock::Lock;
use crate::{pki, provision};

/// How often certificates are looked at. They are renewed 30 days before their end, so a look may fail for weeks.
const EVERY: Duration = Duration::from_secs(24 * 3600);

/// How soon it is tried again when a look failed, and after the beginning.
const SOON: Duration = Duration::from_secs(3600);

/// When certificates are to be looked at, by the time of day: a host that sleeps does not make them last longer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    last: SystemTime,
    pause: Duration,
}

impl Schedule {
    /// Whoever begins was begun by a verb, which may have looked just now.
    pub(crate) fn new(now: SystemTime) -> Self {
        Self {
            last: now,
            pause: SOON,
        }
    }

    /// Whether it is time for a look. Of a clock that was set back nobody knows for how long it was wrong.
    pub(crate) fn is_due(&self, now: SystemTime) -> bool {
        now.duration_since(self.last)
            .is_ok_and(|since| since >= self.pause)
            || now < self.last
    }

    /// Takes note of a look.
    pub(crate) fn looked(&mut self, now: SystemTime, succeeded: bool) {
        self.last = now;
        self.pause = if succeeded { EVERY } else { SOON };
    }
}

/// Renews the certificates of a running cluster that are near their end: the host's own, with the entry in the kubeconfig where there is one;
/// Docker's; and the control plane's. True when one of the host's was made anew, so that connections should be made anew, too.
///
/// # Errors
/// [`Kind::Locked`] while another verb is at work on the profile, [`Kind::NotRunning`] when it does not run or is held; else as `start`.
pub(crate) fn renew(ctx: &Context, name: &str) -> Result<bool> {
    let files = ctx.layout.profile(name);
    let Some(_lock) = Lock::try_acquire(&files.lock)? else {
        return Err(Error::new(
            Kind::Locked,
            format!("somebody is at work on cluster \"{name}\""),
        ));
    };
    let access = access::reach(ctx, name)?;
    let (profile, pki) = (&access.profile, files.pki());
    let shown = || {
        [pki.join("admin.crt"), files.docker().join("cert.pem")]
            .map(|path| std::fs::read(path).unwrap_or_default())
    };
    let before = shown();
    let is_configured = kubeconfig::is_configured(ctx, profile).unwrap_or_default();
    pki::ensure(&pki, profile.node())?;
    pki::docker::ensure(&pki, &files.docker(), profile.node(), access.own_address())?;
    let renewed = shown() != before;
    if renewed && is_configured {
        kubeconfig::write(ctx, profile, true)?;
    }
    access.with_node(provision::renew)?;
    Ok(renewed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_looked_at_daily_and_sooner_after_a_failure() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let at = |hours: u64| begin + Duration::from_secs(3600 * hours);
        let mut schedule = Schedule::new(begin);
        assert!(!schedule.is_due(begin));
        assert!(schedule.is_due(at(1)));
        schedule.looked(at(1), true);
        assert!(!schedule.is_due(at(24)) && schedule.is_due(at(25)));
        schedule.looked(at(25), false);
        assert!(!schedule.is_due(at(25)) && schedule.is_due(at(26)));
        assert!(schedule.is_due(at(24)), "the clock was set back");
        assert!(schedule.is_due(at(9999)), "the host slept");
    }
}
