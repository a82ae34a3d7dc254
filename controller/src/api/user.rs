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
    /// Whom the front proxy names. From anybody else the same headers are worth nothing.
    ///
    /// # Errors
    /// 401 when the connection is not the front proxy's, or names nobody.
    pub fn of(trust: &Trust, peer: &Peer, headers: &HeaderMap) -> Result<Self, ApiError> {
        let Peer::Verified { common_name } = peer else {
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
