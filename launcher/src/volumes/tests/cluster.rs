//! What only a cluster's pod has: open files, claims, mounted objects.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Barrier};

use serde_json::json;
use tempfile::TempDir;

use super::super::*;
use super::{MIB, complain, iso_files, layout, put, qemu_img_info, run, vmi};
use crate::convert::DiskFormat;
use crate::pod::QEMU_ID;

/// A file of this content that has no name any more.
fn nameless(content: &[u8]) -> Arc<OwnedFd> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    let open = File::open(file.path()).unwrap();
    Arc::new(open.into())
}

#[test]
fn images_that_came_open_need_no_name() {
    let directory = TempDir::new().unwrap();
    let descriptors = Descriptors {
        container_disks: BTreeMap::from([("root".to_owned(), nameless(&[7; 3 << 20]))]),
        kernel: Some(nameless(b"a kernel")),
        initrd: None,
    };
    let layout = layout(&directory).with_descriptors(descriptors.clone());
    let mut vmi = vmi(json!([{ "name": "root", "containerDisk": { "image": "demo" } }]));
    vmi.spec.domain.firmware = serde_json::from_value(json!({ "kernelBoot": {
        "container": { "image": "k", "kernelPath": "/vmlinuz" },
    }}))
    .unwrap();
    let plan = plan(&vmi, &layout).unwrap();
    let prepared = prepare(&plan).unwrap();

    let root = &prepared["root"];
    let base = root.backing.as_ref().unwrap();
    assert_eq!(base.path, layout.container_disk("root"));
    assert!(!base.path.exists());
    assert_eq!((base.format, base.read_only), (DiskFormat::Raw, true));
    let groups = descriptors.groups().unwrap();
    let names: Vec<_> = groups.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["container-disk-root"]);
    assert_eq!(base.fd_group.as_deref(), Some("container-disk-root"));
    assert_eq!(root.fd_group, None);
    // qemu-img would follow the name.
    let header = fs::read(&root.path).unwrap();
    assert_eq!(header[24..32], (3 * MIB).to_be_bytes(), "the size");

    let kernel = plan.kernel_boot.unwrap().kernel.unwrap();
    assert_eq!(fs::read(kernel).unwrap(), b"a kernel");
}

#[test]
fn an_open_image_is_judged_as_any_other() {
    let directory = TempDir::new().unwrap();
    let layout = layout(&directory).with_descriptors(Descriptors {
        container_disks: BTreeMap::from([("root".to_owned(), nameless(b"\x1f\x8b\x08 gzip"))]),
        ..Descriptors::default()
    });
    let vmi = vmi(json!([{ "name": "root", "containerDisk": { "image": "demo" } }]));
    let prepared = prepare(&plan(&vmi, &layout).unwrap());
    assert_eq!(
        complain(&directory, prepared),
        "volume root: RT/container-disks/root/disk.img is no usable disk image: it is compressed \
         with gzip; decompress it"
    );
}

/// An instance with one claim, of which the pod's maker knew the capacity.
fn claim(read_only: bool, capacity: Option<&str>) -> crds::VirtualMachineInstance {
    let source = json!({ "claimName": "c", "readOnly": read_only });
    let mut vmi = vmi(json!([{ "name": "data", "persistentVolumeClaim": source }]));
    let info = capacity.map(|capacity| json!({ "capacity": { "storage": capacity } }));
    let status = json!({ "volumeStatus": [
        { "name": "data", "target": "", "persistentVolumeClaimInfo": info },
    ]});
    vmi.status = Some(serde_json::from_value(status).unwrap());
    vmi
}

#[test]
fn a_claim_is_used_as_it_is() {
    let directory = TempDir::new().unwrap();
    let layout = layout(&directory);
    put(&layout.claim("data"), &[1; 65536]);
    for read_only in [false, true] {
        let plan = plan(&claim(read_only, None), &layout).unwrap();
        let prepared = prepare(&plan).unwrap();
        let data = &prepared["data"];
        assert_eq!(data.path, layout.claim("data"));
        assert_eq!(
            (data.format, data.block, data.read_only),
            (DiskFormat::Raw, false, read_only)
        );
    }
    assert_eq!(fs::read(layout.claim("data")).unwrap(), [1; 65536]);
}

