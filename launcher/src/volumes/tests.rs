//! From manifests to files, judged by QEMU's own tools, isoinfo and blkid.

mod cluster;
mod inspection;

use std::error::Error as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crds::{HostDisk, HostDiskType, VirtualMachineInstance};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::convert::DiskFormat;

const MIB: u64 = 1 << 20;

fn vmi(volumes: Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": { "name": "vm.one", "namespace": "test" },
        "spec": { "domain": { "devices": {} }, "volumes": volumes },
    }))
    .unwrap()
}

fn layout(directory: &TempDir) -> Layout {
    Layout::new(directory.path())
}

/// A command's standard output; it must succeed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {complaint}"
    );
    String::from_utf8(output.stdout).unwrap()
}

fn qemu_img_info(path: &Path) -> Value {
    let text = run(
        "qemu-img",
        &["info", "--output=json", path.to_str().unwrap()],
    );
    serde_json::from_str(&text).unwrap()
}

/// The error's whole chain in one line, as `run` prints it, without the test's own path.
fn complain<T>(directory: &TempDir, result: Result<T, VolumeError>) -> String {
    let Err(error) = result else {
        panic!("must fail")
    };
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line += &format!(": {error}");
        source = error.source();
    }
    line.replace(directory.path().to_str().unwrap(), "RT")
}

fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn plans_every_kind_of_volume() {
    let volumes = json!([
        { "name": "root", "containerDisk": { "image": "demo" } },
        { "name": "scratch", "emptyDisk": { "capacity": "1.5Gi" } },
        { "name": "data", "hostDisk": { "path": "/data/a.img", "type": "Disk" } },
        { "name": "golden", "ephemeral": { "persistentVolumeClaim": { "claimName": "c" } } },
        { "name": "seed", "cloudInitNoCloud": { "userData": "#!/bin/sh", "networkDataBase64": "bmV0" } },
        { "name": "drive", "cloudInitConfigDrive": { "secretRef": { "name": "s" } } },
        { "name": "claim", "persistentVolumeClaim": { "claimName": "c", "readOnly": true } },
        { "name": "files", "secret": { "secretName": "s", "volumeLabel": "keys" } },
    ]);
    let mut vmi = vmi(volumes);
    vmi.spec.domain.firmware = serde_json::from_value(json!({ "kernelBoot": {
        "container": { "image": "k", "kernelPath": "/vmlinuz" },
    }}))
    .unwrap();
    let plan = plan(&vmi, &Layout::new("/rt")).unwrap();
    insta::assert_debug_snapshot!(plan);
}

#[test]
fn impossible_volumes_are_refused() {
    let cases = [
        (
            json!([{ "name": "../x", "emptyDisk": { "capacity": "1Gi" } }]),
            "DNS label",
        ),
        (json!([{ "name": "x" }]), "volume x has no source"),
        (
            json!([{ "name": "x", "emptyDisk": { "capacity": "1M" } }]),
            "volume x: a disk of 1M is not possible; give it from 1Mi to 64Ti",
        ),
        (
            json!([{ "name": "x", "emptyDisk": { "capacity": "65Ti" } }]),
            "a disk of 65Ti",
        ),
        (
            json!([{ "name": "x", "cloudInitNoCloud": { "userDataBase64": "%" } }]),
            "volume x: userDataBase64 is not base64: Invalid",
        ),
        (
            json!([{ "name": "x", "hostDisk": { "path": "/..", "type": "Disk" } }]),
            "path /..",
        ),
    ];
    let directory = TempDir::new().unwrap();
    for (volumes, complaint) in cases {
        let error = complain(&directory, plan(&vmi(volumes), &layout(&directory)));
        assert!(
            error.contains(complaint),
            "{error}\nshould say: {complaint}"
        );
    }
}

