//! A place that holds files by name: a directory, or a tar archive read in place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::blob::Stored;
use super::error::ImageError;
use super::search::ImagePath;
use super::tarball::{Kind, Tarball};

/// JSON documents beyond this size belong to no image.
const MAX_DOCUMENT: u64 = 4 << 20;

/// Links from name to name that are followed in an archive.
const MAX_LINKS: usize = 8;

/// Files by name.
pub(super) struct Tree {
    path: PathBuf,
    archive: Option<Archive>,
}

/// Where in a tar archive each file lies.
#[derive(Default)]
struct Archive {
    files: BTreeMap<ImagePath, (u64, u64)>,
    /// `docker save` of old writes a layer once and links to it.
    links: BTreeMap<ImagePath, ImagePath>,
}

impl Tree {
    /// A directory's files.
    pub(super) fn directory(path: PathBuf) -> Self {
        Self {
            path,
            archive: None,
        }
    }

    /// The files in a tar archive; bodies are seeked over, not read.
    pub(super) fn archive(path: PathBuf) -> Result<Self, ImageError> {
        let archive = File::open(&path)
            .and_then(Archive::index)
            .map_err(ImageError::read(&path))?;
        Ok(Self {
            path,
            archive: Some(archive),
        })
    }

    /// The directory or the archive.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file: its bytes and how many they are; `None` where there is none of that name.
    pub(super) fn open(&self, name: &str) -> Result<Option<(Stored, u64)>, ImageError> {
        let Some(archive) = &self.archive else {
            let path = self.path.join(name);
            return match File::open(&path).and_then(|file| Ok((file.metadata()?, file))) {
                Ok((metadata, file)) => Ok(Some((file.take(metadata.len()), metadata.len()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(ImageError::Read { path, source }),
            };
        };
        let Some((offset, size)) = archive.find(name) else {
            return Ok(None);
        };
        let mut file = File::open(&self.path).map_err(ImageError::read(&self.path))?;
        file.seek(SeekFrom::Start(offset))
            .map_err(ImageError::read(&self.path))?;
        Ok(Some((file.take(size), size)))
    }

    /// Reads a whole document; `None` where there is none of that name.
    pub(super) fn document(&self, name: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let Some((stored, size)) = self.open(name)? else {
            return Ok(None);
        };
        let mut text = Vec::new();
        let read = if size > MAX_DOCUMENT {
            Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "longer than 4 MiB",
            ))
        } else {
            stored.take(size).read_to_end(&mut text)
        };
        read.map_err(ImageError::read(&self.path.join(name)))?;
        Ok(Some(text))
    }
}

impl Archive {
    fn index(file: File) -> io::Result<Self> {
        let mut archive = Self::default();
        let mut entries = Tarball::new(io::BufReader::with_capacity(16 * 1024, file));
        while let Some(entry) = entries.next_entry_seeking()? {
            let Some(name) = ImagePath::parse(&entry.name) else {
                continue;
            };
            match entry.kind {
                Kind::File => {
                    archive.files.insert(name, (entry.offset, entry.size));
                }
                Kind::HardLink(target) => {
                    if let Some(target) = ImagePath::parse(&target) {
                        archive.links.insert(name, target);
                    }
                }
                Kind::SymbolicLink(target) => {
                    if let Some(target) = beside(&name, &target) {
                        archive.links.insert(name, target);
                    }
                }
                Kind::Directory | Kind::Sparse | Kind::Special => {}
            }
        }
        Ok(archive)
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = ImagePath::parse(name.as_bytes())?;
        for _ in 0..MAX_LINKS {
            match self.files.get(&name) {
                Some(&place) => return Some(place),
                None => name = self.links.get(&name)?.clone(),
            }
        }
        None
    }
}

/// Where a symbolic link leads; `None` where that is outside the archive.
fn beside(link: &ImagePath, target: &[u8]) -> Option<ImagePath> {
    let target = std::str::from_utf8(target).ok()?;
    let mut directory = link.as_path().parent()?;
    let mut rest = target;
    while let Some(further) = rest.strip_prefix("../") {
        directory = directory.parent()?;
        rest = further;
    }
    let path = directory.join(rest);
    ImagePath::parse(path.as_os_str().as_encoded_bytes())
}
