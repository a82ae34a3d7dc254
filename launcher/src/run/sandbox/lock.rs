//! The lock of a sandbox: whoever holds it looks after the VM.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use launcher_api::local::LOCK;
use nix::fcntl::{Flock, FlockArg};

use super::{SandboxError, file, record};

/// The pause before another look at a sandbox that is being made or removed, and how long to look.
const MOMENT: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(5));

/// The lock that says that somebody looks after a sandbox.
pub(in crate::run) type Lock = Flock<File>;

/// Makes the directory where it is missing and takes its lock; `None` where a VM has it.
pub(super) fn acquire(dir: &Path) -> Result<Option<Lock>, SandboxError> {
    let (pause, limit) = MOMENT;
    let until = Instant::now() + limit;
    loop {
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(file("make", dir)(error));
            }
            _ => {}
        }
        match lock(dir) {
            // Whoever holds a lock without a record is about to write it, or to remove the rest.
            Ok(None) if record(dir).is_none() && Instant::now() < until => {
                std::thread::sleep(pause);
            }
            // Removed since it was made.
            Err(SandboxError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            answer => return answer,
        }
    }
}

/// Takes the lock of a sandbox's directory; `None` where somebody has it.
pub(super) fn lock(dir: &Path) -> Result<Option<Lock>, SandboxError> {
    let path = dir.join(LOCK);
    loop {
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        match Flock::lock(
            open.map_err(file("open", &path))?,
            FlockArg::LockExclusiveNonblock,
        ) {
            Ok(lock) if is_at(&lock, &path) => return Ok(Some(lock)),
            // Its holder removed it, with the sandbox, between our open and our lock.
            Ok(_) => {}
            Err((_, nix::Error::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(file("lock", &path)(errno.into())),
        }
    }
}

pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let here = file.metadata().map(|meta| (meta.dev(), meta.ino()));
    let there = fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    matches!((here, there), (Ok(here), Ok(there)) if here == there)
}