#[test]
fn an_overlay_reads_what_its_base_holds() {
    for format in ["raw", "qcow2"] {
        let directory = TempDir::new().unwrap();
        let layout = layout(&directory);
        let base = layout.container_disk("root");
        put(&directory.path().join("content"), &b"guest".repeat(100_000));
        fs::create_dir_all(base.parent().unwrap()).unwrap();
        let content = directory.path().join("content").display().to_string();
        run(
            "qemu-img",
            &[
                "convert",
                "-f",
                "raw",
                "-O",
                format,
                &content,
                base.to_str().unwrap(),
            ],
        );

        let volumes = vmi(json!([{ "name": "root", "containerDisk": { "image": "demo" } }]));
        let plan = plan(&volumes, &layout).unwrap();
        let prepared = prepare(&plan).unwrap();
        let root = &prepared["root"];
        let info = qemu_img_info(&root.path);
        assert_eq!(info["format"], "qcow2");
        assert_eq!(info["virtual-size"], 500_224, "rounded up to a sector");
        assert_eq!(info["backing-filename"], base.to_str().unwrap());
        assert_eq!(info["backing-filename-format"], format);
        run("qemu-img", &["check", root.path.to_str().unwrap()]);
        run(
            "qemu-img",
            &[
                "compare",
                root.path.to_str().unwrap(),
                base.to_str().unwrap(),
            ],
        );

        let backing = root.backing.as_ref().unwrap();
        let found = if format == "raw" {
            DiskFormat::Raw
        } else {
            DiskFormat::Qcow2
        };
        assert_eq!(
            (&backing.path, backing.format, backing.read_only),
            (&base, found, true)
        );
    }
}

#[test]
fn what_the_guest_wrote_survives_a_new_worker() {
    let directory = TempDir::new().unwrap();
    let layout = layout(&directory);
    put(&layout.claim("golden"), &[1; 65536]);
    let volumes = json!([
        { "name": "golden", "ephemeral": { "persistentVolumeClaim": { "claimName": "c" } } },
        { "name": "scratch", "emptyDisk": { "capacity": "8Mi" } },
        { "name": "seed", "cloudInitNoCloud": { "userData": "x" } },
    ]);
    let plan = plan(&vmi(volumes), &layout).unwrap();
    // A worker was killed while it wrote.
    put(&layout.disks().join("golden.partial"), b"half");
    let prepared = prepare(&plan).unwrap();
    let overlay = prepared["golden"].path.to_str().unwrap();
    run(
        "qemu-io",
        &["-f", "qcow2", "-c", "write -P 7 0 4096", overlay],
    );
    let inodes = |()| {
        prepared
            .values()
            .map(|it| fs::metadata(&it.path).unwrap().ino())
            .collect()
    };
    let before: Vec<_> = inodes(());
    assert_eq!(prepare(&plan).unwrap(), prepared);
    assert_eq!(inodes(()), before);
    run(
        "qemu-io",
        &["-f", "qcow2", "-c", "read -P 7 0 4096", overlay],
    );
    assert_eq!(fs::read(layout.claim("golden")).unwrap(), [1; 65536]);
    let left = fs::read_dir(layout.disks()).unwrap();
    assert_eq!(left.count(), 3, "nothing unfinished is left");
}

#[test]
fn empty_disks_of_every_size_are_sound() {
    let directory = TempDir::new().unwrap();
    for (capacity, size) in [
        ("1Mi", MIB),
        ("1500k", MIB),
        ("3Gi", 3 << 30),
        ("64Ti", 64 << 40),
    ] {
        let volumes = vmi(json!([{ "name": "e", "emptyDisk": { "capacity": capacity } }]));
        let prepared = prepare(&plan(&volumes, &layout(&directory)).unwrap()).unwrap();
        let path = &prepared["e"].path;
        assert_eq!(qemu_img_info(path)["virtual-size"], size, "{capacity}");
        run("qemu-img", &["check", path.to_str().unwrap()]);
        let last = format!("write -P 1 {} 512", size - 512);
        run(
            "qemu-io",
            &["-f", "qcow2", "-c", &last, path.to_str().unwrap()],
        );
        run("qemu-img", &["check", path.to_str().unwrap()]);
        fs::remove_file(path).unwrap();
    }
}

/// The files of an ISO image by name, as Linux (Rock Ridge) and Windows (Joliet) see them.
fn iso_files(iso: &str, names: &str) -> Vec<(String, String)> {
    let listing = run("isoinfo", &[names, "-f", "-i", iso]);
    let content = |path: &str| run("isoinfo", &[names, "-x", path, "-i", iso]);
    let files = listing
        .lines()
        .filter(|path| !["/openstack", "/openstack/latest"].contains(path));
    let mut files: Vec<_> = files.map(|path| (path.to_owned(), content(path))).collect();
    files.sort();
    files
}

