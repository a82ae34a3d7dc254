//! `spec.domain.devices.disks`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::FeatureState;

/// A disk, CD-ROM drive or LUN. Its contents are the volume of the same name.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// The sizes of the blocks that the guest sees.
    pub block_size: Option<BlockSize>,
    /// Place in the order of boot devices, from 1; no two devices have the same.
    #[schemars(with = "Option<i32>")]
    pub boot_order: Option<u32>,
    /// How the host caches it. Defaults to none where the storage can do without, else to
    /// writethrough.
    pub cache: Option<DriverCache>,
    /// It is a CD-ROM drive.
    pub cdrom: Option<CDRomTarget>,
    /// It is a disk. So it is when nothing is said.
    pub disk: Option<DiskTarget>,
    /// What happens on an error of the storage. Defaults to stop.
    pub error_policy: Option<DiskErrorPolicy>,
    /// How QEMU reads and writes it.
    pub io: Option<DriverIO>,
    /// It is a SCSI device whose commands reach the storage.
    pub lun: Option<LunTarget>,
    /// Its name, that of a volume.
    pub name: String,
    /// Its serial number.
    pub serial: Option<String>,
}

/// A disk.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskTarget {
    /// What it is attached to. Defaults to sata.
    pub bus: Option<DiskBus>,
    /// Its place on the PCI bus, such as `0000:00:08.0`; only with bus virtio.
    pub pci_address: Option<String>,
    /// The guest cannot write to it. Defaults to false.
    pub readonly: Option<bool>,
}

/// A CD-ROM drive.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CDRomTarget {
    /// What it is attached to. Defaults to sata.
    pub bus: Option<DiskBus>,
    /// Defaults to true, and false is refused: no drive here writes.
    pub readonly: Option<bool>,
    /// Whether its tray is open. Defaults to closed.
    pub tray: Option<TrayState>,
}

/// A SCSI device whose commands reach the storage.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LunTarget {
    /// What it is attached to. Only scsi passes commands on, and it is the default.
    pub bus: Option<DiskBus>,
    /// The guest cannot write to it. Defaults to false.
    pub readonly: Option<bool>,
}

/// What a disk is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// virtio-blk.
    Virtio,
    /// SATA.
    Sata,
    /// virtio-scsi.
    Scsi,
    /// USB.
    Usb,
}

/// Whether a CD-ROM drive's tray is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrayState {
    /// It is open.
    Open,
    /// It is closed.
    Closed,
}

/// How the host caches a disk (libvirt's `disk/driver/@cache`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DriverCache {
    /// Not at all.
    None,
    /// Reads are cached, writes reach the storage before they are done.
    Writethrough,
    /// Reads and writes are cached.
    Writeback,
}

/// How QEMU reads and writes a disk (libvirt's `disk/driver/@io`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DriverIO {
    /// As QEMU chooses.
    Default,
    /// By Linux's asynchronous I/O; needs cache none.
    Native,
    /// By a pool of threads.
    Threads,
}

/// What happens on an error of the storage (libvirt's `disk/driver/@error_policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskErrorPolicy {
    /// The machine is paused.
    Stop,
    /// Nothing.
    Ignore,
    /// The guest is told.
    Report,
    /// The machine is paused when space runs out; the guest is told of any other error.
    Enospace,
}

/// The sizes of the blocks that the guest sees: one of the two.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockSize {
    /// These sizes.
    pub custom: Option<CustomBlockSize>,
    /// The sizes of the storage behind it.
    pub match_volume: Option<FeatureState>,
}

/// Sizes of blocks in bytes, powers of two.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomBlockSize {
    /// The unit of addressing.
    #[schemars(with = "Option<i32>")]
    pub logical: Option<u32>,
    /// The unit of writing without reading first.
    #[schemars(with = "Option<i32>")]
    pub physical: Option<u32>,
}
