//! The work queue: which object to look at next, and when.
//!
//! An object is in the queue at most once and looked at by one task at a time; what is asked for
//! meanwhile comes after it. Of several times asked for, the earliest counts. Pure: the time is
//! handed in.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::{Metrics, QueueMetrics};

/// The kinds of objects that are reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// VirtualMachine.
    Vm,
    /// VirtualMachineInstance.
    Vmi,
}

/// An object that is reconciled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    /// Its kind.
    pub(super) kind: Kind,
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
}

/// How looking at an object went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is no need to look again before something changes, or before this much time.
    Done(Option<Duration>),
    /// Something passing was in the way.
    Retry,
    /// It was refused, and will be again until somebody does something about it.
    Refused,
}

/// The first wait after a failure. It doubles each time.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait after what passes: an API server that is back must see us within seconds.
const RETRY_MOST: Duration = Duration::from_secs(2);
/// The longest wait after a refusal.
const REFUSED_MOST: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct Item {
    due: Option<Instant>,
    /// Since when it is being looked at.
    begun: Option<Instant>,
    failures: u32,
}

/// The work queue.
#[derive(Debug)]
pub(super) struct Queue {
    items: HashMap<Key, Item>,
    /// The items that are due and not being looked at, by time.
    waiting: BTreeSet<(Instant, Key)>,
    random: RandomState,
    vms: QueueMetrics,
    vmis: QueueMetrics,
}

impl Queue {
    /// An empty queue.
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            items: HashMap::new(),
            waiting: BTreeSet::new(),
            random: RandomState::new(),
            vms: metrics.queue("virt-controller-vm"),
            vmis: metrics.queue("virt-controller-vmi"),
        }
    }

    /// Asks to look at the object at `at`.
    pub(super) fn add(&mut self, key: Key, at: Instant) {
        let item = self.items.entry(key.clone()).or_default();
        let earlier = item.due.is_some_and(|due| due <= at);
        if earlier {
            return;
        }
        let before = item.due.replace(at);
        let waits = item.begun.is_none();
        match before {
            Some(before) => {
                self.waiting.remove(&(before, key.clone()));
            }
            None => {
                let metrics = self.metrics(key.kind);
                metrics.adds.inc();
                metrics.depth.inc();
            }
        }
        if waits {
            self.waiting.insert((at, key));
        }
    }

    /// The next object to look at, if one is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Key> {
        let due = self.next_due().filter(|due| *due <= now)?;
        let (_, key) = self.waiting.pop_first()?;
        let item = self.items.get_mut(&key)?;
        item.due = None;
        item.begun = Some(now);
        let metrics = self.metrics(key.kind);
        metrics.depth.dec();
        metrics.waited.observe((now - due).as_secs_f64());
        Some(key)
    }

    /// When the next object is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// The object has been looked at.
    pub(super) fn done(&mut self, key: Key, outcome: Outcome, now: Instant) {
        let Some(item) = self.items.get_mut(&key) else {
            return;
        };
        let begun = item.begun.take();
        let asked = item.due;
        let wait = match outcome {
            Outcome::Done(wait) => {
                item.failures = 0;
                wait
            }
            Outcome::Retry | Outcome::Refused => {
                let most = match outcome {
                    Outcome::Refused => REFUSED_MOST,
                    _ => RETRY_MOST,
                };
                let wait = back_off(item.failures, most);
                item.failures = item.failures.saturating_add(1);
                // Half of it at random, so that what failed together does not come together.
                let random = self.random.hash_one((&key, now)) % 1000;
                let wait = wait / 2 + wait * u32::try_from(random).unwrap_or(0) / 2000;
                Some(wait)
            }
        };
        let metrics = self.metrics(key.kind);
        if let Some(begun) = begun {
            metrics.worked.observe((now - begun).as_secs_f64());
        }
        if !matches!(outcome, Outcome::Done(_)) {
            metrics.retries.inc();
        }
        match (asked, wait) {
            (None, None) => {
                self.items.remove(&key);
            }
            (Some(asked), None) => {
                self.waiting.insert((asked, key));
            }
            (asked, Some(wait)) => {
                if let Some(asked) = asked {
                    self.waiting.insert((asked, key.clone()));
                }
                self.add(key, now + wait);
            }
        }
    }

    fn metrics(&self, kind: Kind) -> &QueueMetrics {
        match kind {
            Kind::Vm => &self.vms,
            Kind::Vmi => &self.vmis,
        }
    }
}

