//! Keeps a guest from flooding whoever listens to the server's events.

use std::time::Duration;

/// Events told at once before they are paced: far more than any client that behaves causes.
const BURST: u32 = 32;
/// After a burst, one event in this time.
const INTERVAL: Duration = Duration::from_millis(250);

/// A token bucket. The time is an input: since any fixed moment.
#[derive(Debug)]
pub(super) struct Pace {
    left: u32,
    refilled: Duration,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            left: BURST,
            refilled: Duration::ZERO,
        }
    }

    /// Whether one more event may be told now.
    pub(super) fn allows(&mut self, now: Duration) -> bool {
        let earned = now.saturating_sub(self.refilled).as_millis() / INTERVAL.as_millis();
        if earned > 0 {
            self.left = self
                .left
                .saturating_add(u32::try_from(earned).unwrap_or(BURST))
                .min(BURST);
            self.refilled = now;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_four_a_second() {
        let mut pace = Pace::new();
        let mut allowed = |from: u64, to: u64| {
            (from..to)
                .filter(|milli| pace.allows(Duration::from_millis(*milli)))
                .count()
        };
        // A question each millisecond.
        assert_eq!(allowed(1, 200), 32);
        assert_eq!(allowed(1000, 2000), 4 + 3);
        // After a minute of silence the burst is whole again, and no more than whole.
        assert_eq!(allowed(62_000, 62_100), 32);
    }
}
