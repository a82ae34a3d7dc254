//! A network namespace that a file keeps, as long as it is mounted there.

use std::fs::{self, File};
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
pub(in crate::run) fn enter<T: Send + 'static>(
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

/// Lets the pod forward IPv6, which masquerade takes and no netlink path sets: the pod's own
/// `/proc/sys` is read-only, so it is for who makes the pod, as `securityContext.sysctls` is in a
/// cluster. Default routes from router advertisements stay. Nothing happens in a kernel without
/// IPv6.
pub(super) fn forward_ipv6(netns: &Path, device: String) -> Result<(), SandboxError> {
    enter(netns, move || {
        let settings = Path::new("/proc/sys/net/ipv6/conf");
        let accept_ra = settings.join(device).join("accept_ra");
        let forwarding = settings.join("all/forwarding");
        let accepts = fs::read_to_string(&accept_ra);
        if accepts.is_ok_and(|value| value.trim() == "1") {
            fs::write(&accept_ra, "2").map_err(file("write", &accept_ra))?;
        }
        match fs::write(&forwarding, "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            written => written.map_err(file("write", &forwarding)),
        }
    })?
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
