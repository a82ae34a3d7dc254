//! The VMI that the pod carries.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crds::manifest::{self, Manifest, ManifestError};
use crds::{FieldError, VirtualMachineInstance};
use serde_json::Value;

use crate::pod::{self, Pod, PodError};

/// All that a pod's annotations can hold together, in bytes (Kubernetes'
/// `TotalAnnotationSizeLimitB`).
const LONGEST: u64 = 256 * 1024;

/// The pod carries no VMI that could be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum VmiError {
    /// The file cannot be read.
    #[error("cannot read the VMI from {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nothing in it.
    #[error("{path} is empty: the pod has no annotation ferrovirt.io/vmi")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// More than a pod can carry.
    #[error("{path} is longer than 256 KiB, so it is no VMI of a pod's annotation")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// No JSON.
    #[error("{path} is no JSON")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// A status that is none.
    #[error("the status in {path} is none that this launcher knows")]
    Status {
        /// The file.
        path: PathBuf,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// Another object, or one with fields that are unknown or of the wrong type.
    #[error("{path} is no VirtualMachineInstance that this launcher knows")]
    Kind {
        /// The file.
        path: PathBuf,
        /// Where it differs.
        source: ManifestError,
    },
    /// A VMI that admission would have refused.
    #[error("the VMI in {path} cannot be started: {}", fields(.errors))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Each field.
        errors: Vec<FieldError>,
    },
    /// It cannot be handed on.
    #[error(transparent)]
    Write(#[from] PodError),
    /// It cannot be opened up to the worker.
    #[error("cannot open up {path}")]
    OpenUp {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn fields(errors: &[FieldError]) -> String {
    let errors: Vec<String> = errors.iter().map(FieldError::to_string).collect();
    errors.join("; ")
}

/// Reads the VMI, as the controller wrote it: with its defaults, and valid.
pub(super) fn read(path: &Path) -> Result<VirtualMachineInstance, VmiError> {
    let failed = |source| VmiError::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = vec![];
    let file = File::open(path).map_err(failed)?;
    file.take(LONGEST + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    let path = path.to_owned();
    if text.len() as u64 > LONGEST {
        return Err(VmiError::TooLong { path });
    }
    if text.is_empty() {
        return Err(VmiError::Empty { path });
    }
    let mut value: Value = match serde_json::from_slice(&text) {
        Ok(value) => value,
        Err(source) => return Err(VmiError::Syntax { path, source }),
    };
    // No manifest has a status; the pod's tells how large its claims are.
    let status = value.get_mut("status").map(Value::take);
    let mut vmi = match manifest::read(value) {
        Ok(Manifest::Vmi(vmi)) => *vmi,
        Ok(Manifest::Vm(_)) => {
            let found = "a VirtualMachine".to_owned();
            let source = ManifestError::Kind { found };
            return Err(VmiError::Kind { path, source });
        }
        Err(source) => return Err(VmiError::Kind { path, source }),
    };
    vmi.status = match status.map(serde_json::from_value).transpose() {
        Ok(status) => status,
        Err(source) => return Err(VmiError::Status { path, source }),
    };
    // All there already, unless somebody else than the controller made the pod: a worker that follows
    // another has to find the same domain.
    crds::default(&mut vmi);
    match crds::validate(&vmi) {
        errors if errors.is_empty() => Ok(vmi),
        errors => Err(VmiError::Invalid { path, errors }),
    }
}

/// Leaves the VMI where workers look for it.
pub(super) fn hand_on(vmi: &VirtualMachineInstance, pod: &Pod) -> Result<(), VmiError> {
    let path = pod.vmi();
    pod::write_json(&path, vmi)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
        .map_err(|source| VmiError::OpenUp { path, source })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(text: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let error = anyhow::Error::from(read(file.path()).unwrap_err());
        let path = file.path().display().to_string();
        format!("{error:#}").replace(&path, "FILE")
    }

    fn vmi(memory: &str) -> Value {
        json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": "vm"},
            "spec": {"domain": {"memory": {"guest": memory}, "devices": {}}},
        })
    }

    #[test]
    fn what_is_no_vmi_is_told_with_its_place() {
        assert_eq!(
            said(b""),
            "FILE is empty: the pod has no annotation ferrovirt.io/vmi"
        );
        assert!(said(b"{").starts_with("FILE is no JSON: EOF"));
        let unknown = "FILE is no VirtualMachineInstance that this launcher knows: ";
        for (value, path) in [
            (json!([1]), "no object"),
            (json!({"kind": "Pod"}), "a Pod"),
            (vmi("nonsense"), "spec.domain.memory.guest"),
        ] {
            let error = said(value.to_string().as_bytes());
            assert!(
                error.starts_with(unknown) && error.contains(path),
                "{error}"
            );
        }
        let mut odd = vmi("64Mi");
        odd["status"] = json!({"volumeStatus": 3});
        let error = said(odd.to_string().as_bytes());
        assert!(
            error.starts_with("the status in FILE is none that this launcher knows: "),
            "{error}"
        );
        let long = vec![b' '; LONGEST as usize + 1];
        assert!(said(&long).starts_with("FILE is longer than 256 KiB"));
        let error = said(vmi("-64Mi").to_string().as_bytes());
        let refused = "the VMI in FILE cannot be started: spec.domain.memory.guest: ";
        assert!(error.starts_with(refused), "{error}");
        let error = anyhow::Error::from(read(Path::new("/absent/vmi")).unwrap_err());
        assert_eq!(
            format!("{error:#}"),
            "cannot read the VMI from /absent/vmi: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn what_is_handed_on_is_what_was_read_and_open_to_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmi");
        let mut vmi = vmi("64Mi");
        let info = json!({"capacity": {"storage": "1Gi"}});
        vmi["status"] = json!({"volumeStatus": [
            {"name": "data", "target": "", "persistentVolumeClaimInfo": info},
        ]});
        std::fs::write(&path, vmi.to_string()).unwrap();
        let pod = Pod::new(dir.path());
        let read = super::read(&path).unwrap();
        assert_eq!(
            serde_json::to_value(&read).unwrap()["status"],
            vmi["status"]
        );
        hand_on(&read, &pod).unwrap();
        let again: VirtualMachineInstance = pod::read_json(&pod.vmi()).unwrap();
        assert_eq!(again, read);
        let mode = std::fs::metadata(pod.vmi()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }
}
