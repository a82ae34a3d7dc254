//! The serial console: QEMU takes one client, so the worker is that client and hands the
//! stream to whoever came last.
//!
//! ```text
//!  guest ──▶ serial0.sock ──▶ recent output ──▶ session, if there is one
//!  guest ◀── serial0.sock ◀────────────────────── session
//! ```
//!
//! A session that reads slowly holds the guest's output back, as a slow terminal does; without
//! a session the output is only kept (the last [`RECENT`] bytes; the log file has the rest), and
//! so it is with one that reads nothing for [`PATIENCE`]: no guest stands still because somebody
//! has closed the lid of a laptop. What is typed is read as fast as the guest takes it.
//! Both directions move independently, so a long paste that the guest echoes cannot lock up.
//! With the VM the console ends: once QEMU is gone and the session has the last that was printed,
//! and [`LAST`] later all the same.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use launcher_api::ConsoleBytes;
use tokio::net::UnixStream;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::Status;

/// What a new session is shown of the past, in bytes.
const RECENT: usize = 16 * 1024;

/// The largest piece that is read or sent at once, in bytes.
const CHUNK: usize = 8 * 1024;

/// How long a session may hold the guest's output back. A kernel that prints waits 10 ms for each
/// byte then, and reports a CPU that hangs after 20 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a session may take for the last output of all, from the VM's end on.
const LAST: Duration = Duration::from_secs(1);

/// The pause between two attempts to reach QEMU's socket.
const RETRY: Duration = Duration::from_millis(20);

/// One person at the console.
pub(crate) struct Session {
    /// What the person types.
    pub(crate) input: mpsc::Receiver<Vec<u8>>,
    /// What the guest prints; dropping it ends the session.
    pub(crate) output: Output,
}

type Output = mpsc::Sender<Piece>;

type Piece = Result<ConsoleBytes, Status>;

/// A console that runs.
pub(crate) struct Running {
    task: JoinHandle<()>,
    vm_ended: oneshot::Sender<()>,
}

impl Running {
    /// Ends the console after the VM: at once, where no session is behind, and in [`LAST`] at
    /// most.
    pub(crate) async fn end(self) {
        self.end_within(LAST).await;
    }

