//! Whom the API server's aggregator calls as: its front proxy, as it publishes it itself in
//! ConfigMap `kube-system/extension-apiserver-authentication`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use axum::http::HeaderName;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube_client::{Api, Client};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::watch_object;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::certificates::Identity;
use crate::error::Chain;

/// Where the ConfigMap is.
const NAMESPACE: &str = "kube-system";
/// The ConfigMap.
const NAME: &str = "extension-apiserver-authentication";

/// The authorities that sign the front proxy's certificate, as PEM.
const AUTHORITIES: &str = "requestheader-client-ca-file";
/// The names that such a certificate may have; none: any.
const ALLOWED: &str = "requestheader-allowed-names";
/// The headers that name the user.
const NAMES: &str = "requestheader-username-headers";
/// The headers that name the user's groups.
const GROUPS: &str = "requestheader-group-headers";
/// The headers that hold the user's uid. Kubernetes has it since 1.32.
const UIDS: &str = "requestheader-uid-headers";
/// How the headers begin that hold what else is known of the user.
const EXTRA: &str = "requestheader-extra-headers-prefix";

/// What the ConfigMap says is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Something is not there.
    #[error("{0} is missing: the API server has no aggregation layer, see its --{0}")]
    Missing(&'static str),
    /// The authorities cannot be trusted.
    #[error("{AUTHORITIES} holds no authority")]
    Authorities(#[source] VerifierBuilderError),
    /// Something is no PEM.
    #[error("{AUTHORITIES} is no PEM")]
    Pem(#[source] pem::PemError),
    /// A list is none.
    #[error("{entry} is no JSON list of strings")]
    List {
        /// Which.
        entry: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A header's name is none.
    #[error("{entry} has {name:?}, which is no header")]
    Header {
        /// Which.
        entry: &'static str,
        /// The name.
        name: String,
    },
}

/// Who may call in users' names, and how they say whose.
pub struct Trust {
    verifier: Arc<dyn ClientCertVerifier>,
    allowed: Vec<String>,
    pub(super) names: Vec<HeaderName>,
    pub(super) groups: Vec<HeaderName>,
    pub(super) uids: Vec<HeaderName>,
    /// In lower case, as headers are.
    pub(super) extra_prefixes: Vec<String>,
}

impl Trust {
    /// Reads the ConfigMap's data.
    ///
    /// # Errors
    /// When nobody could be trusted by it, or could name a user.
    pub fn read(data: &BTreeMap<String, String>) -> Result<Self, TrustError> {
        let authorities = data.get(AUTHORITIES).map(|text| text.trim());
        let authorities = authorities.filter(|text| !text.is_empty());
        let authorities = authorities.ok_or(TrustError::Missing(AUTHORITIES))?;
        let mut roots = RootCertStore::empty();
        let pems = pem::parse_many(authorities).map_err(TrustError::Pem)?;
        let certificates = pems.into_iter().map(pem::Pem::into_contents);
        // One that cannot be read signs nothing that could be.
        roots.add_parsable_certificates(certificates.map(CertificateDer::from));
        let provider = rustls::crypto::ring::default_provider().into();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        // Discovery is for everybody; and who has none is told so, by HTTP.
        let verifier = verifier.allow_unauthenticated().build();
        let names = headers(data, NAMES)?;
        if names.is_empty() {
            return Err(TrustError::Missing(NAMES));
        }
        let prefixes = list(data, EXTRA)?.into_iter();
        Ok(Self {
            verifier: verifier.map_err(TrustError::Authorities)?,
            allowed: list(data, ALLOWED)?,
            names,
            groups: headers(data, GROUPS)?,
            uids: headers(data, UIDS)?,
            extra_prefixes: prefixes.map(|prefix| prefix.to_lowercase()).collect(),
        })
    }

    /// A client whose certificate was verified may have this name.
    pub fn allows(&self, common_name: &str) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|allowed| allowed == common_name)
    }

    /// How `identity` serves TLS to clients that may prove to be the front proxy. A certificate
    /// of anybody else's fails the handshake.
    ///
    /// # Errors
    /// When the TLS library has no protocol in common with itself: never.
    pub fn server_config(&self, identity: &Identity) -> Result<ServerConfig, rustls::Error> {
        let provider = rustls::crypto::ring::default_provider().into();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(self.verifier.clone())
            .with_cert_resolver(identity.tls.cert_resolver.clone());
        config.alpn_protocols = identity.tls.alpn_protocols.clone();
        // A resumed session's certificate would not be looked at again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("allowed", &self.allowed)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Follows the ConfigMap, for ever. `trust` is none while nobody can be trusted; it is another one
/// only when the ConfigMap says something else, since connections that began before are lost.
pub async fn follow(client: Client, trust: &watch::Sender<Option<Arc<Trust>>>) -> Infallible {
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let mut objects = pin!(watch_object(api, NAME).default_backoff());
    let mut known = None;
    while let Some(object) = objects.next().await {
        let object = match object {
            Ok(object) => object,
            Err(error) => {
                warn!("watching ConfigMap {NAMESPACE}/{NAME}: {}", Chain(&error));
                continue;
            }
        };
        let data = object.and_then(|object| object.data).unwrap_or_default();
        if known.as_ref() == Some(&data) {
            continue;
        }
        let found = Trust::read(&data);
        match &found {
            Ok(found) => info!("the API server's front proxy is known: {found:?}"),
            Err(error) => warn!("ConfigMap {NAMESPACE}/{NAME}: {}", Chain(error)),
        }
        trust.send_replace(found.ok().map(Arc::new));
        known = Some(data);
    }
    // A watch does not end.
    std::future::pending().await
}

fn list(data: &BTreeMap<String, String>, entry: &'static str) -> Result<Vec<String>, TrustError> {
    let Some(text) = data.get(entry) else {
        return Ok(Vec::new());
    };
    serde_json::from_str(text).map_err(|source| TrustError::List { entry, source })
}

fn headers(
    data: &BTreeMap<String, String>,
    entry: &'static str,
) -> Result<Vec<HeaderName>, TrustError> {
    let names = list(data, entry)?.into_iter();
    names
        .map(|name| {
            let header = HeaderName::from_bytes(name.as_bytes());
            header.map_err(|_| TrustError::Header { entry, name })
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::certificates::Certified;

    /// What kubeadm's API server publishes, for an authority of its own.
    pub(in crate::api) fn published() -> BTreeMap<String, String> {
        let authority = Certified::authority(Timestamp::now()).unwrap();
        let pem = pem::Pem::new("CERTIFICATE", authority.certificate.to_vec());
        let data = [
            (AUTHORITIES, pem::encode(&pem).as_str()),
            (ALLOWED, r#"["front-proxy-client"]"#),
            (NAMES, r#"["X-Remote-User"]"#),
            (GROUPS, r#"["X-Remote-Group"]"#),
            (UIDS, r#"["X-Remote-Uid"]"#),
            (EXTRA, r#"["X-Remote-Extra-"]"#),
        ]
        .map(|(entry, text)| (entry.to_owned(), text.to_owned()));
        data.into()
    }

    #[test]
    fn what_is_published_is_read() {
        let trust = Trust::read(&published()).unwrap();
        assert!(trust.allows("front-proxy-client"));
        for other in [
            "",
            "front-proxy",
            "front-proxy-clients",
            "Front-Proxy-Client",
        ] {
            assert!(!trust.allows(other), "{other:?}");
        }
        assert_eq!(trust.names, ["x-remote-user"]);
        assert_eq!(trust.groups, ["x-remote-group"]);
        assert_eq!(trust.uids, ["x-remote-uid"]);
        assert_eq!(trust.extra_prefixes, ["x-remote-extra-"]);
    }

    #[test]
    fn what_may_be_missing_may() {
        let mut data = published();
        for entry in [GROUPS, UIDS, EXTRA] {
            data.remove(entry);
        }
        data.insert(ALLOWED.to_owned(), "[]".to_owned());
        let trust = Trust::read(&data).unwrap();
        assert!(trust.groups.is_empty() && trust.uids.is_empty());
        // Whatever its name, its certificate is the front proxy's.
        assert!(trust.allows("anybody"));
    }

    #[test]
    fn what_nobody_can_be_trusted_by_is_refused() {
        let missing = "is missing: the API server has no aggregation layer, see its --";
        let garbage = "-----BEGIN CERTIFICATE-----\n////\n-----END CERTIFICATE-----\n";
        let cases = [
            (
                AUTHORITIES,
                None,
                format!("{AUTHORITIES} {missing}{AUTHORITIES}"),
            ),
            (
                AUTHORITIES,
                Some(" \n"),
                format!("{AUTHORITIES} {missing}{AUTHORITIES}"),
            ),
            (
                AUTHORITIES,
                Some("who?"),
                format!("{AUTHORITIES} holds no authority"),
            ),
            (
                AUTHORITIES,
                Some(garbage),
                format!("{AUTHORITIES} holds no authority"),
            ),
            (
                AUTHORITIES,
                Some("-----BEGIN CERTIFICATE-----\nä\n-----END CERTIFICATE-----\n"),
                format!("{AUTHORITIES} is no PEM"),
            ),
            (NAMES, None, format!("{NAMES} {missing}{NAMES}")),
            (NAMES, Some("[]"), format!("{NAMES} {missing}{NAMES}")),
            (
                NAMES,
                Some("X-Remote-User"),
                format!("{NAMES} is no JSON list of strings"),
            ),
            (
                NAMES,
                Some(r#"["X Y"]"#),
                format!(r#"{NAMES} has "X Y", which is no header"#),
            ),
            (
                ALLOWED,
                Some("[1]"),
                format!("{ALLOWED} is no JSON list of strings"),
            ),
        ];
        for (entry, text, expected) in cases {
            let mut data = published();
            match text {
                Some(text) => data.insert(entry.to_owned(), text.to_owned()),
                None => data.remove(entry),
            };
            let error = Trust::read(&data).unwrap_err();
            assert_eq!(error.to_string(), expected, "{entry}: {text:?}");
        }
    }
}
