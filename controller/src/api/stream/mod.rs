//! Streams: consoles and screens, and what carries them and ports.
//!
//! ```text
//! client ──WebSocket, plain.kubevirt.io── relay ──HTTP/1.1 upgrade, mutual TLS── virt-handler
//! ```
//!
//! The guest's side is there before the client is answered, so that whatever is in the way is told
//! as an ordinary error, which clients can read. Nothing is kept of a stream anywhere: who loses
//! one asks for another.

mod datagram;
mod frame;
mod relay;
#[cfg(test)]
mod tests;
mod upgrade;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::get;
use crds::{VirtualMachineInstance, VirtualMachineInstancePhase as Phase};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UdpSocket;
use tracing::debug;

use super::handler::Handler;
use super::verbs::{Named, find, path};
use super::{ApiContext, ApiError, Place};
use crate::error::Chain;
use crate::reconcile::vmi::phase;
use relay::{ByteSink, ByteSource, Sink, Source, relay};

pub(super) use upgrade::Upgrade;

/// Consoles and screens.
pub(super) fn routes() -> Router<ApiContext> {
    Router::new()
        .route(&path("virtualmachineinstances", "console"), get(console))
        .route(&path("virtualmachineinstances", "vnc"), get(vnc))
        .route(
            &path("virtualmachineinstances", "vnc/screenshot"),
            get(screenshot),
        )
}

async fn console(
    State(context): State<ApiContext>,
    Path(named): Path<Named>,
    request: Request,
) -> Result<Response, ApiError> {
    open(&context, &named, request, Device::Console, "console").await
}

async fn vnc(
    State(context): State<ApiContext>,
    Path(named): Path<Named>,
    request: Request,
) -> Result<Response, ApiError> {
    let call = match flag(request.uri(), "preserveSession") {
        true => "vnc?preserveSession=true",
        false => "vnc",
    };
    open(&context, &named, request, Device::Graphics, call).await
}

async fn screenshot(
    State(context): State<ApiContext>,
    Path(named): Path<Named>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let vmi = find(&context, &named).await?;
    Device::Graphics.check(&vmi)?;
    let call = match flag(&uri, "moveCursor") {
        true => "vnc/screenshot?moveCursor=true",
        false => "vnc/screenshot",
    };
    let handler = Handler::of(&context.handlers, &vmi).await?;
    handler.get(call).await.map_err(not_there)
}

/// Opens a stream of the instance's handler, and then the client's.
async fn open(
    context: &ApiContext,
    named: &Named,
    mut request: Request,
    device: Device,
    call: &str,
) -> Result<Response, ApiError> {
    let client = Upgrade::of(&mut request)?;
    let place = context.streams.take(&named.namespace, &named.name)?;
    let vmi = find(context, named).await?;
    device.check(&vmi)?;
    let handler = Handler::of(&context.handlers, &vmi).await?;
    let guest = handler.open(call).await.map_err(not_there)?;
    Ok(client.serve_bytes(guest, place))
}

impl Upgrade {
    /// Answers the client, and carries bytes between it and the guest.
    pub(super) fn serve_bytes(
        self,
        guest: impl AsyncRead + AsyncWrite + Send + 'static,
        place: Place,
    ) -> Response {
        let (from, to) = tokio::io::split(guest);
        self.serve(ByteSource(from), ByteSink::new(to), place)
    }

    /// Answers the client, and carries a datagram a message between it and the guest.
    pub(super) fn serve_datagrams(self, guest: UdpSocket, place: Place) -> Response {
        let (source, sink) = datagram::halves(guest);
        self.serve(source, sink, place)
    }

    fn serve(
        self,
        source: impl Source + 'static,
        sink: impl Sink + 'static,
        mut place: Place,
    ) -> Response {
        tokio::spawn(async move {
            match self.client.await {
                Ok(client) => {
                    let over = relay(TokioIo::new(client), source, sink, place.ending()).await;
                    debug!("a stream is over: {}", Chain(&over));
                }
                Err(error) => debug!("a client left before its stream began: {}", Chain(&error)),
            }
        });
        self.response
    }
}

/// What a stream comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Console,
    Graphics,
}

impl Device {
    /// Whether the instance has it, and runs. Clients try again on 400, until it does.
    fn check(self, vmi: &VirtualMachineInstance) -> Result<(), ApiError> {
        let devices = &vmi.spec.domain.devices;
        let (attached, missing) = match self {
            Self::Console => (
                devices.autoattach_serial_console,
                "No serial consoles are present.",
            ),
            Self::Graphics => (
                devices.autoattach_graphics_device,
                "No graphics devices are present.",
            ),
        };
        if attached == Some(false) {
            return Err(ApiError::bad_request(missing));
        }
        running(vmi)
    }
}

/// # Errors
/// 400 while the instance does not run.
pub(super) fn running(vmi: &VirtualMachineInstance) -> Result<(), ApiError> {
    match phase(vmi) {
        Phase::Running => Ok(()),
        _ => Err(ApiError::bad_request("VMI is not running")),
    }
}

/// The handler does not know the guest: it has just ended, or its launcher is not listened to yet.
fn not_there(error: ApiError) -> ApiError {
    match error.code() {
        StatusCode::NOT_FOUND => ApiError::bad_request("VMI is not running"),
        _ => error,
    }
}

/// Whether a parameter of the query is true, as Go's `strconv.ParseBool` reads it.
fn flag(uri: &Uri, name: &str) -> bool {
    let mut parameters = uri.query().unwrap_or_default().split('&');
    let value = parameters.find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('='));
    matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}
