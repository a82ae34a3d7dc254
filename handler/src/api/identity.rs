//! Who this server is and whom it serves, as a mounted Secret says.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// The files of the Secret, which is of type `kubernetes.io/tls`: our certificate, its key, and the
/// authorities that sign clients' certificates.
const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// The common name of the one client that there is.
const CLIENT: &str = "virt-controller";

/// Why the Secret is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is no PEM of a certificate or a key")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// The authorities are of no use.
    #[error("{path} holds no authority to trust")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: VerifierBuilderError,
    },
    /// Certificate and key are of no use.
    #[error("the certificate in {path} cannot be served with")]
    Unusable {
        /// The Secret's directory.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// The Secret as it was read last.
#[derive(Debug)]
pub(super) struct Identity {
    directory: PathBuf,
    known: Option<(Versions, Arc<ServerConfig>)>,
}

/// What tells one version of the files from the next: the kubelet makes new files and swaps a link.
type Versions = [(u64, i64, i64); FILES.len()];

impl Identity {
    /// Nothing is read yet.
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            known: None,
        }
    }

    /// How to serve now. Reads the files again where they are others than before.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub(super) fn now(&mut self) -> Result<Arc<ServerConfig>, IdentityError> {
        let versions = self.versions()?;
        if let Some((known, config)) = &self.known
            && *known == versions
        {
            return Ok(config.clone());
        }
        let config = Arc::new(self.read()?);
        self.known = Some((versions, config.clone()));
        Ok(config)
    }

    fn versions(&self) -> Result<Versions, IdentityError> {
        let version = |found: Metadata| (found.ino(), found.mtime(), found.mtime_nsec());
        let mut versions = Versions::default();
        for (name, seen) in FILES.into_iter().zip(&mut versions) {
            let path = self.directory.join(name);
            let found = std::fs::metadata(&path);
            *seen = version(found.map_err(|source| IdentityError::Read { path, source })?);
        }
        Ok(versions)
    }

    fn read(&self) -> Result<ServerConfig, IdentityError> {
        let [certificate, key, authorities] = FILES.map(|name| self.directory.join(name));
        let mut trusted = RootCertStore::empty();
        trusted.add_parsable_certificates(certificates(&authorities)?);
        let clients = WebPkiClientVerifier::builder(Arc::new(trusted))
            .build()
            .map_err(|source| IdentityError::Authorities {
                path: authorities,
                source,
            })?;
        let chain = certificates(&certificate)?;
        let key = PrivateKeyDer::from_pem_file(&key).map_err(|source| wrong(&key, source))?;
        ServerConfig::builder()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(|source| IdentityError::Unusable {
                path: self.directory.clone(),
                source,
            })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let found = CertificateDer::pem_file_iter(path).map_err(|source| wrong(path, source))?;
    let all: Result<_, _> = found.collect();
    all.map_err(|source| wrong(path, source))
}

fn wrong(path: &Path, source: pem::Error) -> IdentityError {
    let path = path.to_owned();
    match source {
        pem::Error::Io(source) => IdentityError::Read { path, source },
        source => IdentityError::Pem { path, source },
    }
}

/// Whether a client whose certificate was verified is the one that is served: the authority signs
/// certificates for others, too.
pub(super) fn is_served(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let mut names = parsed.subject().iter_common_name();
    // One name, and that one.
    let name = names.next().and_then(|name| name.as_str().ok());
    name == Some(CLIENT) && names.next().is_none()
}
