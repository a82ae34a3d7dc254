//! Whole manifests.

use std::path::Path;

use super::*;

/// KubeVirt's examples that this version runs.
const EXAMPLES: [&str; 10] = [
    "vm-cirros",
    "vm-cirros-sata",
    "vm-priorityclass",
    "vmi-ephemeral",
    "vmi-host-disk",
    "vmi-kernel-boot",
    "vmi-masquerade",
    "vmi-nocloud",
    "vmi-pvc",
    "vmi-sata",
];

/// The instance of a manifest, defaulted and valid.
fn read(text: &str) -> VirtualMachineInstance {
    let manifest = crds::manifest::parse(text).expect(text);
    let errors = manifest.validate();
    assert!(errors.is_empty(), "{errors:?}");
    let mut vmi = manifest.into_vmi();
    crds::default(&mut vmi);
    vmi
}

#[test]
fn kubevirts_examples() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/kubevirt/examples");
    if !examples.exists() {
        println!(
            "skipped: needs KubeVirt's examples in {}",
            examples.display()
        );
        return;
    }
    for name in EXAMPLES {
        let text = std::fs::read_to_string(examples.join(format!("{name}.yaml"))).expect(name);
        let vmi = read(&text);
        let host = Host {
            accelerator: Accelerator::Tcg,
            ..host(&vmi)
        };
        insta::assert_snapshot!(name, xml(&vmi, &host));
    }
}

#[test]
fn a_machine_of_everything() {
    let vmi = read(include_str!("maximal.yaml"));
    let mut host = host(&vmi);
    let lun = host.volumes.get_mut("lun").expect("the manifest has it");
    lun.block = true;
    lun.path = "/dev/sdz".into();
    let root = host.volumes.get_mut("root").expect("the manifest has it");
    root.format = DiskFormat::Qcow2;
    root.backing = Some(Box::new(VolumeSource {
        read_only: true,
        ..file("/images/root.img")
    }));
    insta::assert_snapshot!("maximal_kvm", xml(&vmi, &host));
    host.accelerator = Accelerator::Tcg;
    insta::assert_snapshot!("maximal_tcg", xml(&vmi, &host));
}
