//! The parts of the qcow2 format that decide whether an image can be trusted, and those that
//! make a new, empty one. Source: `docs/interop/qcow2.txt` in QEMU.
//!
//! A new image is a header and three tables of zeros, so it is written here rather than by
//! `qemu-img create`: microseconds in place of a process a disk.

use std::path::Path;

use super::inspect::{Defect, MAX_SIZE};
use crate::convert::DiskFormat;

/// The first bytes of every qcow2 image.
pub(super) const MAGIC: &[u8; 4] = b"QFI\xfb";

/// Bytes of the header that are read, all fields that this program knows.
pub(super) const HEADER_LENGTH: usize = 104;

/// The longest name of a backing file.
const MAX_BACKING_NAME: usize = 1023;

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// Bytes of the largest L1 table that QEMU opens (`QCOW_MAX_L1_SIZE`).
const L1_MAX: u64 = 32 << 20;

/// Bits of a table's entry that are an offset in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;

/// A header that was found sound as far as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes that the guest sees.
    pub(super) virtual_size: u64,
    /// Where the L1 table lies, in bytes, and how many entries it has.
    pub(super) l1: (u64, u64),
    /// The size of a cluster in bits.
    cluster_bits: u32,
    /// Bytes of an entry of an L2 table.
    entry_size: u64,
}

impl Header {
    /// Reads and judges a header. `head` is the start of a file of `length` bytes.
    pub(super) fn parse(head: &[u8], length: u64) -> Result<Self, Defect> {
        let version = be32(head, 4)?;
        let (incompatible, header_length) = match version {
            2 => (0, 72),
            3 => (be64(head, 72)?, u64::from(be32(head, 100)?)),
            _ => return Err(Defect::Version(version)),
        };
        if be64(head, 8)? != 0 {
            return Err(Defect::BackingFile);
        }
        if incompatible & EXTERNAL_DATA != 0 {
            return Err(Defect::ExternalData);
        }
        if be32(head, 32)? != 0 {
            return Err(Defect::Encrypted);
        }
        let known = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;
        if incompatible & CORRUPT != 0 {
            return Err(Defect::Corrupt);
        }
        if incompatible & !known != 0 {
            return Err(Defect::Features(incompatible & !known));
        }
        let cluster_bits = be32(head, 20)?;
        let virtual_size = be64(head, 24)?;
        if !(9..=21).contains(&cluster_bits) || (version == 3 && header_length < 104) {
            return Err(Defect::Header);
        }
        if virtual_size == 0 || virtual_size > MAX_SIZE {
            return Err(Defect::Size(virtual_size));
        }
        let header = Self {
            virtual_size,
            l1: (be64(head, 40)?, be32(head, 36)?.into()),
            cluster_bits,
            entry_size: if incompatible & EXTENDED_L2 != 0 {
                16
            } else {
                8
            },
        };
        let entries = header.virtual_size.div_ceil(header.bytes_per_l1_entry());
        let refcounts = u64::from(be32(head, 56)?) << cluster_bits;
        let refcounts_end = be64(head, 48)?.checked_add(refcounts);
        let l1_end = header
            .l1
            .1
            .checked_mul(8)
            .and_then(|size| size.checked_add(header.l1.0));
        let l1_is_sound = (entries..=L1_MAX / 8).contains(&header.l1.1)
            && header.l1.0 & (header.cluster_size() - 1) == 0;
        if !l1_is_sound || refcounts == 0 {
            return Err(Defect::Header);
        }
        // The file may end within its last cluster, but not before a table's last entry.
        let clusters_end = length.next_multiple_of(header.cluster_size());
        match (l1_end, refcounts_end) {
            (Some(l1), Some(refcounts)) if l1 <= length && refcounts <= clusters_end => Ok(header),
            _ => Err(Defect::Truncated),
        }
    }

    /// Bytes in an L2 table.
    pub(super) fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The offset of an L2 table that an entry of the L1 table gives; `None` for a hole.
    pub(super) fn l2_table(&self, entry: u64, length: u64) -> Result<Option<u64>, Defect> {
        match entry & OFFSET {
            0 => Ok(None),
            offset if offset & (self.cluster_size() - 1) != 0 => Err(Defect::Header),
            offset
                if length
                    .checked_sub(offset)
                    .is_none_or(|left| left < self.entry_size) =>
            {
                Err(Defect::Truncated)
            }
            offset => Ok(Some(offset)),
        }
    }

