//! A pod sandbox without a kubelet: a directory, a network namespace, a CNI attachment.
//!
//! ```text
//! ROOT/sandboxes/<id>/
//!   lock           held (flock) by `run` and by the process that keeps the namespaces
//!   sandbox.json   written before anything is made that must be unmade
//!   netns          the network namespace, bind-mounted
//!   network.json   netbind's state
//!   launcher.log   what init and the worker say
//!   runtime/       the pod's runtime directory
//! ```
//!
//! [`remove`] undoes all of it from whatever state it finds, so a sandbox whose makers were
//! killed is removed by the next `run` ([`sweep`]): its lock is free.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::bridge;
use super::cni::{self, Attachment, CniError, Network};
use crate::pod::{self, PodError, QEMU_ID};

/// The pod's interface, as the kubelet's runtimes name it.
pub(super) const INTERFACE: &str = "eth0";

/// Why a sandbox cannot be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SandboxError {
    /// Another `run` has it.
    #[error(
        "a VM named {namespace}/{name} runs already; end it with \
         `virt-launcher shutdown -n {namespace} {name}`, or give this one another name"
    )]
    Busy {
        /// The VMI's namespace.
        namespace: String,
        /// The VMI's name.
        name: String,
    },
    /// A file or directory.
    #[error("cannot {operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// Its path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of ours.
    #[error(transparent)]
    State(#[from] PodError),
    /// The network namespace.
    #[error("cannot {operation} the pod's network namespace")]
    Namespace {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// CNI.
    #[error(transparent)]
    Cni(#[from] CniError),
    /// The pod's interface could not be put back.
    #[error("cannot put the pod's interface back")]
    Teardown(#[source] netbind::TeardownError),
}

fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SandboxError {
    let path = path.to_owned();
    move |source| SandboxError::File {
        operation,
        path,
        source,
    }
}

/// What is known of a sandbox; kept in its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sandbox {
    /// The VMI's namespace.
    pub namespace: String,
    /// The VMI's name.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
    /// The network, where the VM has one.
    pub(super) network: Option<Network>,
    /// What CNI answered.
    pub(super) result: Value,
}

/// The lock that says that somebody looks after a sandbox.
pub(super) type Lock = Flock<File>;

impl Sandbox {
    /// The directory of the VM's sandbox below `root`. Its name is short, whatever the VM's is:
    /// sockets in it must fit `sun_path`.
    fn directory(root: &Path, namespace: &str, name: &str) -> PathBuf {
        let digest = Sha256::digest(format!("{namespace}/{name}"));
        let id: String = digest
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        root.join("sandboxes").join(id)
    }

    /// The pod's runtime directory, as the host sees it.
    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.join("runtime")
    }

    /// netbind's state.
    pub fn network_state(&self) -> PathBuf {
        self.dir.join("network.json")
    }

    /// The network namespace.
    pub fn netns(&self) -> PathBuf {
        self.dir.join("netns")
    }

    /// What init and the worker say.
    pub fn log(&self) -> PathBuf {
        self.dir.join("launcher.log")
    }

    fn attachment(&self) -> Attachment {
        let id = self.dir.file_name().unwrap_or_default().to_string_lossy();
        Attachment {
            container: format!("ferrovirt-{id}"),
            netns: self.netns(),
            interface: INTERFACE.into(),
        }
    }

    /// The directory below which all local VMs lie.
    pub fn root(&self) -> &Path {
        self.dir.ancestors().nth(2).unwrap_or(Path::new("/"))
    }

    /// What CNI gave the pod, in a line.
    pub fn describe(&self) -> String {
        let addresses = self.result["ips"].as_array().into_iter().flatten();
        let addresses: Vec<&str> = addresses.filter_map(|ip| ip["address"].as_str()).collect();
        match addresses[..] {
            [] => "the pod has no address".to_owned(),
            _ => format!("the pod has {}", addresses.join(", ")),
        }
    }

    fn network_lock(&self) -> Result<Flock<File>, SandboxError> {
        bridge::lock(self.root()).map_err(file("lock the network of", self.root()))
    }

    fn save(&self) -> Result<(), SandboxError> {
        Ok(pod::write_json(&self.dir.join("sandbox.json"), self)?)
    }
}

/// Makes a sandbox; the lock says that it is in use.
///
/// What is left of one of the same name, whose makers were killed, is removed first.
///
/// # Errors
/// [`SandboxError`]; nothing is left behind then.
pub(super) fn create(
    root: &Path,
    namespace: &str,
    name: &str,
    network: Option<Network>,
) -> Result<(Sandbox, Lock), SandboxError> {
    if let Some(network) = &network {
        network.installed()?;
    }
    let dir = Sandbox::directory(root, namespace, name);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&dir)
        .map_err(file("make", &dir))?;
    let Some(lock) = lock(&dir)? else {
        return Err(SandboxError::Busy {
            namespace: namespace.into(),
            name: name.into(),
        });
    };
    let stale = pod::read_json::<Sandbox>(&dir.join("sandbox.json"));
    let mut sandbox = Sandbox {
        namespace: namespace.into(),
        name: name.into(),
        dir,
        network,
        result: Value::Null,
    };
    unmake(stale.as_ref().unwrap_or(&Sandbox { network: None, ..sandbox.clone() }))?;
    match furnish(&mut sandbox) {
        Ok(()) => Ok((sandbox, lock)),
        Err(error) => {
            // The first error is the one that matters. A plugin that fails at ADD may fail at DEL
            // too: nobody would ever succeed, so nothing is kept for a later attempt.
            let _ = remove(&sandbox);
            let _ = fs::remove_dir_all(&sandbox.dir);
            Err(error)
        }
    }
}

