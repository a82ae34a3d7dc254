//! Disks, their drivers and their backing chains.

use serde::{Deserialize, Serialize};

use super::{Acpi, Address, Alias, Boot, VirtioModel};
use crate::{Empty, FileType, OnOff, YesNo};

/// A disk (formatdomain.html, "Hard drives, floppy disks, CDROMs").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// What `source` is.
    #[serde(rename = "@type")]
    pub kind: FileType,
    /// What the guest sees.
    #[serde(rename = "@device", skip_serializing_if = "Option::is_none")]
    pub device: Option<DiskDevice>,
    /// Which virtio, for the virtio bus.
    #[serde(rename = "@model", skip_serializing_if = "Option::is_none")]
    pub model: Option<VirtioModel>,
    /// How snapshots treat it.
    #[serde(rename = "@snapshot", skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Which SCSI commands a LUN passes on.
    #[serde(rename = "@sgio", skip_serializing_if = "Option::is_none")]
    pub sgio: Option<SgIo>,
    /// Whether QEMU needs CAP_SYS_RAWIO for it.
    #[serde(rename = "@rawio", skip_serializing_if = "Option::is_none")]
    pub rawio: Option<YesNo>,
    /// How QEMU treats it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<DiskDriver>,
    /// Its bytes; an empty tray where `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<DiskSource>,
    /// What lies below; libvirt probes where `None`, an empty one ends the chain.
    #[serde(rename = "backingStore", skip_serializing_if = "Option::is_none")]
    pub backing_store: Option<BackingStore>,
    /// Where the guest finds it.
    pub target: DiskTarget,
    /// Limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iotune: Option<IoTune>,
    /// The guest cannot write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly: Option<Empty>,
    /// Other domains write too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shareable: Option<Empty>,
    /// Writes are dropped when the domain ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transient: Option<Empty>,
    /// Serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// World wide name, 16 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// SCSI vendor, 8 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// SCSI product, 16 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Block sizes that the guest sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blockio: Option<BlockIo>,
    /// Place in the boot order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// Its name in QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
    /// Its index for firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acpi: Option<Acpi>,
    /// Where it sits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

/// What the guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskDevice {
    /// A hard disk.
    #[default]
    #[serde(rename = "disk")]
    Disk,
    /// A CD-ROM.
    #[serde(rename = "cdrom")]
    Cdrom,
    /// A SCSI disk whose commands go to the host's device.
    #[serde(rename = "lun")]
    Lun,
    /// A floppy.
    #[serde(rename = "floppy")]
    Floppy,
}

/// Which SCSI commands a LUN passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SgIo {
    /// The harmless ones.
    #[serde(rename = "filtered")]
    Filtered,
    /// All.
    #[serde(rename = "unfiltered")]
    Unfiltered,
}

/// How QEMU treats a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskDriver {
    /// `qemu`.
    #[serde(rename = "@name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The image's format; never left to probing.
    #[serde(rename = "@type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<DiskFormat>,
    /// The host's page cache.
    #[serde(rename = "@cache", skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// What follows an error.
    #[serde(rename = "@error_policy", skip_serializing_if = "Option::is_none")]
    pub error_policy: Option<ErrorPolicy>,
    /// What follows a read error, where it differs.
    #[serde(rename = "@rerror_policy", skip_serializing_if = "Option::is_none")]
    pub rerror_policy: Option<ErrorPolicy>,
    /// How requests are made.
    #[serde(rename = "@io", skip_serializing_if = "Option::is_none")]
    pub io: Option<IoMode>,
    /// Notify by eventfd.
    #[serde(rename = "@ioeventfd", skip_serializing_if = "Option::is_none")]
    pub ioeventfd: Option<OnOff>,
    /// Fewer notifications.
    #[serde(rename = "@event_idx", skip_serializing_if = "Option::is_none")]
    pub event_idx: Option<OnOff>,
    /// Copy what is read up from the backing file.
    #[serde(rename = "@copy_on_read", skip_serializing_if = "Option::is_none")]
    pub copy_on_read: Option<OnOff>,
    /// What becomes of TRIM.
    #[serde(rename = "@discard", skip_serializing_if = "Option::is_none")]
    pub discard: Option<Discard>,
    /// The I/O thread, from 1.
    #[serde(rename = "@iothread", skip_serializing_if = "Option::is_none")]
    pub iothread: Option<u32>,
    /// What becomes of written zeroes.
    #[serde(rename = "@detect_zeroes", skip_serializing_if = "Option::is_none")]
    pub detect_zeroes: Option<DetectZeroes>,
    /// Number of virtqueues.
    #[serde(rename = "@queues", skip_serializing_if = "Option::is_none")]
    pub queues: Option<u32>,
    /// Length of a virtqueue.
    #[serde(rename = "@queue_size", skip_serializing_if = "Option::is_none")]
    pub queue_size: Option<u32>,
    /// DMA through the guest's IOMMU.
    #[serde(rename = "@iommu", skip_serializing_if = "Option::is_none")]
    pub iommu: Option<OnOff>,
    /// Packed virtqueues.
    #[serde(rename = "@packed", skip_serializing_if = "Option::is_none")]
    pub packed: Option<OnOff>,
}

/// Image formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskFormat {
    /// The guest's bytes.
    #[default]
    #[serde(rename = "raw")]
    Raw,
    /// QEMU's copy-on-write format.
    #[serde(rename = "qcow2")]
    Qcow2,
}

