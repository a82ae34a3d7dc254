//! Each rule, by the one line that it says.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test's helper fails the test"
)]

mod cluster;
mod devices;
mod guest;
mod machine;
mod networks;

use crds::manifest::{self, Manifest};
use serde_json::{Value, json};

/// A spec that has nothing wrong with it.
const SOUND: &str = "
domain:
  memory: {guest: 1Gi}
  devices:
    disks: [{name: root, disk: {bus: virtio}}]
    interfaces: [{name: default, bridge: {}}]
networks: [{name: default, pod: {}}]
volumes: [{name: root, containerDisk: {image: example.org/disk}}]
";

/// Puts `change` over `value`, objects field by field and everything else whole.
fn merge(value: &mut Value, change: Value) {
    match (value, change) {
        (Value::Object(value), Value::Object(change)) => {
            for (key, change) in change {
                merge(value.entry(key).or_insert(Value::Null), change);
            }
        }
        (value, change) => *value = change,
    }
}

fn instance(change: &str) -> Value {
    let mut spec: Value = serde_saphyr::from_str(SOUND).unwrap();
    merge(&mut spec, serde_saphyr::from_str(change).unwrap());
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "vm"},
        "spec": spec,
    })
}

/// What a manifest is told: by reading it, else by validating it.
fn told(value: Value) -> Vec<String> {
    match manifest::read(value) {
        Ok(manifest) => manifest
            .validate()
            .iter()
            .map(ToString::to_string)
            .collect(),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

/// Each change of the sound spec, and the line that it is answered with.
#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (change, line) in cases {
        let told = told(instance(change));
        assert_eq!(told, [*line], "{change}");
    }
}

#[test]
fn sound_specs_pass() {
    for change in [
        "{}",
        "domain: {cpu: {sockets: 2, cores: 4, threads: 2, model: Haswell-noTSX, features: [{name: vmx}]}}",
        "domain: {memory: {hugepages: {pageSize: 2Mi}}, machine: {type: pc-q35-7.2}}",
        "domain: {firmware: {bootloader: {efi: {}}}, features: {smm: {}}}",
        "domain: {firmware: {bootloader: {efi: {secureBoot: false}}}}",
        "domain: {features: {hyperv: {synictimer: {}, tlbflush: {}, evmcs: {}, spinlocks: {}}}}",
        "domain: {devices: {interfaces: [{name: default, macAddress: DE-AD-00-00-BE-AF, model: igb}]}}",
        "domain: {devices: {interfaces: [{name: default, masquerade: {}, ports: [{port: 80}, {port: 80, protocol: UDP, name: http}]}]}}",
        "{domain: {devices: {interfaces: [{name: a}, {name: b, bridge: {}}]}}, networks: [{name: a, pod: {}}, {name: b, multus: {networkName: space/b}}]}",
        "{domain: {devices: {interfaces: [{name: a}, {name: b}]}}, networks: [{name: a, multus: {networkName: blue, default: true}}, {name: b, multus: {networkName: blue, default: false}}]}",
        "volumes: [{name: root, hostDisk: {path: /a, type: Disk}}, {name: more, emptyDisk: {capacity: 1}}]",
        "volumes: [{name: root, persistentVolumeClaim: {claimName: a.b}}, {name: more, configMap: {name: c, optional: true, volumeLabel: cidata}}]",
        "{domain: {devices: {disks: [{name: root, disk: {bus: scsi}}]}}, volumes: [{name: root, persistentVolumeClaim: {claimName: c, readOnly: true}}]}",
        "{domain: {devices: {disks: [{name: root, disk: null, lun: {}}]}}, volumes: [{name: root, persistentVolumeClaim: {claimName: c}}]}",
        "{serviceAccountName: a, volumes: [{name: root, serviceAccount: {serviceAccountName: a}}, {name: s, secret: {secretName: s}}]}",
        "volumes: [{name: root, downwardAPI: {volumeLabel: cfg, fields: [{path: pod/labels, fieldRef: {fieldPath: metadata.labels}}]}}]",
        "{accessCredentials: [{sshPublicKey: {source: {secret: {secretName: s}}, propagationMethod: {noCloud: {}}}}], volumes: [{name: root, cloudInitNoCloud: {userData: a}}]}",
        "{startStrategy: Paused, livenessProbe: {guestAgentPing: {}}, readinessProbe: {httpGet: {port: web, path: /live, httpHeaders: [{name: a, value: b}]}}, domain: {devices: {interfaces: [{name: default, ports: [{name: web, port: 80}]}]}}}",
        r#"livenessProbe: {exec: {command: [/bin/sh, -c, "a\nb"]}, periodSeconds: 1}"#,
        r#"{volumes: [{name: root, cloudInitNoCloud: {userData: "\u001b\a\n"}}]}"#,
        "{terminationGracePeriodSeconds: 0, hostname: a, priorityClassName: high, dnsPolicy: Default}",
    ] {
        assert_eq!(told(instance(change)), [""; 0], "{change}");
    }
}