fn furnish(sandbox: &mut Sandbox) -> Result<(), SandboxError> {
    sandbox.save()?;
    let runtime = sandbox.runtime_dir();
    fs::DirBuilder::new()
        .mode(0o755)
        .create(&runtime)
        .map_err(file("make", &runtime))?;
    chown(&runtime, Some(QEMU_ID), Some(QEMU_ID)).map_err(file("give away", &runtime))?;
    make_namespace(&sandbox.netns())?;
    if let Some(network) = &sandbox.network {
        let _lock = sandbox.network_lock()?;
        let lo = Attachment {
            interface: "lo".into(),
            ..sandbox.attachment()
        };
        network.loopback().add(&lo)?;
        sandbox.result = network.add(&sandbox.attachment())?;
        sandbox.save()?;
    }
    Ok(())
}

/// Undoes a sandbox from whatever state it is in; may be called again.
///
/// # Errors
/// The first thing that could not be undone; what follows it was tried all the same.
pub(super) fn remove(sandbox: &Sandbox) -> Result<(), SandboxError> {
    unmake(sandbox)?;
    fs::remove_dir_all(&sandbox.dir).map_err(file("remove", &sandbox.dir))
}

/// Undoes all but the directory and its lock.
fn unmake(sandbox: &Sandbox) -> Result<(), SandboxError> {
    let netns = sandbox.netns();
    let detached = match &sandbox.network {
        Some(network) => put_back(sandbox).and(detach(sandbox, network)),
        None => Ok(()),
    };
    // Not mounted, or not there, where making it was cut short.
    let _ = umount2(&netns, MntFlags::MNT_DETACH);
    for entry in fs::read_dir(&sandbox.dir)
        .map_err(file("list", &sandbox.dir))?
        .flatten()
    {
        let path = entry.path();
        let removed = match entry.file_type() {
            _ if path.ends_with("lock") => Ok(()),
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        removed.map_err(file("remove", &path))?;
    }
    detached
}

/// Takes the pod off its network, and the network's bridge away where this was the last pod.
fn detach(sandbox: &Sandbox, network: &Network) -> Result<(), SandboxError> {
    let _lock = sandbox.network_lock()?;
    network.del(&sandbox.attachment(), &sandbox.result)?;
    bridge::remove_if_unused(cni::BRIDGE).map_err(file("remove the bridge", Path::new(cni::BRIDGE)))
}

/// The pod's interface as CNI made it: so its DEL finds what it expects.
fn put_back(sandbox: &Sandbox) -> Result<(), SandboxError> {
    let (netns, state) = (sandbox.netns(), sandbox.network_state());
    if !state.exists() {
        return Ok(());
    }
    in_namespace(&netns, move || {
        netbind::teardown(&netbind::TeardownOptions { state_file: state })
            .map(drop)
            .map_err(SandboxError::Teardown)
    })?
}

/// Removes every sandbox below `root` that nobody looks after any more.
pub(super) fn sweep(root: &Path) {
    for sandbox in list(root) {
        if let Ok(Some(_lock)) = lock(&sandbox.dir)
            && let Err(error) = remove(&sandbox)
        {
            tracing::warn!("cannot remove what is left of {}: {error}", sandbox.name);
        }
    }
}

/// Every sandbox below `root`.
pub fn list(root: &Path) -> Vec<Sandbox> {
    let Ok(entries) = fs::read_dir(root.join("sandboxes")) else {
        return vec![];
    };
    let mut found: Vec<Sandbox> = entries
        .flatten()
        .filter_map(|entry| pod::read_json(&entry.path().join("sandbox.json")).ok())
        .collect();
    found.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    found
}

/// The sandbox of a VM, where it runs.
pub fn find(root: &Path, namespace: &str, name: &str) -> Option<Sandbox> {
    let dir = Sandbox::directory(root, namespace, name);
    pod::read_json(&dir.join("sandbox.json")).ok()
}

/// Takes the lock of a sandbox's directory; `None` where somebody has it.
fn lock(dir: &Path) -> Result<Option<Lock>, SandboxError> {
    let path = dir.join("lock");
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
        // Somebody removed the sandbox between our open and our lock.
        Ok(lock) if !is_at(&lock, &path) => Ok(None),
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::Error::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(file("lock", &path)(errno.into())),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let here = file.metadata().map(|meta| (meta.dev(), meta.ino()));
    let there = fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    matches!((here, there), (Ok(here), Ok(there)) if here == there)
}

/// A new network namespace, kept by a bind mount at `path`.
fn make_namespace(path: &Path) -> Result<(), SandboxError> {
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
fn in_namespace<T: Send + 'static>(
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

/// Makes a file that the pod's user can read, whatever the umask.
pub(super) fn write_public(path: &Path, text: &[u8]) -> Result<(), SandboxError> {
    fs::write(path, text).map_err(file("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_with_a_long_name_has_a_short_directory() {
        let name = "n".repeat(253);
        let dir = Sandbox::directory(Path::new("/var/lib/ferrovirt"), "default", &name);
        assert!(
            dir.join("runtime/libvirt").as_os_str().len() < 80,
            "{dir:?}"
        );
        assert_ne!(
            dir,
            Sandbox::directory(Path::new("/var/lib/ferrovirt"), "other", &name)
        );
    }

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(held.is_some());
        assert!(lock(dir.path()).unwrap().is_none());
        drop(held);
        assert!(lock(dir.path()).unwrap().is_some());
    }
}
