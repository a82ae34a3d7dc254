//! How often something may be done: pure.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: full at first, and filled again one token each `period`.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    size: u32,
    period: Duration,
    /// When the bucket will be full again; not after now where it is full.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket of `size` tokens.
    pub(crate) fn new(size: u32, period: Duration, now: Instant) -> Self {
        Self {
            size,
            period,
            full_at: now,
        }
    }

    /// Takes a token; where there is none, tells when there will be one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let full_at = self.full_at.max(now) + self.period;
        // A token is there as long as not more than the whole bucket is missing.
        let room = now + self.period * self.size;
        if full_at > room {
            return Err(now + (full_at - room));
        }
        self.full_at = full_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_is_had_at_once_and_then_one_a_period() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, SECOND, start);
        let taken = (0..5).filter(|_| bucket.take(start).is_ok()).count();
        assert_eq!(taken, 3);
        let next = bucket.take(start).unwrap_err();
        assert_eq!(next, start + SECOND);
        assert!(bucket.take(next).is_ok());
        assert_eq!(bucket.take(next), Err(next + SECOND));
    }

    #[test]
    fn what_was_not_used_is_kept_up_to_the_size() {
        let start = Instant::now();
        let mut bucket = Bucket::new(2, SECOND, start);
        let later = start + 100 * SECOND;
        let taken = (0..5).filter(|_| bucket.take(later).is_ok()).count();
        assert_eq!(taken, 2);
    }
}
