//! Reading a tar stream that nobody vouches for.
//!
//! The crate `tar` decodes the fields of a header; the walk from header to header is ours,
//! because its own keeps long names of any length in memory. Here memory is constant, whatever
//! the stream says. Formats: ustar, GNU long names, and PAX (`path`, `linkpath`, `size`) as
//! image builders write them.

use std::io::{self, Read, Seek};

/// Long names and PAX records beyond this many bytes are an attack, not an image.
const MAX_METADATA: u64 = 1 << 20;
const BLOCK: u64 = 512;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An ordinary file.
    File,
    /// A directory.
    Directory,
    /// Another name of a file that came before; the target's name in the archive.
    HardLink(Vec<u8>),
    /// A symbolic link; its target as written.
    SymbolicLink(Vec<u8>),
    /// A GNU sparse file, whose body is a map rather than the content.
    Sparse,
    /// Devices, FIFOs and what future versions may bring.
    Special,
}

impl Kind {
    /// The kind in words, for messages.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Kind::File => "a file",
            Kind::Directory => "a directory",
            Kind::HardLink(_) => "a hard link",
            Kind::SymbolicLink(_) => "a symbolic link",
            Kind::Sparse => "a sparse tar entry (build the image without --sparse)",
            Kind::Special => "a device or another special file",
        }
    }
}

/// One entry's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The name as written: may be absolute, hold `..`, or be no UTF-8.
    pub(super) name: Vec<u8>,
    /// What the entry is.
    pub(super) kind: Kind,
    /// Bytes of the body that [`Tarball::body`] reads.
    pub(super) size: u64,
    /// Where the body starts, in bytes from the start of the stream.
    pub(super) offset: u64,
}

/// The entries of a tar stream, one after another.
pub(super) struct Tarball<R> {
    stream: R,
    position: u64,
    /// Bytes of the current entry not yet read, and the padding after them.
    left: u64,
    padding: u64,
    ended: bool,
}

/// What a PAX header or a GNU long name says of the entry that follows it.
#[derive(Default)]
struct Overrides {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl<R: Read> Tarball<R> {
    pub(super) fn new(stream: R) -> Self {
        Self {
            stream,
            position: 0,
            left: 0,
            padding: 0,
            ended: false,
        }
    }

    /// Steps to the next entry; what was not read of the one before is read past.
    ///
    /// # Errors
    /// The stream's own; `InvalidData` and `UnexpectedEof` where it is no whole tar archive.
    pub(super) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        self.skip_rest()?;
        self.head()
    }

