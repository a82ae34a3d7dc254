//! From a registry to the layout.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, MediaType, Os, Sha256Digest};
use tokio::task::spawn_blocking;

use crate::auth;
use crate::error::PullError;
use crate::layout::{Layout, Partial, digest_of};
use crate::progress::Progress;

/// Manifests that are understood: OCI's and docker's.
const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Blobs fetched at a time.
const PARALLEL: usize = 3;

/// A connection that breaks is made anew this often for each blob, each after twice the pause.
const RETRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// What is to be pulled.
pub(crate) struct Request {
    /// The image's name, as in a manifest.
    pub(crate) image: String,
    /// The layout's directory.
    pub(crate) layout: PathBuf,
    /// Registries that are asked without TLS.
    pub(crate) insecure_registries: Vec<String>,
}

/// Pulls an image; returns the digest that its name stands for, of a manifest or an index.
pub(crate) async fn pull(request: Request) -> Result<String, PullError> {
    let reference: Reference = request
        .image
        .parse()
        .map_err(|source| PullError::Reference {
            image: request.image.clone(),
            source,
        })?;
    let layout = Arc::new(Layout::open(request.layout)?);
    let registry = Registry::connect(reference, request.insecure_registries).await?;
    let (top, manifest) = registry.manifest(&layout).await?;

    // A manifest may name a blob twice; two downloads of it would wait for each other.
    let mut blobs = BTreeMap::new();
    for blob in manifest.layers().iter().chain([manifest.config()]) {
        let digest = sha256(blob)?;
        if !layout.has(&digest) {
            blobs.insert(digest.digest().to_owned(), (digest, blob.size()));
        }
    }
    if !blobs.is_empty() {
        let total = blobs.values().map(|(_, size)| size).sum();
        let progress = Progress::new(&registry.name, total);
        let downloads = blobs
            .into_values()
            .map(|(digest, size)| registry.blob(Arc::clone(&layout), digest, size, &progress));
        let downloads = futures::stream::iter(downloads).buffer_unordered(PARALLEL);
        let result = downloads.try_collect::<()>().await;
        progress.finish();
        result?;
    }
    // Last, so that an image with a name is whole.
    layout.name(&registry.name, top.clone())?;
    Ok(top.digest().to_string())
}

/// One image on its registry.
struct Registry {
    client: Client,
    auth: RegistryAuth,
    image: Reference,
    /// The image's whole name.
    name: String,
}

