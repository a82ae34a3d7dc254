//! A pod sandbox without a kubelet: a directory, a network namespace, CNI attachments.
//!
//! ```text
//! ROOT/sandboxes/       root's alone: every VM has the same user, and none may see another's
//!   <id>/
//!     lock           held (flock) by `run` and by the process that keeps the namespaces
//!     sandbox.json   written before anything is made that must be unmade; goes last
//!     netns          the network namespace, bind-mounted
//!     network/       netbind's state, a file for each of the pod's interfaces
//!     launcher.log   what init and the worker say
//!     runtime/       the pod's runtime directory; the pod sees it by a mount, not by this path
//! ```
//!
//! [`remove`] undoes all of it from whatever state it finds, so a sandbox whose makers were
//! killed is removed by the next `run` ([`sweep`]): its lock is free.

mod lock;
pub(super) mod netns;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use launcher_api::local::{LOCK, RECORD, RUNTIME};
use nix::fcntl::Flock;
use nix::mount::{MntFlags, umount2};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::bridge;
use super::cni::{self, Attachment, CniError, Network};
use crate::network::PRIMARY;
use crate::pod::{self, PodError};

pub(super) use lock::Lock;
use lock::{acquire, is_at, lock};

const NETNS: &str = "netns";
const NETWORK: &str = "network";

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
    #[error("cannot put the pod's {device} back")]
    Teardown {
        /// The interface.
        device: String,
        /// What could not be undone.
        source: netbind::TeardownError,
    },
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
pub(super) struct Sandbox {
    /// The VMI's namespace.
    pub(super) namespace: String,
    /// The VMI's name.
    pub(super) name: String,
    /// Its directory.
    pub(super) dir: PathBuf,
    /// The pod's networks, its own one first.
    pub(super) attached: Vec<Attached>,
}

/// A network that the pod is attached to, or about to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Attached {
    /// The VMI's name for the interface.
    pub(super) name: String,
    /// The name of the pod's interface.
    pub(super) device: String,
    /// Whether the guest is behind the pod's addresses and does not have them.
    pub(super) masquerade: bool,
    /// The network.
    pub(super) network: Network,
    /// What CNI answered; null before it did.
    pub(super) result: Value,
}

impl Sandbox {
    /// The directory of the VM's sandbox below `root`. Its name is short, whatever the VM's is:
    /// sockets in it must fit `sun_path`. It tells CNI of the pod as well, and so differs between
    /// two roots.
    fn directory(root: &Path, namespace: &str, name: &str) -> PathBuf {
        let sandboxes = sandboxes(root);
        let id = digest(&format!("{}/{namespace}/{name}", sandboxes.display()), 6);
        sandboxes.join(id)
    }

    /// The pod's runtime directory, as the host sees it.
    pub(super) fn runtime_dir(&self) -> PathBuf {
        self.dir.join(RUNTIME)
    }

    /// The directory of netbind's state.
    pub(super) fn network_state(&self) -> PathBuf {
        self.dir.join(NETWORK)
    }

    /// The network namespace.
    pub(super) fn netns(&self) -> PathBuf {
        self.dir.join(NETNS)
    }

    /// What init and the worker say.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("launcher.log")
    }

    fn attachment(&self, device: &str) -> Attachment {
        let id = self.dir.file_name().unwrap_or_default().to_string_lossy();
        Attachment {
            container: format!("ferrovirt-{id}"),
            netns: self.netns(),
            interface: device.into(),
        }
    }

    /// The directory below which all local VMs lie.
    pub(super) fn root(&self) -> &Path {
        self.dir.ancestors().nth(2).unwrap_or(Path::new("/"))
    }

    /// What CNI gave the pod, in a line.
    pub(super) fn describe(&self) -> String {
        let gave = |attached: &Attached| {
            let addresses: Vec<&str> = cni::addresses(&attached.result).collect();
            match addresses[..] {
                [] => "no address".to_owned(),
                _ => addresses.join(", "),
            }
        };
        let each = self
            .attached
            .iter()
            .map(|attached| match &attached.device[..] {
                PRIMARY => gave(attached),
                _ => format!("{} on {}", gave(attached), attached.name),
            });
        match &each.collect::<Vec<_>>()[..] {
            [] => "the pod has no network".to_owned(),
            each => format!("the pod has {}", each.join(", and ")),
        }
    }

    /// Whether CNI gave the pod any address.
    pub(super) fn has_address(&self) -> bool {
        let results = self.attached.iter().map(|attached| &attached.result);
        results.flat_map(cni::addresses).next().is_some()
    }

    fn network_lock(&self) -> Result<Flock<File>, SandboxError> {
        bridge::lock(self.root()).map_err(file("lock the network of", self.root()))
    }

    fn save(&self) -> Result<(), SandboxError> {
        Ok(pod::write_json(&self.dir.join(RECORD), self)?)
    }

    /// Whether `lock` is this sandbox's, and not that of an earlier one of the same name.
    pub(super) fn is_held_by(&self, lock: &File) -> bool {
        is_at(lock, &self.dir.join(LOCK))
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
    attached: Vec<Attached>,
) -> Result<(Sandbox, Lock), SandboxError> {
    for attached in &attached {
        attached.network.installed()?;
    }
    private_directory(&sandboxes(root))?;
    let dir = Sandbox::directory(root, namespace, name);
    let Some(lock) = acquire(&dir)? else {
        return Err(SandboxError::Busy {
            namespace: namespace.into(),
            name: name.into(),
        });
    };
    unmake(&load(&dir))?;
    let mut sandbox = Sandbox {
        namespace: namespace.into(),
        name: name.into(),
        dir,
        attached,
    };
    match furnish(&mut sandbox) {
        Ok(()) => Ok((sandbox, lock)),
        Err(error) => {
            discard(&sandbox);
            Err(error)
        }
    }
}

