//! What a refusal of the API server means: pure.

use http::StatusCode;
use serde::Deserialize;

use crate::print;
use crate::stream::Stream;
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
    use crate::stream::Protocol;
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
        let vnc = |preserve_session| Stream::Vnc { preserve_session };
        let port = Stream::Port {
            port: 22,
            protocol: Protocol::Tcp,
        };
        for (stream, code, shown) in [
            (
                Stream::Console,
                400,
                "VM ns/demo is not ready: why; start it, or try again once it runs",
            ),
            (
                vnc(true),
                503,
                "VM ns/demo is in use: why; leave out --preserve-session to take it over",
            ),
            (vnc(false), 503, "why; try again"),
            (port, 504, "why; try again"),
            (
                port,
                404,
                "why; `kubectl get vm,vmi -n ns` lists what is there",
            ),
            (
                Stream::Console,
                403,
                "why; ask the cluster's administrator for the right, or choose another --context",
            ),
            (Stream::Console, 501, "why"),
            (Stream::Console, 409, "why"),
        ] {
            let refusal = Refusal {
                code: StatusCode::from_u16(code).unwrap(),
                message: "why".to_owned(),
            };
            assert_eq!(open(&name(), stream, refusal).to_string(), shown, "{code}");
        }
    }
}
