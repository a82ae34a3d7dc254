//! From an image's name to its layers, in an OCI image layout (`image-layout.md`) or a docker
//! archive (`manifest.json` of `docker save`).

use std::collections::HashMap;

use oci_spec::distribution::Reference;
use serde::Deserialize;
use sha2::Digest as _;

use super::blob::{Promise, Stored};
use super::digest::Digest;
use super::error::ImageError;
use super::tree::Tree;

/// Names of an image among an index's annotations: the specification's, which tools fill with
/// a tag or a whole name, and containerd's, always a whole name.
const NAME_ANNOTATIONS: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

/// Indexes within indexes that are followed.
const MAX_INDEXES: usize = 4;

/// An image that was found: what identifies its content, and its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Digest of the manifest; of the configuration in a docker archive.
    pub(super) id: Digest,
    /// From the base up, as manifests list them.
    pub(super) layers: Vec<LayerSource>,
}

/// One layer, not yet opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayerSource {
    /// Its file in the tree, which also names it in messages.
    pub(super) file: String,
    /// Bytes as stored, where the manifest says.
    pub(super) size: Option<u64>,
    /// What its content must be.
    pub(super) promise: Promise,
}

/// An index or a manifest; which it is shows in what it lists.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: HashMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// An entry of a docker archive's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

/// Reads a name as Kubernetes does: `name` is `docker.io/library/name:latest`.
pub(super) fn parse_reference(reference: &str) -> Result<Reference, ImageError> {
    reference.parse().map_err(|source| ImageError::Reference {
        reference: reference.to_owned(),
        source,
    })
}

/// Finds an image in a tree; `None` where it is not there. Every name that is there goes into
/// `known`.
pub(super) fn find(
    tree: &Tree,
    reference: &Reference,
    known: &mut Vec<String>,
) -> Result<Option<Image>, ImageError> {
    if let Some(digest) = reference.digest() {
        // A digest is the content's name, whatever the tree calls it.
        let Ok(digest) = digest.parse::<Digest>() else {
            return Ok(None);
        };
        if tree.open(&digest.blob_path())?.is_some() {
            return by_digest(tree, digest, &reference.whole()).map(Some);
        }
    }
    if let Some(text) = tree.document("index.json")? {
        let index: Document = parse(tree, "index.json", &text)?;
        for descriptor in &index.manifests {
            let names = NAME_ANNOTATIONS
                .iter()
                .filter_map(|key| descriptor.annotations.get(*key));
            for name in names {
                if is_called(name, reference) {
                    return by_digest(tree, descriptor.digest, &reference.whole()).map(Some);
                }
                known.push(name.clone());
            }
        }
    }
    if let Some(text) = tree.document("manifest.json")? {
        for saved in parse::<Vec<Saved>>(tree, "manifest.json", &text)? {
            for name in saved.repo_tags.iter().flatten() {
                if is_called(name, reference) {
                    return saved_image(tree, &saved, reference).map(Some);
                }
                known.push(name.clone());
            }
        }
    }
    Ok(None)
}

/// Opens a layer's bytes after a look at their number.
pub(super) fn open_layer(
    tree: &Tree,
    layer: &LayerSource,
    image: &str,
) -> Result<(Stored, u64), ImageError> {
    match tree.open(&layer.file)? {
        Some((stored, size)) if layer.size.is_none_or(|promised| promised == size) => {
            Ok((stored, size))
        }
        _ => Err(incomplete(tree, &layer.file, image)),
    }
}

fn is_called(name: &str, reference: &Reference) -> bool {
    reference.digest().is_none()
        && name
            .parse::<Reference>()
            .is_ok_and(|name| name.whole() == reference.whole())
}

/// Follows a digest through indexes down to the manifest for this machine.
pub(super) fn by_digest(tree: &Tree, mut id: Digest, image: &str) -> Result<Image, ImageError> {
    for _ in 0..MAX_INDEXES {
        let file = id.blob_path();
        let text = tree
            .document(&file)?
            .ok_or_else(|| incomplete(tree, &file, image))?;
        verify(&text, id).map_err(|source| ImageError::Layer {
            image: image.to_owned(),
            layer: file.clone(),
            source,
        })?;
        let document: Document = parse(tree, &file, &text)?;
        if let Some(layers) = document.layers {
            let layers = layers.into_iter().map(|layer| LayerSource {
                file: layer.digest.blob_path(),
                size: Some(layer.size),
                promise: Promise::Stored(layer.digest),
            });
            return Ok(Image {
                id,
                layers: layers.collect(),
            });
        }
        id = for_this_machine(&document.manifests).ok_or_else(|| ImageError::Platform {
            image: image.to_owned(),
            platforms: document
                .manifests
                .iter()
                .filter_map(platform_name)
                .collect(),
        })?;
    }
    Err(incomplete(tree, "the end of a chain of indexes", image))
}

/// linux/amd64, or the only entry where none says what it is for.
fn for_this_machine(manifests: &[Descriptor]) -> Option<Digest> {
    let fits = |it: &&Descriptor| {
        it.platform
            .as_ref()
            .is_some_and(|it| it.os == "linux" && it.architecture == "amd64")
    };
    match (manifests.iter().find(fits), manifests) {
        (Some(found), _) => Some(found.digest),
        (None, [only]) if only.platform.is_none() => Some(only.digest),
        _ => None,
    }
}

fn platform_name(descriptor: &Descriptor) -> Option<String> {
    let platform = descriptor.platform.as_ref()?;
    Some(format!("{}/{}", platform.os, platform.architecture))
}

fn saved_image(tree: &Tree, saved: &Saved, reference: &Reference) -> Result<Image, ImageError> {
    let image = reference.whole();
    let text = tree.document(&saved.config)?;
    let text = text.ok_or_else(|| incomplete(tree, &saved.config, &image))?;
    let config: Config = parse(tree, &saved.config, &text)?;
    if config.rootfs.diff_ids.len() != saved.layers.len() {
        return Err(incomplete(tree, &saved.config, &image));
    }
    let layers = saved.layers.iter().zip(config.rootfs.diff_ids);
    let layers = layers.map(|(file, digest)| LayerSource {
        file: file.clone(),
        size: None,
        promise: Promise::Unpacked(digest),
    });
    Ok(Image {
        id: sha256(&text),
        layers: layers.collect(),
    })
}

fn incomplete(tree: &Tree, blob: &str, image: &str) -> ImageError {
    ImageError::Incomplete {
        image: image.to_owned(),
        blob: blob.to_owned(),
        store: tree.path().to_owned(),
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    tree: &Tree,
    document: &str,
    text: &[u8],
) -> Result<T, ImageError> {
    serde_json::from_slice(text).map_err(|source| ImageError::Document {
        store: tree.path().to_owned(),
        document: document.to_owned(),
        source,
    })
}

fn sha256(text: &[u8]) -> Digest {
    Digest::from(sha2::Sha256::new_with_prefix(text))
}

fn verify(text: &[u8], promised: Digest) -> std::io::Result<()> {
    let digest = sha256(text);
    if digest == promised {
        return Ok(());
    }
    let message = format!("its content is {digest}: copy or pull the image again");
    Err(std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        message,
    ))
}
