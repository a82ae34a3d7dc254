//! Finding and opening the files of a container's image.
//!
//! The image is its maker's: a name in it may be a link, a directory, a device or a FIFO. Links lead
//! no further than to the container's own root, in which this program runs with no privilege;
//! everything else that is no regular file is not even opened.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::O_PATH;

use crate::args::Wanted;

/// Where a containerDisk's image has its disk.
const DISK: &str = "/disk";

/// A file for init.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What it is for: `disk`, `kernel` or `initrd`.
    pub(crate) role: &'static str,
    /// Its name in the container.
    pub(crate) path: PathBuf,
    /// Open for reading, and for nothing else.
    pub(crate) file: File,
}

/// Why a container has no such file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    /// The directory of the disk cannot be listed.
    #[error(
        "the image has no directory {} that user 107 may list; put the disk there, or name it by \
         containerDisk.path", .path.display()
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No disk where it should be.
    #[error(
        "the image has no file in {}; put the disk there, or name it by containerDisk.path",
        .path.display()
    )]
    None {
        /// The directory.
        path: PathBuf,
    },
    /// More than one.
    #[error(
        "the image has several files in {} ({names}); name one by containerDisk.path",
        .path.display()
    )]
    Several {
        /// The directory.
        path: PathBuf,
        /// Their names.
        names: String,
    },
    /// It is not there, or closed to the user that the VM runs as.
    #[error(
        "the image has no file {} that user 107 may read; see its name, and that it was copied with \
         --chown=107:107", .path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A directory, a device, a FIFO or a socket.
    #[error("{} of the image is no regular file", .path.display())]
    Kind {
        /// What it is instead is for its maker to find out.
        path: PathBuf,
    },
}

/// Opens what is wanted.
pub(crate) fn open(wanted: &Wanted) -> Result<Vec<Opened>, FilesError> {
    let named: Vec<(&'static str, PathBuf)> = match wanted {
        Wanted::Disk(Some(path)) => vec![("disk", path.clone())],
        Wanted::Disk(None) => vec![("disk", only_file(Path::new(DISK))?)],
        Wanted::Boot { kernel, initrd } => {
            let both = [("kernel", kernel), ("initrd", initrd)];
            let given = both.into_iter().filter_map(|(role, path)| {
                let path = path.as_ref()?;
                Some((role, path.clone()))
            });
            given.collect()
        }
    };
    named
        .into_iter()
        .map(|(role, path)| {
            let file = regular(&path)?;
            Ok(Opened { role, path, file })
        })
        .collect()
}

/// The only regular file that lies directly in a directory, or the only link to one.
fn only_file(directory: &Path) -> Result<PathBuf, FilesError> {
    let unlisted = |source| FilesError::Directory {
        path: directory.to_owned(),
        source,
    };
    let mut found = vec![];
    for entry in std::fs::read_dir(directory).map_err(unlisted)? {
        let path = entry.map_err(unlisted)?.path();
        if std::fs::metadata(&path).is_ok_and(|meta| meta.is_file()) {
            found.push(path);
        }
    }
    found.sort();
    match &mut found[..] {
        [] => Err(FilesError::None {
            path: directory.to_owned(),
        }),
        [only] => Ok(std::mem::take(only)),
        several => {
            /// As many names as help.
            const SHOWN: usize = 4;
            let names = several.iter().take(SHOWN);
            let names = names.map(|path| path.file_name().unwrap_or_default().to_string_lossy());
            Err(FilesError::Several {
                path: directory.to_owned(),
                names: names.collect::<Vec<_>>().join(", "),
            })
        }
    }
}

/// Opens a regular file for reading. What else has that name is looked at and not opened: a FIFO
/// would wait for its other end, and a device may act upon it.
fn regular(path: &Path) -> Result<File, FilesError> {
    let failed = |source| FilesError::Open {
        path: path.to_owned(),
        source,
    };
    let place = OpenOptions::new()
        .read(true)
        .custom_flags(O_PATH)
        .open(path)
        .map_err(failed)?;
    if !place.metadata().map_err(failed)?.is_file() {
        return Err(FilesError::Kind {
            path: path.to_owned(),
        });
    }
    // The very file that was looked at, whatever has its name by now.
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).map_err(failed)
}

/// An error with its causes, in one line: names from the image may hold any byte.
pub(crate) fn line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        // Writing to a string does not fail.
        let _ = write!(line, ": {next}");
        cause = next.source();
    }
    line.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::sys::stat::Mode;

    use super::*;

    fn said(error: FilesError) -> String {
        line(&error)
    }

    #[test]
    fn the_only_file_is_the_disk_whatever_its_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("lost+found")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRUSR).unwrap();
        assert!(said(only_file(dir.path()).unwrap_err()).contains("has no file in"));
        let disk = dir.path().join("cirros.qcow2");
        std::fs::write(&disk, "disk").unwrap();
        assert_eq!(only_file(dir.path()).unwrap(), disk);
        std::fs::write(dir.path().join("a.img"), "").unwrap();
        assert!(
            said(only_file(dir.path()).unwrap_err())
                .contains("(a.img, cirros.qcow2); name one by containerDisk.path")
        );
        let absent = dir.path().join("absent");
        assert!(said(only_file(&absent).unwrap_err()).contains("No such file"));
    }

    #[test]
    fn what_is_opened_can_be_read_and_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let [kernel, initrd] = ["vmlinuz", "initrd"].map(|name| dir.path().join(name));
        std::fs::write(&kernel, "kernel").unwrap();
        // A link within the image, as KubeVirt allows.
        std::os::unix::fs::symlink("vmlinuz", &initrd).unwrap();
        let wanted = Wanted::Boot {
            kernel: Some(kernel),
            initrd: Some(initrd),
        };
        let opened = open(&wanted).unwrap();
        let roles: Vec<_> = opened.iter().map(|opened| opened.role).collect();
        assert_eq!(roles, ["kernel", "initrd"]);
        for Opened { mut file, .. } in opened {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "kernel");
            assert!(std::io::Write::write(&mut file, b"x").is_err());
        }
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for path in [fifo, link, dir.path().to_owned()] {
            // A FIFO that was opened would wait here for ever.
            let error = open(&Wanted::Disk(Some(path.clone()))).unwrap_err();
            assert_eq!(
                said(error),
                format!("{} of the image is no regular file", path.display())
            );
        }
        let absent = open(&Wanted::Disk(Some(dir.path().join("absent")))).unwrap_err();
        assert!(said(absent).contains("user 107 may read"));
    }

    #[test]
    fn a_name_with_a_line_feed_makes_no_second_line() {
        let error = open(&Wanted::Disk(Some("/absent\nsecond".into()))).unwrap_err();
        assert!(said(error).starts_with("the image has no file /absent second"));
    }
}
