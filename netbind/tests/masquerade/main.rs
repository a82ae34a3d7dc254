//! Masquerade binding: who reaches whom, by which address, and who does not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

mod closed;
#[path = "../common/mod.rs"]
mod common;
mod groups;
#[path = "../lan/mod.rs"]
mod lan;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use common::guest::{GUEST_LINK, Guest};
use common::{Namespace, assert_becomes, settled, success, text};
use lan::{Lan, NODE_V4, NODE_V6, PEER_V4, PEER_V6, POD_MAC, POD_V4, POD_V6, settle};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const GUEST_V4: &str = "10.0.2.2";
const GUEST_V6: &str = "fd10:0:2::2";
const ROUTER_V4: &str = "10.0.2.1";
const ROUTER_V6: &str = "fd10:0:2::1";

/// How long to wait for what comes, and for what must not.
const PATIENCE: Duration = Duration::from_secs(30);
const DOUBT: Duration = Duration::from_millis(700);

/// A pod bound with these options.
fn bound(options: &[&str]) -> Lan {
    let lan = Lan::new();
    bind(&lan, options);
    lan
}

fn bind(lan: &Lan, options: &[&str]) {
    let mut setup = lan.pod.netbind(&["setup", "--binding", "masquerade"]);
    success(setup.args(options));
}

/// A guest behind the tap, with the addresses that it would be served.
fn guest(lan: &Lan) -> Guest {
    let guest = Guest::behind(&lan.pod, "tap0", POD_MAC);
    let router = router(lan);
    for line in [
        format!("address add {GUEST_V4}/24 dev {GUEST_LINK}"),
        format!("address add {GUEST_V6}/120 dev {GUEST_LINK}"),
        format!("route add default via {ROUTER_V4}"),
        format!("route add default via {router} dev {GUEST_LINK}"),
    ] {
        guest.namespace.ip(&line);
    }
    settle(&guest.namespace);
    let shown = guest.namespace.ip("address");
    assert!(!shown.contains("dadfailed"), "{shown}");
    guest
}

/// The bridge's link-local address.
fn router(lan: &Lan) -> String {
    let state = netbind::State::read(&lan.pod.state()).unwrap().unwrap();
    state.guest.server_mac.link_local().to_string()
}

/// A TCP service.
struct Service(TcpListener);

impl Service {
    fn at(namespace: &Namespace, address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        Self(namespace.within(|| TcpListener::bind(address).unwrap()))
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Calls the service by an address; whom the service sees call, or none if another or nobody
    /// answers.
    fn sees(&self, caller: &Namespace, address: &str, patience: Duration) -> Option<IpAddr> {
        self.sees_at(caller, address, self.port(), patience)
    }

    /// The same, where the caller knows the service by another port.
    fn sees_at(
        &self,
        caller: &Namespace,
        address: &str,
        port: u16,
        patience: Duration,
    ) -> Option<IpAddr> {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        let mut call = caller
            .within(|| TcpStream::connect_timeout(&to, patience))
            .ok()?;
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::try_from(patience).unwrap()).unwrap() == 0 {
            return None;
        }
        let (mut answer, from) = self.0.accept().unwrap();
        answer.write_all(b"heard").unwrap();
        drop(answer);
        call.set_read_timeout(Some(patience)).unwrap();
        let mut heard = String::new();
        call.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "heard");
        Some(from.ip().to_canonical())
    }

    /// Whom the service sees, which must be somebody.
    #[track_caller]
    fn seen(&self, caller: &Namespace, address: &str) -> String {
        let seen = self.sees(caller, address, PATIENCE);
        seen.unwrap_or_else(|| panic!("the service is reached at {address}"))
            .to_string()
    }

    /// Whether the service is reached.
    fn is_reached(&self, caller: &Namespace, address: &str) -> bool {
        self.sees(caller, address, DOUBT).is_some()
    }
}

/// Switches whether bridged frames go through iptables, as they do in a container.
fn bridge_netfilter(lan: &Lan, on: &str) {
    for family in ["iptables", "ip6tables"] {
        let setting = format!("bridge/bridge-nf-call-{family}");
        lan.pod.namespace.sysctl(&setting, on);
    }
}

