//! What virt-controller serves.
//!
//! ```text
//! :8443, TLS    /mutate  /validate              the API server's webhooks
//! :8444, TLS    /apis                           the API server's aggregator, for users
//! :8080, plain  /healthz  /readyz  /metrics     the kubelet, Prometheus
//! ```
//!
//! Everything is bounded: how many connections there are, how long a TLS handshake, the next
//! request's head, its body and its answer may take, and how large a body is. Connections are
//! HTTP/1.1 and may be upgraded; a router that wants to, can. What is upgraded counts no more as
//! a connection here: it is the router's to bound and to end.
//!
//! A process that ends says so first: `/readyz` fails and every answer closes its connection,
//! while new connections are still taken, because it takes the cluster a moment to send them
//! elsewhere. Only then it stops listening and finishes what it has begun.

mod places;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::admission::{Cluster, Webhook};
use crate::api::Trust;
use crate::certificates::Identity;
use crate::config::Settings;
use crate::error::Chain;
use crate::metrics::Metrics;
use places::{Place, Places};

/// When a client is gone: it answers nothing for a minute.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// What the kernel takes of a connection's output before the client's window has room for it, in
/// bytes: who reads slowly costs no more.
const UNSENT: u32 = 32 << 10;

/// What the kernel keeps of a connection's input, in bytes; it takes twice that for its own part.
/// Less than what Linux lets anybody ask for (`net.core.rmem_max`), and enough for 1 Gbit/s to
/// somebody a millisecond away.
const UNREAD: usize = 192 << 10;

/// How much a listener takes upon itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest body, in bytes.
    pub body: usize,
    /// The most connections of one listener. Another takes the place of one whose client has not
    /// proved who it is, and waits where there is none.
    pub connections: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a connection may be idle, and how long the head of a request may take.
    pub idle: Duration,
    /// How long a client may leave unread what it is sent; none: for as long as it is there.
    pub unread: Option<Duration>,
    /// How long a request may take, its body included.
    pub request: Duration,
    /// How long new connections are taken after `/readyz` began to fail.
    pub lame_duck: Duration,
    /// How long what has begun may take after that.
    pub finish: Duration,
}

impl Limits {
    /// Those of the aggregated API, whose streams live for hours and may stall.
    pub fn aggregated() -> Self {
        Self {
            // No call has a large one but `expand-vm-spec`, which has a machine.
            body: 2 << 20,
            // The aggregator closes its idle connections after 90 s; it must be the first to do
            // so, or its next request would meet a closed one.
            idle: Duration::from_secs(120),
            unread: None,
            // A little longer than virt-handler waits for a launcher, and than the API server
            // waits for anything.
            request: Duration::from_secs(65),
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A review holds an object and what it was before, each at most 1.5 MiB, the most
            // that etcd takes.
            body: 3 << 20,
            connections: 256,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            unread: Some(Duration::from_secs(30)),
            // As long as an API server waits for a webhook that is configured as ours are.
            request: Duration::from_secs(10),
            lame_duck: Duration::from_secs(5),
            finish: Duration::from_secs(10),
        }
    }
}

/// Whether requests should come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet: something that is needed to answer is not known.
    Starting,
    /// Yes.
    Ready,
    /// Not any more: the process ends.
    Draining,
}

/// What the answers are made from.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where our components are.
    pub namespace: Arc<str>,
    /// What the cluster's admin allows.
    pub settings: watch::Receiver<Settings>,
    /// Whether requests should come here.
    pub readiness: watch::Receiver<Readiness>,
}

/// Who is at the other end of a connection: an extension of each of its requests. By default,
/// anybody.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// What their certificate was verified by, or would have been: as it was when the connection
    /// began, and nothing else can tell who they are.
    pub trust: Option<Arc<Trust>>,
    /// The common name of their certificate; empty if it has not exactly one, none without a
    /// certificate.
    pub common_name: Option<Arc<str>>,
}

impl Peer {
    /// Whose certificates these are, which were verified by `trust`; the first is their own.
    fn of(trust: Option<Arc<Trust>>, certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let own = certificates.and_then(<[_]>::first);
        Self {
            trust,
            common_name: own.map(|own| common_name(own).unwrap_or_default()),
        }
    }
}

/// A certificate's common name, if it has exactly one.
fn common_name(certificate: &[u8]) -> Option<Arc<str>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.into();
    names.next().is_none().then_some(name)
}

/// How a listener's clients speak to it.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Plain HTTP.
    Plain,
    /// TLS, as whoever this server is when a connection comes. While it is nobody, there are no
    /// connections.
    Tls(watch::Receiver<Option<Identity>>),
    /// The same, and clients may prove to be the API server's front proxy, as it is known when a
    /// connection comes.
    Aggregated {
        /// Who this server is.
        identity: watch::Receiver<Option<Identity>>,
        /// Who the front proxy is. While that is not known, nobody can prove anything.
        trust: watch::Receiver<Option<Arc<Trust>>>,
    },
}

impl Transport {
    /// How to serve TLS on a connection that comes now, and what its client is verified by; none
    /// for plain HTTP.
    fn tls(&self) -> Result<Option<Tls>, ConnectionError> {
        let (identity, trust) = match self {
            Self::Plain => return Ok(None),
            Self::Tls(identity) => (identity, None),
            Self::Aggregated { identity, trust } => (identity, trust.borrow().clone()),
        };
        let identity = identity.borrow().clone();
        let identity = identity.ok_or(ConnectionError::Nobody)?;
        let config = match &trust {
            None => identity.tls,
            Some(trust) => Arc::new(trust.server_config(&identity)?),
        };
        Ok(Some(Tls { config, trust }))
    }
}

