//! Bad input: one clear line, an exit status, and nothing changed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

mod common;

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::thread;

use common::{Namespace, Pod, assert_becomes, settled, text};

/// What is wrong, how to make it so, the arguments, and a part of the one line that is said.
type Case = (
    &'static str,
    fn(&Namespace),
    &'static [&'static str],
    &'static str,
);

#[test]
fn bad_input_is_one_clear_line_and_changes_nothing() {
    const EXAMPLE: &str = "link add eth0 type veth peer name far";
    fn good(pod: &Namespace) {
        pod.ip(EXAMPLE);
        pod.ip("addr add 10.1.1.2/24 dev eth0");
        pod.ip("link set far up");
        pod.ip("link set eth0 up");
    }
    let cases: &[Case] = &[
        (
            "no eth0",
            |_| (),
            &["--timeout", "0"],
            "netbind: no network interface named eth0 here (there are: lo)",
        ),
        ("loopback", |_| (), &["--interface", "lo"], "loopback"),
        (
            "no MAC",
            |pod| {
                pod.ip("tuntap add eth0 mode tun");
                pod.ip("addr add 10.1.1.2/24 dev eth0");
                pod.ip("link set eth0 up");
            },
            &[],
            "eth0 has no unicast MAC address",
        ),
        (
            "nothing to masquerade behind",
            |pod| {
                pod.ip(EXAMPLE);
                pod.ip("link set eth0 up");
            },
            &["--binding", "masquerade"],
            "eth0 has no address",
        ),
        (
            "the pod's subnet is the guest's",
            |pod| {
                pod.ip(EXAMPLE);
                pod.ip("addr add 10.0.2.7/24 dev eth0");
                pod.ip("link set eth0 up");
            },
            &["--binding", "masquerade"],
            "vmNetworkCIDR",
        ),
        (
            "another link leads into the guest's network",
            |pod| {
                good(pod);
                pod.ip("link add net1 type veth peer name far1");
                pod.ip("link set far1 up");
                pod.ip("link set net1 up");
                pod.ip("route add 10.0.2.128/25 dev net1");
            },
            &["--binding", "masquerade"],
            "overlaps the pod's route 10.0.2.128/25",
        ),
        (
            "down",
            |pod| {
                pod.ip(EXAMPLE);
                pod.ip("addr add 10.1.1.2/24 dev eth0");
            },
            &["--timeout", "0"],
            "netbind: eth0 is down",
        ),
        (
            "an expected address is not there",
            good,
            &["--timeout", "0", "--expect", "10.1.1.3"],
            "does not have the expected address 10.1.1.3 (it has: 10.1.1.2",
        ),
        (
            "tap taken",
            |pod| {
                good(pod);
                pod.ip("link add tap0 type bridge");
            },
            &[],
            "a link named tap0 exists already",
        ),
        (
            "bridge taken",
            |pod| {
                good(pod);
                pod.ip("link add k6t-eth0 type bridge");
            },
            &[],
            "a link named k6t-eth0 exists already",
        ),
        (
            "port of another bridge",
            |pod| {
                good(pod);
                pod.ip("link add br0 type bridge");
                pod.ip("link set eth0 master br0");
            },
            &[],
            "eth0 is a port of another link",
        ),
        (
            "a tap's name too long",
            good,
            &["--tap", "sixteen-bytes-xx"],
            "cannot be an interface's name",
        ),
        (
            "option out of range",
            good,
            &["--private-option", "100=x"],
            "privateOptions",
        ),
        (
            "resolv.conf is a directory",
            good,
            &["--resolv-conf", "/"],
            "cannot read /",
        ),
        (
            "no directory for the state",
            good,
            &["--state", "/nonexistent/state"],
            "state file /nonexistent/state",
        ),
    ];
    // Each waits, most of the time, until its network has settled.
    thread::scope(|scope| {
        for (what, prepare, arguments, expected) in cases {
            scope.spawn(move || {
                let pod = Namespace::new("pod");
                prepare(&pod);
                let dir = tempfile::TempDir::new().unwrap();
                refused(&pod, dir.path(), what, arguments, expected);
            });
        }
    });

    let pod = Namespace::new("pod");
    good(&pod);
    let dir = tempfile::TempDir::new().unwrap();
    let socket = pod.within(|| UdpSocket::bind("0.0.0.0:67").unwrap());
    refused(
        &pod,
        dir.path(),
        "port 67 taken",
        &[],
        "UDP port 67 is taken",
    );
    drop(socket);
    pod.ip("addr add 2001:db8::2/64 dev eth0 nodad");
    let socket = pod.within(|| UdpSocket::bind("[::]:547").unwrap());
    refused(
        &pod,
        dir.path(),
        "port 547 taken",
        &[],
        "UDP port 547 is taken",
    );
    drop(socket);
    std::fs::write(dir.path().join("state"), "{").unwrap();
    refused(&pod, dir.path(), "damaged state", &[], "is damaged");
}

#[test]
fn a_set_up_that_fails_half_way_takes_back_what_it_did() {
    let pod = Pod::on_bridge();
    let (before, files) = (
        pod.namespace.dump(),
        std::fs::read_dir(pod.dir.path()).unwrap().count(),
    );
    let setup = pod.netbind(&["setup"]);
    let files = files + 1; // resolv.conf, written by the line above
    let mut without_tun = Command::new("unshare");
    without_tun.args([
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none /dev/net && exec \"$@\"",
        "sh",
    ]);
    let output = without_tun
        .arg(setup.get_program())
        .args(setup.get_args())
        .output()
        .unwrap();
    let said = text(&output);
    assert!(!output.status.success());
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("cannot make the tap tap0 (is /dev/net/tun there"),
        "{said}"
    );
    assert_becomes(|| pod.namespace.dump(), &before, "a failed set-up");
    assert_eq!(std::fs::read_dir(pod.dir.path()).unwrap().count(), files);
}

fn refused(pod: &Namespace, dir: &Path, what: &str, arguments: &[&str], expected: &str) {
    let before = settled(|| pod.dump());
    let files = || std::fs::read_dir(dir).unwrap().count();
    let files_before = files();
    let mut command = Command::new(common::NETBIND);
    command.arg("setup").arg("--netns").arg(pod.path());
    if !arguments.contains(&"--state") {
        command.arg("--state").arg(dir.join("state"));
    }
    let output = command.args(arguments).output().unwrap();
    let said = text(&output);
    assert!(!output.status.success(), "{what}");
    assert_eq!(said.lines().count(), 1, "{what}: {said}");
    assert!(said.contains(expected), "{what}: {said}");
    assert_becomes(|| pod.dump(), &before, what);
    assert_eq!(files(), files_before, "{what}");
}