#[test]
fn everybody_reaches_the_guest_by_the_pods_addresses() {
    let lan = bound(&[]);
    let guest = guest(&lan);
    let service = Service::at(&guest.namespace, "[::]:8080");
    for on in ["1", "0"] {
        bridge_netfilter(&lan, on);
        for to in [
            NODE_V4, NODE_V6, PEER_V4, PEER_V6, ROUTER_V4, ROUTER_V6, POD_V4, POD_V6,
        ] {
            assert!(
                guest.reaches(to),
                "the guest to {to}, bridge netfilter {on}"
            );
        }
        let (pod, peer, inside) = (&lan.pod.namespace, &lan.peer, &guest.namespace);
        // The guest sees who calls.
        assert_eq!(service.seen(peer, POD_V4), PEER_V4);
        assert_eq!(service.seen(peer, POD_V6), PEER_V6);
        assert_eq!(service.seen(&lan.pod.node, POD_V4), NODE_V4);
        // The pod calls itself.
        assert_eq!(service.seen(pod, POD_V4), POD_V4);
        assert_eq!(service.seen(pod, POD_V6), POD_V6);
        assert_eq!(service.seen(pod, "127.0.0.1"), ROUTER_V4);
        assert!(!service.is_reached(pod, "::1"), "IPv6 has no such route");
        // The guest calls the pod, so itself.
        assert_eq!(service.seen(inside, POD_V4), ROUTER_V4);
        assert_eq!(service.seen(inside, POD_V6), ROUTER_V6);
        for (from, to) in [(peer, POD_V4), (peer, POD_V6), (pod, "127.0.0.1")] {
            assert!(from.reaches(to), "ICMP to {to}, bridge netfilter {on}");
        }
    }
    let peers = Service::at(&lan.peer, "[::]:8081");
    assert_eq!(peers.seen(&guest.namespace, PEER_V4), POD_V4);
    assert_eq!(peers.seen(&guest.namespace, PEER_V6), POD_V6);
}

#[test]
fn icmp_comes_to_the_guest_and_not_to_the_pod() {
    let lan = bound(&[]);
    let guest = guest(&lan);
    assert!(lan.peer.reaches(POD_V4) && lan.peer.reaches(POD_V6));
    drop(guest);
    for to in [POD_V4, POD_V6] {
        let mut ping = lan.peer.command("ping");
        let output = ping.args(["-c1", "-W1", to]).output().unwrap();
        assert!(!output.status.success(), "nobody else answers at {to}");
    }
}

#[test]
fn of_named_ports_only_these_are_the_guests() {
    let ports = ["8080", "tcp:8082", "udp:5353"];
    let options = ports.map(|port| ["--port", port]).concat();
    let lan = bound(&options);
    let guest = guest(&lan);
    let (pod, peer, inside) = (&lan.pod.namespace, &lan.peer, &guest.namespace);
    for port in [8080, 8082] {
        let service = Service::at(inside, &format!("[::]:{port}"));
        for to in [POD_V4, POD_V6] {
            for from in [peer, pod, inside] {
                service.seen(from, to);
            }
        }
        service.seen(pod, "127.0.0.1");
    }
    // Others are the pod's.
    let hidden = Service::at(inside, "[::]:8081");
    for to in [POD_V4, POD_V6] {
        assert!(!hidden.is_reached(peer, to), "{to}");
    }
    let pods = Service::at(pod, "[::]:8081");
    for (to, from) in [(POD_V4, PEER_V4), (POD_V6, PEER_V6)] {
        assert_eq!(pods.seen(peer, to), from);
    }
    assert_eq!(pods.seen(pod, "127.0.0.1"), "127.0.0.1");
    for (port, whose) in [(5353, inside), (5354, pod)] {
        let bind =
            |namespace: &Namespace| namespace.within(|| UdpSocket::bind(("::", port)).unwrap());
        let socket = bind(whose);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        for to in [POD_V4, POD_V6] {
            let to = SocketAddr::new(to.parse().unwrap(), port);
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let caller = peer.within(|| UdpSocket::bind(any).unwrap());
            caller.send_to(b"question", to).unwrap();
            let mut heard = [0; 16];
            let (length, from) = socket.recv_from(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"question", "{to}");
            socket.send_to(b"answer", from).unwrap();
            caller.set_read_timeout(Some(PATIENCE)).unwrap();
            let (length, from) = caller.recv_from(&mut heard).unwrap();
            assert_eq!((&heard[..length], from), (&b"answer"[..], to));
        }
    }
    assert!(peer.reaches(POD_V4) && peer.reaches(POD_V6));
}

#[test]
fn other_networks_for_the_guest_and_its_own_mac() {
    let lan = bound(&[
        "--vm-network-cidr",
        "192.168.100.0/30",
        "--vm-ipv6-network-cidr",
        "fd99::/126",
        "--guest-mac",
        "02:00:00:00:00:77",
    ]);
    let guest = Guest::behind(&lan.pod, "tap0", "02:00:00:00:00:77");
    for line in [
        "address add 192.168.100.2/30 dev ens3",
        "address add fd99::2/126 dev ens3 nodad",
        "route add default via 192.168.100.1",
        "route add default via fd99::1",
    ] {
        guest.namespace.ip(line);
    }
    let service = Service::at(&guest.namespace, "[::]:8080");
    for (to, from) in [(POD_V4, PEER_V4), (POD_V6, PEER_V6)] {
        assert_eq!(service.seen(&lan.peer, to), from);
        assert!(guest.reaches(from), "{from}");
    }
}

