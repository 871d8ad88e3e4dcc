//! How often and after which pauses something is tried again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::settings::Settings;
use super::trouble::{Again, Trouble};
use crate::error::Error;

/// No pause of ours is longer.
const LONGEST: Duration = Duration::from_secs(30);
/// A host without a network is told so soon.
const UNREACHED: u32 = 2;
/// What gets on by this much counts as a new beginning, however often it was cut before.
const GAIN: u64 = 1 << 20;

/// The tries of one object.
pub(super) struct Patience<'a> {
    settings: &'a Settings,
    tried: u32,
    furthest: u64,
}

impl<'a> Patience<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            tried: 0,
            furthest: 0,
        }
    }

    /// The pause before the next try of something that stopped after `at` bytes, or the error when there is to be none.
    pub(super) fn after(&mut self, trouble: Trouble, at: u64) -> Result<Pause, Error> {
        if at >= self.furthest.saturating_add(GAIN) {
            self.furthest = at;
            self.tried = 0;
        }
        let most = match trouble.again {
            Again::Never => return Err(trouble.error),
            Again::Unreached => UNREACHED.min(self.settings.retries),
            _ => self.settings.retries,
        };
        if self.tried >= most {
            return Err(trouble.error);
        }
        let wait = match trouble.again {
            Again::Anew => Duration::ZERO,
            Again::After(wait) => wait.max(self.settings.pause),
            _ => jitter(growing(self.settings.pause, self.tried)),
        };
        self.tried += 1;
        Ok(Pause {
            wait,
            number: self.tried,
            most,
            error: trouble.error,
        })
    }
}

/// What to do before the next try.
pub(super) struct Pause {
    pub(super) wait: Duration,
    /// Which try again it is, from 1.
    pub(super) number: u32,
    /// How many there may be.
    pub(super) most: u32,
    /// Why.
    pub(super) error: Error,
}

fn growing(first: Duration, tried: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(tried)).min(LONGEST)
}

/// Between three quarters and five quarters of it, so that those who were cut together do not come back together.
fn jitter(wait: Duration) -> Duration {
    // The standard library seeds each of these differently.
    let chance = u32::try_from(RandomState::new().hash_one(0) % 1000).unwrap_or_default();
    wait.mul_f64(0.75 + f64::from(chance) / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn trouble(again: Again) -> Trouble {
        Trouble {
            error: Error::new(Kind::Internet, "x"),
            again,
        }
    }

    #[test]
    fn pauses_grow_and_end() {
        let settings = Settings::default();
        let mut patience = Patience::new(&settings);
        let mut waits = Vec::new();
        while let Ok(pause) = patience.after(trouble(Again::Soon), 0) {
            waits.push(pause.wait.as_secs_f64());
        }
        assert_eq!(waits.len(), 5);
        for (wait, around) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0]) {
            assert!((0.75..=1.25).contains(&(wait / around)), "{waits:?}");
        }
        assert_eq!(growing(Duration::from_secs(1), 40), LONGEST);
    }

    #[test]
    fn a_server_that_says_when_is_obeyed() {
        let settings = Settings::default();
        let mut patience = Patience::new(&settings);
        let wait = Duration::from_secs(77);
        assert_eq!(patience.after(trouble(Again::After(wait)), 0).unwrap().wait, wait);
        let at_once = patience.after(trouble(Again::After(Duration::ZERO)), 0).unwrap();
        assert_eq!(at_once.wait, settings.pause);
    }

    #[test]
    fn what_gets_on_is_given_more_tries_and_what_begins_anew_is_not() {
        let settings = Settings::default();
        let mut patience = Patience::new(&settings);
        for megabyte in 0..50 {
            patience.after(trouble(Again::Soon), megabyte << 20).unwrap();
        }
        let tries = (0..50).take_while(|_| patience.after(trouble(Again::Anew), 30 << 20).is_ok());
        assert!(tries.count() <= 5);
    }

    #[test]
    fn a_host_without_a_network_is_told_soon() {
        let settings = Settings::default();
        let mut patience = Patience::new(&settings);
        let tries = (0..50).take_while(|_| patience.after(trouble(Again::Unreached), 0).is_ok());
        assert_eq!(tries.count(), 2);
        assert!(patience.after(trouble(Again::Never), 0).is_err());
    }
}
