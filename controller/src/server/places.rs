//! Places for connections: so many at once, and nobody keeps others out by being silent.
//!
//! Every pod can connect. So where all places are taken, a new connection gets that of one that has
//! not proved who it is: the oldest of the address that has the most of them. Who has proved it
//! gives way to nobody.
//!
//! virt-handler has the same; they share no crate where it belongs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// A connection's place. It is free again when its last clone is dropped.
#[derive(Clone)]
pub(super) struct Place(Arc<Held>);

struct Held {
    kept: AtomicBool,
    wanted: Notify,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// From now on it gives way to nobody: who has it has proved who they are.
    pub(super) fn keep(&self) {
        self.0.kept.store(true, Ordering::Relaxed);
    }

    /// Returns when the connection has to end, for another.
    pub(super) async fn wanted(&self) {
        self.0.wanted.notified().await;
    }
}

/// The places of one listener.
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// Those that may have to give way, the oldest first.
    anonymous: Vec<(IpAddr, Weak<Held>)>,
}

impl Places {
    /// So many places, all of them free.
    pub(super) fn new(most: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(most)),
            anonymous: vec![],
        }
    }

    /// A place for a connection from `address`. It waits where nobody has to give way, and for the
    /// moment that it takes.
    pub(super) async fn take(&mut self, address: IpAddr) -> Option<Place> {
        self.anonymous.retain(|(_, held)| {
            let held = held.upgrade();
            held.is_some_and(|held| !held.kept.load(Ordering::Relaxed))
        });
        if self.free.available_permits() == 0 {
            let addresses: Vec<_> = self.anonymous.iter().map(|(from, _)| *from).collect();
            let gone = gives_way(&addresses).map(|index| self.anonymous.remove(index).1);
            if let Some(held) = gone.and_then(|held| held.upgrade()) {
                held.wanted.notify_one();
            }
        }
        // The semaphore is never closed.
        let permit = self.free.clone().acquire_owned().await.ok()?;
        let held = Arc::new(Held {
            kept: AtomicBool::new(false),
            wanted: Notify::new(),
            _permit: permit,
        });
        self.anonymous.push((address, Arc::downgrade(&held)));
        Some(Place(held))
    }
}

/// Which of the connections from these addresses gives way, the oldest being the first.
fn gives_way(addresses: &[IpAddr]) -> Option<usize> {
    let mut counts = HashMap::<_, usize>::new();
    for address in addresses {
        *counts.entry(address).or_default() += 1;
    }
    // Of equals, the last is the maximum.
    let latest_first = addresses.iter().enumerate().rev();
    let most = latest_first.max_by_key(|(_, address)| counts.get(address));
    most.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_is_known_gives_way_to_nobody() {
        let from = IpAddr::from([10, 0, 0, 1]);
        let mut places = Places::new(1);
        let place = places.take(from).await.unwrap();
        assert!(places.take(from).now_or_never().is_none());
        assert!(place.wanted().now_or_never().is_some());
        drop(place);
        let place = places.take(from).await.unwrap();
        place.keep();
        assert!(places.take(from).now_or_never().is_none());
        assert!(place.wanted().now_or_never().is_none());
    }

    #[test]
    fn the_oldest_of_the_address_with_the_most_gives_way() {
        for (addresses, expected) in [
            ("", None),
            ("a", Some(0)),
            ("ab", Some(0)),
            ("abb", Some(1)),
            ("abcbc", Some(1)),
            ("abbaa", Some(0)),
        ] {
            let from = |letter: u8| IpAddr::from([10, 0, 0, letter]);
            let addresses: Vec<_> = addresses.bytes().map(from).collect();
            assert_eq!(gives_way(&addresses), expected, "{addresses:?}");
        }
    }
}
