//! What happened to the VM, kept for those who come late.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use launcher::clock::monotonic_us;
use launcher_api::{Event, EventKind};
use tokio::sync::watch;

/// A VM that renews its lease for years must not fill the launcher's memory.
const KEPT: usize = 512;

/// The event log of this worker.
#[derive(Clone)]
pub(crate) struct Events {
    log: Arc<Mutex<VecDeque<Event>>>,
    /// The newest sequence number; `None` once the VM has ended.
    head: watch::Sender<Head>,
}

#[derive(Clone, Copy, Default)]
struct Head {
    sequence: u64,
    closed: bool,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self {
            log: Arc::default(),
            head: watch::Sender::new(Head::default()),
        }
    }

    /// Notes one event and wakes those who watch.
    pub(crate) fn push(&self, kind: EventKind, message: impl Into<String>) {
        self.push_at(monotonic_us(), kind, message);
    }

    /// Notes an event of `monotonic_us`, which nobody could tell at the time.
    pub(crate) fn push_at(&self, monotonic_us: u64, kind: EventKind, message: impl Into<String>) {
        let message = message.into();
        tracing::info!(?kind, "{message}");
        self.head.send_modify(|head| {
            head.sequence += 1;
            let event = Event {
                sequence: head.sequence,
                monotonic_us,
                kind: kind.into(),
                message,
            };
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            if log.len() == KEPT {
                log.pop_front();
            }
            log.push_back(event);
        });
    }

    /// Ends every stream once it has told all.
    pub(crate) fn close(&self) {
        self.head.send_modify(|head| head.closed = true);
    }

    /// Every event that is kept, then each new one.
    pub(crate) fn follow(&self) -> Follower {
        Follower {
            log: self.log.clone(),
            head: self.head.subscribe(),
            seen: 0,
        }
    }
}

/// One reader of the log.
pub(crate) struct Follower {
    log: Arc<Mutex<VecDeque<Event>>>,
    head: watch::Receiver<Head>,
    seen: u64,
}

impl Follower {
    /// The next event; `None` when the VM has ended and all is told.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            let head = *self.head.borrow_and_update();
            if let Some(event) = self.after_seen() {
                self.seen = event.sequence;
                return Some(event);
            }
            if head.closed || self.head.changed().await.is_err() {
                return None;
            }
        }
    }

    fn after_seen(&self) -> Option<Event> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let first = log.front()?.sequence;
        let index = self.seen.saturating_sub(first - 1);
        log.get(usize::try_from(index).ok()?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_reader_gets_all_that_is_kept_and_then_the_end() {
        let events = Events::new();
        for n in 1..=KEPT + 3 {
            events.push(EventKind::Warning, n.to_string());
        }
        events.close();
        let mut follower = events.follow();
        let mut messages = vec![];
        while let Some(event) = follower.next().await {
            messages.push(event.message);
        }
        assert_eq!(messages.len(), KEPT);
        assert_eq!(
            (messages[0].as_str(), messages[KEPT - 1].as_str()),
            ("4", "515")
        );
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let events = Events::new();
        let mut follower = events.follow();
        let reader = tokio::spawn(async move { follower.next().await });
        tokio::task::yield_now().await;
        events.push(EventKind::GuestRunning, "up");
        assert_eq!(reader.await.unwrap().unwrap().message, "up");
    }
}
