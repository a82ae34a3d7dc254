//! A guest with Linux' default settings, and what it learns over IPv6.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv6Addr;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::guest::{GUEST_LINK, Guest, attach};
use common::serve::Serve;
use common::server::Running;
use common::{Pod, Process, success, wait_until};
use dhcproto::v6::{self, DhcpOption};
use dhcproto::{Decodable, Decoder, Encodable};
use netbind::serve::{Sockets, open};
use netbind::{GuestNetwork, Mac, State};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

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

fn default_routes(guest: &Guest) -> String {
    guest.namespace.ip("-6 route show default")
}

/// What tcpdump prints of router advertisements in the guest, line by line.
struct Advertisements {
    _tcpdump: Process,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
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
fn a_solicitation_is_answered_at_once_and_to_one() {
    let bound = Bound::by_link_local();
    let mut wire = Wire::of(&bound);
    let _server = Running::start(bound.sockets(), &bound.guest);
    // What comes unasked is to all; it comes once, so that nothing else can be what is awaited.
    let unasked = wire.receive(|frame| frame[54] == 134).unwrap();
    assert_eq!(unasked[..6], [0x33, 0x33, 0, 0, 0, 1]);
    let guest = bound.guest.mac;
    wire.send(&icmpv6(
        guest,
        guest.link_local(),
        "ff02::2",
        &[133, 0, 0, 0, 0, 0, 0, 0],
    ));
    let asked = wire.receive(|frame| frame[54] == 134).unwrap();
    assert_eq!(asked[..6], guest.0);
    assert_eq!(asked[6..12], bound.guest.server_mac.0);
    assert_eq!(asked[22..38], bound.router().octets());
    assert_eq!(asked[38..54], guest.link_local().octets());
    // Of another station: nothing. Then of none, a second too early, and all are told.
    let other = Mac([2, 0, 0, 0, 0x99, 0x99]);
    wire.send(&icmpv6(
        other,
        other.link_local(),
        "ff02::2",
        &[133, 0, 0, 0, 0, 0, 0, 0],
    ));
    wire.send(&icmpv6(
        guest,
        Ipv6Addr::UNSPECIFIED,
        "ff02::2",
        &[133, 0, 0, 0, 0, 0, 0, 0],
    ));
    let all = wire.receive(|frame| frame[54] == 134).unwrap();
    assert_eq!(all[..6], [0x33, 0x33, 0, 0, 0, 1]);
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

#[test]
fn a_dhcpv6_question_is_answered_to_where_it_came_from() {
    let bound = Bound::by_link_local();
    let mut wire = Wire::of(&bound);
    let _server = Running::start(bound.sockets(), &bound.guest);
    let mut solicit = v6::Message::new(v6::MessageType::Solicit);
    let guest = bound.guest.mac;
    let options = solicit.opts_mut();
    options.insert(DhcpOption::ClientId([&[0, 3, 0, 1], &guest.0[..]].concat()));
    options.insert(DhcpOption::ElapsedTime(0));
    options.insert(DhcpOption::IANA(v6::IANA {
        id: 1,
        t1: 0,
        t2: 0,
        opts: v6::DhcpOptions::new(),
    }));
    wire.send(&dhcpv6(guest, &solicit.to_vec().unwrap()));
    let reply = wire.receive(|frame| frame[20] == 17).unwrap();
    assert_eq!(reply[..6], guest.0);
    assert_eq!(reply[6..12], bound.guest.server_mac.0);
    assert_eq!(reply[22..38], bound.guest.server_mac.link_local().octets());
    assert_eq!(reply[38..54], guest.link_local().octets());
    assert_eq!(reply[54..58], [2, 35, 2, 34]);
    assert_eq!(sum(&reply[14..]), 0xffff);
    let message = v6::Message::decode(&mut Decoder::new(&reply[62..])).unwrap();
    assert_eq!(message.msg_type(), v6::MessageType::Advertise);
    assert_eq!(message.xid(), solicit.xid());
    let Some(DhcpOption::IANA(ia)) = message.opts().get(v6::OptionCode::IANA) else {
        panic!("no address: {message:?}");
    };
    let Some(DhcpOption::IAAddr(address)) = ia.opts.get(v6::OptionCode::IAAddr) else {
        panic!("no address: {ia:?}");
    };
    assert_eq!(address.addr.to_string(), ADDRESS);
}

#[test]
fn a_flood_costs_neither_memory_nor_the_processor_nor_the_answer() {
    let bound = Bound::by_global();
    let mut wire = Wire::of(&bound);
    let serve = Process::start(bound.pod.netbind(&["serve"]).stdout(Stdio::null()));
    let read =
        |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", serve.0.id())).unwrap();
    let resident = || {
        read("statm")
            .split(' ')
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let busy = || {
        let stat = read("stat");
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
        // User and system time, in hundredths of a second.
        let ticks = fields
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().unwrap());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    };
    let guest = bound.guest.mac;
    let source = guest.link_local();
    let rs = icmpv6(guest, source, "ff02::2", &[133, 0, 0, 0, 0, 0, 0, 0]);
    let about = |kind: u8, target: Ipv6Addr| {
        let payload = [
            &[kind, 0, 0, 0, 0, 0, 0, 0][..],
            &target.octets(),
            &[1, 1],
            &guest.0,
        ]
        .concat();
        icmpv6(guest, source, "ff02::1", &payload)
    };
    let mut long = [133, 0, 0, 0, 0, 0, 0, 0].to_vec();
    long.extend([14, 1, 0, 0, 0, 0, 0, 0].repeat(100));
    let flood = [
        rs.clone(),
        about(135, bound.router()),
        about(135, source),
        about(136, bound.router()),
        icmpv6(guest, source, "ff02::2", &long),
        dhcpv6(guest, &[1, 0, 0, 1, 0, 1, 0, 4, 0, 3, 0, 1]),
        rs[..60].to_vec(),
    ];
    let mut answered = || {
        wire.send(&rs);
        wire.receive(|frame| frame[54] == 134).is_some()
    };
    wait_until("the server answers", &mut answered);
    let (pages, cpu) = (resident(), busy());
    let (started, mut sent) = (Instant::now(), 0_u64);
    while started.elapsed() < Duration::from_secs(3) {
        for frame in &flood {
            wire.send(frame);
            sent += 1;
        }
    }
    let (wall, spent) = (started.elapsed(), busy() - cpu);
    let rate = sent as f64 / wall.as_secs_f64();
    assert!(rate > 20_000.0, "the flood is none: {rate} frames a second");
    assert!(
        spent < wall.mul_f64(0.4),
        "{spent:?} of {wall:?} were spent on {sent} frames"
    );
    wire.drain();
    let mut answered = || {
        wire.send(&rs);
        wire.receive(|frame| frame[54] == 134).is_some()
    };
    wait_until("the server answers after the flood", &mut answered);
    let grown = resident().saturating_sub(pages);
    assert!(grown <= 16, "resident memory grew by {grown} pages");
}

/// QEMU's end of the tap, frame by frame.
struct Wire(std::fs::File);

impl Wire {
    fn of(bound: &Bound) -> Self {
        let tap = bound.pod.namespace.within(|| attach("tap0"));
        // Until then the kernel drops what is sent to the guest.
        wait_until("the tap has its carrier", || {
            bound
                .pod
                .namespace
                .ip("link show tap0")
                .contains("state UP")
        });
        Self(tap)
    }

    fn send(&self, frame: &[u8]) {
        (&self.0).write_all(frame).unwrap();
    }

    /// The next frame of IPv6 without extensions to the guest that is awaited; none within a while.
    fn receive(&mut self, awaited: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let frame = self.next(left)?;
            if frame.len() > 60 && frame[12..14] == [0x86, 0xdd] && awaited(&frame) {
                return Some(frame);
            }
        }
    }

    /// Throws away what waits.
    fn drain(&mut self) {
        while self.next(Duration::ZERO).is_some() {}
    }

    fn next(&mut self, within: Duration) -> Option<Vec<u8>> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::try_from(within).unwrap()).unwrap() == 0 {
            return None;
        }
        let mut frame = vec![0; 2048];
        let length = self.0.read(&mut frame).unwrap();
        frame.truncate(length);
        Some(frame)
    }
}

