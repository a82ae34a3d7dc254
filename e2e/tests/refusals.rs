//! What cannot work is told in one line that names the cause and the remedy, and leaves nothing.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use e2e::{BOOT, Lab, eventually, images, program, repository};

/// The words that one refusal must have, in this order.
type Words = &'static [&'static str];

/// A VirtualMachineInstance with this name and what stands below `spec`.
fn vmi(name: &str, spec: &str) -> String {
    let spec = spec.trim_end().replace('\n', "\n  ");
    format!(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstance\nmetadata:\n  name: {name}\n\
         spec:\n  {spec}\n"
    )
}

/// A spec with nothing wrong.
const GOOD: &str = "\
domain:
  devices:
    disks:
    - {name: root, disk: {bus: virtio}}
    interfaces:
    - {name: default, bridge: {}}
  memory: {guest: 128Mi}
networks:
- {name: default, pod: {}}
volumes:
- name: root
  containerDisk: {image: 'localhost/ferrovirt/mini:devel'}
";

/// [`GOOD`], with the first `old` replaced.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old:?} is not in the manifest");
    vmi("bad", &GOOD.replacen(old, new, 1))
}

/// `virt-launcher run`, started by hand as a person would, with its timeline on stdout.
fn run(lab: &Lab, manifest: &Path, args: &[&str]) -> Command {
    let mut command = lab.launcher();
    command.args(["run", "-o", "json"]);
    if !args.contains(&"--emulation") {
        command.args(["--emulation", "tcg"]);
    }
    if !args.contains(&"--images") {
        command.arg("--images").arg(images());
    }
    command.args(args).arg(manifest).stdin(Stdio::null());
    command
}

/// Fails unless the command ended as a refusal should, with `words` in its one line.
fn assert_refused(lab: &Lab, what: &str, output: &Output, words: Words) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{what}: {}: {stderr}",
        output.status
    );
    assert_eq!(
        stderr.lines().count(),
        1,
        "{what} takes one line:\n{stderr}"
    );
    let mut rest = &*stderr;
    for word in words {
        let Some(at) = rest.find(word) else {
            panic!("{what}: {word:?} is not (there) in: {stderr}");
        };
        rest = &rest[at + word.len()..];
    }
    println!("{what}: {}", stderr.trim_end());
    lab.assert_clean();
}

fn refuse(lab: &Lab, what: &str, manifest: &str, args: &[&str], words: Words) {
    let path = lab.manifest(manifest);
    let output = run(lab, &path, args)
        .output()
        .expect("virt-launcher can be started");
    assert_refused(lab, what, &output, words);
}

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

fn bridge(ipam: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0","name":"lab","type":"bridge","bridge":"lab0"{ipam}}}"#)
}