#[test]
fn names() {
    let mut value = instance("{}");
    value["metadata"] = json!({"name": "My VM", "namespace": "a.b"});
    assert_eq!(
        told(value.clone()),
        [
            r#"metadata.name: "My VM" is no name in DNS; use up to 253 of a-z 0-9 - and ., beginning and ending with a letter or digit"#,
            r#"metadata.namespace: "a.b" is no DNS label; use up to 63 of a-z 0-9 and -, beginning and ending with a letter or digit"#,
        ]
    );
    value["metadata"] = json!({});
    assert_eq!(told(value), ["metadata.name: required; name the machine"]);
    check(&[
        (
            "hostname: Host",
            r#"spec.hostname: "Host" is no DNS label; use up to 63 of a-z 0-9 and -, beginning and ending with a letter or digit"#,
        ),
        (
            "subdomain: a.b",
            r#"spec.subdomain: "a.b" is no DNS label; use up to 63 of a-z 0-9 and -, beginning and ending with a letter or digit"#,
        ),
    ]);
}

#[test]
fn the_pod() {
    check(&[
        (
            "terminationGracePeriodSeconds: -1",
            "spec.terminationGracePeriodSeconds: -1 is below zero; write how many seconds the guest has to shut down",
        ),
        (
            "architecture: arm64",
            r#"spec.architecture: "arm64" is not supported yet; use amd64"#,
        ),
        (
            "startStrategy: Running",
            "spec.startStrategy: unknown variant `Running`; write `Paused`",
        ),
        (
            "serviceAccountName: A",
            r#"spec.serviceAccountName: "A" is no service account's name; write the name of one in the same namespace"#,
        ),
        (
            "{serviceAccountName: a, volumes: [{name: root, serviceAccount: {serviceAccountName: b}}]}",
            r#"spec.serviceAccountName: "a" excludes the volume of service account "b"; a pod has one"#,
        ),
        (
            "dnsPolicy: None",
            "spec.dnsConfig.nameservers: required with dnsPolicy None; name at least one server",
        ),
        (
            r#"{priorityClassName: "a\u0000b"}"#,
            r#"spec.priorityClassName: "a\0b" holds a control character; remove it"#,
        ),
    ]);
}

#[test]
fn a_machine_is_told_by_its_own_paths() {
    let template = instance("domain: {cpu: {cores: 0}}");
    let machine = |own: Value| {
        let mut value = json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": "vm"},
            "spec": {"template": {"spec": template["spec"]}},
        });
        merge(&mut value["spec"], own);
        told(value)
    };
    let cores = "spec.template.spec.domain.cpu.cores: 0 makes no CPU; write at least 1";
    assert_eq!(machine(json!({"running": false})), [cores]);
    assert_eq!(
        machine(json!({})),
        [
            "spec.runStrategy: required; write Always, Halted, Manual, RerunOnFailure or Once",
            cores
        ]
    );
    assert_eq!(
        machine(json!({"running": true, "runStrategy": "Always"})),
        [
            "spec.running: excludes runStrategy; leave one of the two",
            cores
        ]
    );
    assert_eq!(
        machine(json!({"runStrategy": "Sometimes"})),
        [
            "spec.runStrategy: unknown variant `Sometimes`; write one of `Always`, `Halted`, `Manual`, `RerunOnFailure`, `Once`"
        ]
    );
    assert_eq!(
        machine(json!({"running": true, "dataVolumeTemplates": [], "tempate": {}})),
        [
            "spec.dataVolumeTemplates: not supported yet; make the claim first, and use persistentVolumeClaim",
            "spec.tempate: no such field in kubevirt.io/v1; check its spelling and its place",
        ]
    );
}

/// Whatever can be read can be validated, without defaults as well as with them.
#[test]
fn nothing_needs_defaults() {
    let Manifest::Vmi(vmi) = manifest::read(instance("{}")).unwrap() else {
        panic!("not an instance");
    };
    assert_eq!(crds::validate(&vmi), []);
    assert_ne!(crds::validate(&crds::VirtualMachineInstance::default()), []);
}