/// Makes a directory that only root may enter, or closes one that is there.
pub(super) fn private_directory(path: &Path) -> Result<(), SandboxError> {
    fs::create_dir_all(path).map_err(file("make", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(file("close", path))
}

fn furnish(sandbox: &mut Sandbox) -> Result<(), SandboxError> {
    sandbox.save()?;
    let runtime = sandbox.runtime_dir();
    // Root's own until everything is in it: see `inputs::furnish`.
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&runtime)
        .map_err(file("make", &runtime))?;
    netns::make(&sandbox.netns())?;
    let Some(first) = sandbox.attached.first() else {
        return Ok(());
    };
    let _lock = sandbox.network_lock()?;
    first.network.loopback().add(&sandbox.attachment("lo"))?;
    for index in 0..sandbox.attached.len() {
        let attached = &sandbox.attached[index];
        let (device, masquerade) = (attached.device.clone(), attached.masquerade);
        let result = attached.network.add(&sandbox.attachment(&device))?;
        sandbox.attached[index].result = result;
        sandbox.save()?;
        if masquerade {
            netns::forward_ipv6(&sandbox.netns(), device)?;
        }
    }
    Ok(())
}

/// Undoes a sandbox from whatever state it is in; may be called again.
///
/// # Errors
/// [`SandboxError`]; where the pod could not be detached, what detaching it again takes is still
/// there.
pub(super) fn remove(sandbox: &Sandbox) -> Result<(), SandboxError> {
    unmake(sandbox)?;
    leave(&sandbox.dir)
}

/// Undoes all but the directory and its lock; the record goes last.
fn unmake(sandbox: &Sandbox) -> Result<(), SandboxError> {
    let cleared = clear(&sandbox.dir, &[LOCK, RECORD, NETNS, NETWORK]);
    if !sandbox.attached.is_empty() {
        put_back(sandbox).and_then(|()| detach(sandbox))?;
    }
    // Not mounted, or not there, where making it was cut short.
    let _ = umount2(&sandbox.netns(), MntFlags::MNT_DETACH);
    cleared?;
    clear(&sandbox.dir, &[LOCK, RECORD])?;
    clear(&sandbox.dir, &[LOCK])
}

/// Removes a sandbox that could not be made.
///
/// A plugin that fails at ADD may fail at DEL too: nobody would ever succeed, so nothing is kept
/// for a later attempt. The error that matters is the first one.
fn discard(sandbox: &Sandbox) {
    if unmake(sandbox).is_err() {
        let _ = umount2(&sandbox.netns(), MntFlags::MNT_DETACH);
        let _ = clear(&sandbox.dir, &[LOCK]);
    }
    let _ = leave(&sandbox.dir);
}

/// Removes what is in a directory, but for the names in `keep`.
fn clear(dir: &Path, keep: &[&str]) -> Result<(), SandboxError> {
    for entry in fs::read_dir(dir).map_err(file("list", dir))?.flatten() {
        let path = entry.path();
        let removed = match entry.file_type() {
            _ if keep.iter().any(|name| entry.file_name() == *name) => Ok(()),
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        removed.map_err(file("remove", &path))?;
    }
    Ok(())
}

/// Removes the lock, and the directory unless a newcomer has made a lock of its own there.
fn leave(dir: &Path) -> Result<(), SandboxError> {
    let lock = dir.join(LOCK);
    fs::remove_file(&lock).map_err(file("remove", &lock))?;
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other.map_err(file("remove", dir)),
    }
}

/// Takes the pod off its networks, and the bridge of ours away where this was the last pod on it.
/// One that fails keeps none of the others.
fn detach(sandbox: &Sandbox) -> Result<(), SandboxError> {
    let _lock = sandbox.network_lock()?;
    let mut outcome = Ok(());
    for attached in sandbox.attached.iter().rev() {
        let attachment = sandbox.attachment(&attached.device);
        outcome = attached
            .network
            .del(&attachment, &attached.result)
            .and(outcome);
    }
    outcome?;
    bridge::remove_if_unused(cni::BRIDGE).map_err(file("remove the bridge", Path::new(cni::BRIDGE)))
}

/// The pod's interfaces as CNI made them: so its DEL finds what it expects.
fn put_back(sandbox: &Sandbox) -> Result<(), SandboxError> {
    let path = sandbox.netns();
    if !netns::exists(&path) {
        // A reboot, or an end in the middle of making it. DEL releases the pod's addresses where
        // there is no namespace, and fails at a file that is none.
        return match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(file("remove", &path)(error))
            }
            _ => Ok(()),
        };
    }
    let states = sandbox.network_state();
    for attached in sandbox.attached.iter().rev() {
        let device = attached.device.clone();
        let state_file = states.join(format!("{device}.json"));
        if state_file.exists() {
            netns::enter(&path, move || {
                netbind::teardown(&netbind::TeardownOptions { state_file })
                    .map_err(|source| SandboxError::Teardown { device, source })
            })??;
        }
    }
    Ok(())
}