#[test]
fn an_empty_claim_gets_an_image() {
    let directory = TempDir::new().unwrap();
    let layout = layout(&directory);
    let image = layout.claim("data");
    let place = image.parent().unwrap();
    // As mkfs.ext4 and a killed worker leave it.
    fs::create_dir_all(place.join("lost+found")).unwrap();
    put(&place.join("disk.partial"), b"half");
    let plan = plan(&claim(false, Some("5500Ki")), &layout).unwrap();
    prepare(&plan).unwrap();
    let made = fs::metadata(&image).unwrap();
    assert_eq!((made.len(), made.blocks()), (5 * MIB, 0), "sparse");

    // It could be another launcher's, who has yet to finish it.
    assert_eq!(fs::read(place.join("disk.partial")).unwrap(), b"half");

    // It is the guest's from now on.
    put(&image, &[3; 4096]);
    prepare(&plan).unwrap();
    assert_eq!(fs::read(&image).unwrap(), [3; 4096]);
}

#[test]
fn machines_that_find_a_claim_empty_at_once_share_its_image() {
    const MACHINES: usize = 16;
    let directory = TempDir::new().unwrap();
    let layout = layout(&directory);
    let image = layout.claim("data");
    fs::create_dir_all(image.parent().unwrap()).unwrap();
    let plan = plan(&claim(false, Some("5Mi")), &layout).unwrap();
    let begin = Barrier::new(MACHINES);
    let used = |()| {
        begin.wait();
        prepare(&plan).unwrap();
        fs::metadata(&image).unwrap().ino()
    };
    let used: Vec<_> = std::thread::scope(|scope| {
        let machines = [(); MACHINES].map(|()| scope.spawn(|| used(())));
        machines.map(|machine| machine.join().unwrap()).into()
    });
    assert_eq!(used, [fs::metadata(&image).unwrap().ino(); MACHINES]);
    let left = fs::read_dir(image.parent().unwrap()).unwrap();
    assert_eq!(left.count(), 1, "nothing unfinished is left");
}

#[test]
fn a_claim_without_a_capacity_is_filled_by_its_image() {
    let directory = TempDir::new().unwrap();
    let layout = layout(&directory);
    let image = layout.claim("data");
    fs::create_dir_all(image.parent().unwrap()).unwrap();
    prepare(&plan(&claim(false, None), &layout).unwrap()).unwrap();
    let made = fs::metadata(&image).unwrap();
    assert!(
        made.len() > 0 && made.len().is_multiple_of(MIB),
        "{}",
        made.len()
    );
    assert_eq!(made.blocks(), 0, "sparse");
}

#[test]
fn claims_without_a_disk_are_one_clear_error() {
    let directory = TempDir::new().unwrap();
    let layout = layout(&directory);
    let place = layout.claim("data").parent().unwrap().to_owned();
    let prepared = |read_only| prepare(&plan(&claim(read_only, None), &layout).unwrap());
    assert_eq!(
        complain(&directory, prepared(false)),
        "volume data: cannot read RT/claims/data: No such file or directory (os error 2)"
    );
    fs::create_dir_all(&place).unwrap();
    assert_eq!(
        complain(&directory, prepared(true)),
        "volume data: cannot read RT/claims/data/disk.img: No such file or directory (os error 2)"
    );
    put(&place.join("notes.txt"), b"mine");
    assert_eq!(
        complain(&directory, prepared(false)),
        "volume data: the claim holds no disk.img, and is not empty: there is \
         RT/claims/data/notes.txt; name a claim that holds a disk, or an empty one"
    );
    put(&layout.claim("data"), b"QFI\xfb");
    assert_eq!(
        complain(&directory, prepared(false)),
        "volume data: RT/claims/data/disk.img is no usable disk image: it is a qcow2 image, but \
         must be raw; convert it with qemu-img convert -O raw"
    );
}

/// A block device over a file, for as long as it lives.
struct LoopDevice(String);

