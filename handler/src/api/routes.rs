//! The calls, and what an error looks like.

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use launcher_api::{GuestInfo, guest};
use serde::Deserialize;
use serde_json::{Value, json};

use super::stream;
use crate::actions::{self, Action, ActionError, Instance};
use crate::launchers::Launchers;

/// Where a VMI's calls begin.
const INSTANCE: &str = "/v1/namespaces/{namespace}/virtualmachineinstances/{name}";

/// The largest body, in bytes.
const BODY: usize = 4096;

/// What may come with a call.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Options {
    /// Of `shutdown`: seconds until the guest is powered off.
    grace_period_seconds: Option<u32>,
    /// Of `freeze`: seconds until the guest thaws by itself; 0, the default, for never.
    unfreeze_timeout_seconds: u32,
}

/// Every call.
pub(super) fn router(launchers: Launchers) -> Router {
    let router = Router::new()
        .route(&format!("{INSTANCE}/pause"), does(|_| Action::Pause))
        .route(&format!("{INSTANCE}/unpause"), does(|_| Action::Unpause))
        .route(
            &format!("{INSTANCE}/softreboot"),
            does(|_| Action::SoftReboot),
        )
        .route(&format!("{INSTANCE}/reset"), does(|_| Action::Reset))
        .route(
            &format!("{INSTANCE}/freeze"),
            does(|options| Action::Freeze(options.unfreeze_timeout_seconds)),
        )
        .route(&format!("{INSTANCE}/unfreeze"), does(|_| Action::Unfreeze))
        .route(
            &format!("{INSTANCE}/shutdown"),
            does(|options| Action::Shutdown(options.grace_period_seconds)),
        )
        .route(
            &format!("{INSTANCE}/guestosinfo"),
            tells(guest::information),
        )
        .route(&format!("{INSTANCE}/userlist"), tells(guest::users))
        .route(
            &format!("{INSTANCE}/filesystemlist"),
            tells(guest::file_systems),
        )
        .route(&format!("{INSTANCE}/console"), get(stream::console))
        .route(&format!("{INSTANCE}/vnc"), get(stream::vnc))
        .route(
            &format!("{INSTANCE}/vnc/screenshot"),
            get(stream::screenshot),
        );
    router
        .fallback(async || failure(StatusCode::NOT_FOUND, "NotFound", "there is no such call"))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(launchers)
}

/// By its path, and the uid in its query.
impl<S: Send + Sync> FromRequestParts<S> for Instance {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        #[derive(Deserialize)]
        struct Meant {
            uid: String,
        }

        let path = Path::from_request_parts(parts, state).await;
        let Path((namespace, name)) = path.map_err(IntoResponse::into_response)?;
        let Query(Meant { uid }) = Query::try_from_uri(&parts.uri).map_err(|wrong| odd(&wrong))?;
        Ok(Self {
            namespace,
            name,
            uid,
        })
    }
}

/// What is wrong with a query.
pub(super) fn odd(wrong: &QueryRejection) -> Response {
    let wrong = wrong.body_text();
    let message = format!("the options are not understood: {wrong}");
    failure(StatusCode::BAD_REQUEST, "BadRequest", &message)
}

fn does(action: fn(&Options) -> Action) -> axum::routing::MethodRouter<Launchers> {
    put(
        move |State(launchers): State<Launchers>, instance: Instance, body: Bytes| async move {
            let options = match &body[..] {
                [] => Options::default(),
                body => match serde_json::from_slice(body) {
                    Ok(options) => options,
                    Err(error) => {
                        let message = format!("the options are not understood: {error}");
                        return failure(StatusCode::BAD_REQUEST, "BadRequest", &message);
                    }
                },
            };
            match actions::act(&launchers, &instance, action(&options)).await {
                Ok(()) => StatusCode::ACCEPTED.into_response(),
                Err(error) => error.into_response(),
            }
        },
    )
}

fn tells(show: fn(&GuestInfo) -> Value) -> axum::routing::MethodRouter<Launchers> {
    get(
        move |State(launchers): State<Launchers>, instance: Instance| async move {
            match actions::guest_info(&launchers, &instance).await {
                Ok(told) => Json(show(&told)).into_response(),
                Err(error) => error.into_response(),
            }
        },
    )
}

impl IntoResponse for ActionError {
    fn into_response(self) -> Response {
        let (code, reason) = match self {
            Self::NotHere { .. } => (StatusCode::NOT_FOUND, "NotFound"),
            Self::Refused(_) => (StatusCode::CONFLICT, "Conflict"),
            Self::NotReady(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Self::Unsupported(_) => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
            Self::Silent(_) => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            Self::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        failure(code, reason, &self.to_string())
    }
}

/// An error as the API server has them (`metav1.Status`), so that it can be passed on as it is.
pub(super) fn failure(code: StatusCode, reason: &str, message: &str) -> Response {
    let status = json!({
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": code.as_u16(),
        "reason": reason,
        "message": message,
    });
    (code, Json(status)).into_response()
}
