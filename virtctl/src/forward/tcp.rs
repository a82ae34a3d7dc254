//! Connections to a port of the guest.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, sink, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Opening;
use crate::pump::{Moved, PumpError, linger, pump};

/// No half of a close crosses the API: a client that sends no more is answered until the guest has
/// been silent for this long. The same client that is gone keeps its stream for as long.
const SILENCE: Duration = Duration::from_secs(10);

/// The machine's side is given this long to take note of the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Without descriptors or memory, the next connection is waited for this long.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves each connection to `listener` with a stream of its own. What ends one of them is told on
/// standard error, and ends no other.
///
/// Never returns; connections end where it is dropped.
pub async fn serve<O: Opening>(listener: TcpListener, open: impl Fn() -> O) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, from)) => {
                    connections.spawn(connection(client, from, open()));
                }
                Err(error) => {
                    let _ = writeln!(io::stderr(), "cannot take a connection: {error}");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(client: TcpStream, from: SocketAddr, opening: impl Opening) {
    let guest = match opening.await {
        Ok(guest) => guest,
        Err(error) => return super::tell(from, error.into()),
    };
    // Without it, a guest's short answers wait for each other. It is a wish only.
    let _ = client.set_nodelay(true);
    if let Err(error) = carry(client, guest).await {
        super::tell(
            from,
            anyhow::Error::new(error).context("the stream to the machine broke"),
        );
    }
}

/// Carries a connection to its end; an error is the guest's side's.
async fn carry(mut client: TcpStream, guest: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.split();
    match join(&mut from_client, &mut to_client, guest).await {
        Ok(()) => {
            // To close now would reset the connection where the client has sent more than was
            // read, and take from it what it was sent last.
            let rest = Moved::default();
            let _ = to_client.shutdown().await;
            let mut discard = sink();
            let draining = pin!(pump(&mut from_client, &mut discard, &rest));
            let _ = linger(draining, &rest, FAREWELL, Some(SILENCE)).await;
            Ok(())
        }
        Err(error) => {
            // The client shall not take a part for the whole.
            let _ = client.set_zero_linger();
            Err(error)
        }
    }
}

/// Joins a client with a stream until either ends: a client that has ended is answered still.
///
/// # Errors
/// The stream broke. A client that breaks is at its end.
pub async fn join(
    from_client: impl AsyncRead + Unpin,
    mut to_client: impl AsyncWrite + Unpin,
    guest: impl AsyncRead + AsyncWrite,
) -> io::Result<()> {
    let (from_guest, mut to_guest) = split(guest);
    let answered = Moved::default();
    let mut down = pin!(pump(from_guest, &mut to_client, &answered));
    let up = pump(from_client, &mut to_guest, &answered);
    // The answers are first: what the guest closed is its end, not a failure to write to it.
    let ended = tokio::select! {
        biased;
        ended = &mut down => ended,
        ended = up => match ended {
            Ok(()) => linger(down, &answered, SILENCE, None).await.unwrap_or(Ok(())),
            // For the one that it reads from, the client's end is the other way round.
            Err(PumpError::Read(error)) => Err(PumpError::Write(error)),
            Err(PumpError::Write(error)) => Err(PumpError::Read(error)),
        },
    };
    match ended {
        Err(PumpError::Read(error)) => Err(error),
        Ok(()) | Err(PumpError::Write(_)) => {
            let _ = timeout(FAREWELL, to_guest.shutdown()).await;
            Ok(())
        }
    }
}
