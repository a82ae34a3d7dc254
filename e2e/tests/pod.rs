//! init as the kubelet starts it: few capabilities, no_new_privs, a root file system and /proc/sys
//! that are read-only, volumes that belong to root and the pod's group, and the VMI in a file; with
//! the containers beside it as they are in a pod.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails"
)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::{Lab, eventually, install, program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// How long a machine may take to run, or to end.
const LIMIT: Duration = Duration::from_secs(120);

/// The container: $1 is the pod's directory, the rest are init's arguments.
const COMPUTE: &str = r#"set -e
    pod=$1; shift
    mount --make-rprivate /
    ip link set lo up
    ip link add eth0 type veth peer name node0
    ip addr add 10.9.8.2/24 dev eth0
    ip link set node0 up
    ip link set eth0 up
    ip route add default via 10.9.8.1
    mount -t tmpfs -o mode=755 tmpfs /run
    for directory in runtime container-disks podinfo capabilities programs; do
        mkdir "/run/$directory"
        mount --bind "$pod/$directory" "/run/$directory"
    done
    mount -o remount,bind,ro /run/podinfo
    mount -o remount,bind,ro /run/capabilities
    mount --bind "$pod/passwd" /etc/passwd
    mount -t tmpfs -o mode=755 tmpfs /dev
    mkdir /dev/net /dev/shm /dev/claims
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    for node in null:1:3 zero:1:5 random:1:8 urandom:1:9; do
        IFS=: read -r name major minor <<END
$node
END
        mknod -m 666 "/dev/$name" c "$major" "$minor"
    done
    mknod -m 600 /dev/net/tun c 10 200
    mknod -m 600 /dev/claims/block c 1 7
    touch /dev/termination-log
    mount --bind "$pod/termination-log" /dev/termination-log
    mount -t tmpfs -o ro tmpfs /tmp
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys
    mount -o remount,ro /run
    mount -o remount,bind,ro /
    caps=+net_admin,+net_raw,+setuid,+setgid,+setpcap
    exec setpriv --groups 107 --inh-caps=-all --bounding-set="-all,$caps" --no-new-privs \
        /run/programs/virt-launcher init --runtime-dir /run/runtime --accelerator tcg \
        --vmi /run/podinfo/vmi --container-disks-dir /run/container-disks \
        --capabilities /run/capabilities --expect eth0=10.9.8.2 "$@""#;

/// A pod's volumes and containers.
struct Pod {
    lab: Lab,
    compute: Child,
    others: Vec<Child>,
}

/// A machine with one disk of an image, whose firmware finds nothing to boot.
fn vmi() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "pod", "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "domain": {
                "memory": {"guest": "64Mi"},
                "devices": {
                    "disks": [{"name": "image", "disk": {"bus": "virtio"}}],
                    "interfaces": [{"name": "default", "bridge": {}}],
                },
            },
            "networks": [{"name": "default", "pod": {}}],
            "volumes": [{"name": "image", "containerDisk": {"image": "example/image"}}],
        },
    })
}

impl Pod {
    /// Starts init, with these arguments beside those of every pod.
    fn start(vmi: &Value, arguments: &[&str]) -> Self {
        Self::start_knowing(None, vmi, arguments)
    }