impl LoopDevice {
    /// `None` where the machine has none to give, as most sandboxes.
    fn over(file: &Path) -> Option<Self> {
        let mut losetup = Command::new("losetup");
        let output = losetup.args(["--find", "--show"]).arg(file).output().ok()?;
        let device = String::from_utf8(output.stdout).unwrap();
        output
            .status
            .success()
            .then(|| Self(device.trim().to_owned()))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Nothing to be done about a device that stays.
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn a_claim_may_be_a_block_device() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    put(&file, &vec![5; 4 << 20]);
    let Some(device) = LoopDevice::over(&file) else {
        println!("skipped: needs a loop device");
        return;
    };
    let mut layout = layout(&directory);
    layout.claim_devices = directory.path().join("dev");
    fs::create_dir(&layout.claim_devices).unwrap();
    for volume in ["data", "golden"] {
        symlink(&device.0, layout.claim_device(volume)).unwrap();
    }
    let mut vmi = claim(false, Some("1Gi"));
    let golden = json!({ "name": "golden", "ephemeral": {
        "persistentVolumeClaim": { "claimName": "c" },
    }});
    vmi.spec
        .volumes
        .push(serde_json::from_value(golden).unwrap());
    let prepared = prepare(&plan(&vmi, &layout).unwrap()).unwrap();

    let data = &prepared["data"];
    assert_eq!(data.path, layout.claim_device("data"));
    assert!(data.block && data.format == DiskFormat::Raw && !data.read_only);
    assert_eq!(data.block_size.map(|size| size.logical), Some(512));
    let golden = &prepared["golden"];
    assert!(!golden.block);
    let base = golden.backing.as_ref().unwrap();
    assert!(base.block && base.read_only);
    assert_eq!(base.path, layout.claim_device("golden"));
    assert_eq!(qemu_img_info(&golden.path)["virtual-size"], 4 * MIB);
}

/// Fills a directory as the kubelet does: what is visible leads through `..data`.
fn mount(directory: &Path, files: &[(&str, &str)]) {
    let version = "..2026_11_21_08_00_00.123";
    for (path, content) in files {
        put(&directory.join(version).join(path), content.as_bytes());
        let first = path.split('/').next().unwrap();
        let visible = directory.join(first);
        if visible.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(first), visible).unwrap();
        }
    }
    symlink(version, directory.join("..data")).unwrap();
}

#[test]
fn objects_become_disks_of_their_visible_files() {
    let directory = TempDir::new().unwrap();
    let layout = layout(&directory);
    let long = "k".repeat(253);
    mount(
        &layout.config("map"),
        &[("app.conf", "a=b\n"), ("UPPER_case-1", ""), (&long, "long")],
    );
    mount(&layout.config("secret"), &[("password", "hunter2")]);
    mount(
        &layout.config("account"),
        &[("token", "t"), ("namespace", "test"), ("ca.crt", "c")],
    );
    mount(
        &layout.config("pod"),
        &[("labels", "a=\"b\""), ("pod/meta/name", "vm")],
    );
    fs::create_dir_all(layout.config("absent")).unwrap();
    let fields = json!([{ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }]);
    let vmi = vmi(json!([
        { "name": "map", "configMap": { "name": "m", "volumeLabel": "unattendCD" } },
        { "name": "secret", "secret": { "secretName": "s" } },
        { "name": "account", "serviceAccount": { "serviceAccountName": "a" } },
        { "name": "pod", "downwardAPI": { "fields": fields } },
        { "name": "absent", "configMap": { "name": "n", "optional": true } },
    ]));
    let prepared = prepare(&plan(&vmi, &layout).unwrap()).unwrap();
    let long = format!("/{long}");
    type Files<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, &str, Files<'_>); 5] = [
        (
            "map",
            "unattendCD",
            &[
                ("/UPPER_case-1", ""),
                ("/app.conf", "a=b\n"),
                (&long, "long"),
            ],
        ),
        ("secret", "cfgdata", &[("/password", "hunter2")]),
        (
            "account",
            "cfgdata",
            &[("/ca.crt", "c"), ("/namespace", "test"), ("/token", "t")],
        ),
        (
            "pod",
            "cfgdata",
            // isoinfo lists directories as well.
            &[
                ("/labels", "a=\"b\""),
                ("/pod", ""),
                ("/pod/meta", ""),
                ("/pod/meta/name", "vm"),
            ],
        ),
        ("absent", "cfgdata", &[]),
    ];
    for (volume, label, files) in cases {
        let path = prepared[volume].path.to_str().unwrap();
        let found = run("blkid", &["-o", "value", "-s", "LABEL", path]);
        assert_eq!(found.trim(), label, "{volume}");
        let found = iso_files(path, "-R");
        let found: Vec<_> = found
            .iter()
            .map(|(p, t)| (p.as_str(), t.as_str()))
            .collect();
        assert_eq!(found, files, "{volume}");
    }
}

