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
    let config = WebSocketConfig::default()
        .read_buffer_size(PIECE)
        // Each piece leaves at once; a second one waits for it.
        .write_buffer_size(0)
        .max_write_buffer_size(2 * piece)
        .max_message_size(Some(MESSAGE_MOST))
        .max_frame_size(Some(MESSAGE_MOST));
    let upgraded = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
    Ok(Ok(Box::new(Plain::new(socket, piece))))
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
