//! What `convert` needs to know about the place where the guest will run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything outside the VMI that shapes its domain.
///
/// Keys of the maps are names in the VMI: of volumes and of interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// What executes the guest's instructions.
    pub accelerator: Accelerator,
    /// The emulator's path; libvirt's own choice where `None`.
    pub emulator: Option<PathBuf>,
    /// Where OVMF is installed.
    pub firmware: Firmware,
    /// The directory for the guest's sockets and logs: `serial0.sock`, `serial0.log`,
    /// `vnc.sock`, `agent.sock`.
    pub runtime_dir: PathBuf,
    /// What backs each volume.
    pub volumes: BTreeMap<String, VolumeSource>,
    /// The files of `spec.domain.firmware.kernelBoot.container`, where it is given.
    pub kernel_boot: Option<KernelBoot>,
    /// The tap that each interface ends in.
    pub interfaces: BTreeMap<String, BoundInterface>,
}

/// How guest instructions are executed: libvirt's domain type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Hardware virtualisation through `/dev/kvm`.
    Kvm,
    /// QEMU's own emulation; works everywhere.
    Tcg,
}

/// Paths of the UEFI images that QEMU loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// Code without Secure Boot.
    pub code: PathBuf,
    /// Variable store template that goes with `code`.
    pub vars: PathBuf,
    /// Code built for Secure Boot (needs SMM).
    pub secure_code: PathBuf,
    /// Variable store template with Microsoft's keys enrolled.
    pub secure_vars: PathBuf,
}

/// A file or block device behind a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeSource {
    /// Its path as QEMU sees it; only a name where `fd_group` is given.
    pub path: PathBuf,
    /// The file is open already: the name under which libvirt is handed its descriptor
    /// (`virDomainFDAssociate`). Of files only.
    pub fd_group: Option<String>,
    /// How the bytes are to be read; never probed.
    pub format: DiskFormat,
    /// A block device rather than a file.
    pub block: bool,
    /// The source cannot be written, whatever the disk says.
    pub read_only: bool,
    /// It can be opened with `O_DIRECT`: decides the cache mode as KubeVirt does.
    pub direct_io: bool,
    /// The sizes of its own blocks, for disks that ask `blockSize.matchVolume`.
    pub block_size: Option<BlockSize>,
    /// The layer below, where the caller knows the chain: then libvirt is told all of it, the
    /// last layer being the one without a `backing`, and reads no header. Where the first layer
    /// has none, libvirt follows the image's own header.
    pub backing: Option<Box<VolumeSource>>,
}

/// Sizes of blocks in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSize {
    /// The unit of addressing.
    pub logical: u32,
    /// The unit of writing without reading first.
    pub physical: u32,
}

/// The image formats that a guest may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    /// The guest's bytes as they are.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

/// Kernel and initrd taken out of a kernelBoot container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelBoot {
    /// The kernel's path as QEMU sees it.
    pub kernel: Option<PathBuf>,
    /// The initrd's path as QEMU sees it.
    pub initrd: Option<PathBuf>,
}

/// A guest interface whose host end exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundInterface {
    /// Name of the tap device.
    pub tap: String,
    /// The MAC that the guest gets, as `aa:bb:cc:dd:ee:ff`; libvirt's choice where `None`.
    pub mac: Option<String>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
}
