//! What the kubelet and Prometheus ask over plain HTTP: `/healthz`, `/readyz`, `/metrics`.

use std::io;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use nix::libc::EAFNOSUPPORT;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Listens on every address of the pod, of both families where there are two.
///
/// # Errors
/// The kernel's answer.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(("::", port)).await {
        Err(error) if error.raw_os_error() == Some(EAFNOSUPPORT) => {
            TcpListener::bind(("0.0.0.0", port)).await
        }
        other => other,
    }
}

/// Answers until the listener fails.
///
/// Ready is a handler whose resources the kubelet knows: a virtual machine that waits for a node's
/// devices waits for that. `metrics` makes the text of a scrape.
///
/// # Errors
/// The kernel's answer.
pub async fn serve(
    listener: TcpListener,
    ready: watch::Receiver<bool>,
    metrics: impl Fn() -> String + Clone + Send + Sync + 'static,
) -> io::Result<()> {
    let readyz = move || async move {
        if *ready.borrow() {
            (StatusCode::OK, "ok\n")
        } else {
            let words = "the kubelet does not know this node's resources yet\n";
            (StatusCode::SERVICE_UNAVAILABLE, words)
        }
    };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(move || async move { metrics() }));
    axum::serve(listener, router).await
}
