//! What a guest writes, and what is left of it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::{BOOT, Lab, Vm};

const MOMENT: Duration = Duration::from_secs(60);

/// A guest with this volume as its second disk.
fn manifest(lab: &Lab, volume: &str) -> PathBuf {
    lab.manifest(&format!(
        "apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {{name: writes}}
spec:
  domain:
    devices:
      disks:
      - {{name: root, disk: {{bus: virtio}}}}
      - {{name: data, disk: {{bus: virtio}}}}
    memory: {{guest: 128Mi}}
  terminationGracePeriodSeconds: 30
  volumes:
  - name: root
    containerDisk: {{image: 'localhost/ferrovirt/mini:devel'}}
  - name: data
    {volume}
"
    ))
}

/// Boots the guest, reads the first bytes of its second disk, then writes `text` there.
fn exchange(lab: &Lab, manifest: &Path, args: &[&str], text: &str) -> String {
    let mut vm = Vm::run(lab, "writes", manifest, args);
    vm.wait_for("guest-ready", BOOT);
    let mut console = vm.shell();
    let read = console.run("head -c 8 /dev/vdb | tr '\\0' .; echo", MOMENT);
    let wrote = console.run(
        &format!("printf {text} >/dev/vdb && sync && echo written"),
        MOMENT,
    );
    assert_eq!(wrote.trim(), "written");
    drop(console);
    vm.shut_down();
    lab.assert_clean();
    read.trim().to_owned()
}

#[test]
fn a_host_disk_keeps_what_the_guest_writes() {
    let lab = Lab::new();
    let disk = lab.path().join("data.img");
    let volume = format!(
        "hostDisk: {{type: DiskOrCreate, capacity: 8Mi, path: {}}}",
        disk.display()
    );
    let manifest = manifest(&lab, &volume);
    assert_eq!(exchange(&lab, &manifest, &[], "first..."), "........");
    assert_eq!(exchange(&lab, &manifest, &[], "second.."), "first...");
    let kept = fs::read(&disk).unwrap();
    assert_eq!((&kept[..8], kept.len()), (&b"second.."[..], 8 << 20));
}

#[test]
fn a_claim_keeps_what_the_guest_writes() {
    let lab = Lab::new();
    let disk = lab.path().join("claim.img");
    fs::write(&disk, vec![b'.'; 4 << 20]).unwrap();
    let claimed = manifest(&lab, "persistentVolumeClaim: {claimName: data}");
    let claim = format!("data={}", disk.display());
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o646)).unwrap();
    for (before, text) in [("........", "changed1"), ("changed1", "changed2")] {
        assert_eq!(exchange(&lab, &claimed, &["--claim", &claim], text), before);
    }
    assert_eq!(fs::read(&disk).unwrap()[..8], *b"changed2");
}

#[test]
fn a_config_map_is_a_disk_of_its_keys() {
    let lab = Lab::new();
    let keys = lab.path().join("settings");
    fs::create_dir(&keys).unwrap();
    fs::write(keys.join("colour"), "a value of green").unwrap();
    let manifest = manifest(&lab, "configMap: {name: settings}");
    let map = format!("settings={}", keys.display());
    let mut vm = Vm::run(&lab, "writes", &manifest, &["--config-map", &map]);
    vm.wait_for("guest-ready", BOOT);
    let mut console = vm.shell();
    let found = console.run("grep -c 'a value of green' /dev/vdb", MOMENT);
    assert_eq!(found.trim(), "1");
    drop(console);
    vm.shut_down();
    lab.assert_clean();
}

#[test]
fn a_claim_below_an_ephemeral_disk_is_not_changed() {
    let lab = Lab::new();
    let disk = lab.path().join("claim.img");
    let mut content = vec![0; 4 << 20];
    content[..8].copy_from_slice(b"original");
    fs::write(&disk, &content).unwrap();
    let manifest = manifest(
        &lab,
        "ephemeral: {persistentVolumeClaim: {claimName: data}}",
    );
    let claim = format!("data={}", disk.display());
    for text in ["changed1", "changed2"] {
        assert_eq!(
            exchange(&lab, &manifest, &["--claim", &claim], text),
            "original"
        );
    }
    assert!(
        fs::read(&disk).unwrap() == content,
        "the claim's file is as before"
    );
}

#[test]
fn an_image_and_an_empty_disk_are_new_for_each_vm() {
    let lab = Lab::new();
    let manifest = manifest(&lab, "emptyDisk: {capacity: 8Mi}");
    for text in ["changed1", "changed2"] {
        assert_eq!(exchange(&lab, &manifest, &[], text), "........");
    }
}
