//! What is served, and where.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::guard::guard;
use super::page::FILES;
use super::relay::relay;
use crate::stream::{PIECE, Stream};
use crate::target::Target;

/// The largest message that is taken from the page: a long text that was pasted.
const MESSAGE_MOST: usize = 1 << 20;

/// Serves `target` below the path `secret`.
///
/// `ticket` leads there too, once: a browser gets it in its command line, which other users of this
/// machine can read.
pub(super) fn router(
    target: Target,
    preserve_session: bool,
    secret: &str,
    ticket: String,
) -> Router {
    let below = |path| format!("/{secret}/{path}");
    let target = Arc::new(target);
    let endpoint = |stream| {
        let target = target.clone();
        get(move |request| session(request, target, stream))
    };
    let name = target.name();
    let machine = json!({ "namespace": name.namespace, "name": name.name });

    let page = below("");
    let ticket = Arc::new(Mutex::new(Some(ticket)));
    let open = get(move |Path(shown): Path<String>| async move {
        let mut ticket = ticket.lock().unwrap_or_else(PoisonError::into_inner);
        match ticket.take_if(|ticket| *ticket == shown) {
            Some(_) => Redirect::to(&page).into_response(),
            None => (
                StatusCode::NOT_FOUND,
                "this address was good once; open the one that virtctl printed\n",
            )
                .into_response(),
        }
    });

    FILES
        .into_iter()
        .fold(Router::new(), |router, file| {
            router.route(&below(file.path), get(move || async move { file }))
        })
        .route(&below("vm"), get(move || async move { Json(machine) }))
        .route(&below("vnc"), endpoint(Stream::Vnc { preserve_session }))
        .route(&below("console"), endpoint(Stream::Console))
        .route("/open/{ticket}", open)
        .layer(from_fn(guard))
}

/// A WebSocket whose other end is a stream of the machine.
async fn session(request: Request, target: Arc<Target>, stream: Stream) -> Response {
    let response = match create_response_with_body(&request, Body::empty) {
        Ok(response) => response,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        // A browser that went away before that needs no answer.
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default()
            .read_buffer_size(PIECE)
            // Each piece leaves at once; a second one waits for it.
            .write_buffer_size(0)
            .max_write_buffer_size(2 * PIECE)
            .max_message_size(Some(MESSAGE_MOST))
            .max_frame_size(Some(MESSAGE_MOST));
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        relay(socket, target.open(stream).await).await;
    });
    response
}
