//! When router advertisements are sent: RFC 4861 sections 6.2.4 and 6.2.6.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::pace::Pace;

/// MaxRtrAdvInterval: its default (RFC 4861 section 6.2.1).
pub const INTERVAL_MAX: Duration = Duration::from_secs(600);
/// MinRtrAdvInterval: its default, a third of the other.
const INTERVAL_MIN: Duration = Duration::from_secs(200);
/// MAX_INITIAL_RTR_ADVERT_INTERVAL.
const INTERVAL_INITIAL: Duration = Duration::from_secs(16);
/// MAX_INITIAL_RTR_ADVERTISEMENTS.
const INITIAL: u32 = 3;
/// MIN_DELAY_BETWEEN_RAS, of those to all nodes.
const DELAY: Duration = Duration::from_secs(3);

/// Solicitations that are answered one by one. A booting guest sends at most nine: three each by
/// its firmware, its kernel and its network manager.
const BURST: u32 = 16;
/// After a burst, one in this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Decides when an advertisement is sent, and to whom. The time is an input: since any fixed
/// moment.
#[derive(Debug)]
pub struct Schedule {
    initial: u32,
    last: Option<Duration>,
    next: Duration,
    answers: Pace,
}

impl Schedule {
    /// The schedule of an interface that begins to advertise now: at once, because its guest may
    /// have asked before there was anyone to answer.
    pub fn new(now: Duration) -> Self {
        Self {
            initial: INITIAL,
            last: None,
            next: now,
            answers: Pace::new(BURST, INTERVAL),
        }
    }

    /// When the next advertisement to all nodes is due.
    pub fn next(&self) -> Duration {
        self.next
    }

    /// Whether one is due now; if so, it counts as sent. `random` chooses the time to the next:
    /// uniformly, so that routers of one link do not fall into step.
    pub fn is_due(&mut self, now: Duration, random: impl FnOnce() -> u32) -> bool {
        if now < self.next {
            return false;
        }
        let spread = (INTERVAL_MAX - INTERVAL_MIN).as_millis() as u64;
        let above = (spread * u64::from(random())) >> u32::BITS;
        let interval = INTERVAL_MIN + Duration::from_millis(above);
        self.initial = self.initial.saturating_sub(1);
        let interval = if self.initial > 0 {
            interval.min(INTERVAL_INITIAL)
        } else {
            interval
        };
        self.last = Some(now);
        self.next = now + interval;
        true
    }

    /// Takes a solicitation: whom to answer at once. None without an address, and of one who asks
    /// too often: then all nodes are told, as soon as they may be.
    pub fn solicited(&mut self, source: Ipv6Addr, now: Duration) -> Option<Ipv6Addr> {
        if !source.is_unspecified() && self.answers.allows(now) {
            return Some(source);
        }
        let earliest = self.last.map_or(now, |last| now.max(last + DELAY));
        self.next = self.next.min(earliest);
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUEST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The moments at which the first advertisements are sent.
    fn sent(random: u32) -> Vec<Duration> {
        let mut schedule = Schedule::new(seconds(7));
        let mut sent = Vec::new();
        for _ in 0..6 {
            let next = schedule.next();
            if next > Duration::ZERO {
                assert!(!schedule.is_due(next - Duration::from_millis(1), || random));
            }
            assert!(schedule.is_due(next, || random));
            sent.push(next);
        }
        sent
    }

    #[test]
    fn three_at_once_then_at_random_between_the_bounds() {
        let start = [7, 23, 39].map(seconds);
        let least = sent(0);
        assert_eq!(least[..3], start);
        assert_eq!(least[3..], [239, 439, 639].map(seconds));
        let most = sent(u32::MAX);
        assert_eq!(most[..3], start);
        for pair in most[2..].windows(2) {
            let interval = pair[1] - pair[0];
            assert!(
                interval > seconds(599) && interval <= INTERVAL_MAX,
                "{interval:?}"
            );
        }
        let middle = sent(u32::MAX / 2);
        assert_eq!((middle[4] - middle[3]).as_secs(), 399);
    }

    #[test]
    fn who_has_an_address_is_answered_at_once_and_changes_nothing() {
        let mut schedule = Schedule::new(Duration::ZERO);
        assert!(schedule.is_due(Duration::ZERO, || 0));
        let next = schedule.next();
        for at in [1, 5, 9].map(seconds) {
            assert_eq!(schedule.solicited(GUEST, at), Some(GUEST));
        }
        assert_eq!(schedule.next(), next);
    }

    #[test]
    fn who_has_none_is_answered_with_all_three_seconds_apart() {
        let mut schedule = Schedule::new(Duration::ZERO);
        assert!(schedule.is_due(Duration::ZERO, || 0));
        assert_eq!(schedule.solicited(Ipv6Addr::UNSPECIFIED, seconds(1)), None);
        assert_eq!(schedule.next(), seconds(3));
        // The same again is not earlier, nor later.
        assert_eq!(schedule.solicited(Ipv6Addr::UNSPECIFIED, seconds(2)), None);
        assert_eq!(schedule.next(), seconds(3));
        assert!(schedule.is_due(seconds(3), || 0));
        // Long after the last: at once.
        assert_eq!(schedule.solicited(Ipv6Addr::UNSPECIFIED, seconds(10)), None);
        assert_eq!(schedule.next(), seconds(10));
    }

    #[test]
    fn a_flood_is_answered_by_one_to_all_in_three_seconds() {
        let mut schedule = Schedule::new(Duration::ZERO);
        let (mut to_one, mut to_all) = (0, 0);
        for milli in 0..60_000 {
            let now = Duration::from_millis(milli);
            to_all += u32::from(schedule.is_due(now, || 0));
            to_one += u32::from(schedule.solicited(GUEST, now).is_some());
        }
        assert_eq!(to_one, BURST + 59);
        assert_eq!(to_all, 20);
    }

    proptest! {
        #[test]
        fn those_to_all_are_three_to_six_hundred_seconds_apart(
            steps in proptest::collection::vec((0_u64..700_000, any::<bool>(), any::<u32>()), 1..200),
        ) {
            let mut schedule = Schedule::new(Duration::ZERO);
            let (mut now, mut last) = (Duration::ZERO, None::<Duration>);
            for (pause, unspecified, random) in steps {
                // A poll wakes up when the next is due, or for a solicitation before.
                let next = now + Duration::from_millis(pause);
                now = if next < schedule.next() { next } else { schedule.next().max(now) };
                if schedule.is_due(now, || random) {
                    if let Some(last) = last {
                        prop_assert!(now - last >= DELAY && now - last <= INTERVAL_MAX);
                    }
                    last = Some(now);
                }
                let source = if unspecified { Ipv6Addr::UNSPECIFIED } else { GUEST };
                schedule.solicited(source, now);
            }
        }
    }
}
