//! What can go wrong between a VMI's volumes and their files.

use std::io;
use std::path::{Path, PathBuf};

use super::inspect::Defect;

/// A volume could not be made ready. Each variant names the volume and says what helps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// The name would lead out of the runtime directory.
    #[error("volume {volume:?}: a volume's name is a DNS label, such as disk0")]
    Name {
        /// The volume.
        volume: String,
    },
    /// No source that is supported.
    #[error(
        "volume {volume} has no source; give it containerDisk, persistentVolumeClaim, ephemeral, \
         emptyDisk, hostDisk, cloudInitNoCloud, cloudInitConfigDrive, configMap, secret, \
         serviceAccount or downwardAPI"
    )]
    NoSource {
        /// The volume.
        volume: String,
    },
    /// cloud-init data in base64 that is none.
    #[error("volume {volume}: {field} is not base64")]
    Base64 {
        /// The volume.
        volume: String,
        /// The field of its source.
        field: &'static str,
        /// Where it goes wrong.
        source: base64::DecodeError,
    },
    /// A disk must have at least a mebibyte and at most what QEMU can address.
    #[error("volume {volume}: a disk of {capacity} is not possible; give it from 1Mi to 64Ti")]
    Capacity {
        /// The volume.
        volume: String,
        /// The capacity as the manifest has it.
        capacity: String,
    },
    /// A file path that QEMU's image format or its configuration cannot hold.
    #[error("volume {volume}: path {} is too long or not UTF-8", .path.display())]
    Path {
        /// The volume.
        volume: String,
        /// The path.
        path: PathBuf,
    },
    /// The volume's input is not there or cannot be read.
    #[error("volume {volume}: cannot read {}", .path.display())]
    Read {
        /// The volume.
        volume: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The volume's input is there but no disk for a guest.
    #[error("volume {volume}: {} is no usable disk image", .path.display())]
    Defect {
        /// The volume.
        volume: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        source: Defect,
    },
    /// The secret holds nothing under the keys that KubeVirt knows.
    #[error("volume {volume}: the secret in {} has no key {}", .directory.display(), .keys.join(" or "))]
    SecretKey {
        /// The volume.
        volume: String,
        /// Where the secret's data are.
        directory: PathBuf,
        /// The keys that were looked for.
        keys: [&'static str; 2],
    },
    /// Files that ISO 9660 cannot hold.
    #[error("volume {volume}: cannot make a disk of its files: {reason}")]
    Iso {
        /// The volume.
        volume: String,
        /// What the ISO writer says.
        reason: String,
    },
    /// The volume's file could not be written.
    #[error("volume {volume}: cannot write {}", .path.display())]
    Write {
        /// The volume.
        volume: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The volume's image belongs to somebody else.
    #[error(
        "volume {volume}: user 107, whom the VM runs as, may not {} {}; give it that owner or group",
        if *.read_only { "read" } else { "write" },
        .path.display()
    )]
    Denied {
        /// The volume.
        volume: String,
        /// The file or device.
        path: PathBuf,
        /// The guest only reads.
        read_only: bool,
    },
    /// A claim with files, none of them a disk image.
    #[error(
        "volume {volume}: the claim holds no disk.img, and is not empty: there is {}; name a claim \
         that holds a disk, or an empty one", .found.display()
    )]
    ForeignClaim {
        /// The volume.
        volume: String,
        /// One of the files.
        found: PathBuf,
    },
    /// An empty claim without room for a disk.
    #[error(
        "volume {volume}: the claim's file system, {}, has {available} bytes free, too few for a \
         disk; make the claim larger", .directory.display()
    )]
    NoRoom {
        /// The volume.
        volume: String,
        /// Where the claim is mounted.
        directory: PathBuf,
        /// Bytes that are free.
        available: u64,
    },
    /// A hostDisk of type Disk that does not exist.
    #[error(
        "volume {volume}: hostDisk {} does not exist; make it, or set type: DiskOrCreate and a \
         capacity", .path.display()
    )]
    HostDiskAbsent {
        /// The volume.
        volume: String,
        /// The path on the host.
        path: PathBuf,
    },
    /// A hostDisk that is a directory, a device or a socket.
    #[error("volume {volume}: hostDisk {} is no ordinary file; name a raw disk image", .path.display())]
    HostDiskKind {
        /// The volume.
        volume: String,
        /// The path on the host.
        path: PathBuf,
    },
}

impl VolumeError {
    pub(super) fn read(volume: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Read {
            volume: volume.to_owned(),
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn write(volume: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Write {
            volume: volume.to_owned(),
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn defect(volume: &str, path: &Path) -> impl FnOnce(Defect) -> Self {
        |source| Self::Defect {
            volume: volume.to_owned(),
            path: path.to_owned(),
            source,
        }
    }
}
