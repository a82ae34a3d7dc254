//! Who may ask, and what a browser may do with the answer.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, UPGRADE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Nothing from elsewhere, and nothing for others. xterm.js writes its theme into a `style`
/// element; noVNC has the pointer's shape, and pictures of the Tight encoding, in `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // The path is a secret.
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error(
        "the request's Host is a name other than localhost; open the address that virtctl printed"
    )]
    Host,
    #[error("the request comes from another site")]
    Origin,
}

/// Lets through what the page itself, or its user, asks.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let mut response = match admit(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => (StatusCode::FORBIDDEN, format!("{refusal}\n")).into_response(),
    };
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// Any port is good, so that the page can be reached through a forwarded one.
fn admit(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(HOST).ok_or(Refusal::Host)?;
    let authority: Authority = host.parse().map_err(|_| Refusal::Host)?;
    let name = authority.host().trim_matches(['[', ']']);
    if name != "localhost" && name.parse::<IpAddr>().is_err() {
        return Err(Refusal::Host);
    }
    // A browser says where a WebSocket is opened from. It need not say so of a page's own files.
    let own = match headers.get(ORIGIN) {
        Some(origin) => origin.as_bytes() == format!("http://{host}").as_bytes(),
        None => !headers.contains_key(UPGRADE),
    };
    own.then_some(()).ok_or(Refusal::Origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_page_itself_is_let_through() {
        const PAGE: Option<&str> = None;
        let here = Some("http://127.0.0.1:8000");
        for (host, origin, socket, expected) in [
            ("127.0.0.1:8000", PAGE, false, Ok(())),
            ("127.0.0.1:8000", here, false, Ok(())),
            ("127.0.0.1:8000", here, true, Ok(())),
            ("127.0.0.1", Some("http://127.0.0.1"), true, Ok(())),
            ("[::1]:8000", Some("http://[::1]:8000"), true, Ok(())),
            ("localhost:9", Some("http://localhost:9"), true, Ok(())),
            ("192.0.2.1:8000", PAGE, false, Ok(())),
            // Names that may lead anywhere.
            ("evil.example:8000", PAGE, false, Err(Refusal::Host)),
            ("localhost.evil.example", PAGE, false, Err(Refusal::Host)),
            ("127.0.0.1.evil.example", PAGE, false, Err(Refusal::Host)),
            ("", PAGE, false, Err(Refusal::Host)),
            (
                "evil.example",
                Some("http://evil.example"),
                true,
                Err(Refusal::Host),
            ),
            // Other sites, other ports, and who says nothing.
            ("127.0.0.1:8000", PAGE, true, Err(Refusal::Origin)),
            (
                "127.0.0.1:8000",
                Some("http://evil.example"),
                true,
                Err(Refusal::Origin),
            ),
            (
                "127.0.0.1:8000",
                Some("http://127.0.0.1:81"),
                true,
                Err(Refusal::Origin),
            ),
            (
                "127.0.0.1:8000",
                Some("https://127.0.0.1:8000"),
                true,
                Err(Refusal::Origin),
            ),
            ("127.0.0.1:8000", Some("null"), true, Err(Refusal::Origin)),
            (
                "127.0.0.1:8000",
                Some("http://evil.example"),
                false,
                Err(Refusal::Origin),
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            if socket {
                headers.insert(UPGRADE, "websocket".parse().unwrap());
            }
            assert_eq!(admit(&headers), expected, "{host:?} {origin:?} {socket}");
        }
        assert_eq!(admit(&HeaderMap::new()), Err(Refusal::Host));
    }
}
