//! A namespace behind a pod's tap, and the DHCP clients that run in it.

#![allow(unsafe_code, reason = "the kernel attaches to taps by ioctl only")]

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::TempDir;

use super::{Namespace, Pod, Process, success, wait_until};

/// A namespace that stands where the guest would: its interface carries every frame to and from
/// the pod's tap, as QEMU would.
pub(crate) struct Guest {
    pub(crate) namespace: Namespace,
    cable: Arc<Cable>,
    pump: Option<Pump>,
}

/// Messages of a guest that are kept. One that floods sends more.
const KEPT: usize = 1000;

/// The guest's interface.
pub(crate) const GUEST_LINK: &str = "ens3";

impl Guest {
    /// A guest with this MAC behind the pod's tap.
    pub(crate) fn behind(pod: &Pod, tap: &str, mac: &str) -> Self {
        let namespace = Namespace::new("guest");
        let inside = namespace.within(|| attach(GUEST_LINK));
        namespace.ip(&format!("link set {GUEST_LINK} address {mac} up"));
        let cable = Arc::default();
        let pump = Pump::start(inside, outside(pod, tap), Arc::clone(&cable));
        Self {
            namespace,
            cable,
            pump: Some(pump),
        }
    }

    /// Moves the guest, as it is, behind another pod's tap.
    pub(crate) fn move_behind(&mut self, pod: &Pod, tap: &str) {
        let inside = self.pump.take().unwrap().stop();
        let cable = Arc::clone(&self.cable);
        self.pump = Some(Pump::start(inside, outside(pod, tap), cable));
    }

    /// The first DHCPv4 messages that the guest has sent so far.
    pub(crate) fn asked(&self) -> Vec<Question> {
        self.cable.asked.lock().unwrap().clone()
    }

    /// Loses, from now on, the DHCPv4 messages that the guest sends to one server.
    pub(crate) fn lose_unicast(&self) {
        self.cable.loses_unicast.store(true, Ordering::Relaxed);
    }

    /// A command inside, where /etc, /run and /var/lib are those of the disk. Whatever it starts
    /// ends with it.
    pub(crate) fn command_on(&self, disk: &Disk, program: &str) -> Command {
        // Without udev, systemd and NetworkManager wait for nobody if /sys cannot be written to.
        // The shell stays: what changes its user, as networkd does, no longer ends with its parent.
        const MOUNT: &str = r#"
            mount -t sysfs -o ro sysfs /sys
            mount --bind "$1/etc" /etc
            mount --bind "$1/run" /run
            mount --bind "$1/lib" /var/lib
            shift
            "$@"
            exit"#;
        let mut command = self.namespace.command("unshare");
        command
            .args(["--mount", "--uts", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "sh", "-ec", MOUNT, "sh"])
            .arg(disk.0.path())
            .arg(program);
        command
    }

    pub(crate) fn reaches(&self, address: &str) -> bool {
        self.namespace.reaches(address)
    }

    /// Runs udhcpc until it holds a lease; what it was told.
    pub(crate) fn udhcpc(&self, dir: &Path) -> String {
        let (script, told) = dhcp_script(dir, "udhcpc");
        let mut command = self.namespace.command("udhcpc");
        command
            .args([
                "-i", GUEST_LINK, "-n", "-q", "-f", "-t", "5", "-T", "1", "-s",
            ])
            .arg(script);
        success(command.args(["-O", "121", "-O", "119", "-O", "mtu"]));
        std::fs::read_to_string(told).unwrap()
    }

    /// Runs ISC's dhclient until it holds a lease; what it was told.
    pub(crate) fn dhclient(&self, dir: &Path) -> String {
        let (_client, told) = self.hold_lease(dir);
        wait_until("dhclient holds a lease", || told.exists());
        std::fs::read_to_string(told).unwrap()
    }

    /// Starts ISC's dhclient, which renews its lease until the value ends, and where it writes
    /// what it was told.
    pub(crate) fn hold_lease(&self, dir: &Path) -> (Process, PathBuf) {
        let (script, told) = dhcp_script(dir, "dhclient");
        let conf = dir.join("dhclient.conf");
        std::fs::write(
            &conf,
            "option classless code 121 = array of unsigned integer 8;\n\
             request subnet-mask, routers, domain-name-servers, domain-name, domain-search, \
             host-name, interface-mtu, ntp-servers, classless;\n",
        )
        .unwrap();
        let mut command = self.namespace.command("dhclient");
        command
            .args(["-4", "-d", "-sf"])
            .arg(script)
            .arg("-cf")
            .arg(conf);
        command
            .arg("-lf")
            .arg(dir.join("leases"))
            .arg("-pf")
            .arg(dir.join("pid"))
            .arg(GUEST_LINK);
        (Process::start(command.stdout(Stdio::null())), told)
    }
}

/// A busybox with udhcpc6, which Debian leaves out of its own.
pub(crate) fn busybox() -> PathBuf {
    let busybox = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox-udhcpc6");
    let path = busybox.display();
    assert!(busybox.exists(), "there is no {path}: make udhcpc6");
    busybox
}

/// A guest's files: what it keeps over a reboot.
pub(crate) struct Disk(TempDir);

