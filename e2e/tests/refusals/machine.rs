//! What the machine, or whoever asks, does not have.

use std::fs;

use e2e::{Lab, images, program};

use super::{GOOD, Words, assert_refused, refuse, run, vmi, with};

#[test]
fn what_the_machine_lacks_is_told_with_its_package() {
    let lab = Lab::new();
    let path = lab.manifest(&vmi("bad", GOOD));
    let library = "/usr/lib/x86_64-linux-gnu";
    let cases: &[(&str, &[&str], &[&str], Words)] = &[
        (
            "no /dev/kvm",
            &["/dev/kvm"],
            &["--emulation", "require-kvm"],
            &["there is no /dev/kvm", "--emulation tcg"],
        ),
        (
            "no /dev/net/tun",
            &["/dev/net/tun"],
            &[],
            &["/dev/net/tun", "modprobe tun"],
        ),
        (
            "no QEMU",
            &["/usr/bin/qemu-system-x86_64"],
            &[],
            &["QEMU is not installed", "qemu-system-x86"],
        ),
        (
            "no libvirt",
            &[&format!("{library}/libvirt.so.0")],
            &[],
            &[
                "libvirt is not installed",
                "apt-get install",
                "libvirt.so.0",
            ],
        ),
        (
            "no driver of libvirt's",
            &[&format!(
                "{library}/libvirt/connection-driver/libvirt_driver_qemu.so"
            )],
            &[],
            &["libvirt", "QEMU driver", "libvirt-daemon-driver-qemu"],
        ),
        (
            "no IPAM plugin",
            &["/usr/lib/cni/host-local"],
            &[],
            &["\"host-local\"", "containernetworking-plugins"],
        ),
        (
            "no CNI plugin",
            &["/usr/lib/cni/bridge"],
            &[],
            &["\"bridge\"", "containernetworking-plugins"],
        ),
    ];
    for (what, paths, args, words) in cases {
        let output = lab.without(paths, &run(&lab, &path, args));
        assert_refused(&lab, what, &output, words);
    }
}

#[test]
fn whoever_is_not_root_is_told_to_be() {
    let lab = Lab::new();
    let path = lab.manifest(&vmi("bad", GOOD));
    let output = e2e::as_nobody(&run(&lab, &path, &[])).output().unwrap();
    assert_refused(&lab, "not root", &output, &["takes root", "sudo"]);
}

#[test]
fn a_vm_that_is_not_there_is_told() {
    let lab = Lab::new();
    for command in ["console", "shutdown", "dumpxml", "status"] {
        let output = lab.launcher_output(&[command, "nobody"]);
        let words: Words = &["default/nobody", "virt-launcher status"];
        assert_refused(&lab, command, &output, words);
    }
    let output = lab.launcher_output(&["status", "--json"]);
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "no VM is no error"
    );
}

#[test]
fn a_root_that_cannot_be_used_is_named() {
    let lab = Lab::new();
    let path = lab.manifest(&vmi("bad", GOOD));
    let file = lab.path().join("file");
    fs::write(&file, "").unwrap();
    let mut command = lab.command(program("virt-launcher"));
    command
        .arg("--root")
        .arg(&file)
        .args(["run", "--emulation", "tcg", "-o", "json", "--images"]);
    let output = command.arg(images()).arg(&path).output().unwrap();
    assert_refused(&lab, "a file as root", &output, &["/file"]);
}

#[test]
fn a_guest_that_never_gets_ready_is_powered_off_in_time() {
    let lab = Lab::new();
    // A disk without a system.
    let manifest = with(
        "containerDisk: {image: 'localhost/ferrovirt/mini:devel'}",
        "emptyDisk: {capacity: 8Mi}",
    );
    // Time enough for its vCPUs to run.
    let args = ["--until", "guest-ready", "--timeout", "30"];
    refuse(
        &lab,
        "a guest without a system",
        &manifest,
        &args,
        &["not ready", "took no lease"],
    );
}
