//! Whether the host slept, or somebody set its clock: then the guest's clock, which only counts, is behind.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sampan_driver::Command;

/// How often the clocks are compared.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// Less than this is what clocks do when they are steered.
const TOLERANCE: Duration = Duration::from_secs(1);

/// How long the guest may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The time of day beside the time the guest counts: the first goes on while the host sleeps and jumps when it is set, the second does neither.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    counted: Instant,
    day: SystemTime,
}

impl Clocks {
    pub(super) fn now() -> Self {
        Self {
            counted: Instant::now(),
            day: SystemTime::now(),
        }
    }

    /// How far they went apart since `before`, in milliseconds (negative: the clock was set back), if that is worth a step.
    pub(super) fn apart(&self, before: &Self) -> Option<i128> {
        let millis = |duration: Duration| i128::try_from(duration.as_millis()).unwrap_or(i128::MAX);
        let counted = millis(self.counted.duration_since(before.counted));
        let day = match self.day.duration_since(before.day) {
            Ok(forward) => millis(forward),
            Err(back) => -millis(back.duration()),
        };
        let apart = day - counted;
        (apart.abs() >= millis(TOLERANCE)).then_some(apart)
    }
}

/// What steps the guest's clock to the host's.
pub(super) fn step(now: SystemTime) -> Command {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    Command::new("date")
        .args(["--utc", "--set", &format!("@{:.3}", now.as_secs_f64())])
        .deadline(DEADLINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_and_set_clocks_are_told_from_time_that_passes() {
        let before = Clocks::now();
        let after = |counted: u64, day: i64| Clocks {
            counted: before.counted + Duration::from_millis(counted),
            day: match u64::try_from(day) {
                Ok(day) => before.day + Duration::from_millis(day),
                Err(_) => before.day - Duration::from_millis(day.unsigned_abs()),
            },
        };
        assert_eq!(after(5000, 5000).apart(&before), None);
        assert_eq!(after(5000, 5900).apart(&before), None);
        assert_eq!(after(5000, 3_605_000).apart(&before), Some(3_600_000));
        assert_eq!(after(5000, -60_000).apart(&before), Some(-65_000));
    }

    #[test]
    fn the_step_is_to_the_hosts_time() {
        let command = step(UNIX_EPOCH + Duration::from_millis(1_700_000_000_250));
        assert_eq!(command.to_string(), "date --utc --set @1700000000.250");
    }
}