impl Disk {
    /// A disk with the machine's /etc, and an empty /run and /var/lib.
    pub(crate) fn new() -> Self {
        let disk = Self(TempDir::new().unwrap());
        success(Command::new("cp").args(["-a", "/etc"]).arg(disk.0.path()));
        for dir in ["run", "lib"] {
            std::fs::create_dir(disk.path(dir)).unwrap();
        }
        disk.write("etc/machine-id", "00112233445566778899aabbccddeeff\n");
        disk
    }

    /// Where a file is, seen from outside: `etc`, `run` or `lib`, and what is below.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A file that only root may read, or that is executable, and so on.
    pub(crate) fn write_mode(&self, name: &str, mode: u32, text: &str) {
        self.write(name, text);
        std::fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }
}

/// A client's script that takes the lease as a distribution's would, and writes down what it was
/// told: never the host's resolv.conf.
fn dhcp_script(dir: &Path, client: &str) -> (PathBuf, PathBuf) {
    let (script, told) = (
        dir.join(format!("{client}.sh")),
        dir.join(format!("{client}.env")),
    );
    let body = match client {
        "udhcpc" => {
            r#"[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip address replace "$ip/$mask" dev "$interface"
[ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
if [ -n "$staticroutes" ]; then
    set -- $staticroutes
    while [ $# -ge 2 ]; do
        if [ "$2" = 0.0.0.0 ]; then ip route replace "$1" dev "$interface"; else ip route replace "$1" via "$2" dev "$interface"; fi
        shift 2
    done
elif [ -n "$router" ]; then
    ip route replace default via "$router"
fi"#
        }
        _ => {
            r#"[ -n "$new_ip_address" ] || exit 0
ip address replace "$new_ip_address/$new_subnet_mask" dev "$interface"
ip route replace default via "$new_routers""#
        }
    };
    let text = format!(
        "#!/bin/sh\n{body}\nenv > {0}.new && mv {0}.new {0}\n",
        told.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    (script, told)
}

nix::ioctl_write_ptr_bad!(tun_set_iff, libc::TUNSETIFF, libc::ifreq);

/// Attaches to a tap in the calling thread's namespace, as QEMU does.
pub(crate) fn attach(name: &str) -> File {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .unwrap();
    // SAFETY: ifreq is plain data; the request lives through the call.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name[..15].iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
        // Who was attached before has closed it, but a process that another thread is starting
        // holds it until its program begins.
        wait_until("the tap is free", || {
            let attached = tun_set_iff(file.as_raw_fd(), &request);
            attached != Err(Errno::EBUSY) && attached.unwrap() == 0
        });
    }
    file
}

/// QEMU's end of the pod's tap.
fn outside(pod: &Pod, tap: &str) -> File {
    pod.namespace.within(|| attach(tap))
}

/// What passes from the guest.
#[derive(Default)]
struct Cable {
    asked: Mutex<Vec<Question>>,
    loses_unicast: AtomicBool,
}

impl Cable {
    /// Notes a frame of the guest's; whether it comes through.
    fn carries(&self, frame: &[u8]) -> bool {
        let Some(question) = question(frame) else {
            return true;
        };
        let lost = !question.broadcast && self.loses_unicast.load(Ordering::Relaxed);
        let mut asked = self.asked.lock().unwrap();
        if asked.len() < KEPT {
            asked.push(question);
        }
        !lost
    }
}

/// Carries frames between guest and tap until it is stopped.
struct Pump {
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<File>>,
}

impl Pump {
    fn start(inside: File, outside: File, cable: Arc<Cable>) -> Self {
        let (stopped, stop) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        Self {
            stop: Some(stop),
            thread: Some(thread::spawn(move || {
                pump(inside, outside, &stopped, &cable)
            })),
        }
    }

    /// Stops, and gives back the guest's end.
    fn stop(mut self) -> File {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pump(mut inside: File, mut outside: File, stopped: &OwnedFd, cable: &Cable) -> File {
    let mut frame = vec![0; 65536];
    loop {
        let mut fds = [
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
            PollFd::new(inside.as_fd(), PollFlags::POLLIN),
            PollFd::new(outside.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        let [stop, from_inside, from_outside] = fds.map(|fd| fd.any() == Some(true));
        if stop {
            return inside;
        }
        // A link that is down loses frames, as a cable would.
        if from_inside && let Ok(length) = inside.read(&mut frame) {
            let frame = &frame[..length];
            if cable.carries(frame) {
                let _ = outside.write(frame);
            }
        }
        if from_outside && let Ok(length) = outside.read(&mut frame) {
            let _ = inside.write(&frame[..length]);
        }
    }
}

/// A guest's DHCPv4 message.
#[derive(Clone)]
pub(crate) struct Question {
    /// To every server, not to one.
    pub(crate) broadcast: bool,
    /// UDP's.
    pub(crate) payload: Vec<u8>,
}

/// The DHCPv4 message in a frame; none if the frame is anything else.
fn question(frame: &[u8]) -> Option<Question> {
    let ip = frame.get(14..)?;
    let udp = ip.get(usize::from(ip.first()? & 0x0f) * 4..)?;
    let is_question = frame[12..14] == [8, 0] && ip.get(9)? == &17 && udp.get(2..4)? == [0, 67];
    is_question.then_some(Question {
        broadcast: frame[..6] == [0xff; 6],
        payload: udp.get(8..)?.to_vec(),
    })
}
