//! The launchers that answer at this moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crds::VirtualMachineInstance;
use launcher_api::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Seen;
use super::link::greet;
use super::socket::{Client, Place};

/// The most streams of one launcher: who opens more and reads none of them holds up nobody else's.
const STREAMS: usize = 16;

/// A VMI's namespace and name.
pub(crate) type Name = (String, String);

/// The launchers of this node that answer, by their VMIs. Clones share one content.
#[derive(Clone, Debug, Default)]
pub struct Launchers {
    entries: Arc<Mutex<HashMap<Name, Entry>>>,
}

#[derive(Clone, Debug)]
struct Entry {
    launcher: Launcher,
    /// Tells the entries of one VMI apart, so that an old one does not take a new one away.
    serial: u64,
}

/// A launcher that answers.
#[derive(Clone, Debug)]
pub struct Launcher {
    seen: watch::Receiver<Seen>,
    place: Place,
    streams: Arc<Semaphore>,
    /// The way to it.
    pub client: Client,
}

/// One of a launcher's streams. There may be another when it is dropped.
#[derive(Debug)]
pub struct Stream {
    /// A connection for it alone: however slowly it is read, nobody else waits.
    pub client: Client,
    /// What the launcher says of its VM.
    pub status: Status,
    /// The stream's place.
    pub place: OwnedSemaphorePermit,
}

impl Launcher {
    pub(super) fn new(seen: watch::Receiver<Seen>, client: Client, place: Place) -> Self {
        Self {
            seen,
            place,
            streams: Arc::new(Semaphore::new(STREAMS)),
            client,
        }
    }

    /// Connects to it once more, for a stream. As long as it starts anew, this waits.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` where it has as many streams as it may have, and what connecting to it
    /// meets.
    pub async fn stream(&self) -> Result<Stream, tonic::Status> {
        let place = self.streams.clone().try_acquire_owned().map_err(|_| {
            let many = format!("{STREAMS} streams of this virtualmachineinstance are open already");
            tonic::Status::resource_exhausted(many)
        })?;
        let client = self.place.connect().await;
        let mut client = client.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let status = greet(&mut client, &self.seen).await?;
        Ok(Stream {
            client,
            status,
            place,
        })
    }

    /// Its VMI, as the API server told last.
    pub fn vmi(&self) -> Arc<VirtualMachineInstance> {
        self.seen.borrow().vmi.clone()
    }

    /// Its pod's name.
    pub fn pod(&self) -> String {
        self.seen.borrow().pod.name.clone()
    }
}

impl Launchers {
    /// The launcher of a VMI; `None` where none answers on this node.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Launcher> {
        let key = (namespace.to_owned(), name.to_owned());
        self.lock().get(&key).map(|entry| entry.launcher.clone())
    }

    /// Every launcher.
    pub fn all(&self) -> Vec<Launcher> {
        let entries = self.lock();
        entries
            .values()
            .map(|entry| entry.launcher.clone())
            .collect()
    }

    /// Notes a launcher until the guard is dropped.
    pub(super) fn enter(&self, launcher: Launcher) -> Entered {
        let name = launcher.seen.borrow().name();
        let mut entries = self.lock();
        let serial = entries.get(&name).map_or(0, |old| old.serial + 1);
        entries.insert(name.clone(), Entry { launcher, serial });
        Entered {
            launchers: self.clone(),
            name,
            serial,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A launcher's entry, for as long as this lives.
pub(super) struct Entered {
    launchers: Launchers,
    name: Name,
    serial: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut entries = self.launchers.lock();
        if entries
            .get(&self.name)
            .is_some_and(|entry| entry.serial == self.serial)
        {
            entries.remove(&self.name);
        }
    }
}
