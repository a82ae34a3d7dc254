//! Every manifest that KubeVirt ships to its users reads, and is valid.
#![allow(clippy::panic, reason = "a failure names the example")]

use std::path::Path;

use crds::manifest;

/// KubeVirt's API as data; beside the workspace, where it is present.
fn shared() -> Option<std::path::PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/kubevirt");
    if shared.is_dir() {
        return Some(shared);
    }
    println!("skipped: needs ../shared/kubevirt beside the workspace");
    None
}

#[test]
fn examples_read_and_are_valid() {
    let Some(shared) = shared() else { return };
    let mut read = 0;
    for entry in shared.join("examples").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let manifest = manifest::parse(&std::fs::read_to_string(&path).unwrap());
        let manifest = manifest.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(manifest.validate(), [], "{name}");
        assert_defaults_are_stable(manifest.into_vmi(), name);
        read += 1;
    }
    assert_ne!(read, 0, "no examples were found");
}

fn assert_defaults_are_stable(mut vmi: crds::VirtualMachineInstance, name: &str) {
    crds::default(&mut vmi);
    let once = vmi.clone();
    crds::default(&mut vmi);
    assert_eq!(vmi, once, "{name}");
    assert_eq!(crds::validate(&vmi), [], "{name}");
}
