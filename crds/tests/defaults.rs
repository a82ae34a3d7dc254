//! What is meant where a manifest says nothing.
#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

use crds::{VirtualMachineInstance, default};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A spec with its defaults.
fn defaulted(spec: &str) -> Value {
    let spec: Value = serde_saphyr::from_str(spec).unwrap();
    let vmi = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "vm"},
        "spec": spec,
    });
    let mut vmi: VirtualMachineInstance = serde_json::from_value(vmi).unwrap();
    default(&mut vmi);
    let once = vmi.clone();
    default(&mut vmi);
    assert_eq!(vmi, once, "the second time changed it");
    serde_json::to_value(vmi.spec).unwrap()
}

#[test]
fn the_least_manifest() {
    assert_eq!(
        defaulted("domain: {devices: {}}"),
        json!({
            "domain": {
                "cpu": {"sockets": 1, "cores": 1, "threads": 1, "model": "host-model"},
                "devices": {
                    "autoattachGraphicsDevice": true,
                    "autoattachMemBalloon": true,
                    "autoattachSerialConsole": true,
                    "interfaces": [{"name": "default", "bridge": {}, "model": "virtio"}],
                },
                "features": {"acpi": {"enabled": true}},
                // The UUID that KubeVirt derives from the name "vm".
                "firmware": {"uuid": "d633a622-2335-5606-93ae-d432b7c7f2d2"},
                "machine": {"type": "q35"},
                "memory": {},
            },
            "networks": [{"name": "default", "pod": {}}],
            "terminationGracePeriodSeconds": 30,
        })
    );
}

/// Each spec, a place in it, and what stands there by default.
#[test]
fn places() {
    let cases = [
        // A volume without a disk gets one.
        (
            "{domain: {devices: {}}, volumes: [{name: a, containerDisk: {image: i}}]}",
            "/domain/devices/disks",
            json!([{"name": "a", "disk": {"bus": "sata"}}]),
        ),
        (
            "domain: {devices: {disks: [{name: a}, {name: b, cdrom: {}}, {name: c, lun: {}}]}}",
            "/domain/devices/disks",
            json!([
                {"name": "a", "disk": {"bus": "sata"}},
                {"name": "b", "cdrom": {"bus": "sata", "readonly": true, "tray": "closed"}},
                {"name": "c", "lun": {"bus": "scsi"}},
            ]),
        ),
        (
            "domain: {devices: {autoattachPodInterface: false}}",
            "/domain/devices/interfaces",
            Value::Null,
        ),
        (
            "{domain: {devices: {interfaces: [{name: a, model: e1000}]}}, networks: [{name: a, pod: {}}]}",
            "/domain/devices/interfaces",
            json!([{"name": "a", "bridge": {}, "model": "e1000"}]),
        ),
        (
            "{domain: {devices: {interfaces: [{name: a, masquerade: {}, ports: [{port: 80}, {port: 53, protocol: UDP}]}]}}, networks: [{name: a, pod: {}}]}",
            "/domain/devices/interfaces",
            json!([{
                "name": "a",
                "masquerade": {},
                "model": "virtio",
                "ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
            }]),
        ),
        // What is requested is what the guest sees.
        (
            "domain: {devices: {}, resources: {requests: {memory: 1Gi}, limits: {memory: 2Gi}}}",
            "/domain/memory/guest",
            json!("1Gi"),
        ),
        (
            "domain: {devices: {}, resources: {limits: {memory: 2Gi}}}",
            "/domain/memory/guest",
            json!("2Gi"),
        ),
        (
            "domain: {devices: {}, memory: {guest: 3Gi}, resources: {requests: {memory: 1Gi}}}",
            "/domain/memory/guest",
            json!("3Gi"),
        ),
        (
            "domain: {devices: {}, resources: {requests: {cpu: 1500m}}}",
            "/domain/cpu",
            json!({"sockets": 2, "cores": 1, "threads": 1, "model": "host-model"}),
        ),
        (
            "domain: {devices: {}, cpu: {cores: 2}, resources: {limits: {cpu: 4}}}",
            "/domain/cpu",
            json!({"sockets": 1, "cores": 2, "threads": 1, "model": "host-model"}),
        ),
        (
            "domain: {devices: {}, firmware: {bootloader: {efi: {}}}}",
            "/domain/firmware/bootloader/efi",
            json!({"secureBoot": true}),
        ),
        // What a feature of Hyper-V's depends on comes with it.
        (
            "domain: {devices: {}, features: {hyperv: {synictimer: {}, spinlocks: {}}}}",
            "/domain/features/hyperv",
            json!({
                "spinlocks": {"enabled": true, "spinlocks": 4096},
                "synic": {"enabled": true},
                "synictimer": {"enabled": true},
                "vpindex": {"enabled": true},
            }),
        ),
        (
            "domain: {devices: {}, features: {hyperv: {synictimer: {}}}}",
            "/domain/clock/timer/hyperv",
            json!({"present": true}),
        ),
        (
            "domain: {devices: {}, features: {hyperv: {synictimer: {enabled: false}}}}",
            "/domain/features/hyperv",
            json!({"synictimer": {"enabled": false}}),
        ),
        (
            "domain: {devices: {watchdog: {name: a, i6300esb: {}}, inputs: [{name: a, type: tablet}]}}",
            "/domain/devices/watchdog/i6300esb/action",
            json!("reset"),
        ),
        (
            "domain: {devices: {}, clock: {utc: {}, timer: {hpet: {present: false}, pit: {}}}}",
            "/domain/clock/timer",
            json!({"hpet": {"present": false}, "pit": {"present": true}}),
        ),
    ];
    for (spec, place, expected) in cases {
        let spec_with_defaults = defaulted(spec);
        let found = spec_with_defaults.pointer(place).unwrap_or(&Value::Null);
        assert_eq!(*found, expected, "{spec}");
    }
}

