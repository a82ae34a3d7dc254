//! What the Secret holds: whom to trust, and what to serve with.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use rcgen::KeyPair;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::authority::{Certified, Validity};
use super::plan::TRUST_DELAY;

/// The serving certificate, as in every Secret of type `kubernetes.io/tls`.
pub const LEAF: &str = "tls.crt";
/// Its key.
pub const LEAF_KEY: &str = "tls.key";
/// The authorities to trust, the newest first, which is the one that signs.
pub const AUTHORITIES: &str = "ca.crt";
/// The newest authority's key. An older one's is gone: it signs nothing any more.
pub const AUTHORITY_KEY: &str = "ca.key";

/// Something in the Secret is of no use.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Flaw {
    /// There is no Secret.
    #[error("there are no certificates yet")]
    Missing,
    /// An entry is not there.
    #[error("{0} is missing")]
    NoEntry(&'static str),
    /// An entry is no PEM of the right kind.
    #[error("{0} cannot be read")]
    Unreadable(&'static str),
    /// A key is another certificate's.
    #[error("{0} does not belong to its certificate")]
    OtherKey(&'static str),
    /// The authority is not valid now.
    #[error("the authority is valid from {} until {}", .0.from, .0.until)]
    Expired(Validity),
    /// A client would not accept the certificate.
    #[error("the certificate is refused as {name}'s")]
    Refused {
        /// The server's name.
        name: String,
        /// Why.
        source: rustls::Error,
    },
    /// A server would not accept a client's certificate.
    #[error("the certificate is refused")]
    RefusedClient(#[source] rustls::Error),
}

/// What the Secret holds.
#[derive(Debug)]
pub struct Bundle {
    /// The authority that signs.
    pub authority: Certified,
    /// Older authorities, whose certificates may still be in use.
    pub retired: Vec<CertificateDer<'static>>,
    /// The serving certificate.
    pub leaf: Result<Certified, Flaw>,
}

impl Bundle {
    /// Reads a Secret's data.
    ///
    /// # Errors
    /// When nothing can be built on it, for want of an authority that can sign. That the serving
    /// certificate is of no use is an error of [`Bundle::leaf`] alone.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Result<Self, Flaw> {
        let mut authorities = certificates(data, AUTHORITIES)?.into_iter();
        let newest = authorities.next().ok_or(Flaw::Unreadable(AUTHORITIES))?;
        Ok(Self {
            authority: certified(data, newest, AUTHORITY_KEY)?,
            retired: authorities.collect(),
            leaf: leaf(data),
        })
    }

    /// The Secret's data, as [`Bundle::read`] reads it.
    pub fn write(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::new();
        let mut put = |entry: &str, pem: String| {
            data.insert(entry.to_owned(), ByteString(pem.into_bytes()));
        };
        put(AUTHORITIES, self.trusted());
        put(AUTHORITY_KEY, self.authority.key.serialize_pem());
        if let Ok(leaf) = &self.leaf {
            put(LEAF, encode([&leaf.certificate]));
            put(LEAF_KEY, leaf.key.serialize_pem());
        }
        data
    }

    /// The authorities to trust, as PEM: what a webhook's `caBundle` is.
    pub fn trusted(&self) -> String {
        encode(self.authorities())
    }

    fn authorities(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        [&self.authority.certificate]
            .into_iter()
            .chain(&self.retired)
    }

    /// One that cannot be read is trusted by nobody.
    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.authorities().cloned());
        roots.into()
    }

    /// Whether a client that trusts these authorities accepts the serving certificate, at this
    /// time and under each of these names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_leaf(&self, names: &[String], now: Timestamp) -> Result<&Certified, Flaw> {
        let leaf = self.leaf.as_ref().map_err(Clone::clone)?;
        self.check_server(&leaf.certificate, names, now)?;
        Ok(leaf)
    }

    /// Whether a client that trusts these authorities accepts a server's certificate, at this
    /// time and under each of these names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check_server(
        &self,
        certificate: &CertificateDer<'_>,
        names: &[String],
        now: Timestamp,
    ) -> Result<(), Flaw> {
        let verifier = WebPkiServerVerifier::builder_with_provider(self.roots(), provider());
        // It is built of the authorities alone.
        let verifier = verifier
            .build()
            .map_err(|_| Flaw::Unreadable(AUTHORITIES))?;
        for name in names {
            let refused = |source| Flaw::Refused {
                name: name.clone(),
                source,
            };
            let server = ServerName::try_from(name.as_str())
                .map_err(|error| refused(rustls::Error::General(error.to_string())))?;
            verifier
                .verify_server_cert(certificate, &[], &server, &[], unix(now))
                .map_err(refused)?;
        }
        Ok(())
    }

    /// Whether a server that trusts these authorities accepts a client's certificate at this time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check_client(
        &self,
        certificate: &CertificateDer<'_>,
        now: Timestamp,
    ) -> Result<(), Flaw> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider());
        let verifier = verifier
            .build()
            .map_err(|_| Flaw::Unreadable(AUTHORITIES))?;
        let checked = verifier.verify_client_cert(certificate, &[], unix(now));
        checked.map(drop).map_err(Flaw::RefusedClient)
    }

    /// It is time for a certificate to be followed by another, and the authority that would sign
    /// that is trusted by everybody.
    pub(super) fn has_successor_for(&self, leaf: &Certified, now: Timestamp) -> bool {
        let is_due = Validity::of(&leaf.certificate).is_some_and(|leaf| leaf.is_due(now));
        let authority = Validity::of(&self.authority.certificate);
        is_due && authority.is_some_and(|authority| authority.age(now) >= TRUST_DELAY)
    }

    /// How to serve TLS with the serving certificate: HTTP/1.1, whose connections can be
    /// upgraded, and no client certificates.
    ///
    /// # Errors
    /// When the certificate is of no use.
    pub fn server_config(&self) -> Result<ServerConfig, Flaw> {
        let leaf = self.leaf.as_ref().map_err(Clone::clone)?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                let config = config.with_no_client_auth();
                config.with_single_cert(vec![leaf.certificate.clone()], leaf.private_key())
            });
        let mut config = config.map_err(|_| Flaw::Unreadable(LEAF))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// How a client with this certificate speaks TLS to servers that these authorities know.
    ///
    /// # Errors
    /// When the certificate is of no use.
    pub fn client_config(&self, certified: &Certified) -> Result<ClientConfig, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots())
            .with_client_auth_cert(vec![certified.certificate.clone()], certified.private_key())?;
        // Servers of one name are not one server.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    rustls::crypto::ring::default_provider().into()
}

