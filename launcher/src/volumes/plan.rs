//! What is to be made for each volume: decided from the manifest alone.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crds::{HostDisk, HostDiskType, Quantity, VirtualMachineInstance, Volume};

use super::claim::Claim;
use super::cloud_init::{self, Seed};
use super::error::VolumeError;
use super::inspect::MAX_SIZE;
use super::layout::{Descriptors, Layout};
use crate::convert::{DiskFormat, KernelBoot, VolumeSource};

/// The sizes of new disks are multiples of this, as KubeVirt's are.
pub(super) const ALIGNMENT: u64 = 1 << 20;

/// The label of a disk of files, where the manifest gives none: KubeVirt's.
const FILES_LABEL: &str = "cfgdata";

/// Everything that the volumes of one VM come to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What backs each volume, as far as the manifest tells: direct I/O is taken to be possible, a
    /// claim to be a file, and what lies below an overlay is left open.
    /// [`prepare`](super::prepare()) knows.
    pub volumes: BTreeMap<String, VolumeSource>,
    /// The kernel that is booted directly, where the manifest names one.
    pub kernel_boot: Option<KernelBoot>,
    /// What makes the files, one step a volume.
    pub(super) steps: Vec<Step>,
}

/// How one volume's file comes to be.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) volume: String,
    pub(super) action: Action,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    /// A qcow2 file over an image that stays as it is.
    Overlay { base: Base, target: PathBuf },
    /// An empty qcow2 file of so many bytes.
    Empty { size: u64, target: PathBuf },
    /// A disk of files for cloud-init.
    Seed { seed: Seed, target: PathBuf },
    /// A disk of every file in a directory.
    Files {
        directory: PathBuf,
        label: String,
        target: PathBuf,
    },
    /// A claim's own bytes, which must be raw; of so many bytes where they are known.
    Claim {
        claim: Claim,
        capacity: Option<u64>,
        read_only: bool,
    },
    /// A raw image, made of so many bytes where it is not there and a size is given.
    HostDisk { path: PathBuf, create: Option<u64> },
    /// Nothing is made; the file must be there.
    UseFile { path: PathBuf },
    /// A copy of an open file.
    Copy { from: Arc<OwnedFd>, target: PathBuf },
}

/// An image that another one is made over.
#[derive(Clone, Debug)]
pub(super) enum Base {
    /// A file.
    File(PathBuf),
    /// A claim's bytes.
    Claim(Claim),
    /// An open file. The path is only a name, which the image above has it under.
    Open {
        path: PathBuf,
        descriptor: Arc<OwnedFd>,
        group: String,
    },
}

/// Decides what is made for each volume. Touches nothing.
///
/// # Errors
/// [`VolumeError`] where the manifest asks for the impossible. A manifest that `crds` has
/// validated fails only where a disk is smaller than 1 MiB or larger than 64 TiB.
pub fn plan(vmi: &VirtualMachineInstance, layout: &Layout) -> Result<Plan, VolumeError> {
    let mut plan = Plan {
        volumes: BTreeMap::new(),
        kernel_boot: None,
        steps: Vec::new(),
    };
    for volume in &vmi.spec.volumes {
        let name = &volume.name;
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(VolumeError::Name {
                volume: name.clone(),
            });
        }
        let action = action(vmi, volume, layout)?;
        plan.volumes.insert(name.clone(), action.source());
        plan.steps.push(Step {
            volume: name.clone(),
            action,
        });
    }
    let firmware = vmi.spec.domain.firmware.as_ref();
    let boot = firmware.and_then(|it| it.kernel_boot.as_ref()?.container.as_ref());
    if let Some(boot) = boot {
        let (kernel, initrd) = (boot.kernel_path.is_some(), boot.initrd_path.is_some());
        let files = layout.kernel_boot(kernel, initrd);
        let open = &layout.descriptors;
        for (path, open) in [(&files.kernel, &open.kernel), (&files.initrd, &open.initrd)] {
            let Some(path) = path.clone() else { continue };
            let action = match open.clone() {
                Some(from) => Action::Copy { from, target: path },
                None => Action::UseFile { path },
            };
            plan.steps.push(Step {
                volume: "kernelBoot".into(),
                action,
            });
        }
        plan.kernel_boot = Some(files);
    }
    Ok(plan)
}