#[test]
fn cloud_init_finds_its_disks() {
    let directory = TempDir::new().unwrap();
    let layout = layout(&directory);
    put(
        &layout.secret("secret", SecretData::User).join("userData"),
        b"from a secret",
    );
    put(
        &layout
            .secret("secret", SecretData::Network)
            .join("networkdata"),
        b"net",
    );
    let secret = json!({ "name": "s" });
    let mut vmi = vmi(json!([
        { "name": "inline", "cloudInitNoCloud": { "userData": "#cloud-config\n" } },
        { "name": "network", "cloudInitNoCloud": { "networkDataBase64": "bmV0" } },
        { "name": "secret", "cloudInitNoCloud":
            { "secretRef": secret, "networkDataSecretRef": secret } },
        { "name": "drive", "cloudInitConfigDrive": { "userData": "ud", "networkData": "{}" } },
    ]));
    vmi.spec.hostname = Some("guest.example".into());
    vmi.metadata.uid = Some("4f6ed3ba-6d1b-4b4e-9d3c-3f9a0c1d2e5f".into());
    let prepared = prepare(&plan(&vmi, &layout).unwrap()).unwrap();

    const META: &str = "instance-id: \"vm.one.test\"\nlocal-hostname: \"guest\"\n";
    const DRIVE_META: &str = r#"{"hostname":"guest","instance_id":"vm.one.test","local_hostname":"guest","uuid":"4f6ed3ba-6d1b-4b4e-9d3c-3f9a0c1d2e5f"}"#;
    type Files = &'static [(&'static str, &'static str)];
    let cases: [(&str, &str, Files); 4] = [
        (
            "inline",
            "cidata",
            &[("meta-data", META), ("user-data", "#cloud-config\n")],
        ),
        (
            "network",
            "cidata",
            &[
                ("meta-data", META),
                ("network-config", "net"),
                ("user-data", ""),
            ],
        ),
        (
            "secret",
            "cidata",
            &[
                ("meta-data", META),
                ("network-config", "net"),
                ("user-data", "from a secret"),
            ],
        ),
        (
            "drive",
            "config-2",
            &[
                ("openstack/latest/meta_data.json", DRIVE_META),
                ("openstack/latest/network_data.json", "{}"),
                ("openstack/latest/user_data", "ud"),
            ],
        ),
    ];
    for (volume, label, files) in cases {
        let path = prepared[volume].path.to_str().unwrap();
        assert_eq!(prepared[volume].format, DiskFormat::Raw);
        assert_eq!(
            run("blkid", &["-o", "value", "-s", "LABEL", path]).trim(),
            label
        );
        assert_eq!(
            run("blkid", &["-o", "value", "-s", "TYPE", path]).trim(),
            "iso9660"
        );
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (format!("/{name}"), (*text).to_owned()))
            .collect();
        for names in ["-R", "-J"] {
            assert_eq!(iso_files(path, names), files, "{volume} {names}");
        }
    }
}

#[test]
fn inputs_that_are_missing_or_broken_are_one_clear_error() {
    let directory = TempDir::new().unwrap();
    let layout = layout(&directory);
    put(&layout.container_disk("empty"), b"");
    put(&layout.host_disk("data", "a.img"), b"QFI\xfb");
    fs::create_dir_all(layout.secret("seed", SecretData::User)).unwrap();
    let host_disk = json!({ "path": "/x/a.img", "type": "Disk" });
    let cases = [
        (
            json!({ "name": "root", "containerDisk": { "image": "demo" } }),
            "volume root: cannot read RT/container-disks/root/disk.img: \
             No such file or directory (os error 2)",
        ),
        (
            json!({ "name": "empty", "containerDisk": { "image": "demo" } }),
            "volume empty: RT/container-disks/empty/disk.img is no usable disk image: it is empty",
        ),
        (
            json!({ "name": "data", "hostDisk": host_disk }),
            "volume data: RT/host-disks/data/a.img is no usable disk image: it is a qcow2 image, \
             but must be raw; convert it with qemu-img convert -O raw",
        ),
        (
            json!({ "name": "seed", "cloudInitNoCloud": { "secretRef": { "name": "s" } } }),
            "volume seed: the secret in RT/secrets/seed-user has no key userdata or userData",
        ),
    ];
    for (volume, complaint) in cases {
        let plan = plan(&vmi(json!([volume])), &layout).unwrap();
        assert_eq!(complain(&directory, prepare(&plan)), complaint);
    }
    assert!(!layout.disks().exists(), "nothing is made of broken inputs");
}

