//! Manifests are read strictly.

#![allow(clippy::panic, reason = "a test's helper fails the test")]

use crds::manifest::{self, Manifest, ManifestError};
use proptest::prelude::*;

#[track_caller]
fn refused(text: &str) -> String {
    match manifest::parse(text) {
        Ok(manifest) => panic!("read: {manifest:?}"),
        Err(error) => error.to_string(),
    }
}

const INSTANCE: &str = "
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: vm}
spec:
";

fn instance(spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("{INSTANCE}{spec}")
}

#[test]
fn only_one_machine_is_read() {
    const REMEDY: &str = "is not a machine; write apiVersion: kubevirt.io/v1 and kind: VirtualMachine or VirtualMachineInstance";
    let cases = [
        (
            "",
            "the manifest is empty; write one VirtualMachine or VirtualMachineInstance".to_owned(),
        ),
        (
            "---\n# nothing\n---\n",
            "the manifest is empty; write one VirtualMachine or VirtualMachineInstance".to_owned(),
        ),
        (
            "a: 1\n---\nb: 2\n",
            "the manifest holds 2 documents; leave one VirtualMachine or VirtualMachineInstance"
                .to_owned(),
        ),
        ("- 1", format!("a document that is no object {REMEDY}")),
        (
            "spec: {}",
            format!("a document without apiVersion and kind {REMEDY}"),
        ),
        (
            "{apiVersion: v1, kind: Pod}",
            format!("a Pod of v1 {REMEDY}"),
        ),
        (
            "{kind: VirtualMachine}",
            format!("a VirtualMachine without apiVersion {REMEDY}"),
        ),
        (
            "{apiVersion: kubevirt.io/v1}",
            format!("an object of kubevirt.io/v1 without kind {REMEDY}"),
        ),
        (
            "{apiVersion: kubevirt.io/v1alpha3, kind: VirtualMachine}",
            format!("a VirtualMachine of kubevirt.io/v1alpha3 {REMEDY}"),
        ),
        (
            "{apiVersion: kubevirt.io/v1, kind: VirtualMachinePool}",
            format!("a VirtualMachinePool of kubevirt.io/v1 {REMEDY}"),
        ),
    ];
    for (text, message) in cases {
        assert_eq!(refused(text), message, "{text:?}");
    }
}

#[test]
fn errors_of_yaml_tell_where() {
    for (text, message) in [
        ("a: [1, 2", "line 1, column 4: unclosed bracket '['"),
        (
            "a: 1\nb: \"x\n",
            "line 3, column 1: invalid indentation in multiline quoted scalar",
        ),
        (
            "a: 1\na: 2\n",
            "line 2, column 1: duplicate mapping key: a not allowed here",
        ),
        (
            "a:\n\tb: 1\n",
            "line 2, column 2: tabs disallowed within this context (block indentation)",
        ),
        (
            "a: *nowhere\n",
            "line 1, column 4: reference to unknown value",
        ),
    ] {
        assert_eq!(refused(text), message, "{text:?}");
    }
}

#[test]
fn unknown_fields_are_refused_by_path() {
    let text = instance(
        "domain:
  cpu: {cors: 2}
  devices:
    gpus: [{name: gpu, deviceName: example.org/gpu}]
    disks: [{name: a}, {name: b, disk: {bsu: virtio}}]
    interfaces: [{name: default, bridge: {fast: true}}]
  memory: {guest: 1Gi}
affinity: {nodeAffinty: {}}
tolerations: [{key: a, keys: b}]
volumes: [{name: a, dataVolume: {name: a}}]
networks: [{name: default, pod: {vmNetworkCDIR: 10.0.0.0/24}}]",
    );
    let no = "no such field in kubevirt.io/v1; check its spelling and its place";
    assert_eq!(
        refused(&text).lines().collect::<Vec<_>>(),
        [
            &format!("spec.affinity.nodeAffinty: {no}"),
            &format!("spec.domain.cpu.cors: {no}"),
            &format!("spec.domain.devices.disks[1].disk.bsu: {no}"),
            "spec.domain.devices.gpus: not supported yet; remove it",
            &format!("spec.domain.devices.interfaces[0].bridge.fast: {no}"),
            &format!("spec.networks[0].pod.vmNetworkCDIR: {no}"),
            &format!("spec.tolerations[0].keys: {no}"),
            "spec.volumes[0].dataVolume: not supported yet; use persistentVolumeClaim or containerDisk",
        ]
    );
}

#[test]
fn unknown_fields_outside_the_spec_are_refused_too() {
    let text = "
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: vm, lables: {}}
spce: {}
spec:
  runStrategy: Always
  template:
    metadata: {labels: {a: b}, annotation: {}}
    spec: {domain: {devices: {}}, resourceClaims: []}
";
    let no = "no such field in kubevirt.io/v1; check its spelling and its place";
    assert_eq!(
        refused(text).lines().collect::<Vec<_>>(),
        [
            &format!("metadata.lables: {no}"),
            &format!("spce: {no}"),
            &format!("spec.template.metadata.annotation: {no}"),
            "spec.template.spec.resourceClaims: not supported yet; remove it",
        ]
    );
}

