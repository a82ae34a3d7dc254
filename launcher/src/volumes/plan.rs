//! What is to be made for each volume: decided from the manifest alone.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crds::{Quantity, VirtualMachineInstance, Volume};

use super::cloud_init::{self, Seed};
use super::error::VolumeError;
use super::inspect::MAX_SIZE;
use super::layout::{Descriptors, Layout};
use crate::convert::{DiskFormat, KernelBoot, VolumeSource};

/// The sizes of new disks are multiples of this, as KubeVirt's are.
const ALIGNMENT: u64 = 1 << 20;

/// Everything that the volumes of one VM come to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What backs each volume, as far as the manifest tells: direct I/O is taken to be possible,
    /// and what lies below an overlay is left open. [`prepare`](super::prepare()) knows.
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
    /// Nothing is made; the file must be a raw image.
    UseRaw { path: PathBuf },
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
        Ok(overlay(Base::File(layout.claim(name))))
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
        let path = Path::new(&source.path);
        let file = path.file_name().and_then(|file| file.to_str());
        let file = file.ok_or_else(|| VolumeError::Path {
            volume: name.clone(),
            path: path.to_owned(),
        })?;
        Ok(Action::UseRaw {
            path: layout.host_disk(name, file),
        })
    } else {
        Err(VolumeError::NoSource {
            volume: name.clone(),
        })
    }
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
        let (path, format) = match self {
            Self::Overlay { target, .. } | Self::Empty { target, .. } => {
                (target, DiskFormat::Qcow2)
            }
            Self::Seed { target, .. } | Self::Copy { target, .. } => (target, DiskFormat::Raw),
            Self::UseRaw { path } | Self::UseFile { path } => (path, DiskFormat::Raw),
        };
        VolumeSource {
            path: path.clone(),
            fd_group: None,
            format,
            block: false,
            read_only: false,
            direct_io: true,
            block_size: None,
            backing: None,
        }
    }
}