#[test]
fn a_pod_network_that_cannot_carry_a_guest_is_told() {
    let good = vmi("bad", GOOD);
    let custom = |name: &str| format!(r#"{{"cniVersion":"1.0.0","name":"lab","type":"{name}"}}"#);
    let answer = r#"cat >/dev/null; echo '{"cniVersion":"1.0.0"}'"#;
    let fail = r#"cat >/dev/null
        echo '{"cniVersion":"1.0.0","code":11,"msg":"no room","details":"try later"}'; exit 1"#;
    let behind = with("bridge: {}", "masquerade: {}");
    let taken =
        r#","ipam":{"type":"host-local","dataDir":"DATA","ranges":[[{"subnet":"10.0.2.0/25"}]]}"#;
    let cases: &[(&str, &str, String, &str, Words)] = &[
        (
            "no eth0",
            &good,
            custom("lab-none"),
            answer,
            &["eth0", "CNI"],
        ),
        (
            "masquerade without an address",
            &behind,
            bridge(""),
            answer,
            &["\"default\"", "eth0", "no address"],
        ),
        (
            "masquerade on its own network",
            &behind,
            bridge(taken),
            answer,
            &["10.0.2.0/24", "10.0.2.2/25", "vmNetworkCIDR"],
        ),
        (
            "an address that never comes",
            &good,
            custom("lab-none"),
            r#"cat >/dev/null; [ "$CNI_COMMAND" = ADD ] || exit 0
            nsenter --net="$CNI_NETNS" sh -c "ip link add eth0 type veth peer name other
                ip link set eth0 up; ip link set other up"
            echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.2/24"}]}'"#,
            &["within 10 s", "eth0", "10.9.0.2"],
        ),
        (
            "a plugin that fails",
            &good,
            custom("lab-none"),
            fail,
            &["lab-none", "ADD", "no room: try later"],
        ),
        (
            "a plugin that is missing",
            &good,
            custom("nonesuch"),
            answer,
            &["\"nonesuch\"", "containernetworking-plugins", "--cni-bin"],
        ),
        (
            "no JSON",
            &good,
            "{".into(),
            answer,
            &["cni.conf", "no CNI configuration"],
        ),
        (
            "no type",
            &good,
            r#"{"cniVersion":"1.0.0","name":"a"}"#.into(),
            answer,
            &["cni.conf", "\"type\""],
        ),
    ];
    for (what, manifest, conf, script, words) in cases {
        let lab = Lab::new();
        let data = lab.path().join("ipam");
        let conf = lab.cni(&conf.replace("DATA", data.to_str().unwrap()));
        let bin = lab.plugin("lab-none", script);
        refuse_on_network(
            &lab,
            what,
            manifest,
            &["--cni-conf", &conf, "--cni-bin", &bin],
            words,
        );
    }
    let lab = Lab::new();
    let none = lab.path().join("none.conf");
    let args = ["--cni-conf", none.to_str().unwrap()];
    refuse(
        &lab,
        "no configuration",
        &good,
        &args,
        &["none.conf", "No such file"],
    );
    let further = with("pod: {}", "multus: {networkName: blue}");
    let words: Words = &["\"blue\"", "--network blue=FILE"];
    refuse(&lab, "no configuration for multus", &further, &[], words);
    let conf = lab.cni(&bridge(""));
    let args = ["--cni-conf", &conf, "--until", "guest-ready"];
    let words: Words = &["no address", "--until"];
    refuse_on_network(&lab, "nothing to wait for", &good, &args, words);
}

/// As [`refuse`], where the bridge of the test's own network may stay: no plugin removes it.
fn refuse_on_network(lab: &Lab, what: &str, manifest: &str, args: &[&str], words: Words) {
    let path = lab.manifest(manifest);
    let output = run(lab, &path, args)
        .output()
        .expect("virt-launcher can be started");
    let _ = lab
        .command("ip")
        .args(["link", "del", "lab0"])
        .stderr(Stdio::null())
        .status();
    assert_refused(lab, what, &output, words);
}

#[test]
fn somebody_else_at_port_67_is_told() {
    let lab = Lab::new();
    // The plugin waits until another container of the pod, a DHCP server itself, listens.
    let script = r#"/usr/lib/cni/bridge || exit
        [ "$CNI_COMMAND" = ADD ] || exit 0
        cd "$(dirname "$0")" && echo "$CNI_NETNS" >asked && mv asked netns
        until [ -e taken.now ]; do sleep 0.01; done"#;
    let bin = lab.plugin("taken", script);
    let data = lab.path().join("ipam");
    let conf = bridge(&format!(
        r#","ipam":{{"type":"host-local","dataDir":"{}","ranges":[[{{"subnet":"10.9.0.0/24"}}]]}}"#,
        data.display()
    ));
    let conf = lab.cni(&conf.replace(r#""type":"bridge""#, r#""type":"taken""#));
    let path = lab.manifest(&vmi("bad", GOOD));
    let mut command = run(&lab, &path, &["--cni-conf", &conf, "--cni-bin", &bin]);
    let launcher = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let netns = eventually("the plugin is called", BOOT, || {
        fs::read_to_string(lab.path().join("bin/netns")).ok()
    });
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let taken = lab.path().join("bin/taken.now");
    let other = std::thread::spawn(move || {
        let netns = fs::File::open(netns.trim()).expect("the pod has a namespace");
        nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).expect("as root");
        let _socket = std::net::UdpSocket::bind("0.0.0.0:67").expect("nobody else is there");
        fs::write(taken, "").unwrap();
        let _ = ended.recv();
    });
    let output = launcher.wait_with_output().unwrap();
    drop(end);
    other.join().expect("the other container had the port");
    let _ = lab.command("ip").args(["link", "del", "lab0"]).status();
    assert_refused(&lab, "port 67", &output, &["port 67"]);
}

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
