//! Where a VM's inputs and outputs lie below its runtime directory.

use std::path::PathBuf;

use crate::convert::KernelBoot;

/// Names of files below the runtime directory, as the worker sees them.
///
/// ```text
/// container-disks/VOLUME/disk.img    a containerDisk's image, read-only
/// claims/VOLUME/disk.img             the image of an ephemeral volume's claim, read-only
/// host-disks/VOLUME/FILE             a hostDisk under its own name, writable
/// secrets/VOLUME-user/KEY            the secret that cloud-init's user data come from
/// secrets/VOLUME-network/KEY         the secret that its network data come from
/// kernel-boot/{kernel,initrd}        the files of kernelBoot's container, read-only
/// disks/VOLUME.{qcow2,iso}           what the worker makes of them
/// ```
///
/// Everything but `disks` is put there before the worker starts: by `run`, or by the kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The directory, as an absolute path.
    pub runtime_dir: PathBuf,
}

/// Which of cloud-init's data a secret holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretData {
    /// User data (`secretRef`), under `userdata` or `userData`.
    User,
    /// Network data (`networkDataSecretRef`), under `networkdata` or `networkData`.
    Network,
}

impl SecretData {
    /// The keys of the secret that KubeVirt reads, in its order.
    pub fn keys(self) -> [&'static str; 2] {
        match self {
            Self::User => ["userdata", "userData"],
            Self::Network => ["networkdata", "networkData"],
        }
    }
}

impl Layout {
    /// A containerDisk's image.
    pub fn container_disk(&self, volume: &str) -> PathBuf {
        self.file(&["container-disks", volume, "disk.img"])
    }

    /// The image of an ephemeral volume's claim.
    pub fn claim(&self, volume: &str) -> PathBuf {
        self.file(&["claims", volume, "disk.img"])
    }

    /// A hostDisk; `file` is the last component of its path on the host.
    pub fn host_disk(&self, volume: &str, file: &str) -> PathBuf {
        self.file(&["host-disks", volume, file])
    }

    /// The directory of a secret's data, one file a key.
    pub fn secret(&self, volume: &str, data: SecretData) -> PathBuf {
        let kind = match data {
            SecretData::User => "user",
            SecretData::Network => "network",
        };
        self.file(&["secrets", &format!("{volume}-{kind}")])
    }

    /// Kernel and initrd, of which a manifest may name either or both.
    pub fn kernel_boot(&self, kernel: bool, initrd: bool) -> KernelBoot {
        KernelBoot {
            kernel: kernel.then(|| self.file(&["kernel-boot", "kernel"])),
            initrd: initrd.then(|| self.file(&["kernel-boot", "initrd"])),
        }
    }

    /// Where the worker's own files are.
    pub fn disks(&self) -> PathBuf {
        self.file(&["disks"])
    }

    pub(super) fn overlay(&self, volume: &str) -> PathBuf {
        self.disks().join(format!("{volume}.qcow2"))
    }

    pub(super) fn iso(&self, volume: &str) -> PathBuf {
        self.disks().join(format!("{volume}.iso"))
    }

    fn file(&self, components: &[&str]) -> PathBuf {
        let mut path = self.runtime_dir.clone();
        path.extend(components);
        path
    }
}