impl Registry {
    async fn connect(image: Reference, mut insecure: Vec<String>) -> Result<Self, PullError> {
        if is_loopback(image.resolve_registry()) {
            insecure.push(image.resolve_registry().to_owned());
        }
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(insecure),
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: concat!("ferrovirt/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(PullError::Client)?;
        let auth = auth::credentials(&image)?;
        client
            .store_auth_if_needed(image.resolve_registry(), &auth)
            .await;
        let name = image.whole();
        Ok(Self {
            client,
            auth,
            image,
            name,
        })
    }

    /// The image's manifest for this machine, and the descriptor of what its name stands for;
    /// both are in the layout afterwards.
    async fn manifest(&self, layout: &Layout) -> Result<(Descriptor, ImageManifest), PullError> {
        let top = self
            .client
            .fetch_manifest_digest(&self.image, &self.auth)
            .await;
        let top = parse_digest(&top.map_err(|error| self.failure(error))?)?;
        let text = self.document(layout, &top).await?;
        // The two differ in what they list; media types may be missing.
        if let Ok(manifest) = ImageManifest::from_reader(&text[..]) {
            let descriptor = Descriptor::new(MediaType::ImageManifest, text.len() as u64, top);
            return Ok((descriptor, manifest));
        }
        let index = ImageIndex::from_reader(&text[..]).map_err(|error| self.malformed(error))?;
        let descriptor = Descriptor::new(MediaType::ImageIndex, text.len() as u64, top);
        let chosen = index.manifests().iter().find(|it| is_for_this_machine(it));
        let chosen = chosen.ok_or_else(|| PullError::Platform {
            image: self.name.clone(),
            platforms: index.manifests().iter().filter_map(platform_name).collect(),
        })?;
        let text = self.document(layout, &sha256(chosen)?).await?;
        let manifest = ImageManifest::from_reader(&text[..]);
        Ok((descriptor, manifest.map_err(|error| self.malformed(error))?))
    }

    /// A manifest or an index by its digest, from the layout where it is there.
    async fn document(&self, layout: &Layout, digest: &Sha256Digest) -> Result<Vec<u8>, PullError> {
        if let Some(text) = layout.read(digest) {
            return Ok(text);
        }
        let reference = self
            .image
            .clone_with_digest(format!("sha256:{}", digest.digest()));
        let fetched = self
            .client
            .pull_manifest_raw(&reference, &self.auth, &MANIFESTS)
            .await;
        let (text, _) = fetched.map_err(|error| self.failure(error))?;
        let found = digest_of(&text);
        if found != digest.digest() {
            return Err(PullError::Content {
                promised: digest.digest().into(),
                found,
            });
        }
        layout.store(digest, &text)?;
        Ok(text.into())
    }

    /// Fetches a blob, or what an earlier pull has left to fetch of it.
    async fn blob(
        &self,
        layout: Arc<Layout>,
        digest: Sha256Digest,
        size: u64,
        progress: &Progress,
    ) -> Result<(), PullError> {
        let wanted = digest.clone();
        // Waiting for another process's download must not stop our other ones.
        let begun = spawn_blocking(move || layout.begin(&wanted)).await;
        let begun = begun.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let Some(mut partial) = begun? else {
            progress.add(size);
            return Ok(());
        };
        progress.add(partial.length().min(size));
        let resumed = partial.length() > 0;
        self.complete(&digest, &mut partial, size, progress).await?;
        if resumed && !partial.is(&digest) {
            // What an earlier pull left was damaged.
            progress.take_back(size);
            partial.reset()?;
            self.complete(&digest, &mut partial, size, progress).await?;
        }
        partial.finish(&digest)
    }

    /// Fetches until all bytes are there, over as many connections as it takes.
    async fn complete(
        &self,
        digest: &Sha256Digest,
        partial: &mut Partial,
        size: u64,
        progress: &Progress,
    ) -> Result<(), PullError> {
        let (mut retries, mut pause) = (RETRIES, FIRST_PAUSE);
        while partial.length() < size {
            let before = partial.length();
            match self.append(digest, partial, size, progress).await {
                Err(PullError::Interrupted { .. } | PullError::Fetch { .. }) if retries > 0 => {}
                // An answer without content would otherwise be asked for again and again.
                Ok(()) if partial.length() == before && retries > 0 => {}
                Ok(()) if partial.length() > before => continue,
                other => return other,
            }
            tokio::time::sleep(pause).await;
            (retries, pause) = (retries - 1, pause * 2);
        }
        Ok(())
    }

    async fn append(
        &self,
        digest: &Sha256Digest,
        partial: &mut Partial,
        size: u64,
        progress: &Progress,
    ) -> Result<(), PullError> {
        let name = format!("sha256:{}", digest.digest());
        let offset = partial.length();
        let response = if offset == 0 {
            let stream = self
                .client
                .pull_blob_stream(&self.image, &name.as_str())
                .await;
            stream.map(BlobResponse::Full)
        } else {
            let (image, name) = (&self.image, name.as_str());
            self.client
                .pull_blob_stream_partial(image, &name, offset, None)
                .await
        };
        let mut stream = match response.map_err(|error| self.failure(error))? {
            BlobResponse::Partial(stream) => stream,
            BlobResponse::Full(stream) => {
                progress.take_back(offset);
                partial.reset()?;
                stream
            }
        };
        while let Some(bytes) = stream.next().await {
            let bytes = bytes.map_err(|source| PullError::Interrupted {
                registry: self.image.resolve_registry().to_owned(),
                source,
            })?;
            partial.write(&bytes)?;
            progress.add(bytes.len() as u64);
            if partial.length() > size {
                // More than was promised: `finish` refuses it without reading it all.
                break;
            }
        }
        Ok(())
    }

    fn failure(&self, error: OciDistributionError) -> PullError {
        let registry = self.image.resolve_registry().to_owned();
        let image = self.name.clone();
        let codes = match &error {
            OciDistributionError::RegistryError { envelope, .. } => &envelope.errors[..],
            _ => &[],
        };
        let is_absent = codes.iter().any(|error| {
            matches!(
                error.code,
                OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown
            )
        });
        let is_refused = codes.iter().any(|error| {
            matches!(
                error.code,
                OciErrorCode::Unauthorized | OciErrorCode::Denied
            )
        });
        match error {
            OciDistributionError::ImageManifestNotFoundError(_)
            | OciDistributionError::ServerError { code: 404, .. } => {
                PullError::Absent { registry, image }
            }
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::ServerError {
                code: 401 | 403, ..
            } => PullError::Refused { registry, image },
            _ if is_absent => PullError::Absent { registry, image },
            _ if is_refused => PullError::Refused { registry, image },
            source => PullError::Fetch {
                registry,
                image,
                source,
            },
        }
    }

    fn malformed(&self, source: oci_spec::OciSpecError) -> PullError {
        PullError::Manifest {
            image: self.name.clone(),
            source,
        }
    }
}

fn sha256(descriptor: &Descriptor) -> Result<Sha256Digest, PullError> {
    parse_digest(descriptor.digest().as_ref())
}

fn parse_digest(digest: &str) -> Result<Sha256Digest, PullError> {
    let hex = digest
        .strip_prefix("sha256:")
        .and_then(|hex| hex.parse().ok());
    hex.ok_or_else(|| PullError::Digest {
        digest: digest.to_owned(),
    })
}

fn is_for_this_machine(descriptor: &Descriptor) -> bool {
    let platform = descriptor.platform().as_ref();
    platform.is_some_and(|it| *it.os() == Os::Linux && *it.architecture() == Arch::Amd64)
}

fn platform_name(descriptor: &Descriptor) -> Option<String> {
    let platform = descriptor.platform().as_ref()?;
    Some(format!("{}/{}", platform.os(), platform.architecture()))
}

/// A registry on this machine: as docker, without TLS.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
