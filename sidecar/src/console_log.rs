//! Printing what the guest prints, for `kubectl logs`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::AddWatchFlags;

use crate::changes::Changes;
use crate::init::{self, ARRIVALS, Init};

/// How much is copied at a time, in bytes.
const CHUNK: usize = 64 * 1024;

/// Why the console cannot be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsoleLogError {
    /// What the guest printed cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is something else than QEMU makes there.
    #[error("{} is no regular file", .path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// Nobody reads what is printed here.
    #[error("cannot write to standard output")]
    Print(#[source] io::Error),
    /// A call that has no reason to fail failed.
    #[error("cannot {operation}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn kernel<E: Into<io::Error>>(operation: &'static str) -> impl Fn(E) -> ConsoleLogError {
    move |source| ConsoleLogError::Kernel {
        operation,
        source: source.into(),
    }
}

/// Copies `file` to `out` as it grows, from its beginning again where it was emptied, until init has
/// gone and all is printed. SIGTERM ends it only while init has not begun: the last words of a guest
/// that shuts down are the ones that matter.
pub(crate) fn run(file: &Path, lock: &Path, out: &mut impl Write) -> Result<(), ConsoleLogError> {
    let terminations = init::terminations().map_err(kernel("take SIGTERM"))?;
    let directory = file.parent().unwrap_or(Path::new("/"));
    // Of the directory: it tells of the file's beginning as well.
    let changes = Changes::watch(directory, ARRIVALS | AddWatchFlags::IN_MODIFY)
        .map_err(kernel("watch the console's directory"))?;
    let init = Init::watch(lock).map_err(kernel("wait for init"))?;
    let mut console = Console {
        path: file,
        open: None,
    };
    loop {
        console.print(out)?;
        let mut polled = [
            PollFd::new(changes.as_fd(), PollFlags::POLLIN),
            PollFd::new(init.ended(), PollFlags::POLLIN),
            PollFd::new(terminations.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.map_err(kernel("wait for the console"))?,
        };
        let [changed, ended, terminated] = polled.map(|it| it.any().unwrap_or(true));
        if ended {
            init.join().map_err(kernel("wait for init"))?;
            return console.print(out);
        }
        if changed {
            changes.forget();
        }
        if terminated {
            if !init.has_begun() {
                return Ok(());
            }
            while let Ok(Some(_)) = terminations.read_signal() {}
        }
    }
}

/// The file, and how much of it is printed.
struct Console<'a> {
    path: &'a Path,
    open: Option<(File, u64)>,
}

impl Console<'_> {
    /// Prints what is new.
    fn print(&mut self, out: &mut impl Write) -> Result<(), ConsoleLogError> {
        let failed = |source| ConsoleLogError::Read {
            path: self.path.to_owned(),
            source,
        };
        let (file, printed) = match &mut self.open {
            Some(open) => open,
            none => match open(self.path)? {
                Some(file) => none.insert((file, 0)),
                None => return Ok(()),
            },
        };
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = file.metadata().map_err(failed)?.len();
            if length < *printed {
                *printed = 0;
            }
            let read = file.read_at(&mut chunk, *printed).map_err(failed)?;
            let new = chunk.get(..read).unwrap_or_default();
            if new.is_empty() {
                return out.flush().map_err(ConsoleLogError::Print);
            }
            out.write_all(new).map_err(ConsoleLogError::Print)?;
            *printed += new.len() as u64;
        }
    }
}

/// Opens the console's file where it is there. Its directory is the launcher's, which a guest may
/// have taken over: a link is not followed, and a FIFO not waited for.
fn open(path: &Path) -> Result<Option<File>, ConsoleLogError> {
    let failed = |source| ConsoleLogError::Read {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    let opened = options
        .read(true)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK)
        .open(path);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
        Ok(file) if file.metadata().map_err(failed)?.is_file() => Ok(Some(file)),
        Ok(_) => Err(ConsoleLogError::Kind {
            path: path.to_owned(),
        }),
    }
}
