//! A hostDisk's file on the host, made by whoever may write there.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crds::{HostDisk, HostDiskType};

use super::error::VolumeError;
use super::{inspect, plan};

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
        create(volume, disk, path, uid, gid)?;
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

fn create(
    volume: &str,
    disk: &HostDisk,
    path: &Path,
    uid: u32,
    gid: u32,
) -> Result<(), VolumeError> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let capacity = disk.capacity.unwrap_or_default();
    let size = plan::disk_size(volume, &capacity)?;
    let directory = path.parent().unwrap_or(path);
    let made = fs::create_dir_all(directory)
        .and_then(|()| tempfile::NamedTempFile::new_in(directory))
        .and_then(|file| {
            file.as_file().set_len(size)?;
            file.as_file()
                .set_permissions(Permissions::from_mode(0o660))?;
            chown(file.path(), Some(uid), Some(gid))?;
            Ok(file)
        });
    let file = made.map_err(VolumeError::write(volume, path))?;
    match file.persist_noclobber(path) {
        // Someone else made it in the meantime: as good as ours.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other
            .map(drop)
            .map_err(|error| VolumeError::write(volume, path)(error.error)),
    }
}
