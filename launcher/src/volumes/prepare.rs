//! Making the files that a plan names.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::cloud_init::{self, Seed, Text};
use super::error::VolumeError;
use super::plan::{Action, Base, Plan, Step};
use super::{claim, files, host_disk, inspect, qcow2};
use crate::convert::{BlockSize, DiskFormat, VolumeSource};

/// Block sizes in bytes that every bus of a guest takes.
pub(super) const BLOCK_SIZES: [u32; 4] = [512, 1024, 2048, 4096];

/// Makes every file of a plan, checks every file that it uses, and tells what backs each
/// volume: now with the formats of the images that were found, and with what the file systems
/// can do.
///
/// A file that is there was finished, and belongs to this VM: a worker that starts again keeps
/// it. One that a killed worker left unfinished has another name, and is made again.
///
/// # Errors
/// [`VolumeError`] for the first volume that fails.
pub fn prepare(plan: &Plan) -> Result<BTreeMap<String, VolumeSource>, VolumeError> {
    let mut volumes = plan.volumes.clone();
    for Step { volume, action } in &plan.steps {
        let base = perform(volume, action)?;
        let Some(source) = volumes.get_mut(volume) else {
            continue;
        };
        // QEMU opens the image below in the same way as the one above.
        source.direct_io = base.as_ref().is_none_or(|base| base.direct_io);
        source.backing = base.map(Box::new);
        if let Action::Claim { claim, .. } = action {
            let (path, block) = claim.find();
            (source.path, source.block) = (path.to_owned(), block);
        }
        let path = source.path.clone();
        observe(volume, &path, source)?;
    }
    Ok(volumes)
}

/// Makes a volume's file where it is not there; returns the image below it.
fn perform(volume: &str, action: &Action) -> Result<Option<VolumeSource>, VolumeError> {
    match action {
        Action::HostDisk { path, create } => host_disk::use_in_pod(volume, path, *create)?,
        Action::Claim {
            claim,
            capacity,
            read_only,
        } => claim.ensure(volume, *capacity, *read_only)?,
        Action::UseFile { path } => {
            File::open(path).map_err(VolumeError::read(volume, path))?;
        }
        Action::Overlay { base, target } => {
            let (base, size) = image(volume, base)?;
            if !target.exists() {
                let backing = Some((base.path.as_path(), base.format));
                write_qcow2(volume, target, size, backing)?;
            }
            return Ok(Some(base));
        }
        Action::Empty { size, target } => {
            if !target.exists() {
                write_qcow2(volume, target, *size, None)?;
            }
        }
        Action::Seed { seed, target } => {
            if !target.exists() {
                write_iso(volume, target, seed.label, &seed_files(volume, seed)?)?;
            }
        }
        Action::Files {
            directory,
            label,
            target,
        } => {
            if !target.exists() {
                let files: Vec<_> = files::read_all(volume, directory)?.into_iter().collect();
                write_iso(volume, target, label, &files)?;
            }
        }
        Action::Copy { from, target } => {
            if !target.exists() {
                let mut source = reopen(from).map_err(VolumeError::read(volume, target))?;
                write(volume, target, |file| {
                    source.seek(SeekFrom::Start(0))?;
                    io::copy(&mut source, file).map(drop)
                })?;
            }
        }
    }
    Ok(None)
}

/// Judges an image that another one is made over; also tells how many bytes a guest sees.
fn image(volume: &str, base: &Base) -> Result<(VolumeSource, u64), VolumeError> {
    let open = |path| open_for_guest(volume, path, true);
    let (path, block, file, opened_by, fd_group) = match base {
        Base::File(path) => (path.as_path(), false, open(path)?, path.clone(), None),
        Base::Claim(claim) => {
            let (path, block) = claim.find();
            (path, block, open(path)?, path.to_owned(), None)
        }
        Base::Open {
            path,
            descriptor,
            group,
        } => {
            let file = reopen(descriptor).map_err(VolumeError::read(volume, path))?;
            let group = Some(group.clone());
            (path.as_path(), false, file, itself(descriptor), group)
        }
    };
    let image = inspect::opened(volume, path, &file)?;
    let mut source = VolumeSource {
        path: path.to_owned(),
        fd_group,
        format: image.format,
        block,
        read_only: true,
        direct_io: true,
        block_size: None,
        backing: None,
    };
    observe(volume, &opened_by, &mut source)?;
    Ok((source, image.virtual_size))
}

