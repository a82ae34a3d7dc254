//! VMs of `virt-launcher run` on this machine, as whoever speaks to them finds them.
//!
//! ```text
//! ROOT/sandboxes/       root's alone
//!   <id>/
//!     lock              held (flock) while somebody looks after the VM
//!     sandbox.json      whose it is, and what CNI gave its pod
//!     runtime/          the runtime directory, with the socket
//! ```

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use crate::launcher_client::LauncherClient;
use crate::{ConnectError, connect};

/// Where everything of local VMs lies, unless another place is named.
pub const ROOT: &str = "/var/lib/ferrovirt";

/// The environment variable that names another.
pub const ROOT_VARIABLE: &str = "FERROVIRT_ROOT";

/// A sandbox's lock, in its directory.
pub const LOCK: &str = "lock";

/// A sandbox's record, in its directory.
pub const RECORD: &str = "sandbox.json";

/// The pod's runtime directory, in its directory.
pub const RUNTIME: &str = "runtime";

/// How long a launcher that starts, or starts again, may take to listen. One that keeps dying is
/// started again after 5 s at most.
const LISTENS: Duration = Duration::from_secs(8);

/// The pause before a launcher is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// Why local VMs cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Whoever looks is not root.
    #[error("looking at local VMs takes root: try again with sudo")]
    Denied,
    /// Their directory cannot be read.
    #[error("cannot list {path}")]
    List {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A VM on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalVm {
    /// The VMI's namespace.
    pub namespace: String,
    /// The VMI's name.
    pub name: String,
    /// Where the guest is reached from this machine: its pod's addresses on the first network that has
    /// any, as CNI gave them.
    pub addresses: Vec<IpAddr>,
    /// When its sandbox was made.
    pub since: SystemTime,
    dir: PathBuf,
}

/// What of a sandbox's record matters here.
#[derive(Deserialize)]
struct Record {
    namespace: String,
    name: String,
    #[serde(default)]
    attached: Vec<Attached>,
}

#[derive(Deserialize)]
struct Attached {
    /// Null before CNI has answered.
    result: Option<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    ips: Vec<Given>,
}

#[derive(Deserialize)]
struct Given {
    /// With its prefix length.
    address: String,
}

impl LocalVm {
    /// The pod's runtime directory.
    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.join(RUNTIME)
    }

    /// A client of its launcher; waits for one that is starting.
    ///
    /// # Errors
    /// As [`connect`], once eight seconds have passed, or at once where nobody looks after the VM.
    pub async fn connect(&self) -> Result<LauncherClient<Channel>, ConnectError> {
        let until = Instant::now() + LISTENS;
        loop {
            match connect(&self.runtime_dir()).await {
                Err(ConnectError::Socket { .. } | ConnectError::Transport { .. })
                    if Instant::now() < until && self.is_kept() =>
                {
                    sleep(RETRY).await;
                }
                answer => return answer,
            }
        }
    }

    /// Whether somebody looks after it: `virt-launcher run`, or what that leaves behind.
    pub fn is_kept(&self) -> bool {
        // A shared lock, so that two who look do not take each other for whoever keeps it.
        let locked = File::open(self.dir.join(LOCK))
            .map(|lock| Flock::lock(lock, FlockArg::LockSharedNonblock));
        matches!(locked, Ok(Err((_, nix::Error::EWOULDBLOCK))))
    }

    /// The VM whose sandbox is in `dir`; `None` where that is being made or removed.
    fn read(dir: PathBuf) -> Option<Self> {
        let path = dir.join(RECORD);
        let record: Record = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        let addresses = |attached: &Attached| -> Vec<IpAddr> {
            let given = attached.result.iter().flat_map(|answer| &answer.ips);
            given
                .filter_map(|given| given.address.split('/').next()?.parse().ok())
                .collect()
        };
        let mut networks = record.attached.iter().map(addresses);
        Some(Self {
            namespace: record.namespace,
            name: record.name,
            addresses: networks.find(|own| !own.is_empty()).unwrap_or_default(),
            since: fs::metadata(&path).and_then(|file| file.modified()).ok()?,
            dir,
        })
    }
}

