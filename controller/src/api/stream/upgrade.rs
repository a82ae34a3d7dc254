//! Becoming a WebSocket (RFC 6455, section 4.2), with KubeVirt's subprotocol.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::{self, OnUpgrade};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::api::ApiError;

/// Bytes as they are (KubeVirt's `PlainStreamProtocolName`).
pub(super) const PLAIN: &str = "plain.kubevirt.io";

/// A client that asks for a WebSocket, and is not answered yet.
pub(in crate::api) struct Upgrade {
    pub(super) client: OnUpgrade,
    pub(super) response: Response,
}

impl Upgrade {
    /// What the request asks for.
    ///
    /// # Errors
    /// 400 where it is not for a WebSocket with our subprotocol, or with none.
    pub(in crate::api) fn of(request: &mut Request) -> Result<Self, ApiError> {
        let response = accept(request.headers())?;
        let client = upgrade::on(request);
        Ok(Self { client, response })
    }
}

/// The answer that makes a WebSocket of the connection.
fn accept(headers: &HeaderMap) -> Result<Response, ApiError> {
    let no_websocket = || {
        ApiError::bad_request(
            "this is a stream: ask for an upgrade to WebSocket, version 13, with subprotocol \
             plain.kubevirt.io",
        )
    };
    let has =
        |name, token: &str| tokens(headers, name).any(|given| given.eq_ignore_ascii_case(token));
    if !has(header::CONNECTION, "upgrade")
        || !has(header::UPGRADE, "websocket")
        || !has(header::SEC_WEBSOCKET_VERSION, "13")
    {
        return Err(no_websocket());
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .ok_or_else(no_websocket)?;
    let key = derive_accept_key(key.as_bytes());
    let key = HeaderValue::try_from(key).map_err(|_| no_websocket())?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    // Subprotocols' names are compared as they are.
    let mut offered = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL).peekable();
    if offered.peek().is_some() {
        if !offered.any(|protocol| protocol == PLAIN) {
            return Err(no_websocket());
        }
        let plain = HeaderValue::from_static(PLAIN);
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, plain);
    }
    Ok(response)
}

/// The tokens of a header's list.
fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let tokens = values.flat_map(|value| value.split(',')).map(str::trim);
    tokens.filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSER: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_websocket_is_answered_as_the_rfc_says() {
        let response = accept(&headers(&BROWSER)).unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        // RFC 6455, 1.3.
        let expected = headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ]);
        assert_eq!(response.headers(), &expected);
    }

    #[test]
    fn our_subprotocol_is_chosen_where_any_is_offered() {
        let cases: [(&[&'static str], Option<Option<&str>>); 6] = [
            (&[], Some(None)),
            (&["plain.kubevirt.io"], Some(Some(PLAIN))),
            (&["binary, plain.kubevirt.io"], Some(Some(PLAIN))),
            (&["binary", "plain.kubevirt.io"], Some(Some(PLAIN))),
            (&["binary"], None),
            (&["Plain.KubeVirt.io"], None),
        ];
        for (offered, expected) in cases {
            let mut headers = headers(&BROWSER);
            for protocol in offered {
                let protocol = HeaderValue::from_static(protocol);
                headers.append(header::SEC_WEBSOCKET_PROTOCOL, protocol);
            }
            let chosen = accept(&headers).ok().map(|response| {
                let chosen = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
                chosen.map(|chosen| chosen.to_str().unwrap().to_owned())
            });
            let expected = expected.map(|chosen| chosen.map(str::to_owned));
            assert_eq!(chosen, expected, "{offered:?}");
        }
    }

    #[test]
    fn what_is_no_websocket_is_refused() {
        for (left_out, _) in BROWSER {
            let kept: Vec<_> = BROWSER
                .into_iter()
                .filter(|(name, _)| *name != left_out)
                .collect();
            let error = accept(&headers(&kept)).unwrap_err();
            assert_eq!(error.code(), StatusCode::BAD_REQUEST, "without {left_out}");
        }
        let mut old = BROWSER;
        old[2].1 = "8";
        assert!(accept(&headers(&old)).is_err());
        let mut other = BROWSER;
        other[1].1 = "h2c";
        assert!(accept(&headers(&other)).is_err());
    }
}
