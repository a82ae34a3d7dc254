//! Images, and files that stand for a cluster's objects.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Lab, repository};

use super::{Words, refuse, with};

/// Adds an image with one file to an OCI layout in the lab.
fn image(lab: &Lab, reference: &str, file: &Path, inside: &str) -> PathBuf {
    let layout = lab.path().join("images");
    let made = Command::new("python3")
        .arg(repository().join("e2e/guests/oci.py"))
        .arg("layout")
        .arg(&layout)
        .args(["--ref", reference])
        .arg(format!("{}={inside}", file.display()))
        .output()
        .expect("python3 is installed");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    layout
}

fn qemu_img(args: &[&str]) {
    let made = Command::new("qemu-img")
        .args(args)
        .output()
        .expect("qemu-img is installed");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

#[test]
fn an_image_that_is_missing_truncated_or_hostile_is_refused_before_the_vm_starts() {
    let lab = Lab::new();
    let path = |name: &str| lab.path().join(name);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (base, backed, whole) = (
        text(&path("base")),
        text(&path("backed")),
        text(&path("whole")),
    );
    qemu_img(&["create", "-q", "-f", "raw", &base, "1M"]);
    qemu_img(&[
        "create", "-q", "-f", "qcow2", "-b", &base, "-F", "raw", &backed,
    ]);
    qemu_img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        "preallocation=metadata",
        &whole,
        "64M",
    ]);
    let bytes = fs::read(&whole).unwrap();
    fs::write(path("short"), &bytes[..bytes.len() / 3]).unwrap();
    fs::write(path("header"), &bytes[..20]).unwrap();
    fs::write(path("nothing"), b"").unwrap();
    let vmdk = text(&path("vmdk"));
    qemu_img(&["create", "-q", "-f", "vmdk", &vmdk, "1M"]);

    let cases: [(&str, &str, &str, Words); 6] = [
        (
            "a backing file",
            "backed",
            "/disk/d.qcow2",
            &["the VM failed: volume root", "backing file"],
        ),
        (
            "a truncated qcow2",
            "short",
            "/disk/d.qcow2",
            &["the VM failed: volume root", "truncated"],
        ),
        (
            "a truncated header",
            "header",
            "/disk/d.qcow2",
            &["the VM failed: volume root"],
        ),
        (
            "no bytes",
            "nothing",
            "/disk/d.img",
            &["the VM failed: volume root", "empty"],
        ),
        (
            "another format",
            "vmdk",
            "/disk/d.vmdk",
            &["the VM failed: volume root", "VMDK"],
        ),
        (
            "a disk elsewhere",
            "whole",
            "/elsewhere/d.qcow2",
            &["localhost/bad/whole:devel", "/disk"],
        ),
    ];
    for (what, file, inside, words) in cases {
        let reference = format!("localhost/bad/{file}:devel");
        let layout = image(&lab, &reference, &path(file), inside);
        let manifest = with("localhost/ferrovirt/mini:devel", &reference);
        refuse(&lab, what, &manifest, &["--images", &text(&layout)], words);
    }

    // A layout whose blob was cut short.
    let layout = image(
        &lab,
        "localhost/bad/cut:devel",
        &path("whole"),
        "/disk/cut.qcow2",
    );
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap().flatten();
    for blob in blobs.filter(|blob| blob.metadata().unwrap().len() > 8192) {
        let length = blob.metadata().unwrap().len();
        fs::OpenOptions::new()
            .write(true)
            .open(blob.path())
            .unwrap()
            .set_len(length / 2)
            .unwrap();
    }
    let manifest = with("localhost/ferrovirt/mini:devel", "localhost/bad/cut:devel");
    let words: Words = &["localhost/bad/cut:devel", "incomplete"];
    refuse(
        &lab,
        "a cut blob",
        &manifest,
        &["--images", &text(&layout)],
        words,
    );

    let missing = with(
        "localhost/ferrovirt/mini:devel",
        "localhost/ferrovirt/none:devel",
    );
    let words: Words = &[
        "localhost/ferrovirt/none:devel",
        "localhost/ferrovirt/mini:devel",
    ];
    refuse(&lab, "no such image", &missing, &[], words);
    let kernel = with(
        "localhost/ferrovirt/mini:devel",
        "localhost/ferrovirt/mini-kernel:devel",
    );
    refuse(
        &lab,
        "an image without a disk",
        &kernel,
        &[],
        &["mini-kernel", "/disk"],
    );
    let none = text(&path("none"));
    refuse(
        &lab,
        "no such directory",
        &missing,
        &["--images", &none],
        &["none"],
    );
    let words: Words = &["containerDisk.image"];
    let odd = with("localhost/ferrovirt/mini:devel", "UPPER CASE");
    refuse(&lab, "no image name", &odd, &[], words);
}

#[test]
fn files_that_stand_for_objects_of_a_cluster_are_checked() {
    let lab = Lab::new();
    let directory = lab.path().join("keys");
    fs::create_dir(&directory).unwrap();
    let directory = directory.to_str().unwrap();
    let ephemeral = with(
        "containerDisk: {image: 'localhost/ferrovirt/mini:devel'}",
        "ephemeral: {persistentVolumeClaim: {claimName: data}}",
    );
    let secret = with(
        "containerDisk: {image: 'localhost/ferrovirt/mini:devel'}",
        "cloudInitNoCloud: {secretRef: {name: keys}}",
    );
    let host_disk = |kind: &str, path: &str| {
        with(
            "containerDisk: {image: 'localhost/ferrovirt/mini:devel'}",
            &format!("hostDisk: {{type: {kind}, path: {path}}}"),
        )
    };
    let missing = format!("{directory}/none");
    let cases: &[(&str, String, Vec<String>, Words)] = &[
        (
            "claim not given",
            ephemeral.clone(),
            vec![],
            &["\"data\"", "--claim data=PATH"],
        ),
        (
            "claim that is a directory",
            ephemeral.clone(),
            vec!["--claim".into(), format!("data={directory}")],
            &["keys", "no regular file"],
        ),
        (
            "claim that is missing",
            ephemeral,
            vec!["--claim".into(), format!("data={missing}")],
            &["cannot read", "none", "No such file"],
        ),
        (
            "secret not given",
            secret.clone(),
            vec![],
            &["\"keys\"", "--secret keys=PATH"],
        ),
        (
            "secret without its key",
            secret.clone(),
            vec!["--secret".into(), format!("keys={directory}")],
            &["keys holds no file named userdata"],
        ),
        (
            "secret that is missing",
            secret,
            vec!["--secret".into(), format!("keys={missing}")],
            &["cannot read", "none", "No such file"],
        ),
        (
            "host disk that is missing",
            host_disk("Disk", &missing),
            vec![],
            &["root", "none", "does not exist", "DiskOrCreate"],
        ),
        (
            "host disk that is a directory",
            host_disk("Disk", directory),
            vec![],
            &["root", "keys", "no ordinary file"],
        ),
        (
            "host disk of an unknown type",
            host_disk("Disc", &missing),
            vec![],
            &["spec.volumes[0].hostDisk.type", "Disc"],
        ),
    ];
    for (what, manifest, args, words) in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        refuse(&lab, what, manifest, &args, words);
    }
}
