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

/// Follows the ConfigMap, for ever. `trust` is none while nobody can be trusted.
pub async fn follow(client: Client, trust: &watch::Sender<Option<Arc<Trust>>>) -> Infallible {
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let mut objects = pin!(watch_object(api, NAME).default_backoff());
    while let Some(object) = objects.next().await {
        let object = match object {
            Ok(object) => object,
            Err(error) => {
                warn!("watching ConfigMap {NAMESPACE}/{NAME}: {}", Chain(&error));
                continue;
            }
        };
        let data = object.and_then(|object| object.data).unwrap_or_default();
        let found = Trust::read(&data);
        match &found {
            Ok(found) => info!("the API server's front proxy is known: {found:?}"),
            Err(error) => warn!("ConfigMap {NAMESPACE}/{NAME}: {}", Chain(error)),
        }
        trust.send_replace(found.ok().map(Arc::new));
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
