//! Noticing what changes in a directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::read;

/// How often a directory is looked at that cannot be watched, in milliseconds.
const LOOK: i64 = 100;

/// Readable when a directory should be looked at.
pub(crate) struct Changes(OwnedFd);

impl Changes {
    /// Watches a directory for what is to happen there. Where the kernel watches no more, it is
    /// looked at every [`LOOK`]: a user has 128 watches at once (`fs.inotify.max_user_instances`),
    /// and all machines of a node are one user.
    pub(crate) fn watch(directory: &Path, what: AddWatchFlags) -> nix::Result<Self> {
        let watched = match watched(directory, what) {
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC) => ticking(),
            other => other,
        };
        watched.map(Self)
    }

    /// Forgets what has changed so far: what exactly it was is seen in the directory.
    pub(crate) fn forget(&self) {
        while read(&self.0, &mut [0; 4096]).is_ok() {}
    }

    /// Returns when the directory should be looked at, or a signal came.
    pub(crate) fn wait(&self) -> nix::Result<()> {
        let mut polled = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        self.forget();
        Ok(())
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn watched(directory: &Path, what: AddWatchFlags) -> nix::Result<OwnedFd> {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    watch.add_watch(directory, what)?;
    Ok(watch.into())
}

fn ticking() -> nix::Result<OwnedFd> {
    let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
    let every = Expiration::Interval(TimeSpec::milliseconds(LOOK));
    timer.set(every, TimerSetTimeFlags::empty())?;
    Ok(timer.into())
}