    /// Whether everything that an L2 table refers to begins within a file of `length` bytes.
    pub(super) fn check_l2(&self, table: &[u8], length: u64) -> Result<(), Defect> {
        // Compressed clusters begin at any byte, and have their length in the upper bits.
        let compressed_offset = (1 << (70 - self.cluster_bits)) - 1;
        for entry in table.chunks_exact(self.entry_size as usize) {
            let entry = be64(entry, 0)?;
            let mask = if entry & COMPRESSED != 0 {
                compressed_offset
            } else {
                OFFSET
            };
            if entry & mask >= length {
                return Err(Defect::Truncated);
            }
        }
        Ok(())
    }

    fn bytes_per_l1_entry(&self) -> u64 {
        (self.cluster_size() / self.entry_size) << self.cluster_bits
    }
}

/// A new image's bytes, all at its start: everything that is not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewImage {
    /// What the first clusters hold; the rest of the file is a hole.
    pub(super) pieces: [(u64, Vec<u8>); 3],
    /// Bytes in the file.
    pub(super) length: u64,
}

/// A new image of `virtual_size` bytes, which must be a multiple of 512; zeros, or what the
/// backing file has. `None` where the backing file's name does not fit.
pub(super) fn create(virtual_size: u64, backing: Option<(&Path, DiskFormat)>) -> Option<NewImage> {
    const BITS: u32 = 16;
    const CLUSTER: u64 = 1 << BITS;
    const BACKING_FORMAT: u32 = 0xe279_2aca;
    let l1_entries = virtual_size.div_ceil(CLUSTER / 8 * CLUSTER);
    let (refcount_table, refcount_block, l1_table) = (CLUSTER, 2 * CLUSTER, 3 * CLUSTER);
    let clusters = 3 + (l1_entries * 8).div_ceil(CLUSTER);

    let mut extensions = Vec::new();
    let mut name: &[u8] = &[];
    if let Some((path, format)) = backing {
        name = path.as_os_str().as_encoded_bytes();
        let format: &[u8] = match format {
            DiskFormat::Raw => b"raw",
            DiskFormat::Qcow2 => b"qcow2",
        };
        extensions.extend(BACKING_FORMAT.to_be_bytes());
        extensions.extend((format.len() as u32).to_be_bytes());
        extensions.extend(format);
        extensions.resize(extensions.len().next_multiple_of(8), 0);
    }
    // The end of the extensions.
    extensions.extend([0; 8]);
    if name.len() > MAX_BACKING_NAME {
        return None;
    }
    let name_offset = if name.is_empty() {
        0
    } else {
        HEADER_LENGTH + extensions.len()
    };

    let mut header = Vec::with_capacity(HEADER_LENGTH + extensions.len() + name.len());
    header.extend(MAGIC);
    header.extend(3_u32.to_be_bytes());
    header.extend((name_offset as u64).to_be_bytes());
    header.extend((name.len() as u32).to_be_bytes());
    header.extend(BITS.to_be_bytes());
    header.extend(virtual_size.to_be_bytes());
    header.extend(0_u32.to_be_bytes()); // not encrypted
    header.extend((l1_entries as u32).to_be_bytes());
    header.extend(l1_table.to_be_bytes());
    header.extend(refcount_table.to_be_bytes());
    header.extend(1_u32.to_be_bytes()); // clusters of the refcount table
    header.extend([0; 12]); // no snapshots
    header.extend([0; 24]); // no feature bits
    header.extend(4_u32.to_be_bytes()); // refcounts of 16 bits
    header.extend((HEADER_LENGTH as u32).to_be_bytes());
    header.extend(extensions);
    header.extend(name);

    let refcounts = 1_u16.to_be_bytes().repeat(clusters as usize);
    Some(NewImage {
        pieces: [
            (0, header),
            (refcount_table, refcount_block.to_be_bytes().to_vec()),
            (refcount_block, refcounts),
        ],
        length: clusters * CLUSTER,
    })
}

fn be32(bytes: &[u8], at: usize) -> Result<u32, Defect> {
    let bytes = bytes.get(at..at + 4).ok_or(Defect::Truncated)?;
    Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// The big-endian number at a place in a header or a table.
pub(super) fn be64(bytes: &[u8], at: usize) -> Result<u64, Defect> {
    Ok(u64::from(be32(bytes, at)?) << 32 | u64::from(be32(bytes, at + 4)?))
}