    /// The same, where the node has asked QEMU what it can do.
    fn start_knowing(answers: Option<&Path>, vmi: &Value, arguments: &[&str]) -> Self {
        let lab = Lab::new();
        let dir = lab.path();
        for volume in ["runtime", "container-disks"] {
            // An emptyDir of a pod with fsGroup 107.
            let path = dir.join(volume);
            fs::create_dir(&path).unwrap();
            chown(&path, Some(0), Some(107)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o2777)).unwrap();
        }
        for volume in ["podinfo", "capabilities/tcg"] {
            fs::create_dir_all(dir.join(volume)).unwrap();
        }
        for name in ["virt-launcher", "virt-worker", "virt-sidecar"] {
            install(&program(name), &dir.join("programs").join(name));
        }
        fs::write(dir.join("podinfo/vmi"), vmi.to_string()).unwrap();
        let answers = answers.map(|answers| fs::read_dir(answers).unwrap());
        for answer in answers.into_iter().flatten().flatten() {
            let copy = dir.join("capabilities/tcg").join(answer.file_name());
            fs::copy(answer.path(), &copy).unwrap();
            fs::set_permissions(&copy, Permissions::from_mode(0o644)).unwrap();
        }
        let passwd = "root:x:0:0:root:/:/bin/false\nqemu:x:107:107:qemu:/:/bin/false\n";
        fs::write(dir.join("passwd"), passwd).unwrap();
        let log = dir.join("termination-log");
        File::create(&log).unwrap();
        fs::set_permissions(&log, Permissions::from_mode(0o666)).unwrap();
        let said = File::create(dir.join("compute.log")).unwrap();
        let compute = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--uts", "--ipc", "--fork"])
            .args([
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                COMPUTE,
                "compute",
            ])
            .arg(dir)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn()
            .unwrap();
        Self {
            lab,
            compute,
            others: vec![],
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.lab.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A container beside it, without any privilege.
    fn sidecar(&mut self, arguments: &[&Path]) {
        let child = Command::new("setpriv")
            .args([
                "--reuid=107",
                "--regid=107",
                "--clear-groups",
                "--no-new-privs",
            ])
            .args(["--inh-caps=-all", "--bounding-set=-all"])
            .arg(self.path("programs/virt-sidecar"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(self.path("sidecar.log")).unwrap())
            .spawn();
        self.others.push(child.unwrap());
    }

    /// The container of an image with this disk, and the one that prints the console.
    fn sidecars(&mut self, image: &Path) {
        let [disk, socket, console, lock] = [
            "container-disk".into(),
            self.path("container-disks/volume-image.sock"),
            self.path("runtime/serial0.log"),
            self.path("runtime/init.lock"),
        ];
        let [socket_option, image_option] = ["--socket", "--image"].map(Path::new);
        self.sidecar(&[&disk, socket_option, &socket, image_option, image]);
        let [role, file, lock_option] = ["console-log", "--file", "--lock"].map(Path::new);
        self.sidecar(&[role, file, &console, lock_option, &lock]);
    }

    /// The ids of the container's processes whose programs' names begin so.
    fn pids(&self, name: &str) -> Vec<i32> {
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let own = namespace(self.compute.id().cast_signed());
        e2e::processes()
            .filter(|(_, command)| {
                let program = command.split(' ').next().unwrap_or_default();
                program
                    .rsplit('/')
                    .next()
                    .unwrap_or_default()
                    .starts_with(name)
            })
            .map(|(pid, _)| pid)
            .filter(|pid| namespace(*pid) == own)
            .collect()
    }

    /// The only one of them, once what was forked of it is something else.
    fn pid(&self, name: &str) -> i32 {
        let what = format!("one {name}");
        eventually(&what, LIMIT, || match self.pids(name)[..] {
            [pid] => Some(pid),
            _ => None,
        })
    }

    fn record(&self) -> Value {
        serde_json::from_str(&self.text("runtime/record.json")).unwrap_or_default()
    }

    fn await_guest(&mut self) {
        eventually("a running guest", LIMIT, || {
            assert_eq!(self.compute.try_wait().unwrap(), None, "{}", self.said());
            (self.record()["started"] == true).then_some(())
        });
    }

    fn kill_worker(&self) {
        kill(Pid::from_raw(self.pid("virt-worker")), Signal::SIGKILL).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid("virt-launcher")), signal).unwrap();
    }

    /// The exit status of `compute`; every other container ends with it, and well.
    fn end(&mut self) -> Option<i32> {
        let status = eventually("the end of the container", LIMIT, || {
            self.compute.try_wait().unwrap()
        });
        for other in &mut self.others {
            eventually("the end of the other containers", LIMIT, || {
                other.try_wait().unwrap()
            });
        }
        status.code()
    }

    fn said(&self) -> String {
        self.text("compute.log")
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for child in self.others.iter_mut().chain([&mut self.compute]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("compute said:\n{}", self.said());
        }
    }
}

/// What QEMU says that it can do, as the node's handler keeps it.
fn answers(lab: &Lab) -> PathBuf {
    let known = Command::new(program("virt-launcher"))
        .arg("--root")
        .arg(lab.root())
        .args(["capabilities", "--accelerator", "tcg"])
        .output()
        .unwrap();
    assert!(known.status.success(), "{known:?}");
    PathBuf::from(String::from_utf8(known.stdout).unwrap().trim())
}

/// An image's disk, which its container may read.
fn image(pod: &Pod) -> PathBuf {
    let path = pod.path("disk.img");
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    path
}