/// The host's page cache (formatdomain.html, `cache`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cache {
    /// The hypervisor's choice.
    #[serde(rename = "default")]
    Default,
    /// Bypass it with O_DIRECT; flushes are honoured.
    #[serde(rename = "none")]
    None,
    /// Use it; flushes are honoured.
    #[serde(rename = "writeback")]
    WriteBack,
    /// Use it for reads; each write is flushed.
    #[serde(rename = "writethrough")]
    WriteThrough,
    /// Bypass it; each write is flushed.
    #[serde(rename = "directsync")]
    DirectSync,
    /// Use it and ignore flushes.
    #[serde(rename = "unsafe")]
    Unsafe,
}

/// What follows an I/O error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorPolicy {
    /// The guest is paused.
    #[serde(rename = "stop")]
    Stop,
    /// The guest sees it.
    #[serde(rename = "report")]
    Report,
    /// Nothing.
    #[serde(rename = "ignore")]
    Ignore,
    /// Paused where the host's disk is full, else as `report`.
    #[serde(rename = "enospace")]
    NoSpace,
}

/// How requests are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IoMode {
    /// By a pool of threads.
    #[serde(rename = "threads")]
    Threads,
    /// By the kernel's AIO; needs O_DIRECT.
    #[serde(rename = "native")]
    Native,
    /// By io_uring.
    #[serde(rename = "io_uring")]
    IoUring,
}

/// What becomes of TRIM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Discard {
    /// The host's blocks are freed.
    #[serde(rename = "unmap")]
    Unmap,
    /// Nothing.
    #[serde(rename = "ignore")]
    Ignore,
}

/// What becomes of written zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DetectZeroes {
    /// They are written.
    #[serde(rename = "off")]
    Off,
    /// They are written efficiently.
    #[serde(rename = "on")]
    On,
    /// They become holes.
    #[serde(rename = "unmap")]
    Unmap,
}

/// A disk's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSource {
    /// Path of a file.
    #[serde(rename = "@file", skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Path of a block device.
    #[serde(rename = "@dev", skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// What a missing file means.
    #[serde(rename = "@startupPolicy", skip_serializing_if = "Option::is_none")]
    pub startup_policy: Option<StartupPolicy>,
    /// Name under which the file's descriptors were handed over (`virDomainFDAssociate`).
    #[serde(rename = "@fdgroup", skip_serializing_if = "Option::is_none")]
    pub fdgroup: Option<String>,
    /// Its number in the chain; libvirt writes it.
    #[serde(rename = "@index", skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
}

/// What a missing file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartupPolicy {
    /// The domain does not start.
    #[serde(rename = "mandatory")]
    Mandatory,
    /// Missing is an error only at start.
    #[serde(rename = "requisite")]
    Requisite,
    /// The drive is empty.
    #[serde(rename = "optional")]
    Optional,
}

/// A layer below (formatdomain.html, `backingStore`). Empty, it ends the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackingStore {
    /// What `source` is; `None` only where the chain ends.
    #[serde(rename = "@type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<FileType>,
    /// Its number in the chain; libvirt writes it.
    #[serde(rename = "@index", skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// Its format; never left to probing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<BackingFormat>,
    /// Its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<DiskSource>,
    /// The layer below it.
    #[serde(rename = "backingStore", skip_serializing_if = "Option::is_none")]
    pub backing_store: Option<Box<BackingStore>>,
}

/// The format of a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackingFormat {
    /// The format.
    #[serde(rename = "@type")]
    pub kind: DiskFormat,
}

/// Where the guest finds a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskTarget {
    /// `vda`, `sdb`: a hint of the order on the bus, unique in the domain.
    #[serde(rename = "@dev")]
    pub dev: String,
    /// The bus.
    #[serde(rename = "@bus", skip_serializing_if = "Option::is_none")]
    pub bus: Option<DiskBus>,
    /// Whether the CD-ROM's tray is open.
    #[serde(rename = "@tray", skip_serializing_if = "Option::is_none")]
    pub tray: Option<Tray>,
    /// Whether it says that it can be pulled (USB).
    #[serde(rename = "@removable", skip_serializing_if = "Option::is_none")]
    pub removable: Option<OnOff>,
    /// Revolutions a minute; 1 for solid state.
    #[serde(rename = "@rotation_rate", skip_serializing_if = "Option::is_none")]
    pub rotation_rate: Option<u16>,
}

/// Buses for disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskBus {
    /// virtio-blk.
    #[serde(rename = "virtio")]
    Virtio,
    /// AHCI.
    #[serde(rename = "sata")]
    Sata,
    /// A SCSI controller.
    #[serde(rename = "scsi")]
    Scsi,
    /// USB storage.
    #[serde(rename = "usb")]
    Usb,
    /// IDE.
    #[serde(rename = "ide")]
    Ide,
    /// Floppy.
    #[serde(rename = "fdc")]
    Fdc,
}

/// A CD-ROM's tray.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tray {
    /// Open.
    #[serde(rename = "open")]
    Open,
    /// Closed.
    #[serde(rename = "closed")]
    Closed,
}

/// Block sizes that the guest sees, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockIo {
    /// The smallest request.
    #[serde(
        rename = "@logical_block_size",
        skip_serializing_if = "Option::is_none"
    )]
    pub logical_block_size: Option<u32>,
    /// The smallest efficient request.
    #[serde(
        rename = "@physical_block_size",
        skip_serializing_if = "Option::is_none"
    )]
    pub physical_block_size: Option<u32>,
}

/// Limits of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoTune {
    /// Bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes_sec: Option<u64>,
    /// Bytes read a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes_sec: Option<u64>,
    /// Bytes written a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bytes_sec: Option<u64>,
    /// Requests a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_iops_sec: Option<u64>,
    /// Reads a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_iops_sec: Option<u64>,
    /// Writes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_iops_sec: Option<u64>,
}
