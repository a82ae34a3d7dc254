//! Taking one file out of an image into the cache.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Progress;
use super::blob::Layer;
use super::error::ImageError;
use super::manifest::{Image, open_layer};
use super::search::{ImagePath, Outcome, Query, Search};
use super::tarball::{Kind, Tarball};
use super::tree::Tree;

/// Copied at a time; runs of zeros of this size become holes.
const CHUNK: usize = 64 * 1024;

/// QEMU's own limit for a disk.
const MAX_SIZE: u64 = 64 << 40;

/// Hard links from file to file that are followed.
const MAX_LINKS: usize = 4;

/// One image's corner of the cache:
///
/// ```text
/// sha256-…/rootfs/disk/fedora.qcow2   files under their names in the image
/// sha256-…/only/disk                  link to the only file that /disk was found to hold
/// sha256-…/lock, sha256-…/partial     the file that one process at a time is writing
/// ```
///
/// The image's digest names the directory, so what it holds never changes.
pub(super) struct Extraction<'a> {
    /// The corner.
    pub(super) directory: PathBuf,
    /// The image's name, for messages.
    pub(super) name: String,
    /// The image.
    pub(super) image: &'a Image,
    /// Where its blobs are.
    pub(super) tree: &'a Tree,
    /// Who is told how far it got.
    pub(super) progress: &'a dyn Progress,
}

impl Extraction<'_> {
    /// The path of the wanted file in the cache; taken out of the image where it is not there.
    pub(super) fn get(&self, query: &Query) -> Result<PathBuf, ImageError> {
        if let Some(found) = self.cached(query) {
            return Ok(found);
        }
        make_directory(&self.directory)?;
        let lock_path = self.directory.join("lock");
        let lock = File::create(&lock_path).map_err(ImageError::cache(&lock_path))?;
        // Another launcher may be taking out the same file: it will be there afterwards.
        lock.lock().map_err(ImageError::cache(&lock_path))?;
        if let Some(found) = self.cached(query) {
            return Ok(found);
        }
        let partial = Partial(self.directory.join("partial"));
        let path = self.search(query, &partial)?;
        let target = self.directory.join("rootfs").join(path.as_path());
        partial.publish(&target)?;
        if let Query::OnlyFileIn(directory) = query {
            self.remember(directory, &path)?;
        }
        Ok(target)
    }

    fn cached(&self, query: &Query) -> Option<PathBuf> {
        match query {
            Query::File(path) => Some(self.directory.join("rootfs").join(path.as_path())),
            Query::OnlyFileIn(directory) => self.only_link(directory).canonicalize().ok(),
        }
        .filter(|path| path.is_file())
    }

    fn only_link(&self, directory: &ImagePath) -> PathBuf {
        self.directory.join("only").join(directory.as_path())
    }

    fn remember(&self, directory: &ImagePath, file: &ImagePath) -> Result<(), ImageError> {
        let link = self.only_link(directory);
        let depth = directory.as_path().components().count();
        let target = Path::new(&"../".repeat(depth))
            .join("rootfs")
            .join(file.as_path());
        make_directory(link.parent().unwrap_or(&self.directory))?;
        match std::os::unix::fs::symlink(target, &link) {
            // A link that led nowhere: its file was deleted by hand, and is back now.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(ImageError::cache(&link)),
        }
    }

    /// Leaves the wanted file's content in `partial` and tells its name in the image.
    fn search(&self, query: &Query, partial: &Partial) -> Result<ImagePath, ImageError> {
        let mut asked = query.clone();
        let mut layers = self.image.layers.len();
        for _ in 0..MAX_LINKS {
            let mut search = Search::new(asked.clone());
            let mut written = None;
            for index in (0..layers).rev() {
                self.read_layer(index, &mut search, partial, &mut written)?;
                if search.end_layer() {
                    break;
                }
            }
            match search.outcome() {
                Outcome::File(path) if written.as_ref() == Some(&path) => {
                    return Ok(match query {
                        Query::File(wanted) => wanted.clone(),
                        Query::OnlyFileIn(_) => path,
                    });
                }
                Outcome::File(path) => return Err(self.not_a_file(&path, &Kind::Special)),
                Outcome::HardLink { target, layer } => {
                    layers -= layer;
                    asked = Query::File(target);
                }
                Outcome::Unusable(path, kind) => return Err(self.not_a_file(&path, &kind)),
                Outcome::Nothing => return Err(self.nothing(query)),
                Outcome::Several(files) => {
                    let files = files.iter().map(display).collect();
                    return Err(ImageError::Several {
                        image: self.name.clone(),
                        files,
                    });
                }
            }
        }
        Err(self.nothing(query))
    }

    fn read_layer(
        &self,
        index: usize,
        search: &mut Search,
        partial: &Partial,
        written: &mut Option<ImagePath>,
    ) -> Result<(), ImageError> {
        let source = &self.image.layers[index];
        let broken = |error| ImageError::Layer {
            image: self.name.clone(),
            layer: source.file.clone(),
            source: error,
        };
        let (stored, total) = open_layer(self.tree, source, &self.name)?;
        let mut layer = Layer::open(stored, source.promise).map_err(broken)?;
        let read = layer.progress();
        let mut entries = Tarball::new(&mut layer);
        while let Some(entry) = entries.next_entry().map_err(broken)? {
            let Some(path) = ImagePath::parse(&entry.name) else {
                let message = format!("it holds a file named {:?}", lossy(&entry.name));
                return Err(broken(io::Error::new(io::ErrorKind::InvalidData, message)));
            };
            if !search.entry(&path, &entry.kind) {
                continue;
            }
            if entry.size > MAX_SIZE {
                let (image, file) = (self.name.clone(), display(&path));
                return Err(ImageError::TooLarge {
                    image,
                    file,
                    size: entry.size,
                });
            }
            let mut tell = || self.progress.extracting(&self.name, read.get(), total);
            partial
                .write(&mut entries.body(), &mut tell)
                .map_err(|error| match error {
                    CopyError::Read(error) => broken(error),
                    CopyError::Write(source) => ImageError::Cache {
                        path: partial.0.clone(),
                        source,
                    },
                })?;
            *written = Some(path);
        }
        entries.drain().map_err(broken)?;
        layer.verify().map_err(broken)
    }

    fn nothing(&self, query: &Query) -> ImageError {
        let wanted = match query {
            Query::File(path) => format!("file {}", display(path)),
            Query::OnlyFileIn(directory) => format!("disk below {}", display(directory)),
        };
        ImageError::NotInImage {
            image: self.name.clone(),
            wanted,
        }
    }

    fn not_a_file(&self, path: &ImagePath, kind: &Kind) -> ImageError {
        let (image, file) = (self.name.clone(), display(path));
        ImageError::NotAFile {
            image,
            file,
            kind: kind.describe(),
        }
    }
}

