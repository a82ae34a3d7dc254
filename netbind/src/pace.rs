//! Keeps what a guest causes to a rate.

use std::time::Duration;

/// Allows a burst, and after that one in each interval (the generic cell rate algorithm, ITU-T
/// I.371). One moment is all that it remembers. The time is an input: since any fixed moment.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    /// How far ahead of its time the next may be.
    tolerance: Duration,
    /// When the next would be, if each had waited for the interval.
    due: Duration,
}

impl Pace {
    /// A pace of `burst` at once, at least one, then one in each `interval`.
    pub(crate) const fn new(burst: u32, interval: Duration) -> Self {
        Self {
            interval,
            tolerance: interval.saturating_mul(burst.saturating_sub(1)),
            due: Duration::ZERO,
        }
    }

    /// Whether one more may be now; if so, it counts.
    pub(crate) fn allows(&mut self, now: Duration) -> bool {
        let allowed = self.next() <= now;
        if allowed {
            self.due = self.due.max(now) + self.interval;
        }
        allowed
    }

    /// The earliest moment that one more may be.
    pub(crate) fn next(&self) -> Duration {
        self.due.saturating_sub(self.tolerance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_four_a_second() {
        let mut pace = Pace::new(32, Duration::from_millis(250));
        let mut allowed = |from: u64, to: u64| {
            (from..to)
                .filter(|milli| pace.allows(Duration::from_millis(*milli)))
                .count()
        };
        // One each millisecond.
        assert_eq!(allowed(1, 200), 32);
        assert_eq!(allowed(1000, 2000), 4 + 3);
        // After a minute of silence the burst is whole again, and no more than whole.
        assert_eq!(allowed(62_000, 62_100), 32);
    }

    #[test]
    fn the_next_is_allowed_when_it_is_said_to_be() {
        let mut pace = Pace::new(2, Duration::from_micros(60));
        let mut now = Duration::from_secs(1);
        assert!(pace.allows(now) && pace.allows(now));
        for _ in 0..10 {
            assert!(!pace.allows(now));
            let next = pace.next();
            assert!(!pace.allows(next - Duration::from_nanos(1)));
            now = next;
            assert!(pace.allows(now));
        }
        assert_eq!(now, Duration::from_secs(1) + Duration::from_micros(600));
    }
}
