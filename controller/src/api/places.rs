//! Places for streams: how many there may be, and of one machine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::ApiError;

/// The most streams at a time. A stalled one takes less than 256 KiB.
const STREAMS: usize = 512;

/// The most streams of one machine at a time, so that whoever may open some leaves some to the
/// users of others.
const OF_ONE: usize = 64;

/// Places for streams: consoles, screens and ports, which outlive the request that began them.
#[derive(Clone, Debug)]
pub struct Streams {
    places: Arc<Semaphore>,
    shares: Shares,
    ending: watch::Receiver<bool>,
}

impl Streams {
    /// `ending` becomes true when streams are to end. Once they have, nobody but the receivers of
    /// [`ApiContext`](super::ApiContext) is left of those that wait for it.
    pub fn new(ending: watch::Receiver<bool>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(STREAMS)),
            shares: Shares::default(),
            ending,
        }
    }

    /// Takes a place of this machine's, to be kept until the stream is closed.
    ///
    /// # Errors
    /// 429 when there is none left, or none for the machine.
    pub fn take(&self, namespace: &str, name: &str) -> Result<Place, ApiError> {
        let full = |whose: String| {
            ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("{whose} are open: close one, or try again later"),
            )
        };
        let share = self.shares.take(namespace, name);
        let share = share.ok_or_else(|| full(format!("{OF_ONE} streams of {name:?}")))?;
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| full(format!("{STREAMS} streams")))?;
        Ok(Place {
            ending: self.ending.clone(),
            _share: share,
            _place: place,
        })
    }
}

/// A stream's place.
#[derive(Debug)]
pub struct Place {
    ending: watch::Receiver<bool>,
    _share: Share,
    _place: OwnedSemaphorePermit,
}

impl Place {
    /// Returns when the stream is to end because the process does.
    pub async fn ending(&mut self) {
        // Who would say so is gone: so is the process, nearly.
        let _ = self.ending.wait_for(|ending| *ending).await;
    }
}

/// A machine, by its namespace and its name.
type Machine = (String, String);

/// How many places each machine has taken; those that have none are not there.
#[derive(Clone, Debug, Default)]
struct Shares(Arc<Mutex<HashMap<Machine, usize>>>);

impl Shares {
    fn take(&self, namespace: &str, name: &str) -> Option<Share> {
        let machine = (namespace.to_owned(), name.to_owned());
        let mut taken = self.taken();
        let count = taken.get(&machine).copied().unwrap_or_default();
        if count >= OF_ONE {
            return None;
        }
        taken.insert(machine.clone(), count + 1);
        Some(Share {
            machine,
            shares: self.clone(),
        })
    }

    /// Nothing panics that holds it.
    fn taken(&self) -> MutexGuard<'_, HashMap<Machine, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place of a machine's.
#[derive(Debug)]
struct Share {
    machine: Machine,
    shares: Shares,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken();
        match taken.get_mut(&self.machine) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.machine)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_its_share_and_no_more() {
        let streams = Streams::new(watch::channel(false).1);
        let take = |namespace, name| streams.take(namespace, name);
        let mut places: Vec<_> = (0..OF_ONE).map(|_| take("n", "one").unwrap()).collect();
        let error = take("n", "one").unwrap_err();
        assert_eq!(error.code(), StatusCode::TOO_MANY_REQUESTS);
        assert!(error.to_string().contains(r#""one""#), "{error}");
        // Others have theirs, whatever they share of its name.
        let others = [take("n", "two").unwrap(), take("m", "one").unwrap()];

        drop(places.pop());
        places.push(take("n", "one").unwrap());
        take("n", "one").unwrap_err();
        // Nothing is kept of who has none.
        assert_eq!(streams.shares.taken().len(), 3);
        drop((places, others));
        assert!(streams.shares.taken().is_empty());
    }

    #[test]
    fn who_finds_no_place_takes_no_share() {
        let streams = Streams::new(watch::channel(false).1);
        let machines: Vec<_> = (0..STREAMS / OF_ONE).map(|n| n.to_string()).collect();
        let everyone = machines.iter().flat_map(|name| [name; OF_ONE]);
        let places: Vec<_> = everyone
            .map(|name| streams.take("n", name).unwrap())
            .collect();
        let error = streams.take("n", "late").unwrap_err();
        assert_eq!(error.code(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(streams.shares.taken().len(), machines.len());
        drop(places);
        streams.take("n", "late").unwrap();
    }
}