#[test]
fn a_pod_that_was_a_router_stays_one() {
    let lan = Lan::new();
    let station = closed::behind_net1(&lan);
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        lan.pod.namespace.sysctl(setting, "1");
    }
    bind(&lan, &[]);
    let stations = Service::at(&station, "[::]:8081");
    for to in ["172.30.0.2", "fd30::2"] {
        stations.seen(&lan.pod.node, to);
    }
}

#[test]
fn where_other_rules_translate_as_well_theirs_decide() {
    const SECOND_V4: &str = "10.88.0.6";
    let lan = Lan::new();
    let (pod, peer) = (&lan.pod.namespace, &lan.peer);
    pod.ip(&format!("address add {SECOND_V4}/24 dev eth0"));
    // As a service mesh does, for what comes to the pod and what the pod calls; and who leaves.
    let translate = |port: u16| {
        let redirect = format!("tcp dport {port} redirect to :10");
        let leave = format!("tcp dport {} snat ip to {SECOND_V4}", port + 1000);
        let chains = [
            ("prerouting", -100, &redirect),
            ("output", -100, &redirect),
            ("postrouting", 100, &leave),
        ];
        let chains = chains.map(|(hook, priority, rule)| {
            format!("chain {hook} {{ type nat hook {hook} priority {priority}; {rule}; }}; ")
        });
        let table = format!("table inet mine{port} {{ {} }}", chains.concat());
        success(pod.command("nft").arg(table));
    };
    translate(9);
    bind(&lan, &[]);
    translate(11);
    let guest = guest(&lan);
    let inside = &guest.namespace;
    let mesh = Service::at(pod, "[::]:10");
    let guests = Service::at(inside, "[::]:8080");
    for (to, from) in [(POD_V4, PEER_V4), (POD_V6, PEER_V6)] {
        for (port, made) in [(9, "before"), (11, "after")] {
            for caller in [peer, pod] {
                let seen = mesh.sees_at(caller, to, port, PATIENCE);
                let caller = caller.name();
                assert!(seen.is_some(), "{caller} to {to}, made {made} ours");
            }
        }
        assert_eq!(guests.seen(peer, to), from);
    }
    for port in [1009, 1011] {
        let peers = Service::at(peer, &format!("[::]:{port}"));
        assert_eq!(peers.seen(inside, PEER_V4), SECOND_V4, "{port}");
    }
}

#[test]
fn teardown_leaves_rules_settings_and_addresses_as_they_were() {
    let lan = Lan::new();
    let pod = &lan.pod.namespace;
    let rules = "table inet mine { chain forward { type filter hook forward priority 0; }; \
                 chain nat { type nat hook prerouting priority -100; tcp dport 9 redirect to :10; }; }";
    success(pod.command("nft").arg(rules));
    let before = settled(|| pod.dump());
    let mine = || success(pod.command("nft").args(["list", "table", "inet", "mine"]));
    let rules = mine();
    bind(&lan, &[]);
    let bound = settled(|| pod.dump());
    assert_eq!(mine(), rules);
    bind(&lan, &[]);
    assert_becomes(|| pod.dump(), &bound, "a second set-up");
    success(&mut lan.pod.netbind(&["teardown"]));
    assert_becomes(|| pod.dump(), &before, "teardown");
    assert!(lan.peer.reaches(POD_V4) && lan.peer.reaches(POD_V6));
    success(&mut lan.pod.netbind(&["teardown"]));
}

#[test]
fn routes_from_advertisements_stay() {
    let lan = Lan::without_address();
    let (node, pod) = (&lan.pod.node, &lan.pod.namespace);
    node.ip("address add 2001:db8:5::1/64 dev br0 nodad");
    let mut router = node.command("dnsmasq");
    router
        .args([
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
        ])
        .args([
            "--leasefile-ro",
            "--enable-ra",
            "--pid-file=",
            "--interface=br0",
        ])
        .arg("--dhcp-range=2001:db8:5::,ra-only")
        .stdout(std::process::Stdio::null());
    let _router = common::Process::start(&mut router);
    let route = || pod.ip("-6 route show default").contains("proto ra");
    common::wait_until("the pod is told of a router", route);
    settle(pod);
    bind(&lan, &[]);
    assert!(route(), "as soon as it forwards");
    let guest = guest_of(&lan);
    assert!(guest.reaches("2001:db8:5::1"));
    success(&mut lan.pod.netbind(&["teardown"]));
    assert!(route(), "after teardown");
}

