//! The handler of an instance's node: it alone reaches launchers, and serves us alone.
//!
//! ```text
//! here ──TCP, the pod's own address, :8186──TLS, both sides known──HTTP/1.1──▶ virt-handler
//! ```
//!
//! Each call has a connection of its own: calls are rare, and a stream keeps its connection anyway.

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use crds::VirtualMachineInstance;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::{self, Upgraded};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube_client::api::ListParams;
use kube_client::{Api, Client};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde_json::{Value, json};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::debug;

use super::ApiError;
use crate::certificates::HANDLER;
use crate::error::Chain;

/// Where it listens.
const PORT: u16 = 8186;

/// What its pods are labelled with.
const LABEL: &str = "app.kubernetes.io/name=virt-handler";

/// How long a connection may take, its TLS included.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer may take to begin. A guest's agent has a minute there.
const ANSWER: Duration = Duration::from_secs(62);

/// The largest refusal, in bytes.
const REFUSAL: usize = 16 << 10;

/// What a connection of HTTP holds at a time, at most, in bytes.
const BUFFER: usize = 16 << 10;

/// When a node is gone: it answers nothing for a minute.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// The protocol that streams change to: bytes as they are.
const STREAM: HeaderValue = HeaderValue::from_static("ferrovirt-stream");

