//! What the kubelet and Prometheus ask over plain HTTP: `/healthz`, `/readyz`, `/metrics`.
//!
//! Every pod can reach this port. So everything is bounded: how many connections there are, how long
//! each may take, what is read of it, and how often launchers are asked for a scrape.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::listener;
use crate::metrics::Scraper;

/// The most of a request that is read before it is understood, in bytes.
const HEAD: usize = 16 * 1024;

/// How much the listener takes upon itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most connections. Another takes the place of one of them.
    pub connections: usize,
    /// How long a connection may take: one request and its answer, read to the end.
    pub exchange: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            // As long as Prometheus waits for a scrape; a kubelet waits less.
            exchange: Duration::from_secs(10),
        }
    }
}

/// Serves for ever.
///
/// Ready is a handler whose resources the kubelet knows: a virtual machine that waits for a node's
/// devices waits for that.
pub async fn serve(
    listener: TcpListener,
    ready: watch::Receiver<bool>,
    scraper: Arc<Scraper>,
    limits: Limits,
) {
    let router = router(ready, scraper);
    listener::connections(listener, limits.connections, |stream, _| {
        let answered = timeout(limits.exchange, connection(stream, router.clone()));
        Some(async move {
            if let Ok(Err(error)) = answered.await {
                tracing::debug!("a connection ended: {error}");
            }
        })
    })
    .await;
}

fn router(ready: watch::Receiver<bool>, scraper: Arc<Scraper>) -> Router {
    let readyz = move || async move {
        if *ready.borrow() {
            (StatusCode::OK, "ok\n")
        } else {
            let words = "the kubelet does not know this node's resources yet\n";
            (StatusCode::SERVICE_UNAVAILABLE, words)
        }
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(move || scrape(scraper)))
}

/// One request: a connection that is kept is one that others wait for.
async fn connection(stream: TcpStream, router: Router) -> Result<(), hyper::Error> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}

async fn scrape(scraper: Arc<Scraper>) -> Result<impl IntoResponse, StatusCode> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    let text = scraper.text().await;
    let text = text.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::{IpAddr, SocketAddr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;
    use crate::launchers::Launchers;
    use crate::launchers::tests::DEADLINE;

    struct Server {
        address: SocketAddr,
        ready: watch::Sender<bool>,
        task: JoinHandle<()>,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    impl Server {
        async fn start(limits: Limits) -> Self {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let (ready, known) = watch::channel(false);
            let scraper = Arc::new(Scraper::new("node1", &Launchers::default()));
            Self {
                address,
                ready,
                task: tokio::spawn(serve(listener, known, scraper, limits)),
            }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn connect_from(&self, address: impl Into<IpAddr>) -> TcpStream {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((address.into(), 0).into()).unwrap();
            socket.connect(self.address).await.unwrap()
        }

        async fn get(&self, path: &str) -> String {
            let mut stream = self.connect().await;
            let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            rest(stream).await
        }
    }

    /// What comes until the other side closes.
    async fn rest(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        let read = timeout(DEADLINE, stream.read_to_string(&mut answer)).await;
        read.expect("in time").unwrap();
        answer
    }

    #[tokio::test]
    async fn each_path_has_its_answer() {
        let server = Server::start(Limits::default()).await;
        let metrics = "content-type: application/openmetrics-text; version=1.0.0";
        for (path, ready, status, part) in [
            ("/healthz", false, 200, "ok\n"),
            ("/readyz", false, 503, "the kubelet does not know"),
            ("/readyz", true, 200, "ok\n"),
            ("/metrics", true, 200, metrics),
            ("/metrics", true, 200, "# EOF\n"),
            ("/", true, 404, ""),
        ] {
            server.ready.send_replace(ready);
            let answer = server.get(path).await;
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&expected), "{path}: {answer}");
            assert!(answer.contains(part), "{path}: {answer}");
        }
    }

    #[tokio::test]
    async fn who_is_slow_is_cut_off() {
        let limits = Limits {
            exchange: Duration::from_millis(300),
            ..Limits::default()
        };
        let server = Server::start(limits).await;
        for begun in ["", "GET /healthz HTTP/1.1\r\nHost:"] {
            let start = Instant::now();
            let mut stream = server.connect().await;
            stream.write_all(begun.as_bytes()).await.unwrap();
            assert_eq!(rest(stream).await, "", "{begun}");
            assert!(start.elapsed() >= limits.exchange, "{begun}");
        }
    }

    #[tokio::test]
    async fn who_is_silent_keeps_nobody_out() {
        let limits = Limits {
            connections: 4,
            exchange: 2 * DEADLINE,
        };
        let server = Server::start(limits).await;
        let mut slow = server.connect().await;
        slow.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        let mut silent = VecDeque::new();
        for _ in 0..3 * limits.connections {
            silent.push_back(server.connect_from([127, 0, 0, 2]).await);
        }
        assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200 "));
        assert_eq!(rest(silent.pop_front().unwrap()).await, "");
        // Not at the cost of those who have only one.
        slow.write_all(b"Host: node\r\n\r\n").await.unwrap();
        assert!(rest(slow).await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn connections_are_counted() {
        let limits = Limits {
            connections: 2,
            exchange: 2 * DEADLINE,
        };
        let server = Server::start(limits).await;
        let first = server.connect().await;
        let (_second, _third) = (server.connect().await, server.connect().await);
        assert_eq!(rest(first).await, "");
    }

    #[tokio::test]
    async fn a_head_has_its_limit() {
        let server = Server::start(Limits::default()).await;
        let long = format!("/healthz?{}", "x".repeat(2 * HEAD));
        let mut stream = server.connect().await;
        // It may be closed before all of it is sent.
        let request = format!("GET {long} HTTP/1.1\r\nHost: node\r\n\r\n");
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let read = timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
        let _ = read.expect("in time");
        assert!(!answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
    }
}
