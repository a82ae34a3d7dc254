//! What virt-controller asks of this node in its users' names: over mutual TLS, and nobody else.
//!
//! ```text
//! user ─▶ API server ─▶ virt-controller ──TLS, both sides known──▶ here ─▶ actions ─▶ launcher
//! ```
//!
//! The certificate comes from a mounted Secret, and is read again when it changes. As long as there
//! is none, connections are closed and everything else of the handler works.

mod identity;
mod routes;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::launchers::Launchers;
use crate::listener::{self, Place};
use identity::{Identity, is_served};

/// The most connections. Another takes the place of one whose client has not proved who it is, and
/// waits where there is none.
const CONNECTIONS: usize = 512;

/// How long a client may take to prove who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(60);

/// The most of a request that is read before it is understood, in bytes.
const HEAD: usize = 16 * 1024;

/// What TLS keeps of a connection's output while its client does not read, in bytes.
const BUFFER: usize = 16 * 1024;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the client did not prove who it is in time")]
    Slow,
    #[error("the client's certificate is not virt-controller's")]
    Stranger,
    #[error("HTTP failed")]
    Http(#[source] hyper::Error),
}

/// Serves for ever, with the certificate in the directory `certificates`: `tls.crt`, `tls.key`, and
/// in `ca.crt` the authorities that sign clients'.
pub async fn serve(listener: TcpListener, certificates: PathBuf, launchers: Launchers) {
    serve_at_most(CONNECTIONS, listener, certificates, launchers).await;
}

async fn serve_at_most(
    most: usize,
    listener: TcpListener,
    certificates: PathBuf,
    launchers: Launchers,
) {
    let router = routes::router(launchers);
    let mut secret = Secret::new(&certificates);
    listener::connections(listener, most, |stream, place| {
        let connection = connection(stream, secret.now()?, router.clone(), place);
        Some(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
        })
    })
    .await;
}

/// The Secret, and whether its absence was told.
struct Secret {
    identity: Identity,
    told: Option<String>,
}

impl Secret {
    fn new(directory: &Path) -> Self {
        Self {
            identity: Identity::new(directory),
            told: None,
        }
    }

    fn now(&mut self) -> Option<Arc<ServerConfig>> {
        match self.identity.now() {
            Ok(tls) => {
                self.told = None;
                Some(tls)
            }
            Err(error) => {
                let problem = error.to_string();
                if self.told.as_ref() != Some(&problem) {
                    tracing::warn!("virt-controller is not served: {problem}");
                    self.told = Some(problem);
                }
                None
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    router: Router,
    place: Place,
) -> Result<(), ConnectionError> {
    let acceptor = TlsAcceptor::from(tls);
    let handshake = acceptor.accept_with(stream, |tls| tls.set_buffer_limit(Some(BUFFER)));
    let stream = timeout(HANDSHAKE, handshake)
        .await
        .map_err(|_| ConnectionError::Slow)?
        .map_err(ConnectionError::Handshake)?;
    let certificates = stream.get_ref().1.peer_certificates();
    if !certificates.and_then(<[_]>::first).is_some_and(is_served) {
        return Err(ConnectionError::Stranger);
    }
    place.keep();
    // What a connection is upgraded to has its place, too.
    let router = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(place.clone());
        request
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades()
        .await
        .map_err(ConnectionError::Http)
}
