//! The kubelet's directory of plugins: our sockets in it, and what happens to them.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::DevicesError;
use super::generated::device_plugin_server::DevicePluginServer;
use super::plugin::Plugin;
use super::resource::Resource;

/// What the names of our sockets begin and end with.
const NAME: (&str, &str) = ("ferrovirt-", ".sock");

/// How long another handler's socket may take to accept a connection.
const ALIVE: Duration = Duration::from_secs(1);

/// What happened to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Come,
    Gone,
}

/// What happens to the names in a directory.
pub(super) struct Changes(AsyncFd<Queue>);

struct Queue(Inotify);

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Changes {
    /// Watches a directory for names that come and go.
    pub(super) fn watch(directory: &Path) -> io::Result<Self> {
        let queue = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        queue.add_watch(
            directory,
            AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ONLYDIR,
        )?;
        Ok(Self(register(Queue(queue))?))
    }

    /// Forgets all that has happened so far.
    pub(super) fn forget(&self) {
        while self.0.get_ref().0.read_events().is_ok() {}
    }

    /// Waits until a name has come or gone for which `matters` holds.
    pub(super) async fn until(&self, matters: impl Fn(Change, &OsStr) -> bool) {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                // Only where the event loop is about to end.
                return std::future::pending().await;
            };
            let events = ready.try_io(|queue| Ok(queue.get_ref().0.read_events()?));
            let matters = |event: InotifyEvent| match event.name {
                Some(name) if event.mask.contains(AddWatchFlags::IN_DELETE) => {
                    matters(Change::Gone, &name)
                }
                Some(name) => matters(Change::Come, &name),
                // The queue overflowed.
                None => true,
            };
            if events.into_iter().flatten().flatten().any(matters) {
                return;
            }
        }
    }
}

#[expect(
    unsafe_code,
    reason = "tokio has no safe form for a descriptor of any kind"
)]
fn register(queue: Queue) -> io::Result<AsyncFd<Queue>> {
    // SAFETY: the queue owns its one descriptor for as long as it lives, and `AsyncFd` owns the queue.
    unsafe { AsyncFd::register(queue) }.map_err(io::Error::from)
}

/// The sockets of one registration; dropped, they are gone.
pub(super) struct Sockets {
    directory: PathBuf,
    names: Vec<String>,
    servers: JoinSet<Result<(), tonic::transport::Error>>,
    let_go: Arc<Notify>,
}

impl Sockets {
    /// None yet, in this directory.
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            names: vec![],
            servers: JoinSet::new(),
            let_go: Arc::default(),
        }
    }

    /// Serves a resource at a new socket; returns its file name.
    ///
    /// # Errors
    /// [`DevicesError::Listen`].
    pub(super) fn serve(&mut self, resource: &Resource) -> Result<String, DevicesError> {
        let name = name(resource, SystemTime::now());
        let path = self.directory.join(&name);
        let listener = UnixListener::bind(&path);
        let listener = listener.map_err(|source| DevicesError::Listen { path, source })?;
        self.names.push(name.clone());
        let plugin = Plugin {
            resource: resource.clone(),
            let_go: self.let_go.clone(),
        };
        let server = Server::builder()
            .add_service(DevicePluginServer::new(plugin))
            .serve_with_incoming(UnixListenerStream::new(listener));
        self.servers.spawn(server);
        Ok(name)
    }

    /// Waits until a kubelet that read one of the lists of devices reads it no more.
    pub(super) async fn let_go(&self) {
        self.let_go.notified().await;
    }

    /// Whether one of them has this name.
    pub(super) fn contain(&self, name: &OsStr) -> bool {
        self.names.iter().any(|own| name == own.as_str())
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for name in &self.names {
            // A kubelet that starts was quicker.
            let _ = std::fs::remove_file(self.directory.join(name));
        }
    }
}

/// A name that no other socket has: of another handler, or of an earlier registration.
fn name(resource: &Resource, now: SystemTime) -> String {
    let kind = resource.name.rsplit('/').next().unwrap_or_default();
    let nanoseconds = now
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    format!("{}{kind}-{nanoseconds:x}{}", NAME.0, NAME.1)
}

/// Removes the sockets of handlers that were killed.
pub(super) async fn remove_dead(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with(NAME.0) || !name.ends_with(NAME.1) {
            continue;
        }
        let answer = tokio::time::timeout(ALIVE, UnixStream::connect(entry.path())).await;
        if let Ok(Err(error)) = answer
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            // The next registration tries again.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(directory: &Path) -> Resource {
        let facts = crate::node::Facts::default();
        super::super::resources(&facts, directory).remove(0)
    }

    #[tokio::test]
    async fn the_sockets_of_dead_handlers_are_removed_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        drop(std::os::unix::net::UnixListener::bind(at("ferrovirt-tun-1.sock")).unwrap());
        drop(std::os::unix::net::UnixListener::bind(at("other.sock")).unwrap());
        std::fs::write(at("kubelet_internal_checkpoint"), "").unwrap();
        let mut sockets = Sockets::new(dir.path());
        let alive = sockets.serve(&resource(dir.path())).unwrap();
        remove_dead(dir.path()).await;
        assert!(!at("ferrovirt-tun-1.sock").exists());
        for name in [alive.as_str(), "other.sock", "kubelet_internal_checkpoint"] {
            assert!(at(name).exists(), "{name}");
        }
        drop(sockets);
        assert!(!at(&alive).exists());
    }

    #[tokio::test]
    async fn only_what_matters_ends_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let changes = Changes::watch(dir.path()).unwrap();
        std::fs::write(at("past"), "").unwrap();
        std::fs::remove_file(at("past")).unwrap();
        changes.forget();
        // The own socket's coming is no reason to make it again.
        let mut wait = Box::pin(changes.until(|change, name| {
            let matters = (change, name.to_str());
            [(Change::Gone, Some("past")), (Change::Gone, Some("own"))].contains(&matters)
        }));
        std::fs::write(at("own"), "").unwrap();
        std::fs::write(at("checkpoint"), "").unwrap();
        std::fs::remove_file(at("checkpoint")).unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), &mut wait).await;
        assert!(early.is_err(), "the wait ended for nothing");
        std::fs::remove_file(at("own")).unwrap();
        tokio::time::timeout(Duration::from_secs(60), wait)
            .await
            .unwrap();
    }
}
