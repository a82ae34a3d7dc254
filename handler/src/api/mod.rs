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
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::launchers::Launchers;
use identity::{Identity, is_served};

/// The most connections. More wait in the backlog.
const CONNECTIONS: usize = 1024;

/// How long a client may take to prove who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(60);

/// The pause after no connection could be taken: out of descriptors, most likely.
const PAUSE: Duration = Duration::from_millis(100);

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
    let router = routes::router(launchers);
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut secret = Secret::new(&certificates);
    loop {
        // The semaphore is never closed.
        let place = free.clone().acquire_owned().await.ok();
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot take a connection: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(tls) = secret.now() else { continue };
        let router = router.clone();
        tokio::spawn(async move {
            if let Err(error) = connection(stream, tls, router).await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(place);
        });
    }
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
) -> Result<(), ConnectionError> {
    let handshake = timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream)).await;
    let stream = handshake
        .map_err(|_| ConnectionError::Slow)?
        .map_err(ConnectionError::Handshake)?;
    let certificates = stream.get_ref().1.peer_certificates();
    if !certificates.and_then(<[_]>::first).is_some_and(is_served) {
        return Err(ConnectionError::Stranger);
    }
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades()
        .await
        .map_err(ConnectionError::Http)
}