#[test]
fn images_that_may_move_are_pulled_always() {
    for (image, policy) in [
        ("disk", "Always"),
        ("example.org/disk", "Always"),
        ("example.org:5000/disk", "Always"),
        ("example.org:5000/disk:latest", "Always"),
        ("example.org:5000/disk:v1", "IfNotPresent"),
        ("example.org/disk@sha256:0123", "IfNotPresent"),
    ] {
        let spec = format!(
            "{{domain: {{devices: {{}}}}, volumes: [{{name: a, containerDisk: {{image: '{image}'}}}}]}}"
        );
        let found = defaulted(&spec);
        assert_eq!(
            found["volumes"][0]["containerDisk"]["imagePullPolicy"], policy,
            "{image}"
        );
    }
}

/// Any subset of what defaults look at.
fn spec() -> impl Strategy<Value = Value> {
    let maybe = |value: Value| prop_oneof![Just(Value::Null), Just(value)];
    (
        prop::collection::vec(("[a-c]", 0..4u8), 0..4),
        prop::collection::vec("[a-d]", 0..4),
        maybe(json!(false)),
        maybe(json!({"hyperv": {"synictimer": {}, "evmcs": {"enabled": false}, "tlbflush": {}}})),
        maybe(json!({"requests": {"cpu": "2500m", "memory": "1Gi"}})),
        maybe(json!({"bootloader": {"efi": {}}, "kernelBoot": {"container": {"image": "i"}}})),
    )
        .prop_map(|(disks, volumes, attach, features, resources, firmware)| {
            let disks: Vec<_> = disks
                .into_iter()
                .map(|(name, kind)| match kind {
                    0 => json!({"name": name}),
                    1 => json!({"name": name, "cdrom": {}}),
                    2 => json!({"name": name, "lun": {}}),
                    _ => json!({"name": name, "disk": {"bus": "usb"}}),
                })
                .collect();
            let volumes: Vec<_> = volumes
                .into_iter()
                .map(|name| json!({"name": name, "containerDisk": {"image": "i"}}))
                .collect();
            json!({
                "domain": {
                    "devices": {"disks": disks, "autoattachPodInterface": attach},
                    "features": features,
                    "resources": resources,
                    "firmware": firmware,
                },
                "volumes": volumes,
            })
        })
}

/// Everything that `given` says, `defaulted` says too.
fn kept(given: &Value, defaulted: &Value) -> bool {
    match (given, defaulted) {
        (Value::Null, _) => true,
        (Value::Object(given), defaulted) => given
            .iter()
            .all(|(key, value)| kept(value, &defaulted[key])),
        (Value::Array(given), defaulted) => given
            .iter()
            .enumerate()
            .all(|(index, value)| kept(value, &defaulted[index])),
        (given, defaulted) => given == defaulted,
    }
}

proptest! {
    #[test]
    fn defaults_change_nothing_that_is_said(spec in spec()) {
        let found = defaulted(&spec.to_string());
        prop_assert!(kept(&spec, &found), "{} became {}", spec, found);
    }
}
