//! Where a VM's inputs and outputs lie below its runtime directory.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::convert::KernelBoot;
use crate::pod::CLAIM_DEVICES;

/// Names of files below the runtime directory, as the worker sees them.
///
/// ```text
/// container-disks/VOLUME/disk.img    a containerDisk's image, read-only
/// claims/VOLUME/disk.img             the image in a claim's file system
/// host-disks/VOLUME/FILE             a hostDisk under its own name, writable
/// secrets/VOLUME-user/KEY            the secret that cloud-init's user data come from
/// secrets/VOLUME-network/KEY         the secret that its network data come from
/// secrets/access-INDEX/KEY           the secret of an access credential, by its place in the list
/// config/VOLUME/KEY                  a config map, secret, service account or downward API
/// kernel-boot/{kernel,initrd}        the files of kernelBoot's container, read-only
/// disks/VOLUME.{qcow2,iso}           what the worker makes of them
/// ```
///
/// Everything but `disks` is put there before the worker starts: by `run`, or by the kubelet. A
/// containerDisk and the files of a kernelBoot may come as [`Descriptors`] instead: then the
/// image's path is only a name, and kernel and initrd are copied to theirs. A claim may come as a
/// block device, `/dev/claims/VOLUME`.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The directory, as an absolute path.
    pub runtime_dir: PathBuf,
    /// Where the claims' block devices are: `/dev/claims`.
    pub claim_devices: PathBuf,
    /// Files that came open.
    pub descriptors: Descriptors,
}

/// Files that a pod's other containers have opened for this one, read-only.
#[derive(Clone, Debug, Default)]
pub struct Descriptors {
    /// The disk images of containerDisks, by volume.
    pub container_disks: BTreeMap<String, Arc<OwnedFd>>,
    /// The kernel of kernelBoot's container.
    pub kernel: Option<Arc<OwnedFd>>,
    /// The initrd of kernelBoot's container.
    pub initrd: Option<Arc<OwnedFd>>,
}

impl Descriptors {
    /// What libvirt is to be handed at each start, by the names that the domain has them under
    /// ([`VolumeSource::fd_group`](crate::convert::VolumeSource::fd_group)): duplicates.
    ///
    /// # Errors
    /// When the process may open no more files.
    pub fn groups(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let disks = self.container_disks.iter();
        disks
            .map(|(volume, descriptor)| Ok((Self::group(volume), descriptor.try_clone()?)))
            .collect()
    }

    /// The name of a containerDisk's descriptor.
    pub(super) fn group(volume: &str) -> String {
        format!("container-disk-{volume}")
    }
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
    /// The layout of a pod, or of a local VM's sandbox, whose runtime directory is `runtime_dir`.
    pub fn new(runtime_dir: impl Into<PathBuf>) -> Self {
        Self {
            runtime_dir: runtime_dir.into(),
            claim_devices: CLAIM_DEVICES.into(),
            descriptors: Descriptors::default(),
        }
    }

    /// The same, with files that came open.
    #[must_use]
    pub fn with_descriptors(self, descriptors: Descriptors) -> Self {
        Self {
            descriptors,
            ..self
        }
    }

    /// A containerDisk's image.
    pub fn container_disk(&self, volume: &str) -> PathBuf {
        self.file(&["container-disks", volume, "disk.img"])
    }

    /// The image in a claim's file system.
    pub fn claim(&self, volume: &str) -> PathBuf {
        self.file(&["claims", volume, "disk.img"])
    }

    /// A claim's block device.
    pub fn claim_device(&self, volume: &str) -> PathBuf {
        self.claim_devices.join(volume)
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

    /// The directory of an access credential's secret; `index` is its place in
    /// `spec.accessCredentials`.
    pub fn access_credential(&self, index: usize) -> PathBuf {
        self.file(&["secrets", &format!("access-{index}")])
    }

    /// The directory that a volume of files is made of.
    pub fn config(&self, volume: &str) -> PathBuf {
        self.file(&["config", volume])
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
