//! Container images as sources of disks and kernels.
//!
//! ```text
//! reference ─▶ --images DIR ─┐  (OCI layout or docker archive)
//!          └─▶ cache's layout ├─▶ manifest ─▶ layers, top down ─▶ one file ─▶ cache
//!          └─▶ virt-image-pull┘               (gzip, zstd; digests checked)
//! ```
//!
//! Images are hostile input. Only the content of a single ordinary file ever leaves one, under
//! a name of ordinary components below the cache; memory is constant whatever the image says;
//! and no file is seen under its final name before its layer's digest was found right.
//!
//! Sources: the OCI image specification 1.1 (`image-layout.md`, `image-index.md`,
//! `manifest.md`, `layer.md`), `docker save`, and KubeVirt's containerDisk and kernelBoot.

mod blob;
mod digest;
mod error;
mod extract;
mod manifest;
mod puller;
mod search;
mod tarball;
#[cfg(test)]
mod tests;
mod tree;

use std::path::{Path, PathBuf};

use crds::{ContainerDiskSource, KernelBootContainer, PullPolicy};
use oci_spec::distribution::Reference;

pub use error::ImageError;
pub use puller::Puller;

use crate::convert::KernelBoot;
use extract::Extraction;
use manifest::Image;
use search::{ImagePath, Query};
use tree::Tree;

/// Where containerDisk images keep their disk unless `path` says otherwise.
const DISK_DIRECTORY: &str = "disk";

/// Hears how far the work got.
pub trait Progress {
    /// An image is about to be pulled.
    fn pulling(&self, _image: &str) {}
    /// A file is being taken out of a layer, of which `read` bytes of `total` were read.
    fn extracting(&self, _image: &str, _read: u64, _total: u64) {}
}

/// Nobody listens.
impl Progress for () {}

/// Finds images and keeps what was taken out of them.
///
/// The cache holds pulled images in `oci/` (an OCI image layout) and extracted files, read-only
/// and readable by all, in `files/`. Any number of processes may share it.
pub struct Store {
    cache: PathBuf,
    images: Option<PathBuf>,
    puller: Option<Puller>,
    progress: Box<dyn Progress + Send + Sync>,
}

impl Store {
    /// A store over `cache`, which is made when first needed. `images` (`--images DIR`) is an
    /// OCI image layout, a docker archive, or a directory of such; it goes before the cache and
    /// the registry. Without a `puller` nothing is pulled.
    pub fn new(cache: PathBuf, images: Option<PathBuf>, puller: Option<Puller>) -> Self {
        Self {
            cache,
            images,
            puller,
            progress: Box::new(()),
        }
    }

    /// Reports to `progress` from now on.
    #[must_use]
    pub fn with_progress(mut self, progress: impl Progress + Send + Sync + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// A containerDisk's file: `path` in the image, or the only file in `/disk`.
    ///
    /// # Errors
    /// [`ImageError`], naming the image and what is wrong with it.
    pub fn container_disk(&self, disk: &ContainerDiskSource) -> Result<PathBuf, ImageError> {
        let query = match &disk.path {
            Some(path) => Query::File(path_in_image(&disk.image, path)?),
            None => Query::OnlyFileIn(path_in_image(&disk.image, DISK_DIRECTORY)?),
        };
        Ok(self
            .files(&disk.image, disk.image_pull_policy, &[query])?
            .remove(0))
    }

    /// The files of `spec.domain.firmware.kernelBoot.container`.
    ///
    /// # Errors
    /// [`ImageError`], naming the image and what is wrong with it.
    pub fn kernel_boot(&self, boot: &KernelBootContainer) -> Result<KernelBoot, ImageError> {
        let paths = [&boot.kernel_path, &boot.initrd_path];
        let queries = paths.into_iter().flatten();
        let queries = queries.map(|path| path_in_image(&boot.image, path).map(Query::File));
        let queries = queries.collect::<Result<Vec<_>, _>>()?;
        let mut files = self
            .files(&boot.image, boot.image_pull_policy, &queries)?
            .into_iter();
        let [kernel, initrd] = paths.map(|path| path.as_ref().and_then(|_| files.next()));
        Ok(KernelBoot { kernel, initrd })
    }

    fn files(
        &self,
        reference: &str,
        policy: Option<PullPolicy>,
        queries: &[Query],
    ) -> Result<Vec<PathBuf>, ImageError> {
        let reference = manifest::parse_reference(reference)?;
        let policy = policy.unwrap_or_else(|| default_policy(&reference));
        let (tree, image) = self.find(&reference, policy)?;
        let extraction = Extraction {
            directory: self.cache.join("files").join(image.id.file_name()),
            name: reference.whole(),
            image: &image,
            tree: &tree,
            progress: &*self.progress,
        };
        queries.iter().map(|query| extraction.get(query)).collect()
    }

    fn find(&self, reference: &Reference, policy: PullPolicy) -> Result<(Tree, Image), ImageError> {
        let mut known = Vec::new();
        if let Some(images) = &self.images {
            for tree in trees(images)? {
                if let Some(image) = manifest::find(&tree, reference, &mut known)? {
                    return Ok((tree, image));
                }
            }
        }
        let layout = self.cache.join("oci");
        let cached = || Tree::directory(layout.clone());
        if policy != PullPolicy::Always
            && let Some(image) = manifest::find(&cached(), reference, &mut known)?
        {
            return Ok((cached(), image));
        }
        let name = reference.whole();
        match &self.puller {
            Some(puller) if policy != PullPolicy::Never => {
                self.progress.pulling(&name);
                let digest = match puller.pull(&name, &layout) {
                    Ok(digest) => digest,
                    Err(reason) => {
                        return Err(ImageError::Pull {
                            image: name,
                            reason,
                            known,
                        });
                    }
                };
                let image = manifest::by_digest(&cached(), digest, &name)?;
                Ok((cached(), image))
            }
            _ => Err(ImageError::Absent { image: name, known }),
        }
    }
}

/// Kubernetes' default of `imagePullPolicy`.
fn default_policy(reference: &Reference) -> PullPolicy {
    match (reference.digest(), reference.tag()) {
        (None, None | Some("latest")) => PullPolicy::Always,
        _ => PullPolicy::IfNotPresent,
    }
}

fn path_in_image(image: &str, path: &str) -> Result<ImagePath, ImageError> {
    ImagePath::parse(path.as_bytes())
        .filter(|path| path.as_path().file_name().is_some())
        .ok_or_else(|| ImageError::Path {
            image: image.to_owned(),
            path: path.to_owned(),
        })
}

/// The layouts and archives that `--images` may mean, in the order of their names.
fn trees(images: &Path) -> Result<Vec<Tree>, ImageError> {
    let metadata = images.metadata().map_err(ImageError::read(images))?;
    if !metadata.is_dir() {
        return Ok(vec![Tree::archive(images.to_owned())?]);
    }
    let entries = images.read_dir().and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<_>>>()
    });
    let mut paths = entries.map_err(ImageError::read(images))?;
    paths.push(images.to_owned());
    paths.sort();
    let mut trees = Vec::new();
    for path in paths {
        if path.join("index.json").is_file() {
            trees.push(Tree::directory(path));
        } else if path.extension().is_some_and(|it| it == "tar") && path.is_file() {
            trees.push(Tree::archive(path)?);
        }
    }
    Ok(trees)
}
