//! What lies where in a launcher's pod.
//!
//! ```text
//! RUNTIME_DIR/
//!   vmi.json         the VirtualMachineInstance: defaulted, validated     (input, or init's copy)
//!   init.lock        held by init for life: other containers wait for its end by it
//!   network/         one `<interface>.json` for each bound interface       (init → worker)
//!   container-disks/, kernel-boot/, secrets/, host-disks/, claims/        (inputs, mounted)
//!   disks/           what `volumes` makes
//!   libvirt/         the embedded driver's root: its state, QEMU's log
//!   record.json      what one worker leaves for the next
//!   launcher.sock    the protocol
//!   serial0.sock, serial0.log, vnc.sock, agent.sock                       (QEMU's)
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where the runtime directory lies in a pod.
pub const RUNTIME_DIR: &str = "/run/virt-launcher";

/// The user and group that worker and QEMU run as: KubeVirt's `qemu`.
pub const QEMU_ID: u32 = 107;

/// What one worker leaves for the next, in the runtime directory.
pub const RECORD: &str = "record.json";

/// The name of the node's device nodes for taps.
pub const TUN_DEVICE: &str = "/dev/net/tun";

/// The device node of the kernel's own virtio network backend; not every node has it.
pub const VHOST_NET_DEVICE: &str = "/dev/vhost-net";

/// Where a pod has the device nodes of its claims, by the names of their volumes.
pub const CLAIM_DEVICES: &str = "/dev/claims";

/// A pod's runtime directory.
#[derive(Clone, Debug)]
pub struct Pod {
    dir: PathBuf,
}

/// A file of the pod that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{path} is not what this launcher writes there")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// It cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Pod {
    /// The pod whose runtime directory is `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The runtime directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The VirtualMachineInstance, as JSON.
    pub fn vmi(&self) -> PathBuf {
        self.dir.join("vmi.json")
    }

    /// The guest's side of the network, for the VMI interface of that name.
    pub fn guest_network(&self, interface: &str) -> PathBuf {
        self.dir.join("network").join(format!("{interface}.json"))
    }

    /// The embedded driver's root.
    pub fn libvirt_root(&self) -> PathBuf {
        self.dir.join("libvirt")
    }

    /// Where the capability cache lies below the embedded driver's root.
    pub fn capabilities(&self) -> PathBuf {
        self.libvirt_root().join("cache/qemu/capabilities")
    }

    /// The log that libvirt keeps of a domain's QEMU.
    pub fn qemu_log(&self, domain: &str) -> PathBuf {
        self.libvirt_root()
            .join("log/qemu")
            .join(format!("{domain}.log"))
    }

    /// QEMU's process id.
    pub fn qemu_pid_file(&self, domain: &str) -> PathBuf {
        self.libvirt_root()
            .join("run/qemu")
            .join(format!("{domain}.pid"))
    }

    /// What one worker leaves for the next.
    pub fn record(&self) -> PathBuf {
        self.dir.join(RECORD)
    }

    /// The protocol's socket.
    pub fn launcher_socket(&self) -> PathBuf {
        self.dir.join(launcher_api::SOCKET)
    }

    /// The first serial console.
    pub fn serial_socket(&self) -> PathBuf {
        self.dir.join("serial0.sock")
    }

    /// All that the guest ever printed there.
    pub fn serial_log(&self) -> PathBuf {
        self.dir.join("serial0.log")
    }
}

/// Reads a JSON file.
///
/// # Errors
/// [`PodError::Read`] and [`PodError::Parse`], naming the file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, PodError> {
    let text = std::fs::read(path).map_err(|source| PodError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| PodError::Parse {
        path: path.to_owned(),
        source,
    })
}

/// Writes a JSON file: whoever reads it sees the old or the new one, never a part.
///
/// # Errors
/// [`PodError::Write`], naming the file.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), PodError> {
    let write = || {
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| PodError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_json_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        std::fs::write(&path, "{").unwrap();
        let error = read_json::<crate::lifecycle::Record>(&path).unwrap_err();
        assert!(
            error.to_string().starts_with(&path.display().to_string()),
            "{error}"
        );
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        let record = crate::lifecycle::Record {
            worker_starts: 3,
            ..Default::default()
        };
        write_json(&path, &record).unwrap();
        assert_eq!(
            read_json::<crate::lifecycle::Record>(&path).unwrap(),
            record
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
