//! What a refusal of the API server means: pure.

use http::StatusCode;
use serde::Deserialize;

use crate::stream::Stream;
use crate::target::{CallError, Name, OpenError};

/// What was answered instead of what was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// HTTP's word for it.
    pub(super) code: StatusCode,
    /// The server's.
    pub(super) message: String,
}

impl Refusal {
    /// The refusal that `body` tells: a `metav1.Status`, or what else a proxy on the way has said.
    pub(super) fn read(code: StatusCode, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Status {
            message: String,
        }
        let message = match serde_json::from_slice(body) {
            Ok(Status { message }) if !message.is_empty() => message,
            _ => match String::from_utf8_lossy(body).lines().next().map(str::trim) {
                Some(line) if !line.is_empty() => line.to_owned(),
                _ => format!("the server answers {code}"),
            },
        };
        Self { code, message }
    }
}

/// Why `stream` of the machine `name` was not opened.
pub(super) fn open(name: &Name, stream: Stream, refusal: Refusal) -> OpenError {
    let exclusive = matches!(
        stream,
        Stream::Vnc {
            preserve_session: true
        }
    );
    let (name, code) = (name.clone(), refusal.code);
    match code {
        StatusCode::BAD_REQUEST => OpenError::NotReady {
            name,
            message: refusal.message,
        },
        StatusCode::SERVICE_UNAVAILABLE if exclusive => OpenError::InUse {
            name,
            message: refusal.message,
        },
        _ => call(&name, refusal).into(),
    }
}

/// Why the machine `name` did not do what it was asked.
pub(super) fn call(name: &Name, Refusal { code, message }: Refusal) -> CallError {
    match code {
        StatusCode::NOT_FOUND => CallError::NotFound {
            name: name.clone(),
            message,
        },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CallError::Denied { message },
        StatusCode::NOT_IMPLEMENTED => CallError::Unsupported { message },
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            CallError::Unavailable { message }
        }
        _ => CallError::Refused { message },
    }
}