/// Every VM below `root`, by namespace and name.
///
/// # Errors
/// [`LocalError`]. That there is no such directory is no error: nothing has run there.
pub fn list(root: &Path) -> Result<Vec<LocalVm>, LocalError> {
    let path = root.join("sandboxes");
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound => Ok(vec![]),
                io::ErrorKind::PermissionDenied => Err(LocalError::Denied),
                _ => Err(LocalError::List {
                    path,
                    source: error,
                }),
            };
        }
    };
    let mut found: Vec<LocalVm> = entries
        .flatten()
        .filter_map(|entry| LocalVm::read(entry.path()))
        .collect();
    found.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(found)
}

/// The VM of that name, where it runs.
///
/// # Errors
/// As [`list`].
pub fn find(root: &Path, namespace: &str, name: &str) -> Result<Option<LocalVm>, LocalError> {
    let mut all = list(root)?.into_iter();
    Ok(all.find(|vm| vm.namespace == namespace && vm.name == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(root: &Path, id: &str, record: &str) -> PathBuf {
        let dir = root.join("sandboxes").join(id);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(RECORD), record).unwrap();
        dir
    }

    #[test]
    fn vms_are_found_by_their_names_and_reached_at_what_cni_gave_them() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(list(root.path()).unwrap(), [], "nothing has run here");
        let cases = [
            ("no answer yet", r#"[{"result":null}]"#, &[][..]),
            ("no network", "[]", &[]),
            (
                "both families",
                r#"[{"result":{"ips":[{"address":"10.0.0.2/24"},{"address":"fd00::2/64"}]}}]"#,
                &["10.0.0.2", "fd00::2"],
            ),
            (
                "the second network",
                r#"[{"result":{}},{"result":{"ips":[{"address":"10.1.0.2/24"}]}}]"#,
                &["10.1.0.2"],
            ),
        ];
        for (index, (name, attached, addresses)) in cases.into_iter().enumerate() {
            let record =
                format!(r#"{{"namespace":"default","name":"{name}","attached":{attached}}}"#);
            sandbox(root.path(), &index.to_string(), &record);
            let vm = find(root.path(), "default", name).unwrap().unwrap();
            let found = vm.addresses.iter().map(ToString::to_string);
            assert_eq!(found.collect::<Vec<_>>(), addresses, "{name}");
            assert_eq!(find(root.path(), "other", name).unwrap(), None);
        }
        fs::create_dir(root.path().join("sandboxes/being-made")).unwrap();
        sandbox(root.path(), "half", r#"{"namespace":"#);
        let names: Vec<_> = list(root.path()).unwrap();
        let names: Vec<_> = names.iter().map(|vm| &*vm.name).collect();
        let sorted = [
            "both families",
            "no answer yet",
            "no network",
            "the second network",
        ];
        assert_eq!(names, sorted);
    }

    #[test]
    fn a_directory_that_is_none_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("sandboxes"), "").unwrap();
        let error = list(root.path()).unwrap_err();
        assert!(matches!(error, LocalError::List { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_vm_that_nobody_looks_after_is_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let dir = sandbox(root.path(), "a", r#"{"namespace":"default","name":"a"}"#);
        fs::create_dir(dir.join(RUNTIME)).unwrap();
        let vm = find(root.path(), "default", "a").unwrap().unwrap();
        assert!(!vm.is_kept(), "there is no lock");
        let lock = File::create(dir.join(LOCK)).unwrap();
        assert!(!vm.is_kept(), "nobody holds it");
        let begun = Instant::now();
        assert!(vm.connect().await.is_err());
        assert!(begun.elapsed() < LISTENS);
        let held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
        assert!(vm.is_kept());
        drop(held);
        assert!(!vm.is_kept());
    }
}
