//! Streams of bytes as they are: the guest's console, its screen.
//!
//! ```text
//!  virt-controller ══ HTTP/1.1, upgraded ══▶ one piece ──▶ gRPC ──▶ launcher
//!                  ◀════════════════════════ one piece ◀── gRPC ◀──
//! ```
//!
//! A stream is refused as every call is, and the connection upgraded only when the launcher has
//! accepted it. The next piece is read when the one before it is gone, in both directions
//! independently. So a side that does not read holds the other up, and no memory: TCP and HTTP/2
//! have their windows, and each stream has a connection to the launcher of its own.
//!
//! The launcher's end is told by TLS's goodbye; where that is missing, a stream was cut off.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Query, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::future::FusedFuture;
use futures::{FutureExt, StreamExt, stream};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use launcher_api::{ConsoleBytes, VncBytes};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::routes::{failure, odd};
use crate::actions::{self, Instance, Opened};
use crate::launchers::Launchers;
use crate::listener::Place;

/// What a connection is upgraded to.
const PROTOCOL: &str = "ferrovirt-stream";

/// The largest piece that is read at once, in bytes.
const PIECE: usize = 8 * 1024;

/// How long a launcher may take for what was sent before the client closed.
const LINGER: Duration = Duration::from_secs(10);

/// What may come with a stream's call.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Options {
    /// Of `vnc`: leave an open session alone.
    preserve_session: bool,
    /// Of `vnc/screenshot`: wake a screen that sleeps.
    move_cursor: bool,
}

impl<S: Sync> FromRequestParts<S> for Options {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let Query(options) = Query::try_from_uri(&parts.uri).map_err(|wrong| odd(&wrong))?;
        Ok(options)
    }
}

/// The guest's serial console.
pub(super) async fn console(
    State(launchers): State<Launchers>,
    instance: Instance,
    upgrade: Upgrade,
) -> Result<Response, Response> {
    let (pieces, typed) = mpsc::channel(1);
    let typed = ReceiverStream::new(typed).map(ConsoleBytes::of);
    let printed = actions::console(&launchers, &instance, typed).await;
    let printed = printed.map_err(IntoResponse::into_response)?;
    Ok(upgrade.carry(pieces, printed, |bytes| bytes.data))
}

/// The VM's screen, as its VNC server has it.
pub(super) async fn vnc(
    State(launchers): State<Launchers>,
    instance: Instance,
    options: Options,
    upgrade: Upgrade,
) -> Result<Response, Response> {
    let first = VncBytes::first(options.preserve_session);
    let (pieces, acted) = mpsc::channel(1);
    let acted = ReceiverStream::new(acted).map(VncBytes::of);
    let acted = stream::iter([first]).chain(acted);
    let shown = actions::vnc(&launchers, &instance, acted).await;
    let shown = shown.map_err(IntoResponse::into_response)?;
    Ok(upgrade.carry(pieces, shown, |bytes| bytes.data))
}

/// The VM's screen, as a PNG.
pub(super) async fn screenshot(
    State(launchers): State<Launchers>,
    instance: Instance,
    options: Options,
) -> Result<Response, Response> {
    let picture = actions::screenshot(&launchers, &instance, options.move_cursor).await;
    let picture = picture.map_err(IntoResponse::into_response)?;
    let pieces = stream::try_unfold(picture, async |mut picture| {
        let piece = picture.next().await?;
        Ok::<_, tonic::Status>(piece.map(|piece| (Bytes::from(piece.data), picture)))
    });
    Ok(([(CONTENT_TYPE, "image/png")], Body::from_stream(pieces)).into_response())
}

/// A connection that waits to be upgraded.
pub(super) struct Upgrade {
    connection: OnUpgrade,
    place: Option<Place>,
}

impl<S: Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let asked = parts.headers.get(UPGRADE);
        let connection = parts.extensions.remove::<OnUpgrade>();
        match connection.filter(|_| asked.is_some_and(|asked| asked == PROTOCOL)) {
            Some(connection) => Ok(Self {
                connection,
                place: parts.extensions.remove(),
            }),
            None => {
                let message = format!("this is a stream: ask for an upgrade to {PROTOCOL}");
                Err(failure(StatusCode::BAD_REQUEST, "BadRequest", &message))
            }
        }
    }
}

impl Upgrade {
    /// Answers that the stream is there, and carries it for as long as it lasts.
    fn carry<T: Send + 'static>(
        self,
        pieces: mpsc::Sender<Vec<u8>>,
        output: Opened<T>,
        data: fn(T) -> Vec<u8>,
    ) -> Response {
        let Self { connection, place } = self;
        tokio::spawn(async move {
            let carried = match connection.await {
                Ok(client) => relay(client, pieces, output, data).await,
                Err(error) => Err(io::Error::other(error)),
            };
            if let Err(error) = carried {
                tracing::debug!("a stream was cut off: {error}");
            }
            // A connection has its place until nothing moves on it any more.
            drop(place);
        });
        let headers = [(CONNECTION, "upgrade"), (header::UPGRADE, PROTOCOL)];
        (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
    }
}

/// Moves bytes until either end closes.
async fn relay<T>(
    client: Upgraded,
    pieces: mpsc::Sender<Vec<u8>>,
    mut output: Opened<T>,
    data: fn(T) -> Vec<u8>,
) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(TokioIo::new(client));
    // Its end is the end of what the launcher is sent.
    let input = async move {
        let mut buffer = vec![0; PIECE];
        loop {
            // Where the launcher takes no more, it may still have something to say.
            let place = pieces.reserve().await.ok();
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => place.map(|place| place.send(buffer[..count].to_vec())),
            };
        }
    };
    let mut input = pin!(input.fuse());
    let shown = async {
        loop {
            let Some(message) = output.next().await.map_err(io::Error::other)? else {
                to.shutdown().await?;
                return Ok(Ended::Launcher);
            };
            if to.write_all(&data(message)).await.is_err() || to.flush().await.is_err() {
                return io::Result::Ok(Ended::Client);
            }
        }
    };
    let ended = tokio::select! {
        ended = shown => ended?,
        () = &mut input => Ended::Client,
    };
    match ended {
        Ended::Launcher => Ok(()),
        Ended::Client => {
            // What it sent before it went is the launcher's, who ends the stream then.
            let rest = async {
                loop {
                    tokio::select! {
                        more = output.next() => if !matches!(more, Ok(Some(_))) { return },
                        () = &mut input, if !input.is_terminated() => {}
                    }
                }
            };
            timeout(LINGER, rest).await.map_err(io::Error::from)
        }
    }
}

/// Who has ended a stream.
enum Ended {
    Launcher,
    Client,
}
