//! Making the files that a plan names.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::cloud_init::{self, Seed, Text};
use super::error::VolumeError;
use super::plan::{Action, Base, Plan, Step};
use super::{inspect, qcow2};
use crate::convert::{BlockSize, DiskFormat, VolumeSource};

/// Block sizes in bytes that every bus of a guest takes.
const BLOCK_SIZES: [u32; 4] = [512, 1024, 2048, 4096];

/// Kubernetes' limit for a secret, in bytes.
const MAX_SECRET: u64 = 1 << 20;

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
        let path = source.path.clone();
        observe(volume, &path, source)?;
    }
    Ok(volumes)
}

/// Makes a volume's file where it is not there; returns the image below it.
fn perform(volume: &str, action: &Action) -> Result<Option<VolumeSource>, VolumeError> {
    match action {
        Action::UseRaw { path } => {
            inspect::raw_file(volume, path)?;
        }
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
                let image = seed_image(volume, seed)?;
                write(volume, target, |file| file.write_all(&image))?;
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
    let (path, file, opened_by, fd_group) = match base {
        Base::File(path) => {
            let file = File::open(path).map_err(VolumeError::read(volume, path))?;
            (path, file, path.clone(), None)
        }
        Base::Open {
            path,
            descriptor,
            group,
        } => {
            let file = reopen(descriptor).map_err(VolumeError::read(volume, path))?;
            (path, file, itself(descriptor), Some(group.clone()))
        }
    };
    let image = inspect::opened(volume, path, &file)?;
    let mut source = VolumeSource {
        path: path.clone(),
        fd_group,
        format: image.format,
        block: false,
        read_only: true,
        direct_io: true,
        block_size: None,
        backing: None,
    };
    observe(volume, &opened_by, &mut source)?;
    Ok((source, image.virtual_size))
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

/// Writes a file that is seen only when whole. It need not outlive the machine, so nothing is
/// flushed to the disk.
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

fn seed_image(volume: &str, seed: &Seed) -> Result<Vec<u8>, VolumeError> {
    let mut files = Vec::with_capacity(seed.files.len());
    for (path, text) in &seed.files {
        let content = match text {
            Text::Known(content) => content.clone(),
            Text::Secret(directory, keys) => read_secret(volume, directory, *keys)?,
        };
        files.push((*path, content));
    }
    cloud_init::iso(seed.label, &files).map_err(|reason| VolumeError::CloudInit {
        volume: volume.to_owned(),
        reason,
    })
}

fn read_secret(
    volume: &str,
    directory: &Path,
    keys: [&'static str; 2],
) -> Result<Vec<u8>, VolumeError> {
    for key in keys {
        let path = directory.join(key);
        let mut content = Vec::new();
        match File::open(&path).and_then(|file| file.take(MAX_SECRET).read_to_end(&mut content)) {
            Ok(_) => return Ok(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(VolumeError::read(volume, &path)(error)),
        }
    }
    Err(VolumeError::SecretKey {
        volume: volume.to_owned(),
        directory: directory.to_owned(),
        keys,
    })
}
