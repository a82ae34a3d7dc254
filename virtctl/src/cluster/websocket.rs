//! Streams over WebSocket, with the subprotocol `plain.kubevirt.io`: the bytes as they are, in
//! binary frames (KubeVirt's `PlainStreamProtocolName`).
//!
//! kube's own WebSocket client speaks Kubernetes' channel protocols only, so the upgrade
//! (RFC 6455, section 4.1) is done here, on a connection that kube has authenticated.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{Sink, Stream};
use http::header::{
    CONNECTION, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use kube_client::client::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::client::Cluster;
use super::refusal::Refusal;
use crate::stream::{ByteStream, PIECE};
use crate::target::CallError;

/// The subprotocol.
const PLAIN: &str = "plain.kubevirt.io";

/// The largest message that is taken: KubeVirt's servers send 32 KiB at a time.
const MESSAGE_MOST: usize = 1 << 20;

/// Opens a WebSocket at `path`, whose messages have `piece` bytes at most; the inner error is the
/// server's refusal.
pub(super) async fn open(
    cluster: &Cluster,
    path: &str,
    piece: usize,
) -> Result<Result<ByteStream, Refusal>, CallError> {
    let key = generate_key();
    let request = Request::get(path)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_PROTOCOL, PLAIN)
        .header(SEC_WEBSOCKET_KEY, &key)
        .body(Body::empty());
    let answer = cluster.send(request).await?;
    let code = answer.status();
    if code != StatusCode::SWITCHING_PROTOCOLS {
        let body = answer.into_body().collect_bytes().await;
        let body = body.map_err(|source| cluster.unreachable(source))?;
        return Ok(Err(Refusal::read(code, &body)));
    }
    if !agreed(answer.headers(), &key) {
        let message = format!("the server does not speak {PLAIN}");
        return Err(CallError::Unsupported { message });
    }
    let upgraded = hyper::upgrade::on(answer).await;
    let upgraded =
        upgraded.map_err(|source| cluster.unreachable(kube_client::Error::HyperError(source)))?;
    let upgraded = TokioIo::new(upgraded);
    let socket =
        WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config(piece))).await;
    Ok(Ok(Box::new(Plain::new(socket, piece))))
}

/// Buffers as small as they can be, for messages of `piece` bytes at most.
fn config(piece: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(PIECE)
        // Each piece leaves at once; a second one waits for it.
        .write_buffer_size(0)
        .max_write_buffer_size(2 * piece)
        .max_message_size(Some(MESSAGE_MOST))
        .max_frame_size(Some(MESSAGE_MOST))
}

/// Whether the server has accepted this very upgrade. A server that names no subprotocol speaks
/// the one that was offered.
fn agreed(headers: &HeaderMap, key: &str) -> bool {
    let is = |name, value: &str| {
        let header: Option<&http::HeaderValue> = headers.get(name);
        header.is_some_and(|header| header.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
    is(UPGRADE, "websocket")
        && headers
            .get(SEC_WEBSOCKET_ACCEPT)
            .is_some_and(|accept| accept.as_bytes() == derive_accept_key(key.as_bytes()).as_bytes())
        && (is(SEC_WEBSOCKET_PROTOCOL, PLAIN) || !headers.contains_key(SEC_WEBSOCKET_PROTOCOL))
}

/// A WebSocket as bytes: what was received and not yet read is one message.
struct Plain<T> {
    socket: WebSocketStream<T>,
    /// The most bytes of one message.
    piece: usize,
    unread: bytes::Bytes,
    closing: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Plain<T> {
    fn new(socket: WebSocketStream<T>, piece: usize) -> Self {
        Self {
            socket,
            piece,
            unread: bytes::Bytes::new(),
            closing: false,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Plain<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Text(text))) => self.unread = text.into(),
                Some(Ok(Message::Close(frame))) => return Poll::Ready(ended(frame)),
                // Pings are answered beneath.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Plain<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let piece = &bytes[..bytes.len().min(self.piece)];
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(broken)?;
        let message = Message::Binary(piece.to_vec().into());
        Pin::new(&mut self.socket)
            .start_send(message)
            .map_err(broken)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            match ready!(Pin::new(&mut self.socket).poll_ready(cx)) {
                Ok(()) => {}
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(broken(error))),
            }
            let close = Message::Close(Some(CloseFrame {
                code: CloseCode::Normal,
                reason: "".into(),
            }));
            Pin::new(&mut self.socket)
                .start_send(close)
                .map_err(broken)?;
            self.closing = true;
        }
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }
}

