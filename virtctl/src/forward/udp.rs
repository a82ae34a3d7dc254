//! Datagrams to a port of the guest.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Opening;
use crate::pump::{Moved, linger};
use crate::stream::DATAGRAM;

/// A source that neither sends nor is answered for this long has gone: RFC 4787, REQ-5, has two
/// minutes as the least for a translator.
const IDLE: Duration = Duration::from_secs(120);

/// Sources at a time. Datagrams of further ones are lost.
const SOURCES: usize = 256;

/// Datagrams of one source that wait for its stream. Further ones are lost, as on any link.
const QUEUE: usize = 16;

/// Where no stream is to be had, the next one is tried after this long.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves the datagrams of each source with a stream of its own, as [`super::tcp::serve`] does
/// connections.
pub async fn serve<O: Opening>(socket: UdpSocket, open: impl Fn() -> O) {
    let socket = Arc::new(socket);
    let mut sources: HashMap<SocketAddr, Sender<Vec<u8>>> = HashMap::new();
    let mut sessions = JoinSet::new();
    let mut datagram = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut datagram) => {
                // An error is about an answer that its receiver did not take.
                let Ok((count, from)) = received else { continue };
                let datagram = datagram.get(..count).unwrap_or_default().to_vec();
                let room = sources.len() < SOURCES;
                let queue = match sources.entry(from) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(_) if !room => continue,
                    Entry::Vacant(new) => {
                        let (sender, receiver) = channel(QUEUE);
                        sessions.spawn(session(socket.clone(), from, receiver, open()));
                        new.insert(sender)
                    }
                };
                let _ = queue.try_send(datagram);
            }
            Some(ended) = sessions.join_next() => {
                if let Ok(from) = ended {
                    sources.remove(&from);
                }
            }
        }
    }
}

/// Ends once the source is idle or its stream ended; returns the source.
async fn session(
    socket: Arc<UdpSocket>,
    from: SocketAddr,
    received: Receiver<Vec<u8>>,
    opening: impl Opening,
) -> SocketAddr {
    match opening.await {
        Ok(guest) => {
            if let Err(error) = carry(&socket, from, received, guest).await {
                let error = anyhow::Error::new(error);
                super::tell(from, error.context("the stream to the machine broke"));
            }
        }
        Err(error) => {
            super::tell(from, error.into());
            sleep(PAUSE).await;
        }
    }
    from
}

async fn carry(
    socket: &UdpSocket,
    from: SocketAddr,
    mut received: Receiver<Vec<u8>>,
    guest: impl AsyncRead + AsyncWrite,
) -> io::Result<()> {
    let (mut from_guest, mut to_guest) = split(guest);
    let moved = Moved::default();
    let up = async {
        while let Some(datagram) = received.recv().await {
            to_guest.write_all(&datagram).await?;
            to_guest.flush().await?;
            moved.note();
        }
        Ok(())
    };
    let down = async {
        let mut datagram = vec![0; DATAGRAM];
        loop {
            let count = from_guest.read(&mut datagram).await?;
            let Some(answer) = datagram.get(..count).filter(|answer| !answer.is_empty()) else {
                return Ok(());
            };
            // Who asked may be gone.
            let _ = socket.send_to(answer, from).await;
            moved.note();
        }
    };
    let both = pin!(async {
        tokio::select! {
            biased;
            ended = down => ended,
            ended = up => ended,
        }
    });
    linger(both, &moved, IDLE, None).await.unwrap_or(Ok(()))
}
