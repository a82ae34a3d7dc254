//! Who calls: the API server says so, in headers, by a connection that is its own.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::{ApiError, Trust};
use crate::server::Peer;

/// A user, as the API server has authenticated them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// What tells them from others of the same name; empty if nothing does.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else is known of them.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Whom the front proxy names. From anybody else the same headers are worth nothing. `peer` is
    /// to have been verified by this `trust`.
    ///
    /// # Errors
    /// 401 when the connection is not the front proxy's, or names nobody.
    pub fn of(trust: &Trust, peer: &Peer, headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(common_name) = &peer.common_name else {
            return Err(ApiError::unauthorized(
                "only the API server may call: its front-proxy certificate is missing",
            ));
        };
        if !trust.allows(common_name) {
            return Err(ApiError::unauthorized(format!(
                "only the API server may call: {common_name:?} is none of its \
                 requestheader-allowed-names"
            )));
        }
        let name = first(headers, &trust.names)?;
        let name = name.ok_or_else(|| ApiError::unauthorized("the call names no user"))?;
        let mut extra = BTreeMap::<_, Vec<_>>::new();
        // One header may come under several prefixes, and is then meant by the first.
        for (header, value) in headers {
            let mut prefixes = trust.extra_prefixes.iter();
            let key = prefixes.find_map(|prefix| header.as_str().strip_prefix(prefix));
            if let Some(key) = key {
                let values = extra.entry(unescape(key)).or_default();
                values.push(text(header, value)?);
            }
        }
        let mut groups = Vec::new();
        for header in &trust.groups {
            for value in headers.get_all(header) {
                groups.push(text(header, value)?);
            }
        }
        Ok(Self {
            name,
            uid: first(headers, &trust.uids)?.unwrap_or_default(),
            groups,
            extra,
        })
    }
}

/// The first of these headers that says something.
fn first(headers: &HeaderMap, names: &[HeaderName]) -> Result<Option<String>, ApiError> {
    for name in names {
        if let Some(value) = headers.get(name)
            && !value.is_empty()
        {
            return text(name, value).map(Some);
        }
    }
    Ok(None)
}

fn text(name: &HeaderName, value: &HeaderValue) -> Result<String, ApiError> {
    let text = String::from_utf8(value.as_bytes().to_vec());
    text.map_err(|_| ApiError::unauthorized(format!("header {name} is no UTF-8")))
}

/// A header's name cannot hold everything that a key can (`authentication.kubernetes.io/node-name`):
/// the API server escapes it, and case is lost on the way.
fn unescape(key: &str) -> String {
    let decoded = percent_decode_str(key).decode_utf8();
    decoded.map_or_else(|_| key.to_owned(), |key| key.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::trust::tests::published;

    fn named(common_name: &str) -> Peer {
        Peer {
            common_name: Some(common_name.into()),
            ..Peer::default()
        }
    }

    fn proxy() -> Peer {
        named("front-proxy-client")
    }

    type Line = (&'static str, &'static [u8]);

    fn headers(lines: &[Line]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            let value = HeaderValue::from_bytes(value).unwrap();
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), value)
        });
        lines.collect()
    }

    #[test]
    fn whom_the_front_proxy_names_calls() {
        let trust = Trust::read(&published()).unwrap();
        let cases: [(&[Line], User); 2] = [
            (
                &[("x-remote-user", "jürgen".as_bytes())],
                User {
                    name: "jürgen".to_owned(),
                    ..User::default()
                },
            ),
            (
                &[
                    ("X-Remote-User", b"alice"),
                    ("X-Remote-Uid", b"42"),
                    ("X-Remote-Group", b"dev"),
                    ("X-Remote-Group", b"system:authenticated"),
                    ("X-Remote-Extra-Scopes", b"a"),
                    ("X-Remote-Extra-Scopes", b"b"),
                    ("X-Remote-Extra-Acme.example%2fNode", b"n"),
                    ("X-Remote-Extra-50%", b"half"),
                    ("X-Remote-Extras", b"no"),
                    ("X-Forwarded-For", b"192.0.2.1"),
                ],
                User {
                    name: "alice".to_owned(),
                    uid: "42".to_owned(),
                    groups: vec!["dev".to_owned(), "system:authenticated".to_owned()],
                    extra: [
                        ("scopes", vec!["a", "b"]),
                        ("acme.example/node", vec!["n"]),
                        ("50%", vec!["half"]),
                    ]
                    .map(|(key, values)| {
                        let values = values.into_iter().map(str::to_owned).collect();
                        (key.to_owned(), values)
                    })
                    .into(),
                },
            ),
        ];
        for (lines, expected) in cases {
            let user = User::of(&trust, &proxy(), &headers(lines));
            assert_eq!(user, Ok(expected));
        }
    }

    #[test]
    fn nobody_else_names_anybody() {
        let trust = Trust::read(&published()).unwrap();
        let alice: Line = ("x-remote-user", b"alice");
        let cases: [(Peer, &[_], _); 6] = [
            (
                Peer::default(),
                &[alice],
                "only the API server may call: its front-proxy certificate is missing",
            ),
            (
                named("kubelet"),
                &[alice],
                "only the API server may call: \"kubelet\" is none of its \
                 requestheader-allowed-names",
            ),
            (
                named(""),
                &[alice],
                "only the API server may call: \"\" is none of its requestheader-allowed-names",
            ),
            (proxy(), &[], "the call names no user"),
            (proxy(), &[("x-remote-user", b"")], "the call names no user"),
            (
                proxy(),
                &[("x-remote-user", b"\xff")],
                "header x-remote-user is no UTF-8",
            ),
        ];
        for (peer, lines, expected) in cases {
            let error = User::of(&trust, &peer, &headers(lines)).unwrap_err();
            assert_eq!(error, ApiError::unauthorized(expected), "{peer:?}");
        }
    }
}
