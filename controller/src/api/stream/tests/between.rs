//! A relay, and who is at its ends.

use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::api::stream::relay::{ByteSink, ByteSource, Over, PIECE, relay};

/// How long anything may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// How long nobody has read when a writer is said to stand still.
pub(super) const STILL: Duration = Duration::from_secs(1);

/// What sockets hold, at most, where they are asked for this: the kernel doubles it, at each end.
pub(super) const SOCKET: u32 = 64 << 10;

/// Both ends of a connection whose buffers are small.
pub(super) async fn connection() -> (TcpStream, TcpStream) {
    let small = || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(SOCKET).unwrap();
        socket.set_recv_buffer_size(SOCKET).unwrap();
        socket
    };
    let listener = small();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener: TcpListener = listener.listen(1).unwrap();
    let connecting = small().connect(listener.local_addr().unwrap());
    let (far, near) = tokio::join!(connecting, listener.accept());
    (far.unwrap(), near.unwrap().0)
}

/// A relay, and both of those that it is between.
pub(super) struct Between<C, G> {
    pub(super) client: WebSocketStream<C>,
    pub(super) guest: G,
    pub(super) end: oneshot::Sender<()>,
    pub(super) relay: JoinHandle<Over>,
}

impl<C, G> Between<C, G>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    G: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async fn new(client: (C, C), guest: (G, G)) -> Self {
        let (end, ended) = oneshot::channel();
        let (near_client, near_guest) = (client.1, guest.1);
        let relay = tokio::spawn(async move {
            let (from, to) = tokio::io::split(near_guest);
            let ending = async {
                // Who would say so waits for another end.
                if ended.await.is_err() {
                    std::future::pending().await
                }
            };
            relay(near_client, ByteSource(from), ByteSink::new(to), ending).await
        });
        Self {
            client: WebSocketStream::from_raw_socket(client.0, Role::Client, None).await,
            guest: guest.0,
            end,
            relay,
        }
    }

    pub(super) async fn over(self) -> Over {
        let Self { guest, relay, .. } = self;
        drop(guest);
        timeout(DEADLINE, relay).await.unwrap().unwrap()
    }
}

impl Between<TcpStream, TcpStream> {
    pub(super) async fn sockets() -> Self {
        Self::new(connection().await, connection().await).await
    }
}

impl Between<DuplexStream, DuplexStream> {
    /// In memory: each end holds so many bytes.
    pub(super) async fn pipes(size: usize) -> Self {
        Self::new(duplex(size), duplex(size)).await
    }
}

/// Bytes that repeat late.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

pub(super) async fn next<C>(client: &mut WebSocketStream<C>) -> Message
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let next = timeout(DEADLINE, client.next()).await.unwrap();
    next.unwrap().unwrap()
}

/// Everything that the client gets until it is closed, and how that is said.
pub(super) async fn read_all<C>(client: &mut WebSocketStream<C>) -> (Vec<u8>, CloseCode)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut all = vec![];
    loop {
        match next(client).await {
            Message::Binary(bytes) => {
                assert!(bytes.len() <= PIECE);
                all.extend(bytes);
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(frame) => return (all, frame.unwrap().code),
            other => panic!("{other:?}"),
        }
    }
}
