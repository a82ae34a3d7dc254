//! Networks that are not ready when set-up starts, and such as never will be.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::cni::{Shape, end};
use crate::common::{PATIENCE, Pod, Process, success, text, wait_until};
use crate::lab::{Lab, PEER_V4, PEER_V6};
use crate::{Binding, before, proves};

/// A network that is not ready when set-up starts.
pub(crate) struct Late {
    /// What it is in the end, and the lab as it is in the beginning.
    shape: Shape,
    /// What set-up is told to wait for.
    expect: Binding,
    /// Makes what comes late; what serves it lives as long as the value.
    come: fn(&Lab) -> Option<Process>,
}

/// The plugin's ADD, after set-up has started.
pub(crate) const INTERFACE: Late = Late {
    shape: Shape {
        interface: "eth0",
        ends: &[
            end("10.77.0.5", "10.77.0.1", PEER_V4),
            end("fd00:77::5", "fd00:77::1", PEER_V6),
        ],
        further: &[],
        mtu: 1500,
        make: Lab::without_pod_link,
    },
    expect: &[],
    come: |lab| {
        connect(lab);
        None
    },
};

/// An address of IPv4, and a router that gives the one of IPv6 later.
pub(crate) const SLAAC: Late = Late {
    shape: Shape {
        interface: "eth0",
        ends: &[
            end("10.78.0.5", "10.78.0.1", PEER_V4),
            end(AUTOCONFIGURED, "fd00:78::1", PEER_V6),
        ],
        further: &[],
        mtu: 1500,
        make: |interface| {
            let lab = Lab::new(interface);
            lab.node(
                "link set pod0 up
                 address add 10.78.0.1/24 dev pod0
                 address add fd00:78::1/64 dev pod0 nodad",
            );
            lab.pod(
                "link set eth0 address 02:00:00:00:00:78 up
                 address add 10.78.0.5/24 dev eth0
                 route add default via 10.78.0.1",
            );
            lab
        },
    },
    expect: &["--expect", AUTOCONFIGURED],
    come: |lab| {
        let router = router(lab);
        wait_until("the pod has an address of SLAAC", || {
            let addresses = lab.pod.namespace.ip("address show eth0");
            addresses.contains(AUTOCONFIGURED)
        });
        Some(router)
    },
};

/// What comes of the MAC 02:00:00:00:00:78 on the network of [`router`].
const AUTOCONFIGURED: &str = "fd00:78::ff:fe00:78";

fn router(lab: &Lab) -> Process {
    dnsmasq(lab, &["--enable-ra", "--dhcp-range=fd00:78::,ra-only"])
}

/// Binds a pod whose network comes after set-up has looked for it, and proves it.
pub(crate) fn binds(late: &Late, binding: Binding) {
    let shape = &late.shape;
    let lab = (shape.make)(shape.interface);
    let setup = Setup::start(&lab.pod, &[late.expect, binding].concat());
    // It hears of everything, and acts on nothing before the network's own state is known.
    setup.signal(Signal::SIGSTOP);
    let _server = (late.come)(&lab);
    let before = before(shape, &lab);
    setup.signal(Signal::SIGCONT);
    proves(shape, &lab, &before, &setup.done());
}

/// A set-up that waits.
struct Setup(Child);