fn action(
    vmi: &VirtualMachineInstance,
    volume: &Volume,
    layout: &Layout,
) -> Result<Action, VolumeError> {
    let name = &volume.name;
    let overlay = |base| Action::Overlay {
        base,
        target: layout.overlay(name),
    };
    let claim = || Claim {
        file: layout.claim(name),
        device: layout.claim_device(name),
    };
    let seed = |seed| Action::Seed {
        seed,
        target: layout.iso(name),
    };
    if volume.container_disk.is_some() {
        let path = layout.container_disk(name);
        Ok(overlay(
            match layout.descriptors.container_disks.get(name) {
                Some(descriptor) => Base::Open {
                    path,
                    descriptor: descriptor.clone(),
                    group: Descriptors::group(name),
                },
                None => Base::File(path),
            },
        ))
    } else if volume.ephemeral.is_some() {
        Ok(overlay(Base::Claim(claim())))
    } else if let Some(source) = &volume.persistent_volume_claim {
        Ok(Action::Claim {
            claim: claim(),
            capacity: claim_capacity(vmi, name),
            read_only: source.read_only == Some(true),
        })
    } else if let Some(label) = files(volume) {
        Ok(Action::Files {
            directory: layout.config(name),
            label: label.as_deref().unwrap_or(FILES_LABEL).to_owned(),
            target: layout.iso(name),
        })
    } else if let Some(source) = &volume.cloud_init_no_cloud {
        cloud_init::no_cloud(vmi, name, source, layout).map(seed)
    } else if let Some(source) = &volume.cloud_init_config_drive {
        cloud_init::config_drive(vmi, name, source, layout).map(seed)
    } else if let Some(source) = &volume.empty_disk {
        let size = disk_size(name, &source.capacity)?;
        Ok(Action::Empty {
            size,
            target: layout.overlay(name),
        })
    } else if let Some(source) = &volume.host_disk {
        let create = match source.type_ {
            HostDiskType::Disk => None,
            HostDiskType::DiskOrCreate => {
                let capacity = source.capacity.unwrap_or_default();
                Some(disk_size(name, &capacity)?)
            }
        };
        Ok(Action::HostDisk {
            path: host_disk(name, source, layout)?,
            create,
        })
    } else {
        Err(VolumeError::NoSource {
            volume: name.clone(),
        })
    }
}

/// A hostDisk's file in the pod.
pub(super) fn host_disk(
    volume: &str,
    disk: &HostDisk,
    layout: &Layout,
) -> Result<PathBuf, VolumeError> {
    let path = Path::new(&disk.path);
    let file = path.file_name().and_then(|file| file.to_str());
    let file = file.ok_or_else(|| VolumeError::Path {
        volume: volume.to_owned(),
        path: path.to_owned(),
    })?;
    Ok(layout.host_disk(volume, file))
}

/// Whether a volume is a disk of files, and the label that it asks for.
fn files(volume: &Volume) -> Option<&Option<String>> {
    let sources = [
        volume.config_map.as_ref().map(|it| &it.volume_label),
        volume.downward_api.as_ref().map(|it| &it.volume_label),
        volume.secret.as_ref().map(|it| &it.volume_label),
        volume.service_account.as_ref().map(|_| &None),
    ];
    sources.into_iter().flatten().next()
}

/// A claim's size in bytes, as whoever made the pod wrote it into the instance's status.
fn claim_capacity(vmi: &VirtualMachineInstance, volume: &str) -> Option<u64> {
    let mut volumes = vmi.status.as_ref()?.volume_status.iter();
    let status = volumes.find(|status| status.name == volume)?;
    let claim = status.persistent_volume_claim_info.as_ref()?;
    claim.capacity.get("storage")?.bytes()
}

/// The size in bytes of a disk that is made new: down to a whole mebibyte, as KubeVirt does.
pub(super) fn disk_size(volume: &str, capacity: &Quantity) -> Result<u64, VolumeError> {
    let bytes = capacity.bytes().map(|bytes| bytes / ALIGNMENT * ALIGNMENT);
    bytes
        .filter(|bytes| (ALIGNMENT..=MAX_SIZE).contains(bytes))
        .ok_or_else(|| VolumeError::Capacity {
            volume: volume.to_owned(),
            capacity: capacity.to_string(),
        })
}

impl Action {
    fn source(&self) -> VolumeSource {
        let read_only = matches!(
            self,
            Self::Claim {
                read_only: true,
                ..
            }
        );
        let (path, format) = match self {
            Self::Overlay { target, .. } | Self::Empty { target, .. } => {
                (target, DiskFormat::Qcow2)
            }
            Self::Seed { target, .. } | Self::Files { target, .. } | Self::Copy { target, .. } => {
                (target, DiskFormat::Raw)
            }
            Self::HostDisk { path, .. } | Self::UseFile { path } => (path, DiskFormat::Raw),
            Self::Claim { claim, .. } => (&claim.file, DiskFormat::Raw),
        };
        VolumeSource {
            path: path.clone(),
            fd_group: None,
            format,
            block: false,
            read_only,
            direct_io: true,
            block_size: None,
            backing: None,
        }
    }
}
