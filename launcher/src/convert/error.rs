//! Why a VMI cannot run on this host.

use std::path::PathBuf;

/// What is wrong with one field, and what to do about it. Displayed as one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ConvertError {
    /// The field, such as `spec.domain.machine.type`.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field. The text of each ends in its remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The machine type is none of x86-64's.
    #[error("{0:?} is not supported; use q35, pc, or a version of one such as pc-q35-7.2")]
    Machine(String),
    /// Nothing says how much memory the guest has.
    #[error("required; write how much memory the guest has, such as 1Gi")]
    NoMemory,
    /// The size of a huge page is no quantity.
    #[error("{0:?} is no size of a page; write 2Mi or 1Gi")]
    PageSize(String),
    /// The UUID is none.
    #[error("{0:?} is no UUID; write one such as 5d307ca9-b3ef-428c-8861-06e72d69f223")]
    Uuid(String),
    /// libvirt has Secure Boot only on q35.
    #[error("Secure Boot is on q35 machines only; use machine type q35, or secureBoot: false")]
    SecureBootMachine,
    /// The kernel's image was not unpacked for this guest.
    #[error("its files were not unpacked; start the machine with virt-launcher, which does it")]
    NoKernel,
    /// A disk's volume was not prepared for this guest.
    #[error("no volume is prepared for the disk {0:?}; add it to spec.volumes")]
    NoVolume(String),
    /// An interface was not bound to the pod's network.
    #[error("the interface {0:?} is not bound to a network; add it to spec.networks")]
    NoNetwork(String),
    /// libvirt passes SCSI commands on to block devices only. Whether one speaks SCSI, QEMU
    /// finds out ("cannot get SG_IO version").
    #[error("{path:?} is no block device; use one, or disk instead of lun")]
    LunFile {
        /// What is behind the disk.
        path: PathBuf,
    },
    /// libvirt has no read-only SATA disks.
    #[error("no SATA disk is read-only; use bus virtio or scsi, or cdrom instead of disk")]
    ReadonlySata,
    /// A bypass of the page cache was asked for, and the file system has none.
    #[error("{path:?} is on storage without direct I/O; use cache writethrough and no io: native")]
    NoDirectIo {
        /// What is behind the disk.
        path: PathBuf,
    },
    /// The sizes of a volume's blocks are not known.
    #[error("the block size of {path:?} is not known; write blockSize.custom instead")]
    NoBlockSize {
        /// What is behind the disk.
        path: PathBuf,
    },
    /// QEMU's SATA disks have logical blocks of 512 bytes.
    #[error("a SATA disk has logical blocks of 512 bytes, not {0}; use bus virtio or scsi")]
    SataBlockSize(u32),
    /// A PCI address is none.
    #[error("{0:?} is no PCI address; write domain:bus:slot.function, such as 0000:00:08.0")]
    PciAddress(String),
    /// XML holds no bytes that are not UTF-8.
    #[error("the path {0:?} is not UTF-8; rename it")]
    Path(PathBuf),
}

impl Problem {
    /// The problem of the field `path`.
    pub(super) fn at(self, path: impl Into<String>) -> ConvertError {
        ConvertError {
            path: path.into(),
            problem: self,
        }
    }
}
