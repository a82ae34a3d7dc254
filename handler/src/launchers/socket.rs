//! The way to a launcher's socket, of which only the last steps are the launcher's to lie about.
//!
//! ```text
//! PODS / <pod uid> / volumes / kubernetes.io~empty-dir / runtime / launcher.sock
//! '------------- only the kubelet writes here ----------------'   '- the launcher, too
//! ```
//!
//! The pod's uid in the path is a launcher's identity. The whole path is followed by one openat2
//! that takes no symbolic link and stays beneath the kubelet's directory, and the connection goes to
//! the inode that was found, not to the path again. A launcher can bind, rename and link inside
//! `runtime`; a socket of another pod's is not among what it can put there, as a hard link does
//! not lead from one mount to another.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use launcher_api::SOCKET;
use launcher_api::launcher_client::LauncherClient;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::{SFlag, fstat};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::transport::{Channel, Endpoint};

use super::bucket::Bucket;

/// From a pod's directory to its runtime directory, one name a step.
const STEPS: [&str; 3] = ["volumes", "kubernetes.io~empty-dir", "runtime"];

/// How often is looked where the kernel has no more inotify instances to give.
const POLL: Duration = Duration::from_millis(50);

/// Looks at once, more than the way has steps, and then one a period: a launcher can make and remove
/// files for ever, and each wakes us.
pub(super) const LOOKS: (u32, Duration) = (20, POLL);

/// The longest answer of a launcher, in bytes.
const MESSAGE: usize = 256 * 1024;

/// What a launcher may send before anybody has read it, in bytes: a stream's, a connection's.
const WINDOWS: (u32, u32) = (32 * 1024, 128 * 1024);

/// The most that a launcher may send as headers, in bytes.
const HEADERS: u32 = 8 * 1024;

/// How long a launcher may take to accept a connection.
const ACCEPT: Duration = Duration::from_secs(2);

/// A client of a launcher.
pub type Client = LauncherClient<Channel>;

/// Why a launcher cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// The kubelet's directory cannot be opened.
    #[error("cannot open the kubelet's directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What lies on the way is a link, or no socket.
    #[error("what lies at {path} is not a launcher's socket")]
    Planted {
        /// The path, as it should be.
        path: PathBuf,
        /// The kernel's answer.
        source: Errno,
    },
    /// Nobody listens there.
    #[error("no launcher answers at {path}")]
    Refused {
        /// The socket.
        path: PathBuf,
        /// The transport's answer.
        source: tonic::transport::Error,
    },
    /// Somebody listens there, and takes no connection.
    #[error("the launcher at {path} takes no connection")]
    Silent {
        /// The socket.
        path: PathBuf,
    },
}

/// A pod's place in the kubelet's directory of pods.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pods: PathBuf,
    uid: String,
}

impl Place {
    /// The pod of that uid, as the API server tells it, below the kubelet's `pods`.
    pub(super) fn new(pods: &Path, uid: &str) -> Self {
        Self {
            pods: pods.to_owned(),
            uid: uid.to_owned(),
        }
    }

    /// The socket's path, for people.
    fn path(&self) -> PathBuf {
        self.pods.join(self.below(STEPS.len())).join(SOCKET)
    }

    /// The first `steps` directories below the pod's own.
    fn below(&self, steps: usize) -> PathBuf {
        let steps = STEPS.into_iter().take(steps);
        std::iter::once(self.uid.as_str()).chain(steps).collect()
    }

    /// Waits until there is something at the socket's path, and connects to it.
    ///
    /// # Errors
    /// [`SocketError`]; the next attempt may succeed.
    pub(super) async fn connect(&self) -> Result<Client, SocketError> {
        let socket = self.wait().await?;
        let endpoint = Endpoint::from_static("http://launcher")
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .http2_max_header_list_size(HEADERS);
        let connected = endpoint.connect_with_connector(tower::service_fn(move |_| {
            let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }));
        let channel = timeout(ACCEPT, connected)
            .await
            .map_err(|_| SocketError::Silent { path: self.path() })?
            .map_err(|source| SocketError::Refused {
                path: self.path(),
                source,
            })?;
        Ok(LauncherClient::new(channel).max_decoding_message_size(MESSAGE))
    }

    /// Waits for the socket; the kubelet and the launcher make the way to it step by step.
    async fn wait(&self) -> Result<OwnedFd, SocketError> {
        let mut looks = Bucket::new(LOOKS.0, LOOKS.1, Instant::now());
        loop {
            if let Some(socket) = self.socket()? {
                return Ok(socket);
            }
            while let Err(again) = looks.take(Instant::now()) {
                sleep_until(again).await;
            }
            match self.arm() {
                // Made between the first look and the watch, which does not tell of it then.
                Ok(_) if self.socket()?.is_some() => {}
                Ok(Some(watch)) => {
                    let _ = watch.readable().await;
                }
                Ok(None) => {}
                Err(_) => sleep(POLL).await,
            }
        }
    }

    /// The socket's inode; `None` where it is not there yet.
    fn socket(&self) -> Result<Option<OwnedFd>, SocketError> {
        let planted = |source| SocketError::Planted {
            path: self.path(),
            source,
        };
        let found = match self.open(&self.below(STEPS.len()).join(SOCKET), OFlag::empty())? {
            Ok(found) => found,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(planted(errno)),
        };
        let mode = fstat(&found).map_err(planted)?.st_mode;
        if mode & SFlag::S_IFMT.bits() != SFlag::S_IFSOCK.bits() {
            return Err(planted(Errno::ENOTSOCK));
        }
        Ok(Some(found))
    }

    /// A watch that tells of the next step on the way; `None` where that was just made.
    fn arm(&self) -> Result<Option<AsyncFd<OwnedFd>>, io::Error> {
        let (depth, directory) = self.deepest()?;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let made = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let gone = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        inotify.add_watch(path.as_str(), made | gone)?;
        if self.deepest()?.0 != depth {
            return Ok(None);
        }
        Ok(Some(watched(inotify)?))
    }

    /// The last directory on the way that exists, and how far it is.
    fn deepest(&self) -> io::Result<(usize, OwnedFd)> {
        for steps in (0..=STEPS.len()).rev() {
            let found = self.open(&self.below(steps), OFlag::O_DIRECTORY);
            if let Ok(directory) = found.map_err(io::Error::other)? {
                return Ok((steps + 1, directory));
            }
        }
        let pods = std::fs::File::open(&self.pods)?;
        Ok((0, pods.into()))
    }

    /// Opens what lies beneath the kubelet's directory, without following a link and without
    /// waiting for what is at the other end.
    fn open(&self, path: &Path, flags: OFlag) -> Result<Result<OwnedFd, Errno>, SocketError> {
        let pods = std::fs::File::open(&self.pods).map_err(|source| SocketError::Directory {
            path: self.pods.clone(),
            source,
        })?;
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | flags)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_MAGICLINKS,
            );
        Ok(openat2(pods.as_fd(), path, how))
    }
}

#[expect(unsafe_code, reason = "tokio cannot see that a descriptor is owned")]
fn watched(inotify: Inotify) -> io::Result<AsyncFd<OwnedFd>> {
    let queue = OwnedFd::from(inotify);
    // SAFETY: the descriptor is owned by what `AsyncFd` owns, and nobody else closes it.
    unsafe { AsyncFd::register_with_interest(queue, Interest::READABLE) }.map_err(io::Error::from)
}