fn display(path: &ImagePath) -> String {
    format!("/{}", path.as_path().display().to_string().escape_debug())
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned()
}

fn make_directory(path: &Path) -> Result<(), ImageError> {
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(ImageError::cache(path))
}

/// A file under way; removed unless it is published.
struct Partial(PathBuf);

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

impl Partial {
    /// Replaces the content, with holes for zeros, and makes it permanent.
    fn write(&self, body: &mut impl Read, tell: &mut dyn FnMut()) -> Result<(), CopyError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&self.0).map_err(CopyError::Write)?;
        let mut chunk = vec![0; CHUNK];
        let mut size: u64 = 0;
        loop {
            let filled = read_full(body, &mut chunk).map_err(CopyError::Read)?;
            if filled == 0 {
                break;
            }
            write_sparse(&mut file, &chunk[..filled]).map_err(CopyError::Write)?;
            size += filled as u64;
            tell();
        }
        // A hole at the end has no byte that would have extended the file.
        file.set_len(size).map_err(CopyError::Write)?;
        file.set_permissions(Permissions::from_mode(0o444))
            .map_err(CopyError::Write)?;
        file.sync_all().map_err(CopyError::Write)
    }

    fn publish(&self, target: &Path) -> Result<(), ImageError> {
        make_directory(target.parent().unwrap_or(target))?;
        std::fs::rename(&self.0, target).map_err(ImageError::cache(target))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already where it was published.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn write_sparse(file: &mut File, chunk: &[u8]) -> io::Result<()> {
    if chunk.iter().all(|&byte| byte == 0) {
        file.seek(SeekFrom::Current(chunk.len() as i64)).map(drop)
    } else {
        file.write_all(chunk)
    }
}

fn read_full(body: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match body.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
