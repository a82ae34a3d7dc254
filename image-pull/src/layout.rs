//! An OCI image layout (`image-layout.md`) that several processes may write at once.
//!
//! ```text
//! blobs/sha256/HEX            a blob, whole and verified, or not there at all
//! blobs/sha256/HEX.partial    one under way; whoever holds its lock writes it
//! index.json, index.lock      names; replaced as a whole by whoever holds the lock
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex, Sha256Digest};
use sha2::{Digest as _, Sha256};

use crate::error::PullError;

/// The annotation that holds an image's name (`image-index.md`, pre-defined annotations).
const NAME: &str = "org.opencontainers.image.ref.name";

/// A layout's directory.
pub(crate) struct Layout(PathBuf);

impl Layout {
    /// Opens a layout; an empty one is made where there is none.
    pub(crate) fn open(directory: PathBuf) -> Result<Self, PullError> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(PullError::write(&blobs))?;
        let layout = Self(directory);
        if !layout.0.join("oci-layout").exists() {
            layout.replace("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(layout)
    }

    fn blob(&self, digest: &Sha256Digest) -> PathBuf {
        self.0.join("blobs/sha256").join(digest.digest())
    }

    /// Whether a blob is there. What is there is whole.
    pub(crate) fn has(&self, digest: &Sha256Digest) -> bool {
        self.blob(digest).is_file()
    }

    /// A small blob's content, where it is there.
    pub(crate) fn read(&self, digest: &Sha256Digest) -> Option<Vec<u8>> {
        fs::read(self.blob(digest)).ok()
    }

    /// Stores a small blob, a manifest.
    pub(crate) fn store(&self, digest: &Sha256Digest, content: &[u8]) -> Result<(), PullError> {
        if self.has(digest) {
            return Ok(());
        }
        self.replace(&format!("blobs/sha256/{}", digest.digest()), content)
    }

    /// Takes a blob in hand; `None` where it is there by now. Waits while another process
    /// downloads it.
    pub(crate) fn begin(&self, digest: &Sha256Digest) -> Result<Option<Partial>, PullError> {
        let path = self.blob(digest).with_extension("partial");
        if self.has(digest) {
            return Ok(None);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(PullError::write(&path))?;
        file.lock().map_err(PullError::write(&path))?;
        // The one who held the lock may have finished the blob, and this file may be its blob.
        if self.has(digest) {
            if !is_same(&file, &self.blob(digest)) {
                // Made after the other one had renamed its own.
                let _ = fs::remove_file(&path);
            }
            return Ok(None);
        }
        let mut hasher = Sha256::new();
        let length = io::copy(&mut file, &mut hasher).map_err(PullError::write(&path))?;
        let target = self.blob(digest);
        Ok(Some(Partial {
            file,
            path,
            target,
            hasher,
            length,
        }))
    }

    /// Gives a name to an image, taking it from another one that had it.
    pub(crate) fn name(&self, name: &str, mut image: Descriptor) -> Result<(), PullError> {
        let lock = self.0.join("index.lock");
        let file = File::create(&lock).map_err(PullError::write(&lock))?;
        file.lock().map_err(PullError::write(&lock))?;
        let path = self.0.join("index.json");
        let mut index = match File::open(&path) {
            Ok(file) => ImageIndex::from_reader(io::BufReader::new(file)).map_err(|source| {
                PullError::Index {
                    path: path.clone(),
                    source,
                }
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => empty_index(),
            Err(error) => return Err(PullError::write(&path)(error)),
        };
        image.set_annotations(Some([(NAME.to_owned(), name.to_owned())].into()));
        let mut manifests = index.manifests().clone();
        manifests.retain(|other| name_of(other) != Some(name));
        manifests.push(image);
        index.set_manifests(manifests);
        let text = index
            .to_string()
            .map_err(|source| PullError::Index { path, source })?;
        self.replace("index.json", text.as_bytes())
    }

    /// Writes a file that is seen only when whole.
    fn replace(&self, name: &str, content: &[u8]) -> Result<(), PullError> {
        let path = self.0.join(name);
        let partial = self.0.join(format!("{name}.{}", std::process::id()));
        let written = File::create(&partial)
            .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&partial, &path));
        written.map_err(PullError::write(&path))
    }
}

/// A blob under way, resumed where an earlier download was cut off.
pub(crate) struct Partial {
    file: File,
    path: PathBuf,
    target: PathBuf,
    hasher: Sha256,
    length: u64,
}

impl Partial {
    /// Bytes that are there already.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Starts over: the server sent the whole blob, or what was there is wrong.
    pub(crate) fn reset(&mut self) -> Result<(), PullError> {
        self.hasher = Sha256::new();
        self.length = 0;
        let emptied = self
            .file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map(drop).map_err(PullError::write(&self.path))
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), PullError> {
        self.file
            .write_all(bytes)
            .map_err(PullError::write(&self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Whether the bytes so far are the whole blob.
    pub(crate) fn is(&self, digest: &Sha256Digest) -> bool {
        hex(&self.hasher) == digest.digest()
    }

    /// Makes the blob visible where it is what was promised; otherwise nothing of it stays.
    pub(crate) fn finish(self, digest: &Sha256Digest) -> Result<(), PullError> {
        if !self.is(digest) {
            fs::remove_file(&self.path).map_err(PullError::write(&self.path))?;
            let (promised, found) = (digest.digest().to_owned(), hex(&self.hasher));
            return Err(PullError::Content { promised, found });
        }
        let published = self
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, &self.target));
        published.map_err(PullError::write(&self.target))
    }
}

/// The digest of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::new_with_prefix(bytes))
}

fn hex(hasher: &Sha256) -> String {
    format!("{:x}", hasher.clone().finalize())
}

fn name_of(descriptor: &Descriptor) -> Option<&str> {
    descriptor
        .annotations()
        .as_ref()?
        .get(NAME)
        .map(String::as_str)
}

fn empty_index() -> ImageIndex {
    let mut index = ImageIndex::default();
    index.set_schema_version(2);
    index
}

fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