/// Opens an image as the guest will use it: by now this process is QEMU's user.
pub(super) fn open_for_guest(
    volume: &str,
    path: &Path,
    read_only: bool,
) -> Result<File, VolumeError> {
    let opened = OpenOptions::new().read(true).write(!read_only).open(path);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => VolumeError::Denied {
            volume: volume.to_owned(),
            path: path.to_owned(),
            read_only,
        },
        _ => VolumeError::read(volume, path)(error),
    })
}

/// An open file's name in this process.
fn itself(descriptor: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd()).into()
}

/// A file of our own on what a descriptor leads to: QEMU shares the descriptor's flags, and sets
/// `O_DIRECT`, which would make every odd read fail. Where that may not be opened, QEMU may not
/// either and sets nothing.
fn reopen(descriptor: &OwnedFd) -> io::Result<File> {
    match File::open(itself(descriptor)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            descriptor.try_clone().map(File::from)
        }
        other => other,
    }
}

/// Asks the file system below `path`, which is what `source` is here, what it can do.
fn observe(volume: &str, path: &Path, source: &mut VolumeSource) -> Result<(), VolumeError> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(nix::libc::O_DIRECT);
    source.direct_io &= match options.open(path) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => false,
        // A descriptor's file may be open to others only.
        Err(error)
            if source.fd_group.is_some() && error.kind() == io::ErrorKind::PermissionDenied =>
        {
            false
        }
        Err(error) => return Err(VolumeError::read(volume, path)(error)),
    };
    if source.block {
        source.block_size = claim::block_size(path);
        return Ok(());
    }
    let statistics = nix::sys::statvfs::statvfs(path)
        .map_err(|error| VolumeError::read(volume, path)(error.into()))?;
    let size = u32::try_from(statistics.block_size()).ok();
    source.block_size = size
        .filter(|size| BLOCK_SIZES.contains(size))
        .map(|size| BlockSize {
            logical: size,
            physical: size,
        });
    Ok(())
}

fn write_qcow2(
    volume: &str,
    target: &Path,
    size: u64,
    backing: Option<(&Path, DiskFormat)>,
) -> Result<(), VolumeError> {
    let image = qcow2::create(size, backing).ok_or_else(|| VolumeError::Path {
        volume: volume.to_owned(),
        path: backing.map_or(target, |(base, _)| base).to_owned(),
    })?;
    write(volume, target, |file| {
        file.set_len(image.length)?;
        image
            .pieces
            .iter()
            .try_for_each(|(offset, bytes)| file.write_all_at(bytes, *offset))
    })
}

/// Writes a file of this pod's alone, which is seen only when whole. It need not outlive the
/// machine, so nothing is flushed to the disk.
fn write(
    volume: &str,
    target: &Path,
    content: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), VolumeError> {
    let partial = target.with_extension("partial");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = target
        .parent()
        .map_or(Ok(()), |parent| {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)
        })
        .and_then(|()| options.open(&partial))
        .and_then(|mut file| content(&mut file))
        .and_then(|()| std::fs::rename(&partial, target));
    written.map_err(VolumeError::write(volume, target))
}

/// Gives a finished file its name. One that somebody else gave it in the meantime is as good as ours,
/// and may be in use: it stays.
pub(super) fn persist(volume: &str, file: NamedTempFile, path: &Path) -> Result<(), VolumeError> {
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other
            .map(drop)
            .map_err(|error| VolumeError::write(volume, path)(error.error)),
    }
}

fn seed_files(volume: &str, seed: &Seed) -> Result<Vec<(&'static str, Vec<u8>)>, VolumeError> {
    let files = seed.files.iter().map(|(path, text)| {
        let content = match text {
            Text::Known(content) => content.clone(),
            Text::Secret(directory, keys) => files::read_key(volume, directory, *keys)?,
            Text::MetaData(data, directories) => {
                let mut keys = Vec::new();
                for directory in directories {
                    keys.extend(files::public_keys(volume, directory)?);
                }
                data.with_keys(&keys)
            }
        };
        Ok((*path, content))
    });
    files.collect()
}

fn write_iso(
    volume: &str,
    target: &Path,
    label: &str,
    files: &[(impl AsRef<str>, Vec<u8>)],
) -> Result<(), VolumeError> {
    let image = cloud_init::iso(label, files).map_err(|reason| VolumeError::Iso {
        volume: volume.to_owned(),
        reason,
    })?;
    write(volume, target, |file| file.write_all(&image))
}
