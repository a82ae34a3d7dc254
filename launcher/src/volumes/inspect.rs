//! What a disk image is, judged by its own bytes before QEMU opens it.
//!
//! An image is input that its maker chose. One that names other files (a backing file, an
//! external data file) would have QEMU read them for the guest, so it is refused; so is
//! everything that would otherwise show up as a guest that does not boot: other formats,
//! compressed downloads, truncated files.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::VolumeError;
use super::qcow2::{self, Header};
use crate::convert::DiskFormat;

/// QEMU's limit for a disk, in bytes: 64 TiB.
pub(super) const MAX_SIZE: u64 = 64 << 40;

/// Bytes of a file that decide on its format.
const HEAD: usize = 512;

/// A sound image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// How its bytes are to be read.
    pub format: DiskFormat,
    /// Bytes that a guest sees, a multiple of 512.
    pub virtual_size: u64,
}

/// Why an image is none that a guest may be given. Each says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// A format of another hypervisor.
    #[error("it is a {0} image; convert it with qemu-img convert -O qcow2")]
    Foreign(&'static str),
    /// A compressed file.
    #[error("it is compressed with {0}; decompress it")]
    Compressed(&'static str),
    /// qcow2 where only raw is possible.
    #[error("it is a qcow2 image, but must be raw; convert it with qemu-img convert -O raw")]
    NotRaw,
    /// qcow2 over another file, which would be read for the guest.
    #[error("it needs a backing file; make it whole with qemu-img convert -O qcow2")]
    BackingFile,
    /// qcow2 with its data elsewhere.
    #[error("it needs an external data file; make it whole with qemu-img convert -O qcow2")]
    ExternalData,
    /// qcow2 with encryption.
    #[error("it is encrypted; decrypt it with qemu-img convert -O qcow2")]
    Encrypted,
    /// QEMU found it corrupt before.
    #[error("it is marked corrupt; repair it with qemu-img check -r all")]
    Corrupt,
    /// A version of qcow2 that is none.
    #[error("it is qcow2 of unknown version {0}; convert it with qemu-img convert -O qcow2")]
    Version(u32),
    /// Features (by bit) of qcow2 that are not known here.
    #[error("it has unknown qcow2 features {0:#x}; convert it with qemu-img convert -O qcow2")]
    Features(u64),
    /// A header that contradicts itself.
    #[error("its qcow2 header is damaged; copy the image again")]
    Header,
    /// Tables or data that lie beyond the end of the file.
    #[error("it is truncated; copy the image again")]
    Truncated,
    /// Tables that several entries share: read one by one they would take for ever.
    #[error("its qcow2 tables overlap; repair it with qemu-img check -r all")]
    Overlap,
    /// A size that no disk can have.
    #[error("its size of {0} bytes is not possible; disks have up to 64 TiB")]
    Size(u64),
}

/// Formats by what they start with, at an offset.
const FOREIGN: &[(usize, &[u8], &str)] = &[
    (0, b"KDMV", "VMDK"),
    (0, b"COWD", "VMDK"),
    (0, b"# Disk DescriptorFile", "VMDK"),
    (0x40, b"\x7f\x10\xda\xbe", "VDI"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"conectix", "VHD"),
    (0, b"QED\0", "QED"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
    (0, b"LUKS\xba\xbe", "LUKS"),
];

/// Compressed files by their first bytes.
const COMPRESSED: &[(&[u8], &str)] = &[
    (b"\x1f\x8b\x08", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
];

/// Judges an image by its first 512 bytes (all, where it is shorter) and its length.
///
/// # Errors
/// [`Defect`] where no guest may be given it. Whether tables deeper in a qcow2 image are whole
/// cannot be seen here: [`file()`] does.
pub fn inspect(head: &[u8], length: u64) -> Result<Inspected, Defect> {
    if length == 0 {
        return Err(Defect::Empty);
    }
    if head.starts_with(qcow2::MAGIC) {
        let virtual_size = Header::parse(head, length)?.virtual_size;
        let virtual_size = virtual_size.next_multiple_of(512);
        return Ok(Inspected {
            format: DiskFormat::Qcow2,
            virtual_size,
        });
    }
    let has =
        |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|it| it.starts_with(magic));
    if let Some((_, _, name)) = FOREIGN
        .iter()
        .find(|(offset, magic, _)| has(*offset, magic))
    {
        return Err(Defect::Foreign(name));
    }
    if let Some((_, name)) = COMPRESSED.iter().find(|(magic, _)| has(0, magic)) {
        return Err(Defect::Compressed(name));
    }
    raw(length)
}

/// Judges an image that is used as raw whatever it holds: a hostDisk.
///
/// Its content belongs to the guest, which may well have encrypted it; only an image of
/// another format in its place is taken for a mistake.
///
/// # Errors
/// [`Defect`] where it is a disk image of another format, or of no possible size.
pub fn inspect_raw(head: &[u8], length: u64) -> Result<Inspected, Defect> {
    if head.starts_with(qcow2::MAGIC) {
        return Err(Defect::NotRaw);
    }
    match inspect(head, length) {
        Err(Defect::Compressed(_) | Defect::Foreign("LUKS")) => raw(length),
        other => other,
    }
}

fn raw(length: u64) -> Result<Inspected, Defect> {
    if length > MAX_SIZE {
        return Err(Defect::Size(length));
    }
    // QEMU reads zeros after the end of a file that stops within a sector.
    let virtual_size = length.next_multiple_of(512);
    Ok(Inspected {
        format: DiskFormat::Raw,
        virtual_size,
    })
}

/// Judges an image file: as [`inspect`], and that nothing a qcow2 image's tables refer to lies
/// beyond the file's end. Reads 8 bytes for each cluster (64 KiB) of the guest's data.
///
/// # Errors
/// [`VolumeError::Read`] and [`VolumeError::Defect`], with `volume` in their message.
pub fn file(volume: &str, path: &Path) -> Result<Inspected, VolumeError> {
    let file = File::open(path).map_err(VolumeError::read(volume, path))?;
    opened(volume, path, &file)
}

/// Judges an open image file, as [`file()`]; `path` is its name.
///
/// # Errors
/// [`VolumeError::Read`] and [`VolumeError::Defect`], with `volume` in their message.
pub fn opened(volume: &str, path: &Path, file: &File) -> Result<Inspected, VolumeError> {
    let (head, length) = start(volume, path, file)?;
    let inspected = inspect(&head, length).map_err(VolumeError::defect(volume, path))?;
    if inspected.format == DiskFormat::Qcow2 {
        let header = Header::parse(&head, length).map_err(VolumeError::defect(volume, path))?;
        let mut table = vec![0; header.cluster_size() as usize];
        let (offset, entries) = header.l1;
        let mut left = entries * 8;
        // Each table has its own place in a sound file, so together they are no longer than that.
        let mut tables = length.div_ceil(header.cluster_size());
        while left > 0 {
            let size = left.min(table.len() as u64);
            let mut l1 = vec![0; size as usize];
            let at = offset + entries * 8 - left;
            file.read_exact_at(&mut l1, at)
                .map_err(VolumeError::read(volume, path))?;
            for entry in l1.chunks_exact(8) {
                let l2 = qcow2::be64(entry, 0).and_then(|entry| header.l2_table(entry, length));
                let Some(at) = l2.map_err(VolumeError::defect(volume, path))? else {
                    continue;
                };
                tables = tables
                    .checked_sub(1)
                    .ok_or(Defect::Overlap)
                    .map_err(VolumeError::defect(volume, path))?;
                let read = read_up_to(file, &mut table, at);
                let read = read.map_err(VolumeError::read(volume, path))?;
                header
                    .check_l2(&table[..read], length)
                    .map_err(VolumeError::defect(volume, path))?;
            }
            left -= size;
        }
    }
    Ok(inspected)
}

/// Judges a file that is used as raw, as [`inspect_raw`].
///
/// # Errors
/// [`VolumeError::Read`] and [`VolumeError::Defect`], with `volume` in their message.
pub fn raw_file(volume: &str, path: &Path) -> Result<Inspected, VolumeError> {
    let file = File::open(path).map_err(VolumeError::read(volume, path))?;
    opened_raw(volume, path, &file)
}

/// Judges an open file or block device that is used as raw, as [`inspect_raw`]; `path` is its
/// name.
///
/// # Errors
/// [`VolumeError::Read`] and [`VolumeError::Defect`], with `volume` in their message.
pub fn opened_raw(volume: &str, path: &Path, file: &File) -> Result<Inspected, VolumeError> {
    let (head, length) = start(volume, path, file)?;
    inspect_raw(&head, length).map_err(VolumeError::defect(volume, path))
}

/// The first bytes of an image, and its length: a file's or a block device's.
fn start(volume: &str, path: &Path, mut file: &File) -> Result<(Vec<u8>, u64), VolumeError> {
    let mut read = || {
        let length = file.seek(SeekFrom::End(0))?;
        let mut head = vec![0; HEAD];
        let read = read_up_to(file, &mut head, 0)?;
        head.truncate(read);
        Ok((head, length))
    };
    read().map_err(VolumeError::read(volume, path))
}

fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
