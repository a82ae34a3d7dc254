//! The bridge of the default network: CNI's bridge plugin makes it and never removes it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use futures::TryStreamExt;
use nix::fcntl::{Flock, FlockArg};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

/// Removes the bridge `name` once no pod is on it, in the calling thread's network namespace.
///
/// # Errors
/// The kernel's answer; a bridge that is not there is no error.
pub(super) fn remove_if_unused(name: &'static str) -> io::Result<()> {
    // A runtime of its own, on a thread of its own: the caller may be on one.
    let task = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(remove(name)).map_err(io::Error::other)
    };
    let thread = std::thread::spawn(task);
    thread
        .join()
        .map_err(|_| io::Error::other("the thread ended early"))?
}

async fn remove(name: &str) -> Result<(), rtnetlink::Error> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|_| rtnetlink::Error::RequestFailed)?;
    tokio::spawn(connection);
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    let named = |link: &&LinkMessage| {
        link.attributes
            .iter()
            .any(|a| matches!(a, LinkAttribute::IfName(own) if own == name))
    };
    let Some(bridge) = links.iter().find(named).map(|link| link.header.index) else {
        return Ok(());
    };
    let used = links.iter().any(|link| {
        link.attributes
            .iter()
            .any(|a| matches!(a, LinkAttribute::Controller(of) if *of == bridge))
    });
    if used {
        Ok(())
    } else {
        handle.link().del(bridge).execute().await
    }
}

/// Held while a pod is attached or detached: a bridge must not be removed between the moment
/// when the plugin made it and the moment when the pod is on it.
pub(super) fn lock(root: &Path) -> io::Result<Flock<File>> {
    std::fs::create_dir_all(root)?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(root.join("network.lock"))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}