/// How a session ended whose other side said so.
fn ended(frame: Option<CloseFrame>) -> io::Result<()> {
    match frame {
        None => Ok(()),
        Some(frame) if frame.code == CloseCode::Normal => Ok(()),
        Some(frame) => Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            match frame.reason.as_str() {
                "" => format!("the server ended the session ({})", u16::from(frame.code)),
                reason => format!("the server ended the session: {reason}"),
            },
        )),
    }
}

fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::new(io::ErrorKind::ConnectionReset, error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;
    use crate::stream::DATAGRAM;

    const MOMENT: Duration = Duration::from_secs(10);

    /// Both ends of a session, over a connection that holds `room` bytes a direction.
    async fn session(
        room: usize,
        piece: usize,
    ) -> (Plain<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = duplex(room);
        let client = config(piece);
        let client = WebSocketStream::from_raw_socket(ours, Role::Client, Some(client)).await;
        let server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
        (Plain::new(client, piece), server)
    }

    fn binary(bytes: &[u8]) -> Message {
        Message::Binary(bytes.to_vec().into())
    }

    #[tokio::test]
    async fn messages_are_bytes() {
        let (mut client, mut server) = session(1 << 16, PIECE).await;
        for message in [
            binary(b"by"),
            binary(b""),
            Message::Ping("p".into()),
            Message::text("tes"),
        ] {
            server.send(message).await.unwrap();
        }
        let mut read = [0; 5];
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"bytes");
        client.write_all(b"back").await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(
            server.next().await.unwrap().unwrap(),
            Message::Pong("p".into())
        );
        assert_eq!(server.next().await.unwrap().unwrap(), binary(b"back"));
    }

    #[tokio::test]
    async fn a_datagram_is_one_message() {
        let (mut client, mut server) = session(1 << 18, DATAGRAM).await;
        let datagram = vec![7; DATAGRAM];
        assert_eq!(client.write(&datagram).await.unwrap(), DATAGRAM);
        client.flush().await.unwrap();
        assert_eq!(server.next().await.unwrap().unwrap(), binary(&datagram));
        server.send(binary(b"one")).await.unwrap();
        server.send(binary(b"two")).await.unwrap();
        let mut read = [0; 16];
        assert_eq!(client.read(&mut read).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_reader_that_stalls_stops_the_writer() {
        let (mut client, mut server) = session(PIECE, PIECE).await;
        let mut sent = 0;
        let bytes = [0; PIECE];
        // Until nothing more goes: what has gone lies in the connection and one piece before it.
        while let Ok(count) = timeout(Duration::from_millis(100), client.write(&bytes)).await {
            sent += count.unwrap();
            assert!(sent <= 4 * PIECE, "{sent} bytes are on their way");
        }
        let mut received = 0;
        let pump = async {
            client.write_all(b"end").await.unwrap();
            client.flush().await.unwrap();
        };
        let drain = async {
            while received < sent + 3 {
                received += server.next().await.unwrap().unwrap().len();
            }
        };
        timeout(MOMENT, futures::future::join(pump, drain))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn the_end_of_a_session_is_told() {
        let close = |code, reason: &'static str| {
            Message::Close(Some(CloseFrame {
                code,
                reason: reason.into(),
            }))
        };
        for (message, ended) in [
            (Message::Close(None), Ok(0)),
            (close(CloseCode::Normal, "bye"), Ok(0)),
            (
                close(CloseCode::Away, ""),
                Err("the server ended the session (1001)"),
            ),
            (
                close(CloseCode::Error, "the launcher is gone"),
                Err("the server ended the session: the launcher is gone"),
            ),
        ] {
            let (mut client, mut server) = session(1 << 16, PIECE).await;
            server.send(message).await.unwrap();
            let read = client
                .read(&mut [0; 4])
                .await
                .map_err(|error| error.to_string());
            assert_eq!(read, ended.map_err(str::to_owned));
        }
        let (mut client, server) = session(1 << 16, PIECE).await;
        drop(server);
        assert!(client.read(&mut [0; 4]).await.is_err(), "a break is no end");
    }

    #[tokio::test]
    async fn shutdown_closes_normally() {
        let (mut client, mut server) = session(1 << 16, PIECE).await;
        client.write_all(b"last").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(server.next().await.unwrap().unwrap(), binary(b"last"));
        match server.next().await.unwrap().unwrap() {
            Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Normal),
            other => panic!("{other:?} is no close"),
        }
        // A second one is none.
        client.shutdown().await.unwrap();
    }
}
