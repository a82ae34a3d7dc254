//! What can go wrong on the way from a registry to the layout.

use std::io;
use std::path::{Path, PathBuf};

use oci_client::errors::OciDistributionError;

/// A pull that failed. Each variant names the image or the path, and what helps.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error("{image:?} is not an image name (expected like registry/name:tag)")]
    Reference {
        image: String,
        source: oci_spec::distribution::ParseError,
    },
    #[error("cannot set up TLS; install the system's CA certificates (ca-certificates)")]
    Client(#[source] OciDistributionError),
    #[error("registry {registry} refuses {image}; check the name, or log in with docker login")]
    Refused { registry: String, image: String },
    #[error("registry {registry} has no image {image}; check its name and tag")]
    Absent { registry: String, image: String },
    #[error("cannot fetch {image} from registry {registry}")]
    Fetch {
        registry: String,
        image: String,
        source: OciDistributionError,
    },
    #[error("the connection to registry {registry} broke off; pull again to go on from there")]
    Interrupted { registry: String, source: io::Error },
    #[error("the manifest of {image} is not one of the OCI or docker formats")]
    Manifest {
        image: String,
        source: oci_spec::OciSpecError,
    },
    #[error("{image} has nothing for linux/amd64; it has {}", .platforms.join(", "))]
    Platform {
        image: String,
        platforms: Vec<String>,
    },
    #[error("a manifest names {digest:?}, which is no sha256 digest")]
    Digest { digest: String },
    #[error("the registry sent a blob of sha256:{found} in place of sha256:{promised}; pull again")]
    Content { promised: String, found: String },
    #[error("{} is no index of an OCI image layout; remove it", .path.display())]
    Index {
        path: PathBuf,
        source: oci_spec::OciSpecError,
    },
    #[error("cannot write {} (is there space left?)", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read registry credentials in {}", .path.display())]
    Credentials { path: PathBuf, source: io::Error },
}

impl PullError {
    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Write {
            path: path.to_owned(),
            source,
        }
    }
}