impl Setup {
    /// Starts one, and returns once it listens for the kernel's news.
    fn start(pod: &Pod, arguments: &[&str]) -> Self {
        let mut command = pod.netbind(&["setup", "--json", "--timeout", "600"]);
        let command = command.args(arguments).stdout(Stdio::piped());
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let sockets = format!("/proc/{}/net/netlink", child.id());
        wait_until("the set-up listens", || {
            // Columns: socket, protocol, port, groups.
            std::fs::read_to_string(&sockets).is_ok_and(|sockets| {
                let groups = sockets
                    .lines()
                    .skip(1)
                    .filter_map(|l| l.split_whitespace().nth(3));
                groups.into_iter().any(|groups| groups != "00000000")
            })
        });
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    /// What it says, once it has succeeded.
    fn done(self) -> Value {
        let output = self.0.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// What set-up says when it fails, and how long that took.
fn fails(pod: &Pod, arguments: &[&str]) -> (String, Duration) {
    let started = Instant::now();
    let output = pod.netbind(&["setup"]).args(arguments).output().unwrap();
    assert!(!output.status.success());
    let said = text(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    (said, started.elapsed())
}

/// Gives the pod the network of a dual-stack bridge plugin, in the order in which that does.
fn connect(lab: &Lab) {
    lab.link_pod("eth0");
    lab.node(
        "link set pod0 up
         address add 10.77.0.1/24 dev pod0
         address add fd00:77::1/64 dev pod0 nodad",
    );
    lab.pod(
        "link set eth0 up
         address add 10.77.0.5/24 dev eth0
         address add fd00:77::5/64 dev eth0
         route add default via 10.77.0.1
         route add default via fd00:77::1",
    );
}

/// Fails unless set-up found all that [`connect`] made.
fn assert_complete(done: &Value) {
    let guest = &done["guest"];
    assert_eq!(guest["lease"]["address"], "10.77.0.5/24");
    assert_eq!(guest["lease"]["router"], "10.77.0.1");
    assert_eq!(guest["ipv6"]["addresses"][0], "fd00:77::5");
    assert_eq!(guest["ipv6"]["router"]["default"], true);
}

#[test]
fn an_interface_that_is_made_later_is_waited_for() {
    let lab = Lab::without_pod_link("eth0");
    let setup = Setup::start(&lab.pod, &[]);
    connect(&lab);
    assert_complete(&setup.done());
}

#[test]
fn more_news_than_the_socket_holds_is_news() {
    let lab = Lab::without_pod_link("eth0");
    let setup = Setup::start(&lab.pod, &[]);
    setup.signal(Signal::SIGSTOP);
    connect(&lab);
    // The socket's default buffer has room for some hundreds.
    let batch = lab.pod.dir.path().join("batch");
    let change = "address add 127.0.0.9/32 dev lo\naddress delete 127.0.0.9/32 dev lo\n";
    std::fs::write(&batch, change.repeat(2000)).unwrap();
    let mut ip = lab.pod.namespace.command("ip");
    success(ip.arg("-batch").arg(batch));
    let sockets = format!("/proc/{}/net/netlink", setup.0.id());
    let sockets = std::fs::read_to_string(sockets).unwrap();
    // The last column but one: what was dropped.
    let mut dropped = sockets
        .lines()
        .skip(1)
        .filter_map(|l| l.split_whitespace().nth(8));
    assert!(dropped.any(|count| count != "0"), "{sockets}");
    setup.signal(Signal::SIGCONT);
    assert_complete(&setup.done());
}

#[test]
fn an_interface_that_never_comes_is_told_at_the_deadline() {
    let lab = Lab::without_pod_link("eth0");
    let (said, took) = fails(&lab.pod, &["--timeout", "1"]);
    assert!(
        said.contains("not ready within 1 s: no network interface named eth0 here (there are: lo)"),
        "{said}"
    );
    let on_time = Duration::from_secs(1)..PATIENCE;
    assert!(on_time.contains(&took), "{took:?}");
}

#[test]
fn an_address_is_taken_once_it_is_known_to_be_unique() {
    let lab = Lab::new("eth0");
    // Without a carrier the kernel does not even begin to look.
    lab.pod("link set eth0 up");
    lab.pod("address add fd00:77::5/64 dev eth0");
    let (said, _) = fails(&lab.pod, &["--timeout", "1"]);
    assert!(said.contains("fd00:77::5 on eth0 is tentative"), "{said}");
    let setup = Setup::start(&lab.pod, &[]);
    lab.node("link set pod0 up");
    assert_eq!(setup.done()["guest"]["ipv6"]["addresses"][0], "fd00:77::5");
}

#[test]
fn a_link_local_address_is_not_waited_for() {
    let lab = Lab::new("eth0");
    // One probe a second.
    lab.pod
        .namespace
        .sysctl("ipv6/conf/eth0/dad_transmits", "100");
    lab.node("link set pod0 up");
    lab.pod("link set eth0 up");
    lab.pod("address add 10.77.0.5/24 dev eth0");
    let tentative = || lab.pod.namespace.ip("address").contains("tentative");
    wait_until("there is one", tentative);
    success(&mut lab.pod.netbind(&["setup"]));
    assert!(tentative());
}

#[test]
fn an_address_that_another_station_has_is_refused() {
    let lab = Lab::new("eth0");
    lab.node("link set pod0 up");
    lab.node("address add fd00:77::5/64 dev pod0 nodad");
    lab.pod("link set eth0 up");
    lab.pod("address add fd00:77::5/64 dev eth0");
    let timeout = PATIENCE.as_secs().to_string();
    let (said, took) = fails(&lab.pod, &["--timeout", &timeout]);
    assert!(said.contains("fd00:77::5 on eth0 is a duplicate"), "{said}");
    assert!(took < PATIENCE, "not at the deadline: {took:?}");
}

#[test]
fn an_expected_address_that_never_comes_is_told_at_the_deadline() {
    let lab = Lab::new("eth0");
    lab.node("link set pod0 up");
    lab.pod("link set eth0 up");
    lab.pod("address add 10.77.0.5/24 dev eth0");
    let (said, _) = fails(&lab.pod, &["--timeout", "1", "--expect", "fd00:77::5"]);
    assert!(
        said.contains("eth0 does not have the expected address fd00:77::5 (it has: 10.77.0.5"),
        "{said}"
    );
}

#[test]
fn a_late_address_of_slaac_is_the_guests_and_a_temporary_one_is_not() {
    let lab = (SLAAC.shape.make)("eth0");
    // A temporary address beside it (RFC 8981), which lasts for too short a time for a guest.
    let temporary = "ipv6/conf/eth0/use_tempaddr";
    lab.pod.namespace.sysctl(temporary, "2");
    let setup = Setup::start(&lab.pod, SLAAC.expect);
    let _router = router(&lab);
    let done = setup.done();
    let addresses = lab.pod.namespace.ip("address show eth0");
    assert!(addresses.contains("temporary"), "{addresses}");
    assert_eq!(done["guest"]["ipv6"]["addresses"], json!([AUTOCONFIGURED]));
}

#[test]
fn an_address_that_nobody_expects_is_not_waited_for() {
    let lab = (SLAAC.shape.make)("eth0");
    let mut setup = lab.pod.netbind(&["setup", "--json", "--timeout", "600"]);
    let done: Value = serde_json::from_str(&success(&mut setup)).unwrap();
    let guest = &done["guest"];
    assert_eq!(guest["lease"]["address"], "10.78.0.5/24");
    assert!(guest["ipv6"].is_null(), "{guest}");
}

/// A router and DHCP server on the node's end of the pod's link.
pub(crate) fn dnsmasq(lab: &Lab, arguments: &[&str]) -> Process {
    let leases = lab.pod.dir.path().join("dnsmasq.leases");
    let mut command = lab.pod.node.command("dnsmasq");
    command
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
        ])
        .args([
            "--port=0",
            "--interface=pod0",
            "--bind-dynamic",
            "--pid-file=",
        ])
        .arg(format!("--dhcp-leasefile={}", leases.display()))
        .args(arguments);
    Process::start(&mut command)
}
