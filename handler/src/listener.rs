//! Taking connections: a bounded number at once, and none whose other side has vanished.

mod places;

use std::io;
use std::time::Duration;

use nix::libc::EAFNOSUPPORT;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

pub(crate) use places::Place;
use places::Places;

/// The pause after no connection could be taken: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// A peer that is silent for so long is asked whether it is still there,
const SILENCE: Duration = Duration::from_secs(30);

/// so often and so many times before it is given up: a minute and a half in all.
const PROBES: (Duration, u32) = (Duration::from_secs(15), 4);

/// What the kernel takes of a connection's output before the peer's window has room for it, in
/// bytes: who reads slowly costs no more, and sees what is new the sooner.
const UNSENT: u32 = 32 * 1024;

/// What the kernel keeps of a connection's input, in bytes; it takes twice that for its own part.
const UNREAD: usize = 64 * 1024;

/// Listens on every address of the pod, of both families where there are two.
///
/// # Errors
/// The kernel's answer.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = match TcpListener::bind(("::", port)).await {
        Err(error) if error.raw_os_error() == Some(EAFNOSUPPORT) => {
            TcpListener::bind(("0.0.0.0", port)).await
        }
        other => other,
    }?;
    // What a listener has set, its connections have.
    let socket = SockRef::from(&listener);
    let keepalive = TcpKeepalive::new()
        .with_time(SILENCE)
        .with_interval(PROBES.0)
        .with_retries(PROBES.1);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_recv_buffer_size(UNREAD)?;
    // A key and its echo are small, and nobody waits for more.
    socket.set_tcp_nodelay(true)?;
    Ok(listener)
}

/// Takes connections for ever, at most `most` at a time, and runs what `begin` makes of each until it
/// is done or has to give way.
pub(crate) async fn connections<F>(
    listener: TcpListener,
    most: usize,
    mut begin: impl FnMut(TcpStream, Place) -> Option<F>,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut places = Places::new(most);
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!("cannot take a connection: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = places.take(from.ip()).await else {
            return;
        };
        if let Some(connection) = begin(stream, place.clone()) {
            tokio::spawn(async move {
                tokio::select! {
                    // What has come is answered first.
                    biased;
                    () = connection => {}
                    () = place.wanted() => {}
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_set_up_as_their_listener_is() {
        let listener = listen(0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), SILENCE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBES.0);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES.1);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
        assert_eq!(socket.recv_buffer_size().unwrap(), 2 * UNREAD);
        assert!(socket.tcp_nodelay().unwrap());
    }
}
