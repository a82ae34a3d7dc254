//! The serial console: QEMU takes one client, so the worker is that client and hands the
//! stream to whoever came last.
//!
//! ```text
//!  guest ──▶ serial0.sock ──▶ recent output ──▶ session, if there is one
//!  guest ◀── serial0.sock ◀────────────────────── session
//! ```
//!
//! A session that reads slowly holds the guest's output back, as a slow terminal does; without
//! a session the output is only kept (the last [`RECENT`] bytes; the log file has the rest).
//! Both directions move independently, so a long paste that the guest echoes cannot lock up.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use launcher_api::ConsoleBytes;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tonic::Status;

/// What a new session is shown of the past, in bytes.
const RECENT: usize = 16 * 1024;

/// The largest piece that is read or sent at once, in bytes.
const CHUNK: usize = 8 * 1024;

/// The pause between two attempts to reach QEMU's socket.
const RETRY: Duration = Duration::from_millis(20);

/// One person at the console.
pub(crate) struct Session {
    /// What the person types.
    pub(crate) input: mpsc::Receiver<Vec<u8>>,
    /// What the guest prints; dropping it ends the session.
    pub(crate) output: mpsc::Sender<Result<ConsoleBytes, Status>>,
}

/// Runs the console until the worker ends.
pub(crate) async fn serve(socket: PathBuf, recent: Vec<u8>, mut sessions: mpsc::Receiver<Session>) {
    let mut console = Console {
        recent: recent.into(),
        ..Console::default()
    };
    loop {
        match UnixStream::connect(&socket).await {
            Ok(serial) => {
                if let Err(error) = console.pump(&serial, &mut sessions).await {
                    tracing::info!("serial console: {error}");
                }
            }
            // QEMU is not there yet, or no more.
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

#[derive(Default)]
struct Console {
    recent: VecDeque<u8>,
    session: Option<Session>,
    /// Printed by the guest and not yet taken by the session.
    to_session: Option<Vec<u8>>,
    /// Typed and not yet taken by the guest.
    to_guest: VecDeque<u8>,
}

impl Console {
    /// Moves bytes until QEMU closes its end.
    async fn pump(
        &mut self,
        serial: &UnixStream,
        sessions: &mut mpsc::Receiver<Session>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let output = self.session.as_ref().map(|session| session.output.clone());
            let (sending, typing) = (self.to_session.is_some(), !self.to_guest.is_empty());
            tokio::select! {
                Some(session) = sessions.recv() => self.begin(session),
                ready = serial.readable(), if !sending => {
                    ready?;
                    match serial.try_read(&mut buffer) {
                        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(count) => self.printed(&buffer[..count]),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                ready = serial.writable(), if typing => {
                    ready?;
                    match serial.try_write(self.to_guest.make_contiguous()) {
                        Ok(count) => drop(self.to_guest.drain(..count)),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                permit = reserve(output), if sending => match permit {
                    Some(permit) => {
                        let data = self.to_session.take().unwrap_or_default();
                        permit.send(Ok(ConsoleBytes { data }));
                    }
                    None => self.end(),
                },
                typed = receive(&mut self.session), if !typing => match typed {
                    Some(bytes) => self.to_guest.extend(bytes),
                    None => self.end(),
                },
            }
        }
    }

    /// A new session; the old one ends by losing its sender.
    fn begin(&mut self, session: Session) {
        self.to_guest.clear();
        let recent: Vec<u8> = self.recent.iter().copied().collect();
        self.to_session = (!recent.is_empty()).then_some(recent);
        self.session = Some(session);
    }

    fn end(&mut self) {
        self.session = None;
        self.to_session = None;
    }

    fn printed(&mut self, bytes: &[u8]) {
        let excess = (self.recent.len() + bytes.len()).saturating_sub(RECENT);
        self.recent.drain(..excess.min(self.recent.len()));
        self.recent.extend(bytes);
        if self.session.is_some() {
            self.to_session = Some(bytes.to_vec());
        }
    }
}

async fn reserve(
    output: Option<mpsc::Sender<Result<ConsoleBytes, Status>>>,
) -> Option<mpsc::OwnedPermit<Result<ConsoleBytes, Status>>> {
    output?.reserve_owned().await.ok()
}

/// What the session types; never, where there is none.
async fn receive(session: &mut Option<Session>) -> Option<Vec<u8>> {
    match session {
        Some(session) => session.input.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    type Output = mpsc::Receiver<Result<ConsoleBytes, Status>>;

    fn session() -> (Session, mpsc::Sender<Vec<u8>>, Output) {
        let (typed, input) = mpsc::channel(1);
        let (output, printed) = mpsc::channel(1);
        (Session { input, output }, typed, printed)
    }

    /// A guest's end of the serial line, and the way to open sessions.
    async fn console() -> (tempfile::TempDir, UnixStream, mpsc::Sender<Session>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serial0.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (sessions, inbox) = mpsc::channel(1);
        tokio::spawn(serve(path, b"past ".to_vec(), inbox));
        let (guest, _) = listener.accept().await.unwrap();
        (dir, guest, sessions)
    }

    async fn printed(output: &mut Output) -> Vec<u8> {
        output.recv().await.unwrap().unwrap().data
    }

    #[tokio::test]
    async fn a_session_sees_the_recent_past_and_what_follows() {
        let (_dir, mut guest, sessions) = console().await;
        let (session, typed, mut output) = session();
        sessions.send(session).await.unwrap();
        assert_eq!(printed(&mut output).await, b"past ");
        guest.write_all(b"now").await.unwrap();
        assert_eq!(printed(&mut output).await, b"now");
        typed.send(b"ls\r".to_vec()).await.unwrap();
        let mut line = [0; 3];
        guest.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"ls\r");
    }

    #[tokio::test]
    async fn a_second_session_ends_the_first() {
        let (_dir, _guest, sessions) = console().await;
        let (first, _typed, mut output) = session();
        sessions.send(first).await.unwrap();
        printed(&mut output).await;
        let (second, _typed_too, mut newer) = session();
        sessions.send(second).await.unwrap();
        assert_eq!(printed(&mut newer).await, b"past ");
        assert!(output.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_long_paste_that_the_guest_echoes_arrives_whole() {
        const LENGTH: usize = 1 << 20;
        let (_dir, guest, sessions) = console().await;
        let (session, typed, mut output) = session();
        sessions.send(session).await.unwrap();
        printed(&mut output).await;
        let echo = tokio::spawn(async move {
            let (mut from, mut to) = guest.into_split();
            tokio::io::copy(&mut from, &mut to).await
        });
        let paste = tokio::spawn(async move {
            for piece in vec![b'x'; LENGTH].chunks(4096) {
                typed.send(piece.to_vec()).await.unwrap();
            }
            typed
        });
        let mut seen = 0;
        while seen < LENGTH {
            seen += printed(&mut output).await.len();
        }
        assert_eq!(seen, LENGTH);
        drop(paste.await.unwrap());
        echo.abort();
    }
}
