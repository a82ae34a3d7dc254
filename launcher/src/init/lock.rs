//! init's locks: whoever waits for its end waits for one of them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};

/// The name of the lock in each directory that init shares with another container.
pub const LOCK: &str = "init.lock";

/// Makes the lock of a directory. It appears locked: whoever finds it free knows that init was there
/// and has gone.
pub(super) fn take(directory: &Path) -> anyhow::Result<Flock<File>> {
    let path = directory.join(LOCK);
    let temporary = path.with_extension("new");
    let taken = || -> io::Result<Flock<File>> {
        let mut options = OpenOptions::new();
        // Anybody who can read it may wait for it.
        let file = options.write(true).create(true).truncate(false).mode(0o644);
        let lock = Flock::lock(file.open(&temporary)?, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, errno)| errno)?;
        std::fs::rename(&temporary, &path)?;
        Ok(lock)
    };
    taken().with_context(|| format!("cannot make and lock {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_held_from_the_moment_when_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let held = take(dir.path()).unwrap();
        let attempt = || {
            let file = File::open(dir.path().join(LOCK)).unwrap();
            Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, errno)| errno)
        };
        assert_eq!(attempt().unwrap_err(), nix::Error::EWOULDBLOCK);
        drop(held);
        assert!(attempt().is_ok());
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = take(Path::new("/absent")).unwrap_err();
        assert_eq!(error.to_string(), "cannot make and lock /absent/init.lock");
    }
}
