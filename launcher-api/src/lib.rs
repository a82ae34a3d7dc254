//! The protocol between a launcher and whoever drives it: gRPC over a unix socket.
//!
//! The launcher is the less trusted side. Its socket lies in a directory that the launcher
//! itself can write, so a client that is more privileged than the launcher must not follow
//! what it finds there: [`connect`] resolves the socket beneath the directory without
//! symbolic links, and connects to the very inode that it has resolved.

pub mod guest;
pub mod local;

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// The generated messages, client and server.
#[expect(
    missing_docs,
    clippy::allow_attributes_without_reason,
    reason = "generated; launcher.proto has the docs"
)]
mod generated {
    tonic::include_proto!("ferrovirt.launcher.v1");
}

pub use generated::*;

/// The socket's file name in the pod's runtime directory.
pub const SOCKET: &str = "launcher.sock";

/// The refusal of `Vnc` where a session is open and to be preserved. Its status code has other
/// reasons too; clients behind HTTP know it by these words, which handler and controller pass on.
pub const VNC_IN_USE: &str = "another VNC session is open";

/// A piece of a stream is this long at least, in bytes, with its padding. h2 holds shorter DATA
/// frames that wait to be read against their sender, and ends the connection after some hundred.
const PIECE_MIN: usize = 256;

/// What brings `data` to [`PIECE_MIN`].
fn padding(data: &[u8]) -> Vec<u8> {
    vec![0; PIECE_MIN.saturating_sub(data.len())]
}

impl ConsoleBytes {
    /// A piece of a console's stream, padded.
    #[must_use]
    pub fn of(data: Vec<u8>) -> Self {
        let padding = padding(&data);
        Self { data, padding }
    }
}

impl VncBytes {
    /// A piece of a screen's stream, padded.
    #[must_use]
    pub fn of(data: Vec<u8>) -> Self {
        let (padding, preserve) = (padding(&data), false);
        Self {
            data,
            preserve,
            padding,
        }
    }

    /// The first piece of a screen's stream: whether an open session is left alone.
    #[must_use]
    pub fn first(preserve: bool) -> Self {
        Self {
            preserve,
            ..Self::default()
        }
    }
}

/// Why a launcher could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The runtime directory cannot be opened.
    #[error("cannot open the runtime directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// There is no socket, or what bears its name is a symbolic link.
    #[error("no launcher listens in {path}")]
    Socket {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The socket is there and nobody answers.
    #[error("the launcher in {path} does not answer")]
    Transport {
        /// The directory.
        path: PathBuf,
        /// The transport's answer.
        source: tonic::transport::Error,
    },
}

/// A client of the launcher whose runtime directory is `dir`.
///
/// # Errors
/// [`ConnectError`], one variant a step.
pub async fn connect(dir: &Path) -> Result<launcher_client::LauncherClient<Channel>, ConnectError> {
    LauncherSocket::find(dir)?.connect().await
}

/// A launcher's socket, before a word is exchanged: whoever may find it need not be who connects.
#[derive(Debug)]
pub struct LauncherSocket {
    dir: PathBuf,
    socket: OwnedFd,
}

impl LauncherSocket {
    /// The socket of the launcher whose runtime directory is `dir`.
    ///
    /// # Errors
    /// [`ConnectError::Directory`] or [`ConnectError::Socket`].
    pub fn find(dir: &Path) -> Result<Self, ConnectError> {
        Ok(Self {
            dir: dir.to_owned(),
            socket: resolve(dir)?,
        })
    }

    /// A client of the launcher that listens there.
    ///
    /// The path may be longer than a socket address (108 bytes): the connection goes through
    /// `/proc/self/fd`.
    ///
    /// # Errors
    /// [`ConnectError::Transport`].
    pub async fn connect(self) -> Result<launcher_client::LauncherClient<Channel>, ConnectError> {
        let Self { dir, socket } = self;
        // The address is not used: the connector has the socket already.
        let channel = Endpoint::from_static("http://launcher")
            .connect_with_connector(tower::service_fn(move |_| {
                let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }))
            .await
            .map_err(|source| ConnectError::Transport { path: dir, source })?;
        Ok(launcher_client::LauncherClient::new(channel))
    }
}

/// Reads a regular file that the launcher wrote into its runtime directory, `limit` bytes of it at
/// most, without following a link or waiting for a writer.
///
/// # Errors
/// The kernel's answer, or [`std::io::ErrorKind::InvalidInput`] for what is no regular file.
pub fn read_beneath(dir: &Path, name: &str, limit: u64) -> std::io::Result<Vec<u8>> {
    let directory = std::fs::File::open(dir)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let file = std::fs::File::from(openat2(directory.as_fd(), name, how)?);
    if !file.metadata()?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut text = vec![];
    file.take(limit).read_to_end(&mut text)?;
    Ok(text)
}

/// The socket's inode, found beneath `dir` without following a link out of it.
fn resolve(dir: &Path) -> Result<OwnedFd, ConnectError> {
    let directory = std::fs::File::open(dir).map_err(|source| ConnectError::Directory {
        path: dir.to_owned(),
        source,
    })?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(directory.as_fd(), SOCKET, how).map_err(|errno| ConnectError::Socket {
        path: dir.to_owned(),
        source: errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_directory_is_named() {
        let err = connect(Path::new("/nonexistent/pod")).await.unwrap_err();
        assert_eq!(
            err.to_string(),
            "cannot open the runtime directory /nonexistent/pod"
        );
    }

    #[test]
    fn what_is_no_regular_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("whole"), "text").unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("link")).unwrap();
        std::fs::create_dir(dir.path().join("directory")).unwrap();
        assert_eq!(read_beneath(dir.path(), "whole", 3).unwrap(), b"tex");
        for name in ["link", "directory", "absent", "../whole"] {
            assert!(read_beneath(dir.path(), name, 3).is_err(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_symlink_in_place_of_the_socket_is_not_followed() {
        let elsewhere = tempfile::tempdir().unwrap();
        let _listener =
            std::os::unix::net::UnixListener::bind(elsewhere.path().join(SOCKET)).unwrap();
        let pod = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join(SOCKET), pod.path().join(SOCKET)).unwrap();
        assert!(matches!(
            connect(pod.path()).await,
            Err(ConnectError::Socket { .. })
        ));
    }
}
