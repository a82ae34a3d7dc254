//! What can go wrong between an image's name and its files.

use std::io;
use std::path::PathBuf;

/// An image could not be turned into files. Each variant names the image or the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The name in the manifest is no image reference.
    #[error("{reference:?} is not an image name (expected like registry/name:tag)")]
    Reference {
        /// The name as given.
        reference: String,
        /// What is wrong with it.
        source: oci_spec::distribution::ParseError,
    },
    /// A path within an image, as given in the manifest, leads nowhere.
    #[error("path {path:?} in image {image}: must name a file, without \"..\"")]
    Path {
        /// The image's name.
        image: String,
        /// The path as given.
        path: String,
    },
    /// Neither `--images` nor the cache has the image, and pulling was not allowed.
    #[error(
        "no image {image} {}; give --images a directory that holds it, or allow to pull it",
        among(.known)
    )]
    Absent {
        /// The image's name.
        image: String,
        /// The names that were there instead.
        known: Vec<String>,
    },
    /// The pull failed.
    #[error("cannot pull image {image}: {reason} (no such image {})", among(.known))]
    Pull {
        /// The image's name.
        image: String,
        /// The puller's own words.
        reason: String,
        /// The names that `--images` and the cache have instead.
        known: Vec<String>,
    },
    /// An image layout or archive could not be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A JSON document of an image is not what the specification says.
    #[error("{document} in {} is damaged or no part of an image", .store.display())]
    Document {
        /// The layout or archive.
        store: PathBuf,
        /// The document: a file name or a blob's digest.
        document: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A blob that a manifest names is missing, or has another size than it says.
    #[error("{blob} of image {image} is incomplete in {}: copy or pull the image again", .store.display())]
    Incomplete {
        /// The image's name.
        image: String,
        /// The blob: its digest, or its name in a docker archive.
        blob: String,
        /// The layout or archive.
        store: PathBuf,
    },
    /// The image exists, but not for this machine.
    #[error("image {image} has nothing for linux/amd64; it has {}", .platforms.join(", "))]
    Platform {
        /// The image's name.
        image: String,
        /// `os/architecture` of what it has.
        platforms: Vec<String>,
    },
    /// A layer is truncated, corrupt, or of other content than promised.
    #[error("cannot read layer {layer} of image {image}")]
    Layer {
        /// The image's name.
        image: String,
        /// The layer: its digest, or its name in a docker archive.
        layer: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// No file where one was looked for.
    #[error("image {image} holds no {wanted}")]
    NotInImage {
        /// The image's name.
        image: String,
        /// What was looked for: `file /boot/vmlinuz`, or `disk below /disk`.
        wanted: String,
    },
    /// More than one file where the disk was looked for.
    #[error("image {image} holds several disks ({}); name one by containerDisk.path", .files.join(", "))]
    Several {
        /// The image's name.
        image: String,
        /// The files, as paths in the image.
        files: Vec<String>,
    },
    /// The file is no ordinary one.
    #[error("{file} of image {image} is {kind}; it must be an ordinary file")]
    NotAFile {
        /// The image's name.
        image: String,
        /// Path in the image.
        file: String,
        /// What it is, in words.
        kind: &'static str,
    },
    /// The file is larger than any disk can be.
    #[error("{file} of image {image} claims {size} bytes; at most 64 TiB are possible")]
    TooLarge {
        /// The image's name.
        image: String,
        /// Path in the image.
        file: String,
        /// Bytes.
        size: u64,
    },
    /// The cache could not be written.
    #[error("cannot write {}; see that its directory is writable and has space left", .path.display())]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl ImageError {
    pub(super) fn read(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        |source| ImageError::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn cache(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        |source| ImageError::Cache {
            path: path.to_owned(),
            source,
        }
    }
}

/// The names to choose from, in words.
fn among(known: &[String]) -> String {
    match known {
        [] => "is here".into(),
        known => format!("is here among {}", known.join(", ")),
    }
}
