//! The steps of `start`, one file each.

mod addons;
mod boot;
mod bundle;
mod driver;
pub(super) mod guest;
mod profile;
mod ready;
mod upgrade;
mod verify;
mod wake;

pub(super) use addons::{Addons, DefaultAddons};
pub(super) use boot::{Connect, Machine};
pub(super) use bundle::Bundle;
pub(super) use driver::Driver;
pub(super) use guest::Guest;
pub(super) use profile::{Identity, Profile};
pub(super) use ready::Ready;
pub(super) use upgrade::Upgrade;
pub(super) use verify::Verify;
pub(super) use wake::Wake;

use super::start::Run;
use crate::error::Result;

/// One step of `start`.
pub(super) trait Step: Sync {
    /// Stable name for scripts, and what people read.
    fn names(&self) -> (&'static str, &'static str);

    /// Whether there is nothing to do; must be cheap and must look at the real state of things.
    fn is_done(&self, run: &mut Run<'_>) -> Result<bool>;

    /// Does it. May be called on a half-done state.
    fn run(&self, run: &mut Run<'_>) -> Result<()>;

    /// Whether running it counts as having changed something; false for steps that only look.
    fn changes(&self) -> bool {
        true
    }
}
