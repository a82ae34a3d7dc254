//! A certificate authority, and what it signs.

use std::time::SystemTime;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long an authority is valid.
pub const AUTHORITY_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How long a certificate that an authority signs is valid.
pub const LEAF_LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How far in the past validity begins, for those whose clocks are behind.
const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A name is no DNS name.
    #[error("{name:?} is no DNS name")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: rcgen::Error,
    },
    /// A key could not be made.
    #[error("making a key")]
    Key(#[source] rcgen::Error),
    /// An authority could not sign.
    #[error("signing {common_name}")]
    Sign {
        /// Whose certificate it was to be.
        common_name: String,
        /// Why it failed.
        source: rcgen::Error,
    },
    /// An authority's own certificate could not be read.
    #[error("reading the authority's certificate")]
    Authority(#[source] rcgen::Error),
}

/// From when until when something is valid, both included (RFC 5280, section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: Timestamp,
    /// The last moment.
    pub until: Timestamp,
}

impl Validity {
    /// That of a certificate; none if it cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let validity = parsed.validity();
        Some(Self {
            from: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            until: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        })
    }

    /// Of something that is made now and lasts for `lifetime`.
    fn starting(now: Timestamp, lifetime: SignedDuration) -> Self {
        // Only a clock at the end of time, in the year 9999, saturates.
        let add = |duration: SignedDuration| now.saturating_add(duration).unwrap_or(now);
        Self {
            from: add(-BACKDATE),
            until: add(lifetime),
        }
    }

    /// `now` is in it.
    pub fn contains(&self, now: Timestamp) -> bool {
        (self.from..=self.until).contains(&now)
    }

    /// Two thirds of it have passed: time for a successor, while a third is left to take over.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let (whole, passed) = (
            self.from.duration_until(self.until),
            self.from.duration_until(now),
        );
        passed.as_secs() >= whole.as_secs() / 3 * 2
    }

    /// How long ago it was made.
    pub fn age(&self, now: Timestamp) -> SignedDuration {
        self.from.duration_until(now) - BACKDATE
    }
}

/// A certificate and its private key.
#[derive(Debug)]
pub struct Certified {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key, which `Debug` keeps to itself.
    pub key: KeyPair,
}

impl Certified {
    /// The certificate is about this key.
    pub fn keys_match(&self) -> bool {
        X509Certificate::from_der(&self.certificate).is_ok_and(|(_, certificate)| {
            certificate.public_key().raw == self.key.subject_public_key_info()
        })
    }

    /// The key, as TLS takes it.
    pub(super) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// An authority that signs itself, ECDSA on P-256.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn authority(now: Timestamp) -> Result<Self, IssueError> {
        let key = KeyPair::generate().map_err(IssueError::Key)?;
        // A name of its own, so that whoever trusts two of them finds the right one at once.
        let common_name = format!("virt-controller authority {}", now.as_second());
        let mut params = params(&common_name, Validity::starting(now, AUTHORITY_LIFETIME));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key);
        let certificate = certificate.map_err(|source| IssueError::Sign {
            common_name,
            source,
        })?;
        Ok(Self {
            certificate: certificate.into(),
            key,
        })
    }

    /// Signs a certificate, with a new key, for `subject`.
    ///
    /// # Errors
    /// When a name of the subject's is no DNS name, when this is no authority, or when the
    /// system has no randomness.
    pub fn issue(&self, subject: &Subject, now: Timestamp) -> Result<Self, IssueError> {
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key)
            .map_err(IssueError::Authority)?;
        let key = KeyPair::generate().map_err(IssueError::Key)?;
        let validity = Validity::starting(now, LEAF_LIFETIME);
        let mut params = params(&subject.common_name, validity);
        for name in &subject.dns_names {
            let dns_name = name.as_str().try_into();
            let dns_name = dns_name.map_err(|source| IssueError::Name {
                name: name.clone(),
                source,
            })?;
            let names = &mut params.subject_alt_names;
            names.push(rcgen::SanType::DnsName(dns_name));
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match subject.usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let certificate = params.signed_by(&key, &issuer);
        let certificate = certificate.map_err(|source| IssueError::Sign {
            common_name: subject.common_name.clone(),
            source,
        })?;
        Ok(Self {
            certificate: certificate.into(),
            key,
        })
    }
}

/// Whom a certificate names, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its name for people, and of a client for its server.
    pub common_name: String,
    /// Under which names clients reach it.
    pub dns_names: Vec<String>,
    /// What it proves.
    pub usage: Usage,
}

/// What a certificate proves (RFC 5280, section 4.2.1.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Who a server is.
    Server,
    /// Who a client is.
    Client,
}

fn params(common_name: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = SystemTime::from(validity.from).into();
    params.not_after = SystemTime::from(validity.until).into();
    params
}
