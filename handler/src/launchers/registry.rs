//! The launchers that answer at this moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crds::VirtualMachineInstance;
use tokio::sync::watch;

use super::Seen;
use super::socket::Client;

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
    /// The way to it.
    pub client: Client,
}

impl Launcher {
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
    pub(super) fn enter(&self, seen: watch::Receiver<Seen>, client: Client) -> Entered {
        let name = seen.borrow().name();
        let mut entries = self.lock();
        let serial = entries.get(&name).map_or(0, |old| old.serial + 1);
        let launcher = Launcher { seen, client };
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
