//! A stream of the launcher's, as bytes.
//!
//! ```text
//! reader ◀── one message ◀── gRPC ◀── launcher
//! writer ──▶ one message ──▶ gRPC ──▶ launcher
//! ```
//!
//! A message is taken when the one before it was read, and given when the one before it is gone.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::channel::mpsc::{SendError, Sender};
use futures::{Sink, Stream};
use launcher_api::{ConsoleBytes, VncBytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::PIECE;

/// A message that carries bytes.
pub(super) trait Message: Unpin + Send + 'static {
    /// The message of those bytes.
    fn of(data: Vec<u8>) -> Self;
    /// Its bytes.
    fn data(self) -> Vec<u8>;
}

impl Message for ConsoleBytes {
    fn of(data: Vec<u8>) -> Self {
        Self::of(data)
    }

    fn data(self) -> Vec<u8> {
        self.data
    }
}

impl Message for VncBytes {
    fn of(data: Vec<u8>) -> Self {
        Self::of(data)
    }

    fn data(self) -> Vec<u8> {
        self.data
    }
}

/// The two halves of a call.
pub(super) struct Relay<M, S> {
    typed: Sender<M>,
    shown: S,
    unread: Bytes,
}

impl<M: Message, S: Stream<Item = Result<M, tonic::Status>> + Unpin> Relay<M, S> {
    pub(super) fn new(typed: Sender<M>, shown: S) -> Self {
        let unread = Bytes::new();
        Self {
            typed,
            shown,
            unread,
        }
    }
}

impl<M: Message, S: Stream<Item = Result<M, tonic::Status>> + Unpin> AsyncRead for Relay<M, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.shown).poll_next(cx)) {
                Some(Ok(message)) => self.unread = message.data().into(),
                Some(Err(_)) => return Poll::Ready(Err(broken())),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<M: Message, S: Unpin> AsyncWrite for Relay<M, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let piece = bytes.get(..PIECE).unwrap_or(bytes);
        ready!(self.typed.poll_ready(cx)).map_err(closed)?;
        let message = M::of(piece.to_vec());
        self.typed.start_send(message).map_err(closed)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.typed).poll_flush(cx).map_err(closed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.typed.close_channel();
        Poll::Ready(Ok(()))
    }
}

/// The launcher's side of the connection is gone, and it has not said why.
fn broken() -> io::Error {
    let message = "its launcher is gone: the VM has ended, or is taken up by another launcher in a \
                   moment; `virtctl ps` tells";
    io::Error::new(io::ErrorKind::ConnectionReset, message)
}

/// The launcher reads no more.
fn closed(_: SendError) -> io::Error {
    let message = "the launcher has closed the session";
    io::Error::new(io::ErrorKind::BrokenPipe, message)
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;
    use futures::{StreamExt, stream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn shown(
        pieces: &'static [&'static [u8]],
    ) -> impl Stream<Item = Result<ConsoleBytes, tonic::Status>> + Unpin {
        stream::iter(pieces.iter().map(|piece| Ok(Message::of(piece.to_vec()))))
    }

    #[tokio::test]
    async fn messages_are_read_as_one_stream_to_its_end() {
        let (typed, _input) = mpsc::channel(0);
        let mut relay = Relay::new(typed, shown(&[b"mini", b"", b"# "]));
        let mut first = [0; 2];
        relay.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"mi");
        let mut rest = vec![];
        relay.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"ni# ");
    }

    #[tokio::test]
    async fn a_launcher_that_goes_away_is_no_end_but_an_error() {
        let (typed, _input) = mpsc::channel(0);
        let lost = stream::iter([Err(tonic::Status::unknown("h2 protocol error"))]);
        let mut relay = Relay::<ConsoleBytes, _>::new(typed, lost);
        let error = relay.read(&mut [0; 1]).await.unwrap_err();
        assert!(
            error.to_string().contains("its launcher is gone"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_paste_leaves_in_pieces_each_when_the_one_before_it_is_gone() {
        let (typed, mut input) = mpsc::channel::<VncBytes>(0);
        let mut relay = Relay::new(typed, stream::pending());
        let paste = tokio::spawn(async move {
            relay.write_all(&[b'x'; PIECE + 1]).await.unwrap();
            relay.flush().await.unwrap();
            relay.shutdown().await.unwrap();
            let error = relay.write_all(b"more").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        });
        assert_eq!(input.next().await.unwrap().data.len(), PIECE);
        assert_eq!(input.next().await.unwrap().data, b"x");
        assert!(
            input.next().await.is_none(),
            "it was told that no more comes"
        );
        paste.await.unwrap();
    }
}