fn unix(now: Timestamp) -> UnixTime {
    let since_epoch = now.duration_since(Timestamp::UNIX_EPOCH);
    UnixTime::since_unix_epoch(since_epoch.unsigned_abs())
}

/// The serving certificate of a Secret of type `kubernetes.io/tls`.
pub(super) fn leaf(data: &BTreeMap<String, ByteString>) -> Result<Certified, Flaw> {
    let leaf = certificates(data, LEAF)?.into_iter().next();
    certified(data, leaf.ok_or(Flaw::Unreadable(LEAF))?, LEAF_KEY)
}

fn entry<'a>(data: &'a BTreeMap<String, ByteString>, name: &'static str) -> Result<&'a [u8], Flaw> {
    let entry = data.get(name).ok_or(Flaw::NoEntry(name))?;
    Ok(&entry.0)
}

fn certificates(
    data: &BTreeMap<String, ByteString>,
    name: &'static str,
) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    let pems = pem::parse_many(entry(data, name)?).map_err(|_| Flaw::Unreadable(name))?;
    pems.into_iter()
        .map(|pem| {
            let certificate = CertificateDer::from(pem.into_contents());
            match Validity::of(&certificate) {
                Some(_) => Ok(certificate),
                None => Err(Flaw::Unreadable(name)),
            }
        })
        .collect()
}

fn certified(
    data: &BTreeMap<String, ByteString>,
    certificate: CertificateDer<'static>,
    key_name: &'static str,
) -> Result<Certified, Flaw> {
    let pem = std::str::from_utf8(entry(data, key_name)?).ok();
    let key = pem.and_then(|pem| KeyPair::from_pem(pem).ok());
    let certified = Certified {
        certificate,
        key: key.ok_or(Flaw::Unreadable(key_name))?,
    };
    match certified.keys_match() {
        true => Ok(certified),
        false => Err(Flaw::OtherKey(key_name)),
    }
}

pub(super) fn encode<'a>(
    certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>,
) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let encode = |certificate: &CertificateDer<'_>| {
        let pem = pem::Pem::new("CERTIFICATE", certificate.to_vec());
        pem::encode_config(&pem, config)
    };
    certificates.into_iter().map(encode).collect()
}