#[test]
fn a_machine_runs_with_an_images_disk_and_ends_with_all_its_containers() {
    let lab = Lab::new();
    let known = answers(&lab);
    let mut pod = Pod::start_knowing(Some(&known), &vmi(), &["--container-disk", "image"]);
    let image = image(&pod);
    pod.sidecars(&image);
    // The first QEMU is the guest's. Whoever started it ends at once; what it left half done is done
    // again, with the same files.
    eventually("QEMU", LIMIT, || {
        (!pod.pids("qemu-system").is_empty()).then_some(())
    });
    pod.kill_worker();
    pod.await_guest();
    for name in ["virt-launcher", "virt-worker", "qemu-system"] {
        let status = fs::read_to_string(format!("/proc/{}/status", pod.pid(name))).unwrap();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(
                status.contains(&format!("{set}:\t{:016x}\n", 0)),
                "{status}"
            );
        }
        assert!(status.contains("Uid:\t107\t107\t107\t107\n"), "{status}");
    }
    let qemu = pod.pid("qemu-system");
    for device in ["net/tun", "claims/block"] {
        let device = format!("/proc/{qemu}/root/dev/{device}");
        let mode = fs::metadata(&device).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666, "{device}");
    }
    // The image's file itself, which has no name in the container.
    let open = fs::read_dir(format!("/proc/{qemu}/fd")).unwrap().flatten();
    let open: Vec<_> = open
        .filter_map(|it| fs::read_link(it.path()).ok())
        .collect();
    assert!(open.contains(&image), "{open:?}");
    // The next worker has what the first one had.
    let taken_up = || pod.said().matches("took up the running domain").count();
    let before = taken_up();
    pod.kill_worker();
    eventually("another worker", LIMIT, || {
        (taken_up() > before).then_some(())
    });
    assert_eq!(pod.pid("qemu-system"), qemu);
    for other in &mut pod.others {
        assert_eq!(other.try_wait().unwrap(), None);
    }
    pod.signal(Signal::SIGTERM);
    assert_eq!(pod.end(), Some(0), "{}", pod.said());
    for mut other in std::mem::take(&mut pod.others) {
        assert!(other.wait().unwrap().success());
    }
    assert_eq!(pod.text("termination-log"), "");
}

#[test]
fn what_an_image_lacks_is_the_pods_last_word() {
    let mut pod = Pod::start(&vmi(), &["--container-disk", "image"]);
    pod.sidecars(Path::new("/absent/disk.img"));
    assert_eq!(pod.end(), Some(1), "{}", pod.said());
    let last = pod.text("termination-log");
    let expected = "volume image: the image has no file /absent/disk.img";
    assert!(last.starts_with(expected) && !last.contains('\n'), "{last}");
}

#[test]
fn what_qemu_refuses_is_the_pods_last_word() {
    let mut pod = Pod::start(&vmi(), &["--container-disk", "image"]);
    let image = pod.path("disk.img");
    fs::write(&image, "").unwrap();
    pod.sidecars(&image);
    assert_eq!(pod.end(), Some(3), "{}", pod.said());
    let last = pod.text("termination-log");
    assert!(
        last.contains("volume image: ") && last.ends_with("it is empty"),
        "{last}"
    );
}

#[test]
fn a_pod_that_is_deleted_while_an_image_is_pulled_ends_at_once() {
    let mut pod = Pod::start(&vmi(), &["--container-disk", "image"]);
    let console = pod.path("runtime/serial0.log");
    let lock = pod.path("runtime/init.lock");
    let [role, file, lock_option] = ["console-log", "--file", "--lock"].map(Path::new);
    pod.sidecar(&[role, file, &console, lock_option, &lock]);
    // The network is bound: what is waited for is the image.
    let bound = pod.path("runtime/network/default.json");
    eventually("the network", LIMIT, || bound.exists().then_some(()));
    pod.signal(Signal::SIGTERM);
    assert_eq!(pod.end(), Some(0), "{}", pod.said());
    assert!(
        pod.said()
            .contains("asked to end before the VM was started")
    );
}

#[test]
fn a_pod_that_is_deleted_while_its_network_is_waited_for_ends_at_once() {
    let mut pod = Pod::start(&vmi(), &["--expect", "eth0=10.9.8.9"]);
    let begun = pod.path("runtime/vmi.json");
    eventually("init", LIMIT, || begun.exists().then_some(()));
    pod.signal(Signal::SIGTERM);
    // The address that does not come would end it with another status.
    assert_eq!(pod.end(), Some(0), "{}", pod.said());
}

#[test]
fn a_pod_without_a_sensible_machine_says_so() {
    let mut wrong = vmi();
    wrong["spec"]["domain"]["memory"]["guest"] = json!("none");
    let mut pod = Pod::start(&wrong, &[]);
    assert_eq!(pod.end(), Some(1), "{}", pod.said());
    let last = pod.text("termination-log");
    assert!(
        last.contains("/run/podinfo/vmi") && last.contains("spec.domain.memory.guest"),
        "{last}"
    );
}

#[test]
fn qemu_is_not_probed_where_the_node_has_the_answers() {
    let lab = Lab::new();
    let known = answers(&lab);
    for is_known in [true, false] {
        let answers = is_known.then_some(known.as_path());
        let mut pod = Pod::start_knowing(answers, &vmi(), &["--container-disk", "image"]);
        let image = image(&pod);
        pod.sidecars(&image);
        pod.await_guest();
        let probed = eventually("the worker's word on it", LIMIT, || {
            let said = pod.said();
            let known = said.contains("QEMU's capabilities were known");
            let probed = said.contains("QEMU's capabilities were not known");
            (known || probed).then_some(probed)
        });
        assert_eq!(probed, !is_known, "{}", pod.said());
        pod.signal(Signal::SIGTERM);
        assert_eq!(pod.end(), Some(0), "{}", pod.said());
    }
}
