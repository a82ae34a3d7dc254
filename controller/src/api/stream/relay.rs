//! Carrying bytes between a client's WebSocket and a guest.
//!
//! ```text
//!            read ≤ 16 KiB        unmasked in place, handed on as it comes
//!  client ────────────────▶ Decoder ────────────────────────────▶ Sink ─▶ guest
//!     ▲                        │ ping (the newest)                          │
//!     │                        ▼                                            │
//!     └──── Outgoing, one frame of ≤ 16 KiB ◀──────────────────── Source ◀──┘
//! ```
//!
//! One task, and one piece a direction: nothing is read while what was read before is not written,
//! so that whoever does not read stalls the other side, and nobody else. A client is pinged while a
//! stream is idle, since proxies on the way close what is silent.

use std::io;
use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use futures::future::FusedFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::frame::{
    CloseCode, Control, Decoder, OUR_HEADER, OUR_PAYLOAD, Opcode, Piece, Violation, header,
};

/// The most that is read at a time, in bytes.
pub(super) const PIECE: usize = 16 << 10;

/// How often a client is pinged: within what usual proxies take for idle.
const PING: Duration = Duration::from_secs(30);

/// How long a client may take to close.
const CLOSE: Duration = Duration::from_secs(5);

/// How long a guest may take to read what its client said last.
const LINGER: Duration = Duration::from_secs(10);

