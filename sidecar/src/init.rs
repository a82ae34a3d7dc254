//! Whether init lives: it makes its lock, locked already, before it does anything else, and holds
//! it to its end.

use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::inotify::AddWatchFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::changes::Changes;

/// The name of init's lock in each directory that it shares with another container.
pub(crate) const LOCK: &str = "init.lock";

/// What brings a name into a directory.
pub(crate) const ARRIVALS: AddWatchFlags =
    AddWatchFlags::IN_CREATE.union(AddWatchFlags::IN_MOVED_TO);

/// Waits for init's end on a thread: there is no asking a lock by `poll`.
pub(crate) struct Init {
    lock: PathBuf,
    ended: PipeReader,
    waiting: JoinHandle<io::Result<()>>,
}

impl Init {
    /// Begins to wait, for its beginning too where it has not begun yet.
    pub(crate) fn watch(lock: &Path) -> io::Result<Self> {
        let (ended, alive) = io::pipe()?;
        let path = lock.to_owned();
        let waiting = std::thread::Builder::new().spawn(move || {
            let outcome = outlive(&path);
            drop(alive);
            outcome
        })?;
        Ok(Self {
            lock: lock.to_owned(),
            ended,
            waiting,
        })
    }

    /// Whether it has begun; it may have ended since.
    pub(crate) fn has_begun(&self) -> bool {
        self.lock.exists()
    }

    /// Hangs up when init has ended.
    pub(crate) fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// Returns at init's end, or with the reason why that cannot be waited for.
    pub(crate) fn join(self) -> io::Result<()> {
        let ended = self.waiting.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("the thread that waits for it ended")))
    }
}

/// Returns when init has come and gone.
fn outlive(lock: &Path) -> io::Result<()> {
    appear(lock)?;
    let file = File::open(lock)?;
    let free = Flock::lock(file, FlockArg::LockShared);
    free.map(drop).map_err(|(_, errno)| errno.into())
}

fn appear(path: &Path) -> io::Result<()> {
    // Most often it is there, and a watch has its price.
    if path.exists() {
        return Ok(());
    }
    let arrivals = Changes::watch(path.parent().unwrap_or(Path::new("/")), ARRIVALS)?;
    while !path.exists() {
        arrivals.wait()?;
    }
    Ok(())
}

/// Takes SIGTERM: nothing here ends by it as long as a guest may need it.
///
/// Called before any thread is started, so that none of them takes it instead.
pub(crate) fn terminations() -> io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&signals, flags)?)
}