fn host_disk(path: &Path, type_: HostDiskType, capacity: Option<&str>) -> HostDisk {
    HostDisk {
        path: path.to_str().unwrap().into(),
        type_,
        capacity: capacity.map(|it| it.parse().unwrap()),
        shared: None,
    }
}

#[test]
fn host_disks_are_made_once_and_given_to_qemu() {
    let directory = TempDir::new().unwrap();
    let owner = fs::metadata(directory.path()).unwrap();
    // Only root gives files away; the rest holds for everybody.
    let (uid, gid) = if owner.uid() == 0 {
        (107, 107)
    } else {
        (owner.uid(), owner.gid())
    };
    let path = directory.path().join("a/b/disk.img");
    let disk = host_disk(&path, HostDiskType::DiskOrCreate, Some("10Mi"));
    host_disk::ensure("v", &disk, uid, gid).unwrap();
    let made = fs::metadata(&path).unwrap();
    assert_eq!((made.len(), made.uid(), made.gid()), (10 * MIB, uid, gid));
    assert_eq!(made.permissions().mode() & 0o777, 0o660);
    assert_eq!(made.blocks(), 0, "sparse");

    fs::write(&path, [1; 1024]).unwrap();
    host_disk::ensure("v", &disk, uid, gid).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [1; 1024], "what is there stays");
    host_disk::ensure("v", &host_disk(&path, HostDiskType::Disk, None), uid, gid).unwrap();

    let absent = host_disk(&directory.path().join("none"), HostDiskType::Disk, None);
    assert_eq!(
        complain(&directory, host_disk::ensure("v", &absent, uid, gid)),
        "volume v: hostDisk RT/none does not exist; make it, or set type: DiskOrCreate and a capacity"
    );
    let a_directory = host_disk(directory.path(), HostDiskType::Disk, None);
    assert_eq!(
        complain(&directory, host_disk::ensure("v", &a_directory, uid, gid)),
        "volume v: hostDisk RT is no ordinary file; name a raw disk image"
    );
    let file_in_the_way = host_disk(&path.join("x"), HostDiskType::DiskOrCreate, Some("1Mi"));
    let error = complain(
        &directory,
        host_disk::ensure("v", &file_in_the_way, uid, gid),
    );
    assert!(
        error.starts_with("volume v: cannot write RT/a/b/disk.img/x"),
        "{error}"
    );
}

#[test]
fn tables_that_overlap_are_not_read_again_and_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("image.qcow2");
    let name = path.to_str().unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", name, "4G"]);
    run("qemu-io", &["-f", "qcow2", "-c", "write 0 4096", name]);
    inspect::file("root", &path).unwrap();

    // Every entry of the L1 table leads to the first one's.
    let mut image = fs::read(&path).unwrap();
    let number = |at: usize, length: usize| {
        let bytes = image[at..at + length].iter();
        bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (entries, l1) = (number(36, 4), number(40, 8));
    for entry in 1..entries {
        image.copy_within(l1..l1 + 8, l1 + 8 * entry);
    }
    fs::write(&path, image).unwrap();
    let error = inspect::file("root", &path).unwrap_err();
    let error = error.source().unwrap().to_string();
    assert!(error.contains("tables overlap"), "{error}");
}

#[test]
fn cloud_init_disks_end_where_direct_io_can() {
    for length in [0, 2048, 4096, 10_000] {
        let image = cloud_init::iso("cidata", &[("user-data", vec![b'#'; length])]).unwrap();
        assert_eq!(image.len() % 4096, 0, "{length} bytes of user data");
    }
}
