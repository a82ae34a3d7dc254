//! What a refusal of the API server means: pure.

use http::StatusCode;
use launcher_api::VNC_IN_USE;
use serde::Deserialize;

use crate::print;
use crate::target::{CallError, Name, OpenError};

/// The cluster has no Ferrovirt.
const UNSERVED: &str = "the cluster does not serve subresources.kubevirt.io; install Ferrovirt \
                        there, or choose another --context";

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
            // An API server that has no such group says so in plain text.
            _ if code == StatusCode::NOT_FOUND => UNSERVED.to_owned(),
            _ => match String::from_utf8_lossy(body).lines().next().map(plain_line) {
                Some(line) if !line.is_empty() => line,
                _ => format!("the server answers {code}"),
            },
        };
        Self { code, message }
    }
}

/// Why a stream, or a picture, of the machine `name` was not had.
pub(super) fn open(name: &Name, refusal: Refusal) -> OpenError {
    let (name, code) = (name.clone(), refusal.code);
    // Whoever is not reached is a 503 too.
    let in_use = refusal.message.contains(VNC_IN_USE);
    match code {
        StatusCode::BAD_REQUEST => OpenError::NotReady {
            name,
            message: refusal.message,
        },
        StatusCode::SERVICE_UNAVAILABLE if in_use => OpenError::InUse {
            name,
            message: refusal.message,
        },
        _ => call(&name, refusal).into(),
    }
}

/// Why the machine `name` did not do what it was asked.
pub(super) fn call(name: &Name, refusal: Refusal) -> CallError {
    match refusal.code {
        StatusCode::NOT_FOUND if refusal.message != UNSERVED => CallError::NotFound {
            name: name.clone(),
            message: format!(
                "{}; `kubectl get vm,vmi -n {}` lists what is there",
                refusal.message, name.namespace
            ),
        },
        _ => plain(refusal),
    }
}

/// Why something that is about no machine was not done.
pub(super) fn plain(Refusal { code, message }: Refusal) -> CallError {
    match code {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CallError::Denied { message },
        StatusCode::NOT_IMPLEMENTED => CallError::Unsupported { message },
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            CallError::Unavailable { message }
        }
        _ => CallError::Refused { message },
    }
}

fn plain_line(line: &str) -> String {
    print::plain(line.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Kind;

    fn name() -> Name {
        Name {
            kind: Kind::Vm,
            namespace: "ns".to_owned(),
            name: "demo".to_owned(),
        }
    }

    #[test]
    fn the_servers_own_words_are_told() {
        for (code, body, message) in [
            (
                409,
                r#"{"kind":"Status","message":"VM is already running"}"#,
                "VM is already running",
            ),
            (502, "Bad gateway\n<html>", "Bad gateway"),
            (500, "\x1b[2J\n", "[2J"),
            (500, "", "the server answers 500 Internal Server Error"),
            (404, "404 page not found\n", UNSERVED),
        ] {
            let code = StatusCode::from_u16(code).unwrap();
            assert_eq!(Refusal::read(code, body.as_bytes()).message, message);
        }
    }

    #[test]
    fn a_code_means_what_the_contract_says() {
        for (code, message, shown) in [
            (
                400,
                "why",
                "VM ns/demo is not ready: why; start it, or try again once it runs",
            ),
            (
                503,
                VNC_IN_USE,
                "VM ns/demo is in use: another VNC session is open; leave out --preserve-session \
                 to take it over",
            ),
            (503, "why", "why; try again"),
            (504, "why", "why; try again"),
            (
                404,
                "why",
                "why; `kubectl get vm,vmi -n ns` lists what is there",
            ),
            (
                403,
                "why",
                "why; ask the cluster's administrator for the right, or choose another --context",
            ),
            (501, "why", "why"),
            (409, "why", "why"),
        ] {
            let refusal = Refusal {
                code: StatusCode::from_u16(code).unwrap(),
                message: message.to_owned(),
            };
            assert_eq!(open(&name(), refusal).to_string(), shown, "{code}");
        }
    }
}
