//! What the kubelet and Prometheus ask over plain HTTP: `/healthz`, `/readyz`, `/metrics`.

use std::fmt;
use std::io;
use std::pin::Pin;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
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
    metrics: impl Fn() -> Scraped + Clone + Send + Sync + 'static,
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
        .route("/metrics", get(move || scrape(metrics())));
    axum::serve(listener, router).await
}

/// A scrape under way.
pub type Scraped = Pin<Box<dyn Future<Output = Result<String, fmt::Error>> + Send>>;

async fn scrape(scraped: Scraped) -> Result<impl IntoResponse, StatusCode> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    let text = scraped.await;
    let text = text.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text))
}