#[test]
fn wrong_types_are_refused_by_path() {
    let cases = [
        ("{}", "spec.domain: required; add it"),
        ("domain: {}", "spec.domain.devices: required; add it"),
        (
            "domain: 3",
            "spec.domain: invalid type: integer `3`; write an object",
        ),
        (
            "domain: {devices: {disks: {name: a}}}",
            "spec.domain.devices.disks: invalid type: map; write a list",
        ),
        (
            "{nodeSelector: [a], domain: {devices: {}}}",
            "spec.nodeSelector: invalid type: sequence; write an object",
        ),
        (
            "domain: {devices: {autoattachGraphicsDevice: 1}}",
            "spec.domain.devices.autoattachGraphicsDevice: invalid type: integer `1`; write a boolean",
        ),
        (
            "domain: {devices: {}, firmware: {serial: 12}}",
            "spec.domain.firmware.serial: invalid type: integer `12`; write a string",
        ),
        (
            "{terminationGracePeriodSeconds: 1.5, domain: {devices: {}}}",
            "spec.terminationGracePeriodSeconds: invalid type: floating point `1.5`; write a whole number",
        ),
    ];
    for (spec, message) in cases {
        assert_eq!(refused(&instance(spec)), message, "{spec}");
    }
}

/// As Kubernetes: null is absent, a status is not the author's to give, `yes` is true, and a
/// quantity may be a bare number.
#[test]
fn what_kubernetes_accepts_is_read() {
    let text = "
---
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: vm, creationTimestamp: null, managedFields: []}
spec:
  volumes: null
  domain:
    devices: {rng: {}, disks: null, autoattachGraphicsDevice: no}
    memory: {guest: 134217728}
status: {phase: Running, unheardOf: 1}
---
";
    let vmi = manifest::parse(text).unwrap().into_vmi();
    assert_eq!(vmi.status, None);
    assert_eq!(
        vmi.spec.domain.devices.autoattach_graphics_device,
        Some(false)
    );
    let guest = vmi.spec.domain.memory.unwrap().guest.unwrap();
    assert_eq!(guest.bytes(), Some(128 << 20));
}

#[test]
fn json_is_read() {
    let text = r#"{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "vm"}, "spec": {"domain": {"devices": {}}}}"#;
    assert!(matches!(manifest::parse(text), Ok(Manifest::Vmi(_))));
}

#[test]
fn a_machine_becomes_the_instance_of_its_template() {
    let text = "
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: vm, namespace: ns, labels: {of: machine}, uid: 0b8d}
spec:
  runStrategy: Halted
  template:
    metadata: {name: other, labels: {of: template}, annotations: {note: a}}
    spec: {hostname: host, domain: {devices: {}}}
";
    let manifest = manifest::parse(text).unwrap();
    assert_eq!(manifest.metadata().name.as_deref(), Some("vm"));
    let vmi = manifest.into_vmi();
    assert_eq!(vmi.metadata.name.as_deref(), Some("vm"));
    assert_eq!(vmi.metadata.namespace.as_deref(), Some("ns"));
    assert_eq!(vmi.metadata.labels.unwrap()["of"], "template");
    assert_eq!(vmi.metadata.annotations.unwrap()["note"], "a");
    assert_eq!(vmi.metadata.uid, None);
    assert_eq!(vmi.spec.hostname.as_deref(), Some("host"));
}

#[test]
fn anti_spoofing_is_asked_of_the_machine_or_of_its_template() {
    let machine = |own: &str, template: &str| {
        let text = format!(
            "
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {{name: vm, annotations: {{note: a{own}}}}}
spec:
  runStrategy: Halted
  template:
    metadata: {{annotations: {{note: b{template}}}}}
    spec: {{domain: {{devices: {{}}}}}}
"
        );
        let vmi = manifest::parse(&text).unwrap().into_vmi();
        assert_eq!(vmi.metadata.annotations.as_ref().unwrap()["note"], "b");
        crds::anti_spoofing(&vmi)
    };
    let off = ", network.ferrovirt.io/anti-spoofing: disabled";
    let on = ", network.ferrovirt.io/anti-spoofing: enabled";
    for (own, template, expected) in [
        ("", "", true),
        (off, "", false),
        ("", off, false),
        (off, on, true),
        (on, off, false),
    ] {
        assert_eq!(machine(own, template), expected, "{own:?} {template:?}");
    }
}

/// Hostile documents: deep ones, and ones that grow when they are read.
#[test]
fn bombs_are_refused() {
    let deep = "[".repeat(100_000);
    let mut growing = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        growing.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    for text in [deep, growing] {
        let result = manifest::parse(&text);
        assert!(
            matches!(result, Err(ManifestError::Syntax { .. })),
            "{result:?}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let _ = manifest::parse(&text);
    }
}
