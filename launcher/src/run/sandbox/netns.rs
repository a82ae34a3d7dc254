//! A network namespace that a file keeps, as long as it is mounted there.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use super::{SandboxError, file};

/// Whether a namespace is mounted at `path`.
pub(super) fn exists(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}

/// A new network namespace, kept by a bind mount at `path`.
pub(super) fn make(path: &Path) -> Result<(), SandboxError> {
    let path = path.to_owned();
    on_thread(move || {
        let namespace = |operation| {
            move |errno: nix::Error| SandboxError::Namespace {
                operation,
                source: errno.into(),
            }
        };
        File::create(&path).map_err(file("make", &path))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(namespace("make"))?;
        let own = Path::new("/proc/thread-self/ns/net");
        mount(
            Some(own),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(namespace("keep"))
    })
}

/// Runs `task` on a thread of its own that has entered the namespace.
pub(super) fn enter<T: Send + 'static>(
    netns: &Path,
    task: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SandboxError> {
    let netns = netns.to_owned();
    on_thread(move || {
        let entered = File::open(&netns)
            .and_then(|file| setns(file, CloneFlags::CLONE_NEWNET).map_err(Into::into));
        entered.map_err(|source| SandboxError::Namespace {
            operation: "enter",
            source,
        })?;
        Ok(task())
    })
}

fn on_thread<T: Send + 'static>(
    task: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, SandboxError> {
    let ended = |_| SandboxError::Namespace {
        operation: "work in",
        source: io::Error::other("the thread ended early"),
    };
    std::thread::spawn(task).join().map_err(ended)?
}