/// The wait after so many failures.
fn back_off(failures: u32, most: Duration) -> Duration {
    FIRST.saturating_mul(1 << failures.min(16)).min(most)
}

#[cfg(test)]
mod tests {
    use kube_runtime::reflector::store;

    use super::*;

    fn queue() -> Queue {
        Queue::new(&Metrics::new(store().0, store().0))
    }

    fn key(name: &str) -> Key {
        Key {
            kind: Kind::Vmi,
            namespace: "default".to_owned(),
            name: name.to_owned(),
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_earliest_time_asked_for_counts() {
        let now = Instant::now();
        let mut queue = queue();
        queue.add(key("a"), now + seconds(5));
        queue.add(key("a"), now + seconds(1));
        queue.add(key("a"), now + seconds(9));
        assert_eq!(queue.next_due(), Some(now + seconds(1)));
        assert_eq!(queue.pop(now), None);
        assert_eq!(queue.pop(now + seconds(1)), Some(key("a")));
        assert_eq!(queue.pop(now + seconds(10)), None);
    }

    #[test]
    fn what_is_asked_for_meanwhile_comes_after() {
        let now = Instant::now();
        let mut queue = queue();
        queue.add(key("a"), now);
        assert_eq!(queue.pop(now), Some(key("a")));
        queue.add(key("a"), now);
        queue.add(key("b"), now);
        assert_eq!(queue.pop(now), Some(key("b")));
        assert_eq!(queue.pop(now), None);
        queue.done(key("a"), Outcome::Done(None), now);
        assert_eq!(queue.pop(now), Some(key("a")));
        queue.done(key("a"), Outcome::Done(None), now);
        queue.done(key("b"), Outcome::Done(None), now);
        assert_eq!(queue.pop(now), None);
        assert!(queue.items.is_empty(), "{:?}", queue.items);
    }

    #[test]
    fn a_time_to_look_again_gives_way_to_a_change() {
        let now = Instant::now();
        let mut queue = queue();
        queue.add(key("a"), now);
        queue.pop(now);
        queue.done(key("a"), Outcome::Done(Some(seconds(10))), now);
        assert_eq!(queue.next_due(), Some(now + seconds(10)));
        queue.add(key("a"), now + seconds(1));
        assert_eq!(queue.next_due(), Some(now + seconds(1)));
        assert_eq!(queue.waiting.len(), 1);
    }

    #[test]
    fn a_change_meanwhile_is_not_delayed_by_a_failure() {
        let now = Instant::now();
        let mut queue = queue();
        queue.add(key("a"), now);
        queue.pop(now);
        queue.add(key("a"), now);
        queue.done(key("a"), Outcome::Retry, now);
        assert_eq!(queue.pop(now), Some(key("a")));
    }

    #[test]
    fn failures_wait_longer_each_time_up_to_a_limit() {
        for (outcome, most) in [(Outcome::Retry, 2), (Outcome::Refused, 30)] {
            let mut now = Instant::now();
            let mut queue = queue();
            queue.add(key("a"), now);
            for failures in 0..20 {
                queue.pop(now).unwrap();
                queue.done(key("a"), outcome, now);
                let due = queue.next_due().unwrap();
                let whole = back_off(failures, seconds(most));
                let wait = due - now;
                assert!(
                    whole / 2 <= wait && wait <= whole,
                    "{failures}: {wait:?} of {whole:?}"
                );
                now = due;
            }
            assert_eq!(back_off(20, seconds(most)), seconds(most));
            queue.pop(now).unwrap();
            queue.done(key("a"), Outcome::Done(None), now);
            assert_eq!(queue.next_due(), None);
        }
    }
}
