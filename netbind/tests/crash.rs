//! `netbind` killed after every single one of its changes to the kernel or the disk.
//!
//! The process runs under ptrace and stops at the exit of each system call that can change
//! something; at the n-th it is killed. For every n, running it again must end with the same network
//! as if nothing had happened, and teardown must leave the pod as it was found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]
#![allow(
    unsafe_code,
    reason = "a process asks to be traced between fork and exec"
)]

mod common;
mod lan;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::guest::attach;
use common::{PATIENCE, Pod, assert_becomes, settled, success};
use lan::{Lan, frame};
use netbind::Mac;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

/// How a traced process ended.
enum Ended {
    /// Killed after this system call.
    Killed(i64),
    /// By itself, before it made that many changes.
    Finished,
}

/// Runs a command and kills it when its n-th change is made.
#[allow(
    clippy::zombie_processes,
    reason = "a traced process is waited for by waitpid"
)]
fn kill_after(changes: usize, command: &mut Command) -> Ended {
    command.stdout(Stdio::null());
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    let child = command.spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    assert!(
        matches!(
            waitpid(pid, None),
            Ok(WaitStatus::Stopped(_, Signal::SIGTRAP))
        ),
        "exec"
    );
    ptrace::setoptions(
        pid,
        ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL,
    )
    .unwrap();

    let mut made = 0;
    let mut entered = None;
    let mut signal = None;
    loop {
        ptrace::syscall(pid, signal.take()).unwrap();
        match waitpid(pid, None).unwrap() {
            WaitStatus::PtraceSyscall(_) => {
                let info = ptrace::syscall_info(pid).unwrap();
                if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
                    // SAFETY: `op` says that this is the member in use.
                    let entry = unsafe { info.u.entry };
                    entered =
                        changes_something(entry.nr as i64, &entry.args).then_some(entry.nr as i64);
                } else if let Some(call) = entered.take() {
                    made += 1;
                    if made == changes {
                        nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
                        waitpid(pid, None).unwrap();
                        return Ended::Killed(call);
                    }
                }
            }
            WaitStatus::Stopped(_, other) => signal = Some(other),
            WaitStatus::Exited(_, status) => {
                assert_eq!(status, 0);
                return Ended::Finished;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Whether a system call can change the network or a file. Reading netlink requests count as well:
/// they look the same from here, and a kill there must be harmless too.
fn changes_something(call: i64, arguments: &[u64; 6]) -> bool {
    match call {
        libc::SYS_openat => arguments[2] & libc::O_CREAT as u64 != 0,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename | libc::SYS_unlink => true,
        libc::SYS_sendto
        | libc::SYS_sendmsg
        | libc::SYS_ioctl
        | libc::SYS_write
        | libc::SYS_fsync
        | libc::SYS_renameat
        | libc::SYS_renameat2
        | libc::SYS_unlinkat => true,
        _ => false,
    }
}

/// The pod's network, with the randomly chosen MACs, and the addresses made of one, by name.
fn bound(pod: &Pod) -> String {
    let state: Value = serde_json::from_slice(&std::fs::read(pod.state()).unwrap()).unwrap();
    let mut dump = pod.namespace.dump();
    for device in ["bridge", "tap"] {
        let mac = state["macs"][device].as_str().unwrap();
        let link_local = mac.parse::<Mac>().unwrap().link_local();
        for (text, name) in [
            (mac.to_owned(), "MAC"),
            (link_local.to_string(), "address"),
            (format!("33:33:ff:{}", &mac[9..]), "group"),
            (format!("{:032x}", link_local.to_bits()), "address in hex"),
        ] {
            dump = dump.replace(&text, &format!("the {device}'s {name}"));
        }
    }
    let mut lines: Vec<_> = dump.lines().collect();
    // Lists were sorted with the MACs in them.
    lines.sort_unstable();
    lines.join("\n")
}

/// Looks at a network whose tap is in use. On a link without a carrier the kernel makes some routes
/// or not, as it happens.
fn with_carrier<T>(pod: &Pod, look: impl FnOnce() -> T) -> T {
    let _guest = pod.namespace.within(|| attach("tap0"));
    look()
}

fn files(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Expects these kinds of calls among those after which a kill was tried: a test that kills nowhere
/// must fail.
fn expect_calls(seen: &BTreeSet<i64>) {
    for call in [libc::SYS_sendto, libc::SYS_write] {
        assert!(
            seen.contains(&call),
            "never killed after system call {call}: {seen:?}"
        );
    }
}

/// Sets up, killed after each of its changes, and again.
fn set_up_again(pod: &Pod, options: &[&str]) {
    let setup = || {
        let mut command = pod.netbind(&["setup"]);
        command.args(options);
        command
    };
    let (before, files_before) = (settled(|| pod.namespace.dump()), files(pod.dir.path()));
    success(&mut setup());
    let whole = with_carrier(pod, || settled(|| bound(pod)));
    success(&mut pod.netbind(&["teardown"]));
    let files_before = &files_before | &files(pod.dir.path());

    let mut seen = BTreeSet::new();
    for n in 1.. {
        match kill_after(n, &mut setup()) {
            Ended::Finished => break,
            Ended::Killed(call) => seen.insert(call),
        };
        let what = format!("killed after change {n}, set up again");
        success(&mut setup());
        with_carrier(pod, || assert_becomes(|| bound(pod), &whole, &what));
        success(&mut pod.netbind(&["teardown"]));
        assert_becomes(|| pod.namespace.dump(), &before, &what);
        assert_eq!(files(pod.dir.path()), files_before, "{what}");
    }
    expect_calls(&seen);
    assert!(seen.contains(&libc::SYS_ioctl));
}

/// Sets up, killed after each of its changes, and takes that back.
fn take_back(pod: &Pod, options: &[&str], address: &str) {
    let before = settled(|| pod.namespace.dump());
    for n in 1.. {
        let ended = kill_after(n, pod.netbind(&["setup"]).args(options));
        success(&mut pod.netbind(&["teardown"]));
        let what = format!("killed after change {n}, torn down");
        assert_becomes(|| pod.namespace.dump(), &before, &what);
        assert!(pod.node_reaches(address), "{what}: the pod answers");
        if let Ended::Finished = ended {
            break;
        }
    }
}

/// Takes back, killed after each of its changes, and again.
fn take_back_again(pod: &Pod, options: &[&str]) {
    let before = settled(|| pod.namespace.dump());
    let mut seen = BTreeSet::new();
    for n in 1.. {
        success(pod.netbind(&["setup"]).args(options));
        let ended = kill_after(n, &mut pod.netbind(&["teardown"]));
        success(&mut pod.netbind(&["teardown"]));
        let what = format!("killed after change {n}");
        assert_becomes(|| pod.namespace.dump(), &before, &what);
        match ended {
            Ended::Finished => break,
            Ended::Killed(call) => seen.insert(call),
        };
    }
    expect_calls(&seen);
}

/// The plugin finds its network as it made it.
fn is_the_plugins(pod: &Pod) {
    pod.cni("CHECK").unwrap();
    pod.cni("DEL").unwrap();
}

#[test]
fn setup_killed_after_any_change_and_run_again_ends_with_the_same_network() {
    let pod = Pod::on_bridge();
    set_up_again(&pod, &[]);
    is_the_plugins(&pod);
}

#[test]
fn teardown_restores_the_pod_after_setup_was_killed_anywhere() {
    let pod = Pod::on_ptp();
    take_back(&pod, &[], pod.address());
    is_the_plugins(&pod);
}

#[test]
fn teardown_killed_after_any_change_and_run_again_restores_the_pod() {
    let pod = Pod::on_bridge();
    take_back_again(&pod, &[]);
    is_the_plugins(&pod);
}

/// How masquerade binding is asked for.
const MASQUERADE: &[&str] = &["--binding", "masquerade"];

#[test]
fn masquerade_killed_after_any_change_and_run_again_ends_with_the_same_network() {
    set_up_again(&Lan::new().pod, MASQUERADE);
}

#[test]
fn teardown_restores_the_pod_after_masquerade_was_killed_anywhere() {
    take_back(&Lan::new().pod, MASQUERADE, lan::POD_V4);
}

#[test]
fn teardown_of_masquerade_killed_after_any_change_and_run_again_restores_the_pod() {
    take_back_again(&Lan::new().pod, MASQUERADE);
}

#[test]
fn while_it_is_taken_back_the_guest_is_never_a_neighbour_of_the_pods() {
    let lan = Lan::new();
    let pod = &lan.pod.namespace;
    let service = pod.within(|| UdpSocket::bind((lan::POD_V4, 0)).unwrap());
    service.set_read_timeout(Some(PATIENCE)).unwrap();
    let at = service.local_addr().unwrap();
    let datagram = frame::udp(4000, at.port(), b"whisper");
    let [from, to] = [lan::NODE_V4, lan::POD_V4].map(|address| address.parse().unwrap());
    let packet = frame::ipv4(from, to, 17, &datagram);
    let own = frame::mac(lan::POD_MAC);
    let call = frame::ethernet(frame::BROADCAST, own, 0x0800, &packet);
    for n in 1.. {
        success(&mut lan.pod.netbind(&["setup"]));
        let mut guest = pod.within(|| attach("tap0"));
        let ended = kill_after(n, &mut lan.pod.netbind(&["teardown"]));
        // A tap that is gone takes no frame.
        _ = guest.write_all(&call);
        pod.within(|| UdpSocket::bind("0.0.0.0:0").unwrap())
            .send_to(b"after", at)
            .unwrap();
        let mut heard = [0; 16];
        let length = service.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"after", "killed after change {n}");
        success(&mut lan.pod.netbind(&["teardown"]));
        if let Ended::Finished = ended {
            break;
        }
    }
}

#[test]
fn bridge_netfilter_stays_off_until_the_last_binding_of_the_namespace_ends() {
    let lan = Lan::new();
    let pod = &lan.pod.namespace;
    pod.ip("link add pod1 type veth peer name far1");
    pod.ip("link set far1 up");
    pod.ip("link set pod1 up");
    lan::settle(pod);
    let other = lan.pod.by_interface("pod1");
    let is_on = || {
        let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        pod.within(|| std::fs::read_to_string(path).unwrap().trim() == "1")
    };
    assert!(is_on());
    for (ends_first, is_on_after) in [(&other, true), (&lan.pod, false)] {
        success(&mut lan.pod.netbind(&["setup"]));
        success(&mut other.netbind(&["setup", "--tap", "tap1"]));
        assert!(!is_on());
        success(&mut ends_first.netbind(&["teardown"]));
        assert!(!is_on(), "under the binding that is left");
        success(&mut lan.pod.netbind(&["teardown"]));
        success(&mut other.netbind(&["teardown"]));
        // Only the first binding found it on.
        assert_eq!(is_on(), is_on_after);
    }
}
