//! A hostDisk's file on the host, made by whoever may write there.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crds::{HostDisk, HostDiskType, VirtualMachineInstance};

use super::error::VolumeError;
use super::layout::Layout;
use super::prepare::{open_for_guest, persist};
use super::{inspect, plan};
use crate::pod::QEMU_ID;

/// Sees to it that a hostDisk (`spec.volumes[].hostDisk`) is there and belongs to the user that
/// QEMU runs as. Runs as root on the host, before the VM's sandbox exists.
///
/// As KubeVirt does: type `DiskOrCreate` makes the directories (0755) and a sparse raw image of
/// `capacity`, down to a whole mebibyte, where there is none; an image that is there keeps its
/// size and gets the owner.
///
/// # Errors
/// [`VolumeError`] where the file is missing, is no raw disk image, or cannot be made.
pub fn ensure(volume: &str, disk: &HostDisk, uid: u32, gid: u32) -> Result<(), VolumeError> {
    let path = Path::new(&disk.path);
    if disk.type_ == HostDiskType::DiskOrCreate {
        let size = plan::disk_size(volume, &disk.capacity.unwrap_or_default())?;
        create(volume, path, size, (Some(uid), Some(gid)))?;
    }
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (volume, path) = (volume.to_owned(), path.to_owned());
            return Err(VolumeError::HostDiskAbsent { volume, path });
        }
        other => other.map_err(VolumeError::read(volume, path))?,
    };
    if !metadata.is_file() {
        let (volume, path) = (volume.to_owned(), path.to_owned());
        return Err(VolumeError::HostDiskKind { volume, path });
    }
    inspect::raw_file(volume, path)?;
    if (metadata.uid(), metadata.gid()) != (uid, gid) {
        chown(path, Some(uid), Some(gid)).map_err(VolumeError::write(volume, path))?;
    }
    Ok(())
}

/// Sees to it that a hostDisk is there that QEMU's user, whom this process runs as, can use. The
/// file is `path` in the pod, made of `size` bytes where it is not there and a size is given.
pub(super) fn use_in_pod(volume: &str, path: &Path, size: Option<u64>) -> Result<(), VolumeError> {
    if let Some(size) = size {
        create(volume, path, size, (None, None))?;
    }
    let file = open_for_guest(volume, path, false)?;
    inspect::opened_raw(volume, path, &file).map(drop)
}

/// Sees to it that the hostDisks of an instance are there and may be written by QEMU's group.
/// In a pod their directory is the host's, and root's, so that the worker could not. Runs as the
/// pod's root: it has no capability to give files away, but owns what root owns, and is of QEMU's
/// group, the pod's `fsGroup`. Somebody else's file stays as it is.
///
/// # Errors
/// [`VolumeError`] where a disk has an impossible size, or its file cannot be made.
pub fn ensure_in_pod(vmi: &VirtualMachineInstance, layout: &Layout) -> Result<(), VolumeError> {
    for volume in &vmi.spec.volumes {
        let Some(disk) = &volume.host_disk else {
            continue;
        };
        let name = &volume.name;
        let path = plan::host_disk(name, disk, layout)?;
        if disk.type_ == HostDiskType::DiskOrCreate {
            let size = plan::disk_size(name, &disk.capacity.unwrap_or_default())?;
            create(name, &path, size, (None, Some(QEMU_ID)))?;
        }
        // A link may lead anywhere, and where nothing is the worker says so.
        let found = path.symlink_metadata();
        let Some(found) = found.ok().filter(|found| found.is_file()) else {
            continue;
        };
        if found.uid() == nix::unistd::geteuid().as_raw() {
            let mode = Permissions::from_mode(found.mode() & 0o777 | 0o060);
            chown(&path, None, Some(QEMU_ID))
                .and_then(|()| fs::set_permissions(&path, mode))
                .map_err(VolumeError::write(name, &path))?;
        }
    }
    Ok(())
}

/// Makes a sparse image where there is no file, seen only when whole.
fn create(
    volume: &str,
    path: &Path,
    size: u64,
    (user, group): (Option<u32>, Option<u32>),
) -> Result<(), VolumeError> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(path);
    let made = fs::create_dir_all(directory)
        .and_then(|()| tempfile::NamedTempFile::new_in(directory))
        .and_then(|file| {
            file.as_file().set_len(size)?;
            file.as_file()
                .set_permissions(Permissions::from_mode(0o660))?;
            chown(file.path(), user, group)?;
            Ok(file)
        });
    let file = made.map_err(VolumeError::write(volume, path))?;
    persist(volume, file, path)
}
