//! A guest with Linux' default settings, and what it learns over IPv6.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

#[path = "../common/mod.rs"]
mod common;

mod frames;

use std::io::{BufRead, BufReader, Lines, Read};
use std::net::Ipv6Addr;
use std::process::{ChildStdout, Stdio};

use common::guest::{GUEST_LINK, Guest};
use common::serve::Serve;
use common::server::Running;
use common::{Pod, Process, success, wait_until};
use netbind::serve::{Sockets, open};
use netbind::{GuestNetwork, State};

/// The pod's address, which is the guest's.
const ADDRESS: &str = "2001:db8:1::2";
/// The node's, on the same link.
const NODE: &str = "2001:db8:1::1";
/// The node's, beyond it.
const BEYOND: &str = "2001:db8:2::1";

/// A bound pod on a node, over one link of MTU 1400.
struct Bound {
    pod: Pod,
    guest: GuestNetwork,
}

impl Bound {
    /// The pod has its address on a /64, and what these lines of ip(8) say on either side.
    fn new(node: &[&str], pod: &[&str]) -> Self {
        let bound = Pod::by_hand("eth0");
        bound.node.sysctl("ipv6/conf/all/forwarding", "1");
        bound.node.ip(&format!(
            "link add pod0 mtu 1400 type veth peer name eth0 mtu 1400 netns {}",
            bound.namespace.name()
        ));
        bound.node.ip(&format!("address add {BEYOND}/64 dev lo"));
        bound.node.ip("link set pod0 up");
        bound.namespace.ip("link set eth0 up");
        let namespaces = [(&bound.node, node), (&bound.namespace, pod)];
        bound
            .namespace
            .ip(&format!("address add {ADDRESS}/64 dev eth0 nodad"));
        for (namespace, lines) in namespaces {
            for line in lines {
                namespace.ip(line);
            }
        }
        std::fs::write(
            bound.dir.path().join("resolv.conf"),
            "nameserver 2001:db8::53\nsearch svc.cluster.local cluster.local\n",
        )
        .unwrap();
        success(&mut bound.netbind(&["setup"]));
        let guest = State::read(&bound.state()).unwrap().unwrap().guest;
        Self { pod: bound, guest }
    }

    /// With a gateway that the pod knows by its link-local address.
    fn by_link_local() -> Self {
        Self::new(
            &[
                &format!("address add {NODE}/64 dev pod0 nodad"),
                "address add fe80::1/64 dev pod0 nodad",
            ],
            &["route add default via fe80::1 dev eth0"],
        )
    }

    /// With a gateway that the pod knows by a global address.
    fn by_global() -> Self {
        Self::new(
            &[&format!("address add {NODE}/64 dev pod0 nodad")],
            &[&format!("route add default via {NODE}")],
        )
    }

    fn guest(&self) -> Guest {
        Guest::behind(&self.pod, "tap0", &self.guest.mac.to_string())
    }

    fn sockets(&self) -> Sockets {
        self.pod.namespace.within(|| open(&self.guest).unwrap())
    }

    /// The router's link-local address.
    fn router(&self) -> Ipv6Addr {
        self.guest.ipv6.as_ref().unwrap().router.address
    }

    fn node_mac(&self) -> String {
        let link = self.pod.node.ip("-j link show pod0");
        let link: serde_json::Value = serde_json::from_str(&link).unwrap();
        link[0]["address"].as_str().unwrap().to_owned()
    }
}

/// Gives the guest the address that DHCPv6 would, and waits until it is found to be unique.
fn take_address(guest: &Guest) {
    let namespace = &guest.namespace;
    namespace.ip(&format!("address add {ADDRESS}/128 dev {GUEST_LINK}"));
    wait_until("the guest's addresses are settled", || {
        !namespace.ip("-6 address").contains("tentative")
    });
    let addresses = namespace.ip("-6 address");
    assert!(!addresses.contains("dadfailed"), "{addresses}");
    // None was made of a prefix.
    let globals = addresses.matches("scope global").count();
    assert_eq!(globals, 1, "{addresses}");
}

/// Whom the guest knows it has to ask for again.
fn forget_neighbours(guest: &Guest) {
    guest
        .namespace
        .ip(&format!("-6 neigh flush dev {GUEST_LINK}"));
}