/// A guest with IPv6 alone.
fn guest_of(lan: &Lan) -> Guest {
    let guest = Guest::behind(&lan.pod, "tap0", POD_MAC);
    let router = router(lan);
    guest
        .namespace
        .ip(&format!("address add {GUEST_V6}/120 dev {GUEST_LINK}"));
    guest
        .namespace
        .ip(&format!("route add default via {router} dev {GUEST_LINK}"));
    settle(&guest.namespace);
    guest
}

/// Runs netbind where /proc/sys is read-only, with the rights of a container.
fn contained(lan: &Lan, arguments: &[&str]) -> String {
    let command = lan.pod.netbind(arguments);
    let script = "mount --bind -o ro /proc/sys /proc/sys && exec nsenter --net=\"$0\" \
                  setpriv --bounding-set=-all,+net_admin,+net_raw \"$@\"";
    let mut contained = Command::new("unshare");
    contained
        .args(["--mount", "sh", "-c", script])
        .arg(lan.pod.namespace.path())
        // Without --netns PATH: entering a namespace needs a right that no pod has.
        .arg(command.get_program())
        .args(command.get_args().skip(2));
    let output = contained.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

#[test]
fn in_a_container_ipv4_works_and_ipv6_if_the_namespace_forwards() {
    for forwards in ["0", "1"] {
        let lan = Lan::new();
        let pod = &lan.pod.namespace;
        pod.sysctl("ipv6/conf/all/forwarding", forwards);
        let before = settled(|| pod.dump());
        let told = contained(&lan, &["setup", "--binding", "masquerade"]);
        let left_out = told.contains("IPv6 left out: /proc/sys is read-only");
        assert_eq!(left_out, forwards == "0", "{told}");
        let guest = guest(&lan);
        let service = Service::at(&guest.namespace, "[::]:8080");
        assert_eq!(service.seen(&lan.peer, POD_V4), PEER_V4);
        assert_eq!(service.seen(&guest.namespace, POD_V4), ROUTER_V4);
        assert_eq!(service.seen(pod, "127.0.0.1"), ROUTER_V4);
        assert!(guest.reaches(PEER_V4));
        assert_eq!(guest.reaches(PEER_V6), !left_out);
        if left_out {
            assert!(!service.is_reached(&lan.peer, POD_V6));
        } else {
            assert_eq!(service.seen(&lan.peer, POD_V6), PEER_V6);
        }
        drop((service, guest));
        contained(&lan, &["teardown"]);
        assert_becomes(|| pod.dump(), &before, "teardown");
    }
}

#[test]
fn the_tables_are_those_that_their_documentation_shows() {
    for (options, expected) in [
        (&[][..], include_str!("../data/masquerade.nft")),
        (
            &["--port", "80", "--port", "443", "--port", "udp:53"],
            include_str!("../data/masquerade-ports.nft"),
        ),
    ] {
        let lan = bound(options);
        let nft = |namespace: &Namespace, arguments: &str| {
            success(namespace.command("nft").args(arguments.split(' ')))
        };
        let rules = nft(&lan.pod.namespace, "list ruleset");
        let file = lan.pod.dir.path().join("rules");
        std::fs::write(&file, &rules).unwrap();
        let copy = Namespace::new("copy");
        success(copy.command("nft").arg("-f").arg(&file));
        assert_eq!(nft(&copy, "list ruleset"), rules);
        let inet = nft(&lan.pod.namespace, "list table inet k6t-eth0");
        assert_eq!(inet, expected);
    }
}

#[test]
fn the_pods_other_links_keep_their_settings() {
    let lan = Lan::new();
    let pod = &lan.pod.namespace;
    pod.ip("link add net1 type veth peer name net2");
    // One lives by advertisements, one is a router's already.
    pod.sysctl("ipv6/conf/net1/accept_ra", "1");
    pod.sysctl("ipv6/conf/net2/forwarding", "1");
    let before = settled(|| pod.dump());
    bind(&lan, &[]);
    let accept_ra = "/proc/sys/net/ipv6/conf/net1/accept_ra";
    let accept_ra = pod.within(|| std::fs::read_to_string(accept_ra).unwrap());
    assert_eq!(accept_ra.trim(), "2", "or its routes are gone");
    success(&mut lan.pod.netbind(&["teardown"]));
    assert_becomes(|| pod.dump(), &before, "after teardown");
}
