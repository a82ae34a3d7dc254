//! What a manifest says, and what it is read from.

use std::fs;
use std::path::PathBuf;

use e2e::Lab;

use super::{GOOD, Words, assert_refused, refuse, run, vmi, with};

#[test]
fn a_manifest_that_cannot_be_meant_is_refused_by_its_field() {
    let lab = Lab::new();
    let cases: &[(&str, String, Words)] = &[
        (
            "unknown field",
            with("{guest: 128Mi}", "{guest: 128Mi, gest: 1Gi}"),
            &["vm.yaml", "spec.domain.memory.gest"],
        ),
        (
            "field of another version",
            with("networks:", "livenessProbe: {}\nnetworks:"),
            &["vm.yaml", "spec.livenessProbe"],
        ),
        (
            "wrong quantity",
            with("128Mi", "128MB"),
            &["spec.domain.memory.guest", "128MB"],
        ),
        (
            "negative quantity",
            with("128Mi", "-1Gi"),
            &["spec.domain.memory.guest"],
        ),
        (
            "number for a name",
            with(
                "{name: root, disk: {bus: virtio}}",
                "{name: {a: b}, disk: {bus: virtio}}",
            ),
            &["spec.domain.devices.disks[0].name"],
        ),
        (
            "no memory",
            with("  memory: {guest: 128Mi}\n", ""),
            &["spec.domain.memory.guest"],
        ),
        (
            "duplicate disk names",
            with(
                "    - {name: root, disk: {bus: virtio}}\n",
                "    - {name: root, disk: {bus: virtio}}\n    - {name: root, disk: {bus: sata}}\n",
            ),
            &["spec.domain.devices.disks[1].name", "root"],
        ),
        (
            "disk without volume",
            with("name: root, disk", "name: rot, disk"),
            &["spec.domain.devices.disks[0].name", "rot"],
        ),
        (
            "unknown bus",
            with("bus: virtio", "bus: ide"),
            &["spec.domain.devices.disks[0].disk.bus", "ide"],
        ),
        (
            "two interfaces named alike",
            with(
                "    - {name: default, bridge: {}}\n",
                "    - {name: default, bridge: {}}\n    - {name: default, bridge: {}}\n",
            ),
            &["spec.domain.devices.interfaces[1].name", "default"],
        ),
        (
            "interface without network",
            with("networks:\n- {name: default, pod: {}}\n", ""),
            &["spec.domain.devices.interfaces[0].name", "default"],
        ),
        (
            "masquerade on a further network",
            with("bridge: {}", "masquerade: {}").replace("pod: {}", "multus: {networkName: a}"),
            &["spec.domain.devices.interfaces[0].masquerade", "bridge"],
        ),
        (
            "volume of two kinds",
            with(
                "containerDisk:",
                "emptyDisk: {capacity: 1Gi}\n  containerDisk:",
            ),
            &["spec.volumes[0]"],
        ),
        (
            "volume of no kind",
            with(
                "  containerDisk: {image: 'localhost/ferrovirt/mini:devel'}\n",
                "",
            ),
            &["spec.volumes[0]"],
        ),
        (
            "SecureBoot without SMM",
            with(
                "  memory:",
                "  firmware: {bootloader: {efi: {secureBoot: true}}}\n  memory:",
            ),
            &["smm"],
        ),
        (
            "name too long",
            vmi(&"n".repeat(254), GOOD),
            &["metadata.name"],
        ),
        (
            "name that is none",
            vmi("Hello_World", GOOD),
            &["metadata.name"],
        ),
        ("no name", vmi("''", GOOD), &["metadata.name"]),
        ("another kind", GOOD_POD.to_owned(), &["vm.yaml", "kind"]),
        ("no YAML", "apiVersion: [".to_owned(), &["vm.yaml"]),
        ("an empty file", String::new(), &["vm.yaml", "empty"]),
        ("a file of blanks", "# nothing\n".to_owned(), &["vm.yaml"]),
        (
            "two documents",
            format!("{}---\n{}", vmi("one", GOOD), vmi("two", GOOD)),
            &["vm.yaml"],
        ),
    ];
    for (what, manifest, words) in cases {
        refuse(&lab, what, manifest, &[], words);
        // What needs no machine says the same.
        let output = lab.launcher_output(&["render", lab.path().join("vm.yaml").to_str().unwrap()]);
        assert_refused(&lab, &format!("render, {what}"), &output, words);
    }
}

const GOOD_POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}\n";

#[test]
fn a_manifest_that_cannot_be_read_is_named() {
    let lab = Lab::new();
    let file = |name: &str, bytes: &[u8]| {
        let path = lab.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let cases: [(&str, PathBuf, Words); 4] = [
        (
            "no such file",
            lab.path().join("none.yaml"),
            &["none.yaml", "No such file"],
        ),
        (
            "a directory",
            lab.path().to_owned(),
            &["cannot read", "directory"],
        ),
        (
            "no text",
            file("bytes", &[0xff, 0xfe, 0x00]),
            &["bytes", "UTF-8"],
        ),
        (
            "without end",
            PathBuf::from("/dev/zero"),
            &["/dev/zero", "4 MiB"],
        ),
    ];
    for (what, path, words) in cases {
        let output = run(&lab, &path, &[]).output().unwrap();
        assert_refused(&lab, what, &output, words);
    }
}