/// An IPv6 frame of the guest to a group, with the sum of its payload at an offset.
fn frame(
    from: Mac,
    source: Ipv6Addr,
    to: &str,
    protocol: u8,
    payload: &[u8],
    sum_at: usize,
) -> Vec<u8> {
    let to: Ipv6Addr = to.parse().unwrap();
    let group = to.octets();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([protocol, 255]);
    packet.extend(source.octets());
    packet.extend(group);
    packet.extend(payload);
    let sum = !(sum(&packet) as u16);
    packet[40 + sum_at..42 + sum_at].copy_from_slice(&sum.to_be_bytes());
    [
        &[0x33, 0x33][..],
        &group[12..],
        &from.0,
        &[0x86, 0xdd],
        &packet,
    ]
    .concat()
}

fn icmpv6(from: Mac, source: Ipv6Addr, to: &str, payload: &[u8]) -> Vec<u8> {
    frame(from, source, to, 58, payload, 2)
}

/// A DHCPv6 message of a client to all servers.
fn dhcpv6(from: Mac, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16 + 8).to_be_bytes();
    let udp = [&[2, 34, 2, 35][..], &length, &[0, 0], payload].concat();
    frame(from, from.link_local(), "ff02::1:2", 17, &udp, 6)
}

/// RFC 1071's sum of an IPv6 packet's payload and pseudo header: all ones if it holds the right sum.
fn sum(packet: &[u8]) -> u32 {
    let length = packet.len() as u32 - 40;
    let mut sum = length + u32::from(packet[6]);
    for (i, byte) in packet[8..].iter().enumerate() {
        sum += u32::from(*byte) << if i % 2 == 0 { 8 } else { 0 };
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