/// How a relay ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Over {
    #[error("the client closed it")]
    Client,
    #[error("the client is gone")]
    Gone(#[source] Option<io::Error>),
    #[error("the client does not speak the protocol")]
    Violation(#[from] Violation),
    #[error("the client's message is too long")]
    TooLong,
    #[error("the guest closed it")]
    Guest,
    #[error("the guest's side failed")]
    Failed(#[source] io::Error),
    #[error("virt-controller is ending")]
    Ending,
}

impl Over {
    /// What the client is told, if it is there.
    fn code(&self) -> Option<CloseCode> {
        match self {
            Self::Gone(_) => None,
            Self::Client | Self::Guest => Some(CloseCode::Normal),
            Self::Ending => Some(CloseCode::GoingAway),
            Self::Violation(_) => Some(CloseCode::Protocol),
            Self::TooLong => Some(CloseCode::TooBig),
            Self::Failed(_) => Some(CloseCode::Internal),
        }
    }
}

/// Where what a guest says comes from.
pub(super) trait Source: Send {
    /// Waits for something, and puts it into `frame`. Returns whether there was something: after
    /// its end, there is nothing. Nothing is lost where it is not waited for to the end.
    fn next(&mut self, frame: &mut Outgoing) -> impl Future<Output = io::Result<bool>> + Send;

    /// Reads what is left, for nobody, where the guest would otherwise lose what it was sent last.
    fn drain(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// A message is longer than the guest's side can take.
#[derive(Debug)]
pub(super) struct TooLong;

/// Where what a client says goes. What cannot be delivered is lost: whether the guest's side is
/// over, its [`Source`] says.
pub(super) trait Sink: Send {
    /// Delivers a part of a message, the `last` one or another.
    fn take(&mut self, part: &[u8], last: bool)
    -> impl Future<Output = Result<(), TooLong>> + Send;

    /// Nothing follows.
    fn end(&mut self) -> impl Future<Output = ()> + Send;
}

/// The reading half of a stream of bytes.
pub(super) struct ByteSource<R>(pub(super) R);

impl<R: AsyncRead + Unpin + Send> Source for ByteSource<R> {
    async fn next(&mut self, frame: &mut Outgoing) -> io::Result<bool> {
        let length = self.0.read(frame.room(PIECE)).await?;
        if length > 0 {
            frame.fill(length);
        }
        Ok(length > 0)
    }

    /// TCP resets a connection that is closed with something unread, and forgets what it has not
    /// sent yet.
    async fn drain(&mut self) {
        let mut nowhere = tokio::io::sink();
        // It is over either way.
        let _ = tokio::io::copy(&mut self.0, &mut nowhere).await;
    }
}

/// The writing half of a stream of bytes; none when it has failed.
pub(super) struct ByteSink<W>(Option<W>);

impl<W> ByteSink<W> {
    pub(super) fn new(half: W) -> Self {
        Self(Some(half))
    }
}

impl<W: AsyncWrite + Unpin + Send> Sink for ByteSink<W> {
    async fn take(&mut self, part: &[u8], _last: bool) -> Result<(), TooLong> {
        if let Some(half) = &mut self.0
            && write(half, part).await.is_err()
        {
            self.0 = None;
        }
        Ok(())
    }

    async fn end(&mut self) {
        if let Some(half) = &mut self.0 {
            // It is gone already, or now; or it does not read what it is sent.
            let _ = timeout(CLOSE, half.shutdown()).await;
        }
    }
}

/// Writes all, and not only into buffers of TLS: what waits there would not be counted.
async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// The frame that is on its way to the client, if there is one.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    pending: Range<usize>,
}

impl Outgoing {
    /// Room for a payload of so many bytes, at most [`OUR_PAYLOAD`].
    pub(super) fn room(&mut self, payload: usize) -> &mut [u8] {
        debug_assert!(self.pending.is_empty());
        let needed = OUR_HEADER + payload.min(OUR_PAYLOAD);
        if self.bytes.len() < needed {
            self.bytes.resize(needed, 0);
        }
        self.bytes.get_mut(OUR_HEADER..needed).unwrap_or_default()
    }

    /// So many bytes of the room are now the payload of a binary frame.
    pub(super) fn fill(&mut self, payload: usize) {
        self.seal(Opcode::Binary, payload);
    }

    fn put(&mut self, opcode: Opcode, payload: &[u8]) {
        self.room(payload.len()).copy_from_slice(payload);
        self.seal(opcode, payload.len());
    }

    /// Writes the header before its payload.
    fn seal(&mut self, opcode: Opcode, payload: usize) {
        let (header, length) = header(opcode, payload);
        for (place, byte) in self.bytes.iter_mut().zip(header) {
            *place = byte;
        }
        self.pending = OUR_HEADER - length..OUR_HEADER + payload;
    }

    /// Writes what is left of it. Nothing is lost, or written twice, where it is not waited for to
    /// the end.
    async fn flush(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while let Some(left @ [_, ..]) = self.bytes.get(self.pending.clone()) {
            match to.write(left).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.pending.start += written,
            }
        }
        to.flush().await?;
        // A long datagram's room is not for the rest of the stream.
        if self.bytes.len() > OUR_HEADER + PIECE {
            self.bytes = Vec::new();
        }
        Ok(())
    }
}

/// Carries bytes until either side is over, or `ending` returns.
pub(super) async fn relay(
    client: impl AsyncRead + AsyncWrite + Send,
    mut source: impl Source,
    sink: impl Sink,
    ending: impl Future<Output = ()>,
) -> Over {
    let (from, mut to) = tokio::io::split(client);
    let (pings_to, pings) = watch::channel(None);
    let mut outgoing = Outgoing::default();
    let inbound = inbound(from, sink, pings_to).fuse();
    let (mut inbound, mut ending) = (pin!(inbound), pin!(ending));
    let over = tokio::select! {
        over = inbound.as_mut() => over,
        over = outbound(&mut outgoing, &mut source, &mut to, pings) => over,
        () = ending.as_mut() => Over::Ending,
    };
    if let Some(code) = over.code() {
        let close = async {
            // What was begun is ended first.
            outgoing.flush(&mut to).await?;
            outgoing.put(Opcode::Close, &(code as u16).to_be_bytes());
            outgoing.flush(&mut to).await
        };
        match over {
            // It takes its time to read what the guest has said, and then answers. Who waits to be
            // read is read meanwhile.
            Over::Guest | Over::Failed(_) => {
                let closed = async {
                    if close.await.is_ok() {
                        sleep(CLOSE).await;
                    }
                };
                tokio::select! {
                    _ = inbound.as_mut() => {}
                    () = closed => {}
                    () = ending => {}
                }
            }
            Over::Ending => {
                let _ = timeout(CLOSE, async { tokio::join!(close, inbound.as_mut()) }).await;
            }
            _ => {
                let _ = timeout(CLOSE, close).await;
            }
        }
    }
    // A client that is gone, or stalls, has heard enough.
    let _ = timeout(CLOSE, to.shutdown()).await;
    if matches!(over, Over::Client | Over::Gone(_)) {
        // Where writing to it was what failed, what it said last is still to be read, and the
        // guest to be told that nothing follows.
        let said = async {
            if !inbound.is_terminated() {
                inbound.await;
            }
        };
        let _ = timeout(LINGER, async { tokio::join!(said, source.drain()) }).await;
    }
    over
}

/// From the client to the guest.
async fn inbound(
    mut from: impl AsyncRead + Unpin,
    mut sink: impl Sink,
    pings: watch::Sender<Option<Control>>,
) -> Over {
    let over = deliver(&mut from, &mut sink, &pings).await;
    sink.end().await;
    over
}

async fn deliver(
    from: &mut (impl AsyncRead + Unpin),
    sink: &mut impl Sink,
    pings: &watch::Sender<Option<Control>>,
) -> Over {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; PIECE];
    loop {
        let mut input = match from.read(&mut buffer).await {
            Ok(0) => return Over::Gone(None),
            Ok(length) => buffer.get_mut(..length).unwrap_or_default(),
            Err(error) => return Over::Gone(Some(error)),
        };
        while !input.is_empty() {
            let (read, piece) = match decoder.read(input) {
                Ok(read) => read,
                Err(violation) => return violation.into(),
            };
            match piece {
                Some(Piece::Data { place, last }) => {
                    let part = input.get(place).unwrap_or_default();
                    if let Err(TooLong) = sink.take(part, last).await {
                        return Over::TooLong;
                    }
                }
                Some(Piece::Ping(ping)) => _ = pings.send_replace(Some(ping)),
                Some(Piece::Close) => return Over::Client,
                Some(Piece::Pong) | None => {}
            }
            input = input.get_mut(read..).unwrap_or_default();
        }
    }
}

/// From the guest to the client.
async fn outbound(
    outgoing: &mut Outgoing,
    source: &mut impl Source,
    to: &mut (impl AsyncWrite + Unpin),
    mut pings: watch::Receiver<Option<Control>>,
) -> Over {
    let mut idle = interval_at(Instant::now() + PING, PING);
    idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if let Err(error) = outgoing.flush(to).await {
            return Over::Gone(Some(error));
        }
        tokio::select! {
            Ok(()) = pings.changed() => {
                let ping = *pings.borrow_and_update();
                // RFC 6455, 5.5.3: the newest is enough.
                let ping = ping.unwrap_or(Control::EMPTY);
                outgoing.put(Opcode::Pong, ping.as_bytes());
            }
            more = source.next(outgoing) => match more {
                Ok(true) => {}
                Ok(false) => return Over::Guest,
                Err(error) => return Over::Failed(error),
            },
            _ = idle.tick() => outgoing.put(Opcode::Ping, b""),
        }
    }
}
