//! A claim: a block device, or an image in the claim's file system.

use std::ffi::OsStr;
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::error::VolumeError;
use super::inspect;
use super::plan::ALIGNMENT;
use super::prepare::{BLOCK_SIZES, open_for_guest, persist};
use crate::convert::BlockSize;

/// The part of a file system's free space that a new image may fill, in percent: what CDI leaves
/// to the file system itself by default (`filesystemOverhead`).
const FILLED: u64 = 94;

/// What an image is named until it is whole, around something of its maker's own: other nodes' VMs
/// may be making theirs in the same claim.
const UNFINISHED: (&str, &str) = ("disk", ".partial");

/// Where a claim may be; which of the two it is shows when it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The image in its file system.
    pub(super) file: PathBuf,
    /// Its device.
    pub(super) device: PathBuf,
}

impl Claim {
    /// The path that the claim's bytes are under, and whether that is a block device.
    pub(super) fn find(&self) -> (&Path, bool) {
        let device = fs::metadata(&self.device);
        match device.is_ok_and(|found| found.file_type().is_block_device()) {
            true => (&self.device, true),
            false => (&self.file, false),
        }
    }

    /// Sees to it that the claim holds a raw image that the guest can use, as it needs to. In an
    /// empty file system an image is made, as KubeVirt does: sparse, of the claim's `capacity`,
    /// down to a whole mebibyte; of what is free where that is less or the capacity is not known.
    pub(super) fn ensure(
        &self,
        volume: &str,
        capacity: Option<u64>,
        read_only: bool,
    ) -> Result<(), VolumeError> {
        let (path, block) = self.find();
        if !block && !read_only && is_absent(volume, path)? {
            self.create(volume, capacity)?;
        }
        let file = open_for_guest(volume, path, read_only)?;
        inspect::opened_raw(volume, path, &file).map(drop)
    }

    /// Makes the image; where somebody else was faster, theirs is kept.
    fn create(&self, volume: &str, capacity: Option<u64>) -> Result<(), VolumeError> {
        let directory = self.file.parent().unwrap_or(&self.file);
        let read = VolumeError::read(volume, directory);
        let others = fs::read_dir(directory).and_then(|entries| {
            let mut names = entries.map(|entry| entry.map(|entry| entry.file_name()));
            names
                .find_map(|name| match name {
                    Ok(name) if self.is_no_data(&name) => None,
                    other => Some(other),
                })
                .transpose()
        });
        if let Some(found) = others.map_err(read)? {
            return Err(VolumeError::ForeignClaim {
                volume: volume.to_owned(),
                found: directory.join(found),
            });
        }
        let statistics = nix::sys::statvfs::statvfs(directory)
            .map_err(|error| VolumeError::read(volume, directory)(error.into()))?;
        let available = statistics.blocks_available() * statistics.fragment_size();
        let size = new_size(capacity, available);
        if size == 0 {
            return Err(VolumeError::NoRoom {
                volume: volume.to_owned(),
                directory: directory.to_owned(),
                available,
            });
        }
        let made = tempfile::Builder::new()
            .prefix(UNFINISHED.0)
            .suffix(UNFINISHED.1)
            .tempfile_in(directory)
            .and_then(|file| file.as_file().set_len(size).map(|()| file));
        let file = made.map_err(VolumeError::write(volume, &self.file))?;
        persist(volume, file, &self.file)
    }

    /// Whether a name in the claim's file system is nobody's data: what it has before anybody wrote
    /// to it, the image of somebody who is faster, one that is being made or was never finished.
    fn is_no_data(&self, name: &OsStr) -> bool {
        let name = name.as_encoded_bytes();
        let (prefix, suffix) = UNFINISHED;
        let image = self.file.file_name().map(OsStr::as_encoded_bytes);
        name == b"lost+found"
            || Some(name) == image
            || (name.starts_with(prefix.as_bytes()) && name.ends_with(suffix.as_bytes()))
    }
}

/// The size of an image that is made in an empty claim.
fn new_size(capacity: Option<u64>, available: u64) -> u64 {
    let room = available / 100 * FILLED;
    capacity.map_or(room, |capacity| capacity.min(room)) / ALIGNMENT * ALIGNMENT
}

fn is_absent(volume: &str, path: &Path) -> Result<bool, VolumeError> {
    let absent = path.try_exists().map(|exists| !exists);
    absent.map_err(VolumeError::read(volume, path))
}

/// The sizes of a block device's blocks, as the kernel tells them in sysfs; a partition has those
/// of its disk.
pub(super) fn block_size(device: &Path) -> Option<BlockSize> {
    let number = fs::metadata(device).ok()?.st_rdev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let read = |name: &str| {
        let whole = format!("/sys/dev/block/{major}:{minor}/queue/{name}");
        let parent = format!("/sys/dev/block/{major}:{minor}/../queue/{name}");
        let text = fs::read_to_string(whole).or_else(|_| fs::read_to_string(parent));
        let size: u32 = text.ok()?.trim().parse().ok()?;
        BLOCK_SIZES.contains(&size).then_some(size)
    };
    Some(BlockSize {
        logical: read("logical_block_size")?,
        physical: read("physical_block_size")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn whoever_was_faster_keeps_the_image() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("disk.img");
        let device = directory.path().join("device");
        let claim = Claim { file, device };
        // Made between the look and the making, as another node's VM may.
        fs::write(&claim.file, "a guest's").unwrap();
        claim.create("data", Some(MIB)).unwrap();
        assert_eq!(fs::read(&claim.file).unwrap(), b"a guest's");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_new_image_fits_its_claim() {
        let cases = [
            (Some(10 * MIB), 1000 * MIB, 10 * MIB),
            (Some(10 * MIB + 5), 1000 * MIB, 10 * MIB),
            (Some(100 * MIB), 100 * MIB, 94 * MIB),
            (None, 100 * MIB, 94 * MIB),
            (None, MIB, 0),
            (Some(MIB), 0, 0),
        ];
        for (capacity, available, size) in cases {
            let found = new_size(capacity, available);
            assert_eq!(found, size, "{capacity:?} of {available}");
        }
    }
}