fn default_routes(guest: &Guest) -> String {
    guest.namespace.ip("-6 route show default")
}

/// What tcpdump prints of router advertisements in the guest, line by line.
struct Advertisements {
    _tcpdump: Process,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Advertisements {
    fn of(guest: &Guest) -> Self {
        let mut tcpdump = guest.namespace.command("tcpdump");
        tcpdump
            .args(["-i", GUEST_LINK, "-n", "-l", "-t", "-v"])
            .arg("icmp6 and ip6[40] == 134")
            .stdout(Stdio::piped());
        let mut tcpdump = Process::start(&mut tcpdump);
        let lines = BufReader::new(tcpdump.0.stdout.take().unwrap()).lines();
        Self {
            _tcpdump: tcpdump,
            lines,
        }
    }

    /// The lines of the next one: its own, the flags', and those of as many options.
    fn next(&mut self, options: usize) -> String {
        let lines = self.lines.by_ref().take(2 + options);
        lines.map(|line| line.unwrap() + "\n").collect()
    }
}

#[test]
fn a_guest_learns_its_network_from_a_link_local_gateway() {
    let bound = Bound::by_link_local();
    let _server = Serve::start(&bound.pod);
    let guest = bound.guest();
    // Its own solicitation is answered, or what comes unasked within sixteen seconds.
    let told = Advertisements::of(&guest).next(4);
    for expected in [
        "fe80::1 > ",
        "[icmp6 sum ok]",
        "hop limit 64, Flags [managed, other stateful], pref medium, router lifetime 1800s",
        "mtu option (5), length 8 (1):  1400",
        "prefix info option (3), length 32 (4): 2001:db8:1::/64, Flags [onlink], \
         valid time 2592000s, pref. time 604800s",
        "rdnss option (25), length 24 (3):  lifetime 1800s, addr: 2001:db8::53",
        "dnssl option (31), length 48 (6):  lifetime 1800s, \
         domain(s): svc.cluster.local. cluster.local.",
    ] {
        assert!(told.contains(expected), "{expected:?} in {told}");
    }
    wait_until("the guest has its default route", || {
        default_routes(&guest).contains("via fe80::1 dev ens3 proto ra")
    });
    take_address(&guest);
    let mtu = guest
        .namespace
        .command("cat")
        .arg(format!("/proc/sys/net/ipv6/conf/{GUEST_LINK}/mtu"))
        .output();
    assert_eq!(mtu.unwrap().stdout, b"1400\n");
    let routes = guest.namespace.ip("-6 route");
    assert!(
        routes.contains("2001:db8:1::/64 dev ens3 proto kernel"),
        "{routes}"
    );
    assert!(guest.reaches(NODE), "the guest reaches its neighbour");
    assert!(
        guest.reaches(BEYOND),
        "the guest reaches what is behind its router"
    );
    assert!(
        bound.pod.node_reaches(ADDRESS),
        "the node reaches the guest"
    );
}

#[test]
fn a_gateway_known_by_a_global_address_is_followed_to_another_mac() {
    let bound = Bound::by_global();
    let _server = Serve::start(&bound.pod);
    let guest = bound.guest();
    let router = bound.router().to_string();
    wait_until("the guest has its default route", || {
        default_routes(&guest).contains(&format!("via {router} dev ens3 proto ra"))
    });
    take_address(&guest);
    // Soon to doubt what it knows, so that the test need not wait for half a minute.
    for (name, value) in [
        ("base_reachable_time_ms", "1000"),
        ("delay_first_probe_time", "1"),
    ] {
        let name = format!("ipv6/neigh/{GUEST_LINK}/{name}");
        guest.namespace.sysctl(&name, value);
    }
    assert!(
        guest.reaches(BEYOND),
        "the guest reaches what is behind its router"
    );
    let knows = |mac: &str| {
        let entry = guest.namespace.ip(&format!("-6 neigh show {router}"));
        entry.contains(mac) && entry.contains("router")
    };
    assert!(knows(&bound.node_mac()));
    wait_until("what the guest knows is confirmed", || {
        guest.reaches(BEYOND) && knows("REACHABLE")
    });

    const MOVED: &str = "02:00:00:00:00:fe";
    bound.pod.node.ip(&format!("link set pod0 address {MOVED}"));
    wait_until("the guest follows", || {
        guest.reaches(BEYOND) && knows(MOVED)
    });

    // Nobody speaks for a gateway that is gone.
    bound
        .pod
        .node
        .ip(&format!("address del {NODE}/64 dev pod0"));
    wait_until("the guest finds its router gone", || {
        guest.reaches(BEYOND);
        let entry = guest.namespace.ip(&format!("-6 neigh show {router}"));
        entry.contains("FAILED") || entry.contains("INCOMPLETE")
    });
}

#[test]
fn without_a_gateway_the_guest_has_its_neighbours_and_no_default_route() {
    let bound = Bound::new(&[&format!("address add {NODE}/64 dev pod0 nodad")], &[]);
    let _server = Serve::start(&bound.pod);
    let guest = bound.guest();
    let told = Advertisements::of(&guest).next(5);
    assert!(told.contains("router lifetime 0s"), "{told}");
    take_address(&guest);
    assert!(guest.reaches(NODE), "the guest reaches its neighbour");
    assert_eq!(default_routes(&guest), "");
    // We are the router, as far as there is one.
    let router = bound.router();
    forget_neighbours(&guest);
    guest.reaches(&format!("{router}%{GUEST_LINK}"));
    let entry = guest.namespace.ip(&format!("-6 neigh show {router}"));
    assert!(
        entry.contains(&bound.guest.server_mac.to_string()),
        "{entry}"
    );
}

#[test]
fn a_gateway_that_answers_nobody_is_answered_for() {
    let pod_mac = "02:00:00:00:00:02";
    let node_mac = "02:00:00:00:00:01";
    let bound = Bound::new(
        &[
            &format!("link set pod0 address {node_mac}"),
            &format!("address add {NODE}/64 dev pod0 nodad"),
            "address add fe80::1/64 dev pod0 nodad",
            // It asks nobody and answers nobody.
            "link set pod0 arp off",
            &format!("neigh add {ADDRESS} lladdr {pod_mac} dev pod0"),
        ],
        &[
            &format!("link set eth0 address {pod_mac}"),
            &format!("neigh add fe80::1 lladdr {node_mac} dev eth0"),
            "route add default via fe80::1 dev eth0",
        ],
    );
    let _server = Serve::start(&bound.pod);
    let guest = bound.guest();
    wait_until("the guest has its default route", || {
        default_routes(&guest).contains("via fe80::1 dev ens3 proto ra")
    });
    take_address(&guest);
    assert!(
        guest.reaches(BEYOND),
        "the guest reaches what is behind its router"
    );
    // The advertisement said where, but what it said does not last.
    forget_neighbours(&guest);
    assert!(
        guest.reaches(BEYOND),
        "the guest finds its router by asking for it"
    );
}

#[test]
fn the_guest_does_not_notice_a_new_server_on_the_same_sockets() {
    let bound = Bound::by_link_local();
    let sockets = bound.sockets();
    let again = Sockets {
        tap: sockets.tap.try_clone().unwrap(),
        uplink: None,
    };
    let first = Running::start(sockets, &bound.guest);
    let guest = bound.guest();
    let mut told = Advertisements::of(&guest);
    wait_until("the guest has its default route", || {
        default_routes(&guest).contains("via fe80::1")
    });
    take_address(&guest);
    let mut monitor = guest.namespace.command("ip");
    let mut monitor = Process::start(
        monitor
            .args(["-6", "monitor", "route"])
            .stdout(Stdio::piped()),
    );
    drop(first);
    assert!(guest.reaches(BEYOND), "the guest needs no server to go on");
    let _second = Running::start(again, &bound.guest);
    // The second speaks up at once, and no advertisement so far took the router away.
    for _ in 0..2 {
        let told = told.next(4);
        assert!(told.contains("router lifetime 1800s"), "{told}");
    }
    assert!(guest.reaches(BEYOND), "the guest goes on");
    monitor.0.kill().unwrap();
    let mut changes = String::new();
    monitor
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut changes)
        .unwrap();
    assert!(!changes.contains("Deleted"), "{changes}");
}