/// Why a handler is not reached.
#[derive(Debug, thiserror::Error)]
enum ReachError {
    #[error("cannot connect to it")]
    Connect(#[source] io::Error),
    #[error("TLS with it failed")]
    Tls(#[source] io::Error),
    #[error("it does not take connections within {} s", CONNECT.as_secs())]
    Late,
    #[error("HTTP with it failed")]
    Http(#[source] hyper::Error),
}

/// How the nodes' handlers are found and reached.
#[derive(Clone)]
pub struct Handlers {
    /// The API server, with our own rights.
    pub client: Client,
    /// Where virt-handler's pods are.
    pub namespace: Arc<str>,
    /// How they know us, and we them: their name is [`HANDLER`]. None while there are no
    /// certificates.
    pub tls: watch::Receiver<Option<Arc<ClientConfig>>>,
}

impl Handlers {
    /// Has the instance's guest told to power itself off, and powered off when so many seconds are
    /// over. One that was told before has no more time for it than it had.
    ///
    /// # Errors
    /// As of [`Handler::of`] and [`Handler::put`].
    pub(crate) async fn shut_down(
        &self,
        vmi: &VirtualMachineInstance,
        seconds: u32,
    ) -> Result<(), ApiError> {
        let handler = Handler::of(self, vmi).await?;
        let options = json!({"gracePeriodSeconds": seconds});
        handler.put("shutdown", &options).await
    }
}

/// The handler of a node, and the instance that it is asked about.
pub(super) struct Handler {
    node: String,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    /// Where the instance's calls are.
    base: String,
    /// The instance's: what is meant for it is not done to another that has taken its name.
    uid: String,
}

impl Handler {
    /// The handler of the node that the instance runs on.
    ///
    /// # Errors
    /// 503 where there is none, or it cannot be reached yet.
    pub(super) async fn of(
        handlers: &Handlers,
        vmi: &VirtualMachineInstance,
    ) -> Result<Self, ApiError> {
        let status = vmi.status.as_ref();
        let node = status.and_then(|status| status.node_name.clone());
        let node = node.ok_or_else(|| ApiError::unavailable("the VMI has no node yet"))?;
        let tls = handlers.tls.borrow().clone();
        let tls = tls.ok_or_else(|| {
            ApiError::unavailable("virt-controller has no certificate for virt-handlers yet")
        })?;
        let pods: Api<Pod> = Api::namespaced(handlers.client.clone(), &handlers.namespace);
        let params = ListParams::default()
            .labels(LABEL)
            .fields(&format!("spec.nodeName={node}"));
        let address = pods.list(&params).await?.items.iter().find_map(address);
        let address = address.ok_or_else(|| {
            ApiError::unavailable(format!("no virt-handler runs on node {node:?}"))
        })?;
        let metadata = &vmi.metadata;
        let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
        Ok(Self {
            node,
            address: SocketAddr::new(address, PORT),
            tls,
            base: format!(
                "/v1/namespaces/{}/virtualmachineinstances/{}",
                namespace.unwrap_or_default(),
                name.unwrap_or_default()
            ),
            uid: metadata.uid.clone().unwrap_or_default(),
        })
    }

    /// Has something done.
    ///
    /// # Errors
    /// Its refusal; 503 where it is not reached, 504 where it is silent.
    pub(super) async fn put(&self, call: &str, options: &Value) -> Result<(), ApiError> {
        let body = Body::from(options.to_string());
        self.call(Method::PUT, call, body, false).await.map(drop)
    }

    /// What it answers, as it comes in.
    ///
    /// # Errors
    /// As of [`Handler::put`].
    pub(super) async fn get(&self, call: &str) -> Result<Response, ApiError> {
        let answer = self.call(Method::GET, call, Body::empty(), false).await?;
        let (head, body) = answer.into_parts();
        let mut response = Response::new(Body::new(body));
        if let Some(type_) = head.headers.get(header::CONTENT_TYPE) {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, type_.clone());
        }
        Ok(response)
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// As of [`Handler::put`]. Then there is no stream.
    pub(super) async fn open(&self, call: &str) -> Result<TokioIo<Upgraded>, ApiError> {
        let answer = self.call(Method::GET, call, Body::empty(), true).await?;
        let stream = upgrade::on(answer).await;
        let stream = stream.map_err(|error| self.unreached(&ReachError::Http(error)))?;
        Ok(TokioIo::new(stream))
    }

    /// Makes a call that succeeds, by becoming a stream where `upgrade`.
    async fn call(
        &self,
        method: Method,
        call: &str,
        body: Body,
        upgrade: bool,
    ) -> Result<Response<Incoming>, ApiError> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        let and = if call.contains('?') { '&' } else { '?' };
        let uri = format!("{}/{call}{and}uid={}", self.base, self.uid).parse();
        *request.uri_mut() = uri.map_err(|_| ApiError::no_such_call())?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_static(HANDLER));
        if upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, STREAM);
        }
        let connected = timeout(CONNECT, self.connect()).await;
        let stream = connected.unwrap_or(Err(ReachError::Late));
        let stream = stream.map_err(|error| self.unreached(&error))?;
        let answer = timeout(ANSWER, ask(stream, request)).await;
        let answer = answer.map_err(|_elapsed| {
            let node = &self.node;
            ApiError::late(format!("virt-handler on node {node:?} is silent"))
        })?;
        let answer = answer.map_err(|error| self.unreached(&error))?;
        let expected = match upgrade {
            true => answer.status() == StatusCode::SWITCHING_PROTOCOLS,
            false => answer.status().is_success(),
        };
        match expected {
            true => Ok(answer),
            false => Err(self.refusal(answer).await),
        }
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, ReachError> {
        let stream = TcpStream::connect(self.address).await;
        let stream = stream.map_err(ReachError::Connect)?;
        stream.set_nodelay(true).map_err(ReachError::Connect)?;
        let socket = SockRef::from(&stream);
        socket
            .set_tcp_keepalive(&KEEPALIVE)
            .map_err(ReachError::Connect)?;
        // It is one: of letters and a hyphen.
        let name = ServerName::try_from(HANDLER)
            .map_err(|error| ReachError::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let connector = TlsConnector::from(self.tls.clone());
        connector
            .connect(name, stream)
            .await
            .map_err(ReachError::Tls)
    }

    fn unreached(&self, error: &ReachError) -> ApiError {
        let (node, error) = (&self.node, Chain(error));
        ApiError::unavailable(format!("virt-handler on node {node:?}: {error}"))
    }

    /// What it said instead, in our own words' form.
    async fn refusal(&self, answer: Response<Incoming>) -> ApiError {
        let code = answer.status();
        let read = timeout(CONNECT, to_bytes(Body::new(answer.into_body()), REFUSAL)).await;
        let body = read.ok().and_then(Result::ok).unwrap_or_default();
        match serde_json::from_slice(&body) {
            Ok(Refusal { message }) if code.is_client_error() || code.is_server_error() => {
                ApiError::new(code, message)
            }
            _ => ApiError::unavailable(format!(
                "virt-handler on node {:?} is another version of itself: it answered {code}",
                self.node
            )),
        }
    }
}

/// What of a `metav1.Status` is for people.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// Where a handler's pod is reached, unless it is ending.
fn address(pod: &Pod) -> Option<IpAddr> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()
}

async fn ask(
    stream: TlsStream<TcpStream>,
    request: Request<Body>,
) -> Result<Response<Incoming>, ReachError> {
    let connecting = http1::Builder::new()
        .max_buf_size(BUFFER)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = connecting.map_err(ReachError::Http)?;
    // It lives as long as the answer's body, and is not heard of after that.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!("a connection to a virt-handler ended: {}", Chain(&error));
        }
    });
    sender.send_request(request).await.map_err(ReachError::Http)
}
