//! From stored bytes to a layer's tar stream, checked on the way.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use sha2::Digest as _;

use super::digest::Digest;

/// Bytes of a file: the whole of a blob, or an entry of an archive.
pub(super) type Stored = io::Take<File>;

/// Read in pieces of this many bytes.
const CHUNK: usize = 128 * 1024;

/// What a layer's digest was promised to be, and of which bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// Of the bytes as stored: an OCI descriptor's digest.
    Stored(Digest),
    /// Of the tar stream after decompression: a `diff_id` of the image's configuration, all
    /// that a docker archive offers.
    Unpacked(Digest),
}

/// A layer's tar stream. Only after it was read to its end does [`Layer::verify`] judge it.
pub(super) struct Layer {
    stream: Box<dyn Read>,
    promised: Digest,
    hasher: Rc<RefCell<sha2::Sha256>>,
    read: Rc<Cell<u64>>,
}

impl Layer {
    /// Opens a layer. What compressed it (gzip, zstd or nothing) is read from its first bytes,
    /// as media types are often wrong.
    pub(super) fn open(stored: Stored, promise: Promise) -> io::Result<Self> {
        let hasher = Rc::<RefCell<sha2::Sha256>>::default();
        let read = Rc::<Cell<u64>>::default();
        let counted = Counted {
            inner: stored,
            read: Rc::clone(&read),
        };
        let (stream, promised) = match promise {
            Promise::Stored(promised) => {
                let hashed = Hashed {
                    inner: counted,
                    hasher: Rc::clone(&hasher),
                };
                (decompressed(hashed)?, promised)
            }
            Promise::Unpacked(promised) => {
                let inner = decompressed(counted)?;
                let hashed = Hashed {
                    inner,
                    hasher: Rc::clone(&hasher),
                };
                (Box::new(hashed) as Box<dyn Read>, promised)
            }
        };
        let stream = Box::new(BufReader::with_capacity(CHUNK, stream));
        Ok(Self {
            stream,
            promised,
            hasher,
            read,
        })
    }

    /// The count of stored bytes read so far, kept up to date while the stream is read.
    pub(super) fn progress(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.read)
    }

    /// Judges the bytes read so far, which must be all.
    ///
    /// # Errors
    /// `InvalidData` where their digest is not the promised one.
    pub(super) fn verify(self) -> io::Result<()> {
        let digest = Digest::from(self.hasher.take());
        if digest == self.promised {
            return Ok(());
        }
        let message = format!("its content is {digest}: copy or pull the image again");
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }
}

impl Read for Layer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

fn decompressed(inner: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut inner = BufReader::with_capacity(CHUNK, inner);
    Ok(match inner.fill_buf()? {
        // Compressors that work in parallel, and those that allow seeking, write many members.
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(inner)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(inner)?),
        // A skippable frame: zstd:chunked and parallel zstd begin with one.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Box::new(zstd::Decoder::with_buffer(inner)?),
        _ => Box::new(inner),
    })
}

struct Counted<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

struct Hashed<R> {
    inner: R,
    hasher: Rc<RefCell<sha2::Sha256>>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.borrow_mut().update(&buffer[..read]);
        Ok(read)
    }
}
