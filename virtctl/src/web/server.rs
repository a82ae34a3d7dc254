//! What is served, and where.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
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
pub(super) fn router(target: Target, preserve_session: bool, secret: &str) -> Router {
    let below = |path| format!("/{secret}/{path}");
    let target = Arc::new(target);
    let endpoint = |stream| {
        let target = target.clone();
        get(move |request| session(request, target, stream))
    };
    let name = target.name();
    let machine = json!({ "namespace": name.namespace, "name": name.name });

    FILES
        .into_iter()
        .fold(Router::new(), |router, file| {
            router.route(&below(file.path), get(move || async move { file }))
        })
        .route(&below("vm"), get(move || async move { Json(machine) }))
        .route(&below("vnc"), endpoint(Stream::Vnc { preserve_session }))
        .route(&below("console"), endpoint(Stream::Console))
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