    async fn end_within(mut self, last: Duration) {
        // The receiver is gone only where the console has ended already.
        let _ = self.vm_ended.send(());
        if timeout(last, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Runs the console until the VM ends.
pub(crate) fn start(
    socket: PathBuf,
    recent: Vec<u8>,
    sessions: mpsc::Receiver<Session>,
) -> Running {
    start_with(PATIENCE, socket, recent, sessions)
}

fn start_with(
    patience: Duration,
    socket: PathBuf,
    recent: Vec<u8>,
    sessions: mpsc::Receiver<Session>,
) -> Running {
    let console = Console {
        patience,
        recent: recent.into(),
        ..Console::default()
    };
    let (vm_ended, ended) = oneshot::channel();
    let task = tokio::spawn(console.serve(socket, sessions, ended));
    Running { task, vm_ended }
}

#[derive(Default)]
struct Console {
    patience: Duration,
    /// The end of what the guest has printed.
    recent: VecDeque<u8>,
    /// How much of that, at its end, the session has not taken yet.
    unsent: usize,
    /// Since when there is something that it has not taken.
    since: Option<Instant>,
    output: Option<Output>,
    input: Option<mpsc::Receiver<Vec<u8>>>,
    /// Typed and not yet taken by the guest.
    to_guest: VecDeque<u8>,
}

impl Console {
    async fn serve(
        mut self,
        socket: PathBuf,
        mut sessions: mpsc::Receiver<Session>,
        mut ended: oneshot::Receiver<()>,
    ) {
        loop {
            match UnixStream::connect(&socket).await {
                Ok(serial) => {
                    if let Err(error) = self.pump(&serial, &mut sessions).await {
                        tracing::info!("serial console: {error}");
                    }
                }
                // QEMU is not there yet, or no more.
                Err(_) => tokio::select! {
                    () = sleep(RETRY) => {}
                    Some(session) = sessions.recv() => self.begin(session),
                    permit = reserve(self.behind()) => self.hand_over(permit),
                    _ = &mut ended, if self.unsent == 0 => return,
                },
            }
        }
    }

    /// Moves bytes until QEMU closes its end.
    async fn pump(
        &mut self,
        serial: &UnixStream,
        sessions: &mut mpsc::Receiver<Session>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let behind = self.behind();
            let typing = !self.to_guest.is_empty();
            let held = self.held_until(Instant::now());
            tokio::select! {
                Some(session) = sessions.recv() => self.begin(session),
                ready = serial.readable(), if held.is_none() => {
                    ready?;
                    match serial.try_read(&mut buffer) {
                        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(count) => self.printed(&buffer[..count]),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                () = until(held) => {}
                ready = serial.writable(), if typing => {
                    ready?;
                    match serial.try_write(self.to_guest.make_contiguous()) {
                        Ok(count) => drop(self.to_guest.drain(..count)),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                permit = reserve(behind) => self.hand_over(permit),
                typed = receive(&mut self.input), if !typing => match typed {
                    Some(bytes) => self.to_guest.extend(bytes),
                    None => {
                        self.input = None;
                        self.end_output();
                    }
                },
            }
        }
    }

    /// The session's output, where there is something that it has not taken.
    fn behind(&self) -> Option<Output> {
        self.output.clone().filter(|_| self.unsent > 0)
    }

    fn hand_over(&mut self, permit: Result<OwnedPermit<Piece>, SendError<()>>) {
        match permit {
            Ok(permit) => {
                permit.send(Ok(ConsoleBytes::of(self.take())));
            }
            // What is typed and on its way still comes.
            Err(_) => self.end_output(),
        }
    }

    /// A new session; the old one ends by losing its sender.
    fn begin(&mut self, session: Session) {
        self.to_guest.clear();
        self.input = Some(session.input);
        self.output = Some(session.output);
        self.unsent = self.recent.len();
        self.since = (self.unsent > 0).then(Instant::now);
    }

    fn end_output(&mut self) {
        self.output = None;
        self.unsent = 0;
        self.since = None;
    }

    /// Until when the session holds the guest's output back, where it does.
    fn held_until(&self, now: Instant) -> Option<Instant> {
        let full = self.unsent + CHUNK > RECENT;
        let until = self.since.filter(|_| full)? + self.patience;
        (now < until).then_some(until)
    }

    fn printed(&mut self, bytes: &[u8]) {
        self.recent.extend(bytes);
        let excess = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..excess);
        if self.output.is_some() {
            // What a session does not take in time is lost to it.
            self.unsent = (self.unsent + bytes.len()).min(RECENT);
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// All that the session has not taken yet.
    fn take(&mut self) -> Vec<u8> {
        let sent = self.recent.len() - self.unsent;
        self.unsent = 0;
        self.since = None;
        self.recent.range(sent..).copied().collect()
    }
}

/// A place for the session's next piece; never, where there is none to send.
async fn reserve(output: Option<Output>) -> Result<OwnedPermit<Piece>, SendError<()>> {
    match output {
        Some(output) => output.reserve_owned().await,
        None => pending().await,
    }
}

/// What the session types; never, where there is none.
async fn receive(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match input {
        Some(input) => input.recv().await,
        None => pending().await,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    /// So long that a busy machine does not make it end.
    const PATIENCE: Duration = Duration::from_secs(4);

    type Printed = mpsc::Receiver<Piece>;

    fn session() -> (Session, mpsc::Sender<Vec<u8>>, Printed) {
        let (typed, input) = mpsc::channel(1);
        let (output, printed) = mpsc::channel(1);
        (Session { input, output }, typed, printed)
    }

    /// A console, its guest's end of the serial line, and the way to open sessions.
    async fn console() -> (Running, UnixStream, mpsc::Sender<Session>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serial0.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (sessions, inbox) = mpsc::channel(1);
        let console = start_with(PATIENCE, path, b"past ".to_vec(), inbox);
        // Nobody listens afterwards: a guest that is dropped is gone for good.
        let (guest, _) = listener.accept().await.unwrap();
        (console, guest, sessions)
    }

    /// What a guest prints that powers down: more than a session has been sent before it reads.
    fn last_output() -> Vec<u8> {
        let mut text = vec![b'x'; 2 * RECENT];
        text.extend(b"reboot: Power down");
        text
    }

    async fn printed(output: &mut Printed) -> Vec<u8> {
        output.recv().await.unwrap().unwrap().data
    }

    #[tokio::test]
    async fn a_session_sees_the_recent_past_and_what_follows() {
        let (_console, mut guest, sessions) = console().await;
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
        let (_console, _guest, sessions) = console().await;
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
        let (_console, guest, sessions) = console().await;
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

    #[tokio::test]
    async fn a_session_that_reads_nothing_holds_the_guest_for_a_while_and_no_longer() {
        let (_console, mut guest, sessions) = console().await;
        let (session, _typed, mut output) = session();
        sessions.send(session).await.unwrap();
        let line = [b'x'; CHUNK];
        let mut lines = 0;
        while let Ok(written) = timeout(PATIENCE / 2, guest.write_all(&line)).await {
            written.unwrap();
            lines += 1;
            assert!(lines < 1000, "nothing holds the guest back");
        }
        for _ in 0..lines {
            guest.write_all(&line).await.unwrap();
        }
        guest.write_all(b"the end").await.unwrap();
        let mut seen = printed(&mut output).await;
        while !seen.ends_with(b"the end") {
            seen.extend(printed(&mut output).await);
        }
        assert!(seen.len() < 2 * lines * CHUNK, "who was to keep all that?");
    }

    #[tokio::test]
    async fn a_paste_waits_for_a_guest_that_does_not_read_and_arrives_whole() {
        let (_console, mut guest, sessions) = console().await;
        let (session, typed, _output) = session();
        sessions.send(session).await.unwrap();
        let paste: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_be_bytes).collect();
        let pieces = paste.clone();
        let mut typing = tokio::spawn(async move {
            for piece in pieces.chunks(CHUNK) {
                typed.send(piece.to_vec()).await.unwrap();
            }
            typed
        });
        let waited = timeout(Duration::from_millis(500), &mut typing).await;
        waited.expect_err("nothing holds the paste back");
        let mut read = vec![0; paste.len()];
        guest.read_exact(&mut read).await.unwrap();
        assert!(read == paste);
        typing.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_typed_and_on_its_way_outlives_who_typed_it() {
        let (_console, mut guest, sessions) = console().await;
        let (session, typed, output) = session();
        sessions.send(session).await.unwrap();
        drop(output);
        guest.write_all(b"now").await.unwrap();
        typed.send(b"halt\r".to_vec()).await.unwrap();
        let mut line = [0; 5];
        guest.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"halt\r");
        drop(typed);
    }

    #[tokio::test]
    async fn a_session_that_is_behind_as_the_vm_ends_gets_the_last_output() {
        let (console, mut guest, sessions) = console().await;
        let (session, _typed, mut output) = session();
        sessions.send(session).await.unwrap();
        assert_eq!(printed(&mut output).await, b"past ");
        guest.write_all(&last_output()).await.unwrap();
        drop(guest);
        let read = async {
            let mut seen = Vec::new();
            while let Some(piece) = output.recv().await {
                seen.extend(piece.unwrap().data);
            }
            seen
        };
        // The end comes before the first read.
        let ((), seen) = tokio::join!(biased; console.end_within(PATIENCE), read);
        assert!(seen == last_output(), "{} bytes came", seen.len());
    }

    #[tokio::test]
    async fn a_console_with_nothing_left_to_hand_over_ends_at_once() {
        let (console, guest, sessions) = console().await;
        let (session, _typed, mut output) = session();
        sessions.send(session).await.unwrap();
        assert_eq!(printed(&mut output).await, b"past ");
        drop(guest);
        let end = timeout(PATIENCE / 2, console.end_within(PATIENCE)).await;
        end.expect("nobody is behind");
        assert!(output.recv().await.is_none());
    }

    #[tokio::test]
    async fn neither_a_session_that_reads_nothing_nor_a_qemu_that_stays_delays_the_end() {
        for stays in [false, true] {
            let (console, mut guest, sessions) = console().await;
            let (session, _typed, mut output) = session();
            sessions.send(session).await.unwrap();
            assert_eq!(printed(&mut output).await, b"past ");
            guest.write_all(&last_output()).await.unwrap();
            let guest = stays.then_some(guest);
            let end = timeout(PATIENCE, console.end_within(RETRY)).await;
            end.expect("the console holds the worker up");
            let ended = async { while output.recv().await.is_some() {} };
            let ended = timeout(PATIENCE, ended).await;
            ended.expect("the session outlives the console");
            drop(guest);
        }
    }
}
