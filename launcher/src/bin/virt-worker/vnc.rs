//! The graphical console: each session is a connection of its own to QEMU's VNC server, and there
//! is one session at a time.
//!
//! ```text
//!  vnc.sock ──▶ one piece ──▶ session
//!  vnc.sock ◀── one piece ◀── session
//! ```
//!
//! The next piece is read when the one before it is gone, in both directions independently: a
//! session holds two pieces, however slow its ends are.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use launcher_api::VncBytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

/// The largest piece that is read at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// The VM's VNC server.
pub(crate) struct Vnc {
    socket: PathBuf,
    /// Ends the session that is open, by being dropped.
    session: Mutex<Option<oneshot::Sender<()>>>,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VncError {
    /// The caller would not end the one that is open.
    #[error("{}", launcher_api::VNC_IN_USE)]
    InUse,
    /// Nobody listens.
    #[error("the VM has no graphics device, or does not run: cannot reach its VNC server")]
    Connect { source: io::Error },
}

impl Vnc {
    /// The server at `socket`.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            session: Mutex::default(),
        }
    }

    /// Opens a session that begins with `first`; its output is what is returned. The session that is
    /// open ends, unless that is to be preserved.
    ///
    /// # Errors
    /// [`VncError`].
    pub(crate) async fn open<E: Send + 'static>(
        &self,
        first: VncBytes,
        input: impl Stream<Item = Result<VncBytes, E>> + Send + Unpin + 'static,
    ) -> Result<mpsc::Receiver<Result<VncBytes, Status>>, VncError> {
        let ended = self.begin(first.preserve)?;
        let server = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| VncError::Connect { source })?;
        let (output, shown) = mpsc::channel(1);
        tokio::spawn(async move {
            tokio::select! {
                // The peer of a connection that broke has nothing to tell anyone.
                _ = relay(server, first.data, input, &output) => {}
                // By a newer session.
                _ = ended => {}
            }
        });
        Ok(shown)
    }

    /// Makes the new session the one that is open.
    fn begin(&self, preserve: bool) -> Result<oneshot::Receiver<()>, VncError> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let open = session.as_ref().is_some_and(|open| !open.is_closed());
        if preserve && open {
            return Err(VncError::InUse);
        }
        let (end, ended) = oneshot::channel();
        *session = Some(end);
        Ok(ended)
    }
}

/// Moves bytes until either end closes.
async fn relay<E>(
    server: UnixStream,
    first: Vec<u8>,
    mut input: impl Stream<Item = Result<VncBytes, E>> + Unpin,
    output: &mpsc::Sender<Result<VncBytes, Status>>,
) -> io::Result<()> {
    let (mut from, mut to) = server.into_split();
    let show = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = from.read(&mut buffer).await?;
            let data = buffer[..count].to_vec();
            if count == 0 || output.send(Ok(VncBytes::of(data))).await.is_err() {
                return Ok(());
            }
        }
    };
    let act = async {
        to.write_all(&first).await?;
        while let Some(Ok(bytes)) = input.next().await {
            to.write_all(&bytes.data).await?;
        }
        Ok(())
    };
    tokio::select! {
        done = show => done,
        done = act => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;
    use tokio_stream::wrappers::ReceiverStream;

    type Input = mpsc::Sender<Result<VncBytes, Status>>;

    fn bytes(data: &[u8], preserve: bool) -> VncBytes {
        VncBytes {
            preserve,
            ..VncBytes::of(data.to_vec())
        }
    }

    fn input() -> (Input, ReceiverStream<Result<VncBytes, Status>>) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, ReceiverStream::new(receiver))
    }

    /// A server's listener, and the way to open sessions.
    fn server() -> (tempfile::TempDir, UnixListener, Vnc) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vnc.sock");
        let listener = UnixListener::bind(&path).unwrap();
        (dir, listener, Vnc::new(path))
    }

    #[tokio::test]
    async fn bytes_pass_as_they_are_in_both_directions() {
        let (_dir, listener, vnc) = server();
        let (acts, stream) = input();
        let mut shown = vnc.open(bytes(b"fir", false), stream).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        acts.send(Ok(bytes(b"st", false))).await.unwrap();
        let mut read = [0; 5];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"first");
        server.write_all(b"RFB 003.008\n").await.unwrap();
        assert_eq!(shown.recv().await.unwrap().unwrap().data, b"RFB 003.008\n");
        drop(acts);
        assert_eq!(server.read(&mut read).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_new_session_ends_the_open_one_unless_it_preserves_it() {
        let (_dir, listener, vnc) = server();
        let (_acts, stream) = input();
        let mut first = vnc.open(bytes(b"", false), stream).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let (_too, stream) = input();
        assert!(matches!(
            vnc.open(bytes(b"", true), stream).await,
            Err(VncError::InUse)
        ));
        let (acts, stream) = input();
        let mut second = vnc.open(bytes(b"", false), stream).await.unwrap();
        assert!(first.recv().await.is_none());
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        // One that has ended needs no preserving.
        drop(acts);
        assert!(second.recv().await.is_none());
        let (_acts, stream) = input();
        assert!(vnc.open(bytes(b"", true), stream).await.is_ok());
    }

    #[tokio::test]
    async fn a_session_that_reads_nothing_holds_the_server_back() {
        let (_dir, listener, vnc) = server();
        let (_acts, stream) = input();
        let mut shown = vnc.open(bytes(b"", false), stream).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        // A relay that did not wait would take the whole of it.
        const SCREEN: usize = 4 << 20;
        let mut written = 0;
        for _ in 0..10_000 {
            match server.try_write(&[0; CHUNK]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(written < SCREEN, "{written} bytes went somewhere");
        assert!(shown.recv().await.unwrap().unwrap().data.len() <= CHUNK);
    }

    #[tokio::test]
    async fn a_vm_without_a_server_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let vnc = Vnc::new(dir.path().join("vnc.sock"));
        let (_acts, stream) = input();
        let refused = vnc.open(bytes(b"", false), stream).await.unwrap_err();
        assert!(refused.to_string().contains("no graphics device"));
    }
}
