//! Rules about the cluster's settings, and about changes of an instance.

use crds::manifest::{self, Manifest};
use crds::{VirtualMachineInstance, validate_kubevirt, validate_update};
use serde_json::{Value, json};

use crate::{instance, merge};

/// What settings are told: by reading them, else by validating them.
fn settings(spec: &str) -> Vec<String> {
    let spec: Value = serde_saphyr::from_str(spec).unwrap();
    let value = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": {"name": "kubevirt"},
        "spec": spec,
        "status": {"phase": "Deployed"},
    });
    match manifest::read_kubevirt(value) {
        Ok(kubevirt) => {
            let errors = validate_kubevirt(&kubevirt);
            errors.iter().map(ToString::to_string).collect()
        }
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn settings_are_checked() {
    let cases: [(&str, &[&str]); 7] = [
        ("{}", &[]),
        (
            "configuration: {imagePullPolicy: Never, developerConfiguration: {useEmulation: true, featureGates: [HostDisk]}, virtualMachineOptions: {disableSerialConsoleLog: {}}}",
            &[],
        ),
        (
            "configuration: {developerConfiguration: {featureGates: [HostDisk, GPU]}}",
            &[
                r#"spec.configuration.developerConfiguration.featureGates[1]: "GPU" is no feature gate here; remove it, or write HostDisk"#,
            ],
        ),
        (
            "{infra: {}, configuration: {machineType: q35, developerConfiguration: {logVerbosity: {}}}}",
            &[
                "spec.configuration.developerConfiguration.logVerbosity: not supported yet; remove it",
                "spec.configuration.machineType: not supported yet; remove it",
                "spec.infra: not supported yet; remove it",
            ],
        ),
        (
            "configuration: {developerConfiguration: {useEmulations: true}}",
            &[
                "spec.configuration.developerConfiguration.useEmulations: no such field in kubevirt.io/v1; check its spelling and its place",
            ],
        ),
        (
            "configuration: {imagePullPolicy: Sometimes}",
            &[
                "spec.configuration.imagePullPolicy: unknown variant `Sometimes`; write one of `Always`, `IfNotPresent`, `Never`",
            ],
        ),
        (
            "configuration: {developerConfiguration: {useEmulation: 1}}",
            &[
                "spec.configuration.developerConfiguration.useEmulation: invalid type: integer `1`; write a boolean",
            ],
        ),
    ];
    for (spec, lines) in cases {
        assert_eq!(settings(spec), lines, "{spec}");
    }
    let none = manifest::read_kubevirt(json!(3)).unwrap_err();
    assert_eq!(none.to_string(), "spec: required; add it");
}

fn read(change: &str) -> VirtualMachineInstance {
    let manifest: Manifest = manifest::read(instance(change)).unwrap();
    manifest.into_vmi()
}

/// Each change of the sound spec, and the paths that a user is told of.
#[test]
fn an_instance_stays_as_it_was_made() {
    let cases: [(&str, &[&str]); 6] = [
        ("{}", &[]),
        // What is written out is what was meant before.
        (
            "{terminationGracePeriodSeconds: 30, domain: {cpu: {sockets: 1}}}",
            &[],
        ),
        (
            "domain: {cpu: {cores: 2, sockets: 1}}",
            &["spec.domain.cpu.cores"],
        ),
        (
            "domain: {devices: {disks: [{name: root, disk: {bus: sata}}]}}",
            &["spec.domain.devices.disks[0].disk.bus"],
        ),
        (
            "volumes: [{name: root, containerDisk: {image: example.org/disk}}, {name: b, emptyDisk: {capacity: 1Gi}}]",
            &["spec.domain.devices.disks", "spec.volumes"],
        ),
        ("hostname: host", &["spec.hostname"]),
    ];
    let old = read("{}");
    for (change, paths) in cases {
        for (old, new) in [(&old, &read(change)), (&read(change), &old)] {
            let errors = validate_update(old, new);
            let told: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
            assert_eq!(told, paths, "{change}");
        }
    }
    let errors = validate_update(&old, &read("hostname: host"));
    assert_eq!(
        errors[0].to_string(),
        "spec.hostname: cannot change while the instance exists; change the VirtualMachine's \
         template and restart it, or delete the instance and make it again"
    );
}

#[test]
fn labels_of_an_instance_may_change() {
    let old = read("{}");
    let mut new = old.clone();
    new.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    assert_eq!(validate_update(&old, &new), []);
}

#[test]
fn what_the_pod_cannot_carry_is_refused() {
    let told = |annotation: &str, length: usize| {
        let mut value = instance("{}");
        let annotations = json!({annotation: "x".repeat(length)});
        merge(
            &mut value,
            json!({"metadata": {"annotations": annotations}}),
        );
        let Manifest::Vmi(mut vmi) = manifest::read(value).unwrap() else {
            panic!("not an instance");
        };
        crds::default(&mut vmi);
        let errors = crds::validate(&vmi);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    // Twice: on the pod, and in the instance that it carries.
    assert_eq!(told("note", 120 << 10), [""; 0]);
    let errors = told("note", 124 << 10);
    assert!(
        errors[0].starts_with("spec: the instance and its annotations have ")
            && errors[0].ends_with("; put cloud-init data into secrets, and shorten annotations"),
        "{errors:?}"
    );
    assert_eq!(errors.len(), 1);
    let applied = "kubectl.kubernetes.io/last-applied-configuration";
    assert_eq!(told(applied, 250 << 10), [""; 0]);
}
