//! Every manifest that KubeVirt ships to its users reads, or is refused with the field's path.

use std::path::Path;

use crds::manifest::{self, ManifestError};

/// KubeVirt's API as data; beside the workspace, where it is present.
fn shared() -> Option<std::path::PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/kubevirt");
    if shared.is_dir() {
        return Some(shared);
    }
    println!("skipped: needs ../shared/kubevirt beside the workspace");
    None
}

/// The examples that need what is not supported yet, and what they are told.
const REFUSED: [(&str, &str); 1] = [(
    "vmi-pvc.yaml",
    "spec.volumes[0].persistentVolumeClaim: not supported yet; use containerDisk, hostDisk or \
     ephemeral",
)];

#[test]
fn examples_read_or_are_refused_by_path() {
    let Some(shared) = shared() else { return };
    let mut read = 0;
    for entry in shared.join("examples").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let refused = REFUSED.iter().find(|(refused, _)| *refused == name);
        match (manifest::parse(&text), refused) {
            (Ok(manifest), None) => {
                assert_eq!(manifest.validate(), [], "{name}");
                assert_defaults_are_stable(manifest.into_vmi(), name);
            }
            (Err(ManifestError::Fields(errors)), Some((_, message))) => {
                assert_eq!(errors.to_string(), *message, "{name}");
            }
            (other, _) => panic!("{name}: {other:?}"),
        }
        read += 1;
    }
    assert!(read > REFUSED.len(), "no examples were found");
}

fn assert_defaults_are_stable(mut vmi: crds::VirtualMachineInstance, name: &str) {
    crds::default(&mut vmi);
    let once = vmi.clone();
    crds::default(&mut vmi);
    assert_eq!(vmi, once, "{name}");
    assert_eq!(crds::validate(&vmi), [], "{name}");
}