#[test]
fn keys_come_by_cloud_init_s_meta_data() {
    let directory = TempDir::new().unwrap();
    let layout = layout(&directory);
    mount(
        &layout.access_credential(0),
        &[
            ("a", "ssh-rsa AAAA a\n# not this\nssh-rsa BBBB b"),
            ("b", "ssh-rsa CCCC c"),
        ],
    );
    mount(&layout.access_credential(1), &[("key", "ssh-rsa DDDD d\n")]);
    let mut vmi = vmi(json!([
        { "name": "seed", "cloudInitNoCloud": { "userData": "#!" } },
        { "name": "drive", "cloudInitConfigDrive": { "userData": "#!" } },
    ]));
    let credential = |method: &str| {
        json!({ "sshPublicKey": {
            "source": { "secret": { "secretName": "s" } },
            "propagationMethod": { method: {} },
        }})
    };
    let credentials = json!([credential("noCloud"), credential("configDrive")]);
    vmi.spec.access_credentials = serde_json::from_value(credentials).unwrap();
    vmi.metadata.uid = Some("u".into());
    let prepared = prepare(&plan(&vmi, &layout).unwrap()).unwrap();
    let cases = [
        (
            "seed",
            "/meta-data",
            "instance-id: \"vm.one.test\"\nlocal-hostname: \"vm\"\n\
             public-keys: {\"0\":\"ssh-rsa AAAA a\",\"1\":\"ssh-rsa BBBB b\",\"2\":\"ssh-rsa CCCC c\"}\n",
        ),
        (
            "drive",
            "/openstack/latest/meta_data.json",
            r#"{"hostname":"vm","instance_id":"vm.one.test","local_hostname":"vm","public_keys":{"0":"ssh-rsa DDDD d"},"uuid":"u"}"#,
        ),
    ];
    for (volume, file, content) in cases {
        let files = iso_files(prepared[volume].path.to_str().unwrap(), "-R");
        let found = files.iter().find(|(path, _)| path == file);
        assert_eq!(found.unwrap().1, content);
    }
}

#[test]
fn host_disks_are_ready_for_the_worker() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root, to give files to another group");
        return;
    }
    let directory = TempDir::new().unwrap();
    let layout = layout(&directory);
    let path = |name: &str| layout.host_disk(name, "disk.img");
    let disk = |name: &str, type_: &str, capacity: Option<&str>| {
        json!({ "name": name, "hostDisk":
            { "path": "/data/disk.img", "type": type_, "capacity": capacity } })
    };
    let vmi = vmi(json!([
        disk("new", "DiskOrCreate", Some("2Mi")),
        disk("old", "DiskOrCreate", Some("2Mi")),
        disk("absent", "Disk", None),
        disk("foreign", "Disk", None),
        disk("link", "Disk", None),
    ]));
    for name in ["old", "foreign"] {
        put(&path(name), &[1; 512]);
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    chown(path("foreign"), Some(5), Some(5)).unwrap();
    fs::create_dir_all(path("link").parent().unwrap()).unwrap();
    let elsewhere = directory.path().join("elsewhere");
    put(&elsewhere, b"");
    symlink(&elsewhere, path("link")).unwrap();

    host_disk::ensure_in_pod(&vmi, &layout).unwrap();
    let found = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        (found.len(), found.gid(), found.mode() & 0o777)
    };
    assert_eq!(found(&path("new")), (2 * MIB, QEMU_ID, 0o660));
    assert_eq!(found(&path("old")), (512, QEMU_ID, 0o660));
    assert_eq!(found(&path("foreign")), (512, 5, 0o600));
    assert!(!path("absent").exists());
    let (_, group, _) = found(&elsewhere);
    assert_eq!(group, fs::metadata(directory.path()).unwrap().gid());
}