/// Removes every sandbox below `root` that nobody looks after any more.
pub(super) fn sweep(root: &Path) {
    for dir in directories(root) {
        if let Ok(Some(_lock)) = lock(&dir)
            && let Err(error) = remove(&load(&dir))
        {
            let error = anyhow::Error::from(error);
            tracing::warn!("cannot remove what is left in {}: {error:#}", dir.display());
        }
    }
}

fn sandboxes(root: &Path) -> PathBuf {
    let absolute = fs::canonicalize(root).or_else(|_| std::path::absolute(root));
    absolute
        .unwrap_or_else(|_| root.to_owned())
        .join("sandboxes")
}

fn directories(root: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(sandboxes(root)).into_iter().flatten();
    entries.flatten().map(|entry| entry.path())
}

/// What is written of the sandbox in `dir`.
fn record(dir: &Path) -> Option<Sandbox> {
    let sandbox: Sandbox = pod::read_json(&dir.join(RECORD)).ok()?;
    // All of it may have been moved since.
    let dir = dir.to_owned();
    Some(Sandbox { dir, ..sandbox })
}

/// What has to be undone in `dir`: without a record, nothing but files was made.
fn load(dir: &Path) -> Sandbox {
    record(dir).unwrap_or_else(|| Sandbox {
        namespace: String::new(),
        name: String::new(),
        dir: dir.to_owned(),
        attached: vec![],
    })
}

/// The first `length` bytes of a text's SHA-256, in hexadecimal.
pub(super) fn digest(text: &str, length: usize) -> String {
    let digest = Sha256::digest(text);
    let bytes = digest.iter().take(length);
    bytes.map(|byte| format!("{byte:02x}")).collect()
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
    fn the_same_vm_below_two_roots_is_two_pods() {
        let ids = ["/one", "/other"].map(|root| {
            let dir = Sandbox::directory(Path::new(root), "default", "a");
            dir.file_name().unwrap().to_owned()
        });
        assert_ne!(ids[0], ids[1]);
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

    #[test]
    fn a_newcomer_s_lock_is_not_removed_with_the_sandbox() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a");
        let held = acquire(&dir).unwrap().unwrap();
        fs::remove_file(dir.join(LOCK)).unwrap();
        let newcomer = acquire(&dir).unwrap();
        assert!(newcomer.is_some());
        assert!(!load(&dir).is_held_by(&held));
        assert!(load(&dir).is_held_by(&newcomer.unwrap()));
    }

    #[test]
    fn what_is_left_without_a_record_is_swept() {
        let root = tempfile::tempdir().unwrap();
        let [left, held] = ["left", "held"].map(|name| sandboxes(root.path()).join(name));
        for dir in [&left, &held] {
            fs::create_dir_all(dir.join("runtime/libvirt")).unwrap();
            fs::write(dir.join(NETNS), "").unwrap();
        }
        let _lock = lock(&held).unwrap();
        sweep(root.path());
        assert!(!left.exists());
        assert!(held.join("runtime/libvirt").exists());
    }
}