    fn head(&mut self) -> io::Result<Option<Entry>> {
        let mut overrides = Overrides::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = header
                .entry_size()
                .map_err(|_| corrupt("an entry has no valid size"))?;
            let kind = header.entry_type();
            if matches!(kind.as_byte(), b'L' | b'K' | b'x' | b'g') {
                self.begin_body(size);
                let data = self.metadata(size)?;
                match kind.as_byte() {
                    b'L' => overrides.name = Some(until_nul(data)),
                    b'K' => overrides.link = Some(until_nul(data)),
                    b'x' => overrides.read_pax(&data)?,
                    // Global headers carry comments in practice: git's commit id.
                    _ => {}
                }
                continue;
            }
            let link = || match overrides.link.clone() {
                Some(link) => link,
                None => header
                    .link_name_bytes()
                    .map(|name| name.into_owned())
                    .unwrap_or_default(),
            };
            let kind = match kind.as_byte() {
                b'0' | 0 | b'7' if overrides.sparse => Kind::Sparse,
                b'0' | 0 | b'7' => Kind::File,
                b'1' => Kind::HardLink(link()),
                b'2' => Kind::SymbolicLink(link()),
                b'5' => Kind::Directory,
                b'S' => Kind::Sparse,
                _ => Kind::Special,
            };
            if header.entry_type().is_gnu_sparse() && is_extended(&header) {
                return Err(corrupt("a sparse entry; build the image without --sparse"));
            }
            let name = overrides
                .name
                .take()
                .unwrap_or_else(|| header.path_bytes().into_owned());
            // Links may carry a size that stands for no body (POSIX pax, "size").
            let size = match kind {
                Kind::File | Kind::Sparse => overrides.size.unwrap_or(size),
                Kind::HardLink(_) | Kind::SymbolicLink(_) | Kind::Directory => 0,
                Kind::Special => size,
            };
            self.begin_body(size);
            return Ok(Some(Entry {
                name,
                kind,
                size,
                offset: self.position,
            }));
        }
    }

    /// The current entry's body; ends early only with an error.
    pub(super) fn body(&mut self) -> Body<'_, R> {
        Body(self)
    }

    /// Reads the stream to its end, so that its digest can be judged.
    pub(super) fn drain(mut self) -> io::Result<()> {
        io::copy(&mut self.stream, &mut io::sink()).map(drop)
    }

    fn begin_body(&mut self, size: u64) {
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK).saturating_sub(size);
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let rest = self.left.saturating_add(self.padding);
        let skipped = io::copy(&mut self.stream.by_ref().take(rest), &mut io::sink())?;
        self.position += skipped;
        // The padding of the last entry may be missing; its body may not.
        if skipped < self.left {
            return Err(truncated());
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn header(&mut self) -> io::Result<Option<tar::Header>> {
        if self.ended {
            return Ok(None);
        }
        let mut header = tar::Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < block.len() {
            match self.stream.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += filled as u64;
        // Some writers leave out the two blocks of zeros at the end.
        if filled == 0 || (filled == block.len() && block.iter().all(|&byte| byte == 0)) {
            self.ended = true;
            return Ok(None);
        }
        if filled < block.len() {
            return Err(truncated());
        }
        let sum = block[..148].iter().chain(&[b' '; 8]).chain(&block[156..]);
        let sum: u32 = sum.map(|&byte| u32::from(byte)).sum();
        match header.cksum() {
            Ok(expected) if expected == sum => Ok(Some(header)),
            _ => Err(corrupt("it is no tar archive, or a header is damaged")),
        }
    }

    fn metadata(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_METADATA {
            return Err(corrupt("an entry's name is longer than 1 MiB"));
        }
        let mut data = Vec::with_capacity(size as usize);
        self.body().read_to_end(&mut data)?;
        Ok(data)
    }
}

impl<R: Read + Seek> Tarball<R> {
    /// As [`Tarball::next_entry`], but seeks over the body, so that an archive's table of
    /// contents costs only its headers.
    pub(super) fn next_entry_seeking(&mut self) -> io::Result<Option<Entry>> {
        let rest = self.left.saturating_add(self.padding);
        let distance = i64::try_from(rest).map_err(|_| corrupt("an entry has no valid size"))?;
        self.stream.seek_relative(distance)?;
        self.position += rest;
        // Bodies that reach past the end show when they are read.
        (self.left, self.padding) = (0, 0);
        self.head()
    }
}

impl Overrides {
    /// PAX records: `LENGTH KEY=VALUE\n`, the length counting itself (POSIX pax, "pax Extended
    /// Header").
    fn read_pax(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let (key, value, rest) =
                pax_record(data).ok_or_else(|| corrupt("a PAX header is damaged"))?;
            data = rest;
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value)
                        .ok()
                        .and_then(|size| size.parse().ok());
                    self.size = Some(size.ok_or_else(|| corrupt("a PAX size is no number"))?);
                }
                key => self.sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        Ok(())
    }
}

fn pax_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().position(|&byte| byte == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &data[length..]))
}

/// Whether further blocks of the sparse map follow the header, which would look like a body.
fn is_extended(header: &tar::Header) -> bool {
    header.as_gnu().is_some_and(tar::GnuHeader::is_extended)
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    let end = data
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(data.len());
    data.truncate(end);
    data
}

fn truncated() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "it ends in the middle of a file: truncated",
    )
}

fn corrupt(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads the body of a [`Tarball`]'s current entry.
pub(super) struct Body<'a, R>(&'a mut Tarball<R>);

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = buffer
            .len()
            .min(usize::try_from(self.0.left).unwrap_or(usize::MAX));
        if limit == 0 {
            return Ok(0);
        }
        let read = self.0.stream.read(&mut buffer[..limit])?;
        if read == 0 {
            return Err(truncated());
        }
        self.0.left -= read as u64;
        self.0.position += read as u64;
        Ok(read)
    }
}
