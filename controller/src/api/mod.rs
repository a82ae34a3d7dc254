//! KubeVirt's subresource API, as the API server aggregates it: verbs on machines and instances.
//!
//! ```text
//! user ─▶ API server ──TLS, front-proxy certificate, X-Remote-*──▶ :8444
//!           is ready?               503
//!           since when?  trust      503   and the connection ends, if it is older
//!           who calls?   trust      401   the certificate's name, then the headers
//!           what?        path       400, 404
//!           may they?    review     403   SubjectAccessReview
//!             ─▶ verbs, streams, with `User` and `Call` in the request's extensions
//! ```
//!
//! Every replica serves it, not the leader alone. Discovery is for everybody, as it names nobody.

mod discovery;
mod handler;
mod path;
mod places;
mod portforward;
mod review;
mod status;
mod stream;
mod trust;
mod user;
mod verbs;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kube_client::Client;
use tokio::sync::watch;
use tokio::time::timeout;

pub use handler::Handlers;
pub use path::{Call, PathError};
pub use places::{Place, Streams};
pub use status::{ApiError, Object};
pub use trust::{Trust, TrustError, follow};
pub use user::User;

use crate::server::{Limits, Peer, Readiness, close_when_draining};

/// The API group.
pub const GROUP: &str = "subresources.kubevirt.io";
/// Its versions, the preferred one first. They are the same in everything but their name.
pub const VERSIONS: [&str; 2] = ["v1", "v1alpha3"];

/// The names of the APIServices, by which the API server hands calls on.
pub fn service_names() -> [String; VERSIONS.len()] {
    VERSIONS.map(|version| format!("{version}.{GROUP}"))
}

/// What calls are answered with.
#[derive(Clone)]
pub struct ApiContext {
    /// The API server, with our own rights.
    pub client: Client,
    /// Whether requests should come here.
    pub readiness: watch::Receiver<Readiness>,
    /// Who may call in users' names; none while it is not known.
    pub trust: watch::Receiver<Option<Arc<Trust>>>,
    /// How handlers are reached.
    pub handlers: Handlers,
    /// The streams.
    pub streams: Streams,
}

/// All that is served at the API's port.
pub fn router(context: ApiContext, limits: Limits) -> Router {
    let drain = from_fn_with_state(context.readiness.clone(), close_when_draining);
    let base = format!("/apis/{GROUP}/{{version}}");
    let calls = Router::new()
        .route(&format!("{base}/version"), get(discovery::version))
        .nest(&format!("{base}/namespaces/{{namespace}}"), namespaced())
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .fallback(async || ApiError::no_such_call())
        .layer(DefaultBodyLimit::max(limits.body))
        .layer(from_fn_with_state(context.clone(), authorise))
        .layer(from_fn_with_state(limits.request, in_time))
        .layer(from_fn(close_unless_upgraded))
        .with_state(context);
    discovery::routes().merge(calls).layer(drain)
}

/// The calls of a namespace, by the rest of their paths.
fn namespaced() -> Router<ApiContext> {
    Router::new()
        .merge(verbs::routes())
        .merge(stream::routes())
        .merge(portforward::routes())
}

/// Lets a call through whose caller may make it, with its [`User`] and its [`Call`].
async fn authorise(
    State(context): State<ApiContext>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if *context.readiness.borrow() == Readiness::Starting {
        return Err(ApiError::unavailable("virt-controller is starting"));
    }
    let trust = context.trust.borrow().clone();
    let trust = trust.ok_or_else(|| {
        ApiError::unavailable("virt-controller does not know yet whom the API server calls as")
    })?;
    let peer: Peer = request.extensions().get().cloned().unwrap_or_default();
    let then = peer.trust.as_ref();
    if !then.is_some_and(|then| Arc::ptr_eq(then, &trust)) {
        return Ok(on_another_connection());
    }
    let user = User::of(&trust, &peer, request.headers())?;
    let call = Call::parse(request.uri().path())?;
    let verb = match *request.method() {
        Method::GET => "get",
        Method::PUT => "update",
        _ => return Err(ApiError::method_not_allowed()),
    };
    review::authorise(&context.client, &user, &call, verb).await?;
    request.extensions_mut().insert(user);
    request.extensions_mut().insert(call);
    Ok(next.run(request).await)
}

/// The answer on a connection whose client was verified by what is not trusted any more, or by
/// nothing: the API server keeps it, and nobody can tell any more who is at its other end.
fn on_another_connection() -> Response {
    let error = ApiError::unavailable(
        "virt-controller has learned whom the API server calls as since this connection began: \
         try again",
    );
    ([(header::CONNECTION, "close")], error).into_response()
}

/// Answers a call that takes too long. A stream's time ends when it begins.
async fn in_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let answer = timeout(limit, next.run(request)).await;
    answer.unwrap_or_else(|_elapsed| {
        let seconds = limit.as_secs();
        ApiError::late(format!("no answer within {seconds} s")).into_response()
    })
}

/// Says that the connection ends, where an upgrade is refused. The API server hands such an answer on
/// and closes its own client's connection: a client that is not told loses its next call on it.
async fn close_unless_upgraded(request: Request, next: Next) -> Response {
    let upgrade = request.headers().contains_key(header::UPGRADE);
    let mut answer = next.run(request).await;
    if upgrade && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(header::CONNECTION, close);
    }
    answer
}

impl From<PathError> for ApiError {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Unknown => Self::no_such_call(),
            PathError::Malformed => Self::bad_request(error.to_string()),
        }
    }
}