struct Tls {
    config: Arc<ServerConfig>,
    trust: Option<Arc<Trust>>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("there is no certificate yet")]
    Nobody,
    #[error("setting up TLS")]
    Tls(#[from] rustls::Error),
    #[error("setting up TCP")]
    Tcp(#[source] io::Error),
    #[error("the TLS handshake")]
    Handshake(#[source] io::Error),
    #[error("HTTP")]
    Http(#[from] hyper::Error),
    #[error("it gave way to another")]
    GaveWay,
}

/// The API server's webhooks.
pub fn webhooks(context: Context, limits: Limits) -> Router {
    let drain = from_fn_with_state(context.readiness.clone(), close_when_draining);
    let admit = |webhook| {
        post(
            move |State(context): State<Context>, body: Bytes| async move {
                admit(webhook, &context, &body)
            },
        )
    };
    Router::new()
        .route("/mutate", admit(Webhook::Mutate))
        .route("/validate", admit(Webhook::Validate))
        .layer(DefaultBodyLimit::max(limits.body))
        .layer(from_fn_with_state(limits, in_time))
        .layer(drain)
        .with_state(context)
}

/// For the kubelet and for Prometheus.
pub fn probes(
    readiness: watch::Receiver<Readiness>,
    metrics: Arc<Metrics>,
    limits: Limits,
) -> Router {
    let drain = from_fn_with_state(readiness.clone(), close_when_draining);
    let ready = move || {
        let readiness = *readiness.borrow();
        async move {
            match readiness {
                Readiness::Ready => (StatusCode::OK, "ready\n"),
                Readiness::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
                Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "ending\n"),
            }
        }
    };
    let metrics = move || {
        let text = metrics.encode();
        async move { ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text) }
    };
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(limits, in_time))
        .layer(drain)
}

fn admit(webhook: Webhook, context: &Context, body: &[u8]) -> Response {
    if *context.readiness.borrow() == Readiness::Starting {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "virt-controller is starting\n",
        )
            .into_response();
    }
    let settings = context.settings.borrow().clone();
    let cluster = Cluster {
        namespace: &context.namespace,
        settings: &settings,
    };
    match webhook.answer(body, cluster) {
        Ok(review) => Json(review).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{}\n", Chain(&error))).into_response(),
    }
}

/// Answers a request that takes too long.
async fn in_time(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    match timeout(limits.request, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

/// Closes the connection with the answer when the process is about to end.
pub(crate) async fn close_when_draining(
    State(readiness): State<watch::Receiver<Readiness>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if *readiness.borrow() == Readiness::Draining && !is_upgraded {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// Serves `router` on `listener` until [`Limits::lame_duck`] after `readiness` says that the
/// process ends, and what has begun then for another [`Limits::finish`].
pub async fn serve(
    listener: TcpListener,
    transport: Transport,
    router: Router,
    mut readiness: watch::Receiver<Readiness>,
    limits: Limits,
) {
    let ended = async {
        // Whoever would say that the process ends has ended.
        let _ = readiness
            .wait_for(|readiness| *readiness == Readiness::Draining)
            .await;
        sleep(limits.lame_duck).await;
    };
    let mut ended = pin!(ended);
    let mut places = Places::new(limits.connections);
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut ended => break,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("accepting a connection: {}", Chain(&error));
                // Out of descriptors, most likely.
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let place = tokio::select! {
            place = places.take(from.ip()) => place,
            () = &mut ended => break,
        };
        let Some(place) = place else { break };
        let (transport, router, mut stopped) = (transport.clone(), router.clone(), stopped.clone());
        connections.spawn(async move {
            let stop = async move {
                // It is dropped, never sent.
                let _ = stopped.changed().await;
            };
            let connection = connection(stream, &place, transport, router, limits, stop);
            let done = tokio::select! {
                // What has come is answered first.
                biased;
                done = connection => done,
                () = place.wanted() => Err(ConnectionError::GaveWay),
            };
            if let Err(error) = done {
                debug!("a connection: {}", Chain(&error));
            }
        });
    }
    drop((listener, stop));
    let finished = async { while connections.join_next().await.is_some() {} };
    // What is left is cut when the set is dropped.
    let _ = timeout(limits.finish, finished).await;
}

async fn connection(
    stream: TcpStream,
    place: &Place,
    transport: Transport,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> Result<(), ConnectionError> {
    set_up(&stream, limits).map_err(ConnectionError::Tcp)?;
    let Some(tls) = transport.tls()? else {
        return Ok(http(stream, Peer::default(), router, limits, stop).await?);
    };
    let acceptor = TlsAcceptor::from(tls.config);
    let handshake = timeout(limits.handshake, acceptor.accept(stream));
    let stream = handshake
        .await
        .map_err(io::Error::from)
        .flatten()
        .map_err(ConnectionError::Handshake)?;
    let peer = Peer::of(tls.trust, stream.get_ref().1.peer_certificates());
    if peer.common_name.is_some() {
        place.keep();
    }
    Ok(http(stream, peer, router, limits, stop).await?)
}

/// Ends connections whose clients are gone, or do not read their answers where they must; and
/// bounds what the kernel keeps of one, which it would grow to megabytes.
fn set_up(stream: &TcpStream, limits: Limits) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_recv_buffer_size(UNREAD)?;
    match limits.unread {
        Some(unread) => socket.set_tcp_user_timeout(Some(unread)),
        None => socket.set_tcp_keepalive(&KEEPALIVE),
    }
}

async fn http<S>(
    stream: S,
    peer: Peer,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return done,
        () = stop => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_kernel_keeps_of_a_connection_is_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        for limits in [Limits::default(), Limits::aggregated()] {
            set_up(&stream, limits).unwrap();
            let socket = SockRef::from(&stream);
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
            assert_eq!(socket.recv_buffer_size().unwrap(), 2 * UNREAD);
        }
    }
}
