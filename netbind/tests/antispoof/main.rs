//! What a hostile guest sends, and what of it the pod's network sees.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

#[path = "../common/mod.rs"]
mod common;
mod frames;
mod groups;
#[path = "../lan/mod.rs"]
mod lan;
mod neighbours;
mod sent;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Stdio;

use common::guest::{GUEST_LINK, Guest};
use common::{Namespace, Process, success, wait_until};
use lan::{
    Lan, NODE_V4, NODE_V6, OTHER_V4, OTHER_V6, PEER_V4, PEER_V6, POD_MAC, POD_V4, POD_V6, settle,
};

/// How a bridge binding treats what its guest sends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Guard {
    /// With anti-spoofing, on a pod that has addresses.
    Full,
    /// Without.
    Off,
    /// With anti-spoofing, on a pod that has none.
    Layer2,
}

impl Guard {
    /// A bound pod.
    fn lan(self) -> Lan {
        let (lan, options) = match self {
            Self::Full => (Lan::new(), &[][..]),
            Self::Off => (Lan::new(), &["--no-anti-spoofing"][..]),
            Self::Layer2 => (Lan::without_address(), &[][..]),
        };
        success(lan.pod.netbind(&["setup"]).args(options));
        lan
    }
}

/// The address from which we advertise ourselves, where we do.
fn router(lan: &Lan) -> Ipv6Addr {
    let state = netbind::State::read(&lan.pod.state()).unwrap().unwrap();
    let router = state.guest.ipv6.map(|ipv6| ipv6.router.address);
    router.unwrap_or(ipv6("fe80::1"))
}

/// Reads an address that a test wrote.
fn ipv4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn ipv6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// A guest in the pod's place, with a second address of each family.
fn configured(lan: &Lan) -> Guest {
    let guest = Guest::behind(&lan.pod, "tap0", POD_MAC);
    for address in [POD_V4, OTHER_V4] {
        guest
            .namespace
            .ip(&format!("address add {address}/24 dev {GUEST_LINK}"));
    }
    for address in [POD_V6, OTHER_V6] {
        guest
            .namespace
            .ip(&format!("address add {address}/64 dev {GUEST_LINK}"));
    }
    settle(&guest.namespace);
    let shown = guest.namespace.ip("address");
    assert!(!shown.contains("dadfailed"), "{shown}");
    guest
}

/// Fails unless a namespace reaches an address from one of its own, or does not, as expected.
#[track_caller]
fn assert_reaches(expected: bool, namespace: &Namespace, from: &str, to: &str) {
    // Patience with what must come, on a busy machine.
    let seconds = if expected { "-w10" } else { "-W1" };
    let mut ping = namespace.command("ping");
    let output = ping.args(["-c1", seconds, "-I", from, to]).output();
    let reached = output.unwrap().status.success();
    assert_eq!(reached, expected, "{from} to {to}");
}

#[test]
fn a_guest_reaches_by_its_own_addresses_and_by_no_others() {
    for guard in [Guard::Full, Guard::Off] {
        let lan = guard.lan();
        let guest = configured(&lan);
        let peer_link_local = lan.peer_link_local();
        let own = [
            (POD_V4, NODE_V4.to_owned()),
            (POD_V4, PEER_V4.to_owned()),
            (POD_V6, NODE_V6.to_owned()),
            (POD_V6, PEER_V6.to_owned()),
            (GUEST_LINK, format!("{peer_link_local}%{GUEST_LINK}")),
        ];
        for (from, to) in &own {
            assert_reaches(true, &guest.namespace, from, to);
        }
        assert!(lan.peer.reaches(POD_V4) && lan.peer.reaches(POD_V6));
        for (from, to) in [(OTHER_V4, PEER_V4), (OTHER_V6, PEER_V6)] {
            let open = guard == Guard::Off;
            assert_reaches(open, &guest.namespace, from, to);
            assert_reaches(open, &lan.peer, to, from);
        }
        if guard == Guard::Full {
            let link = format!("link set {GUEST_LINK} address 02:00:00:00:00:66");
            guest.namespace.ip(&link);
            for (from, to) in &own {
                assert_reaches(false, &guest.namespace, from, to);
            }
        }
    }
}

#[test]
fn a_dropping_forward_policy_in_the_pod_does_not_stop_the_guest() {
    let lan = Lan::new();
    for family in ["ip", "ip6"] {
        let policy = format!(
            "table {family} mine {{ chain forward {{ \
             type filter hook forward priority 0; policy drop; }}; }}"
        );
        success(lan.pod.namespace.command("nft").arg(policy));
    }
    success(&mut lan.pod.netbind(&["setup"]));
    let guest = configured(&lan);
    let ways = [
        (POD_V4, PEER_V4, "iptables"),
        (POD_V6, PEER_V6, "ip6tables"),
    ];
    for (from, to, tables) in ways {
        assert_reaches(true, &guest.namespace, from, to);
        // Shown to them again, frames are dropped.
        let setting = format!("bridge/bridge-nf-call-{tables}");
        lan.pod.namespace.sysctl(&setting, "1");
        assert_reaches(false, &guest.namespace, from, to);
    }
}

/// dnsmasq in a namespace, which serves DHCP and advertises itself, and its log.
fn dnsmasq(lan: &Lan, namespace: &Namespace, link: &str, subnet: &str) -> (Process, String) {
    let log = lan.pod.dir.path().join(format!("dnsmasq-{link}"));
    let mut command = namespace.command("dnsmasq");
    command
        .args([
            "--no-daemon",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
        ])
        .args([
            "--log-dhcp",
            "--leasefile-ro",
            "--no-ping",
            "--enable-ra",
            "--pid-file=",
        ])
        .arg(format!("--interface={link}"))
        .arg(format!(
            "--dhcp-range={subnet}.50,{subnet}.60,255.255.255.0"
        ))
        .arg("--dhcp-range=2001:db8:bad::,ra-only")
        .arg(format!("--log-facility={}", log.display()))
        .stdout(Stdio::null());
    let process = Process::start(&mut command);
    let log = log.to_str().unwrap().to_owned();
    wait_until("dnsmasq serves", || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("DHCP, IP range"))
    });
    (process, log)
}

/// Asks for a lease once; whether there was one.
fn gets_a_lease(peer: &Namespace) -> bool {
    let mut client = peer.command("udhcpc");
    client.args([
        "-i",
        "eth0",
        "-n",
        "-q",
        "-f",
        "-t",
        "2",
        "-T",
        "1",
        "-s",
        "/bin/true",
    ]);
    client.output().unwrap().status.success()
}

#[test]
fn a_rogue_server_in_the_guest_serves_nobody() {
    for guard in [Guard::Full, Guard::Off, Guard::Layer2] {
        let lan = guard.lan();
        let guest = Guest::behind(&lan.pod, "tap0", POD_MAC);
        for address in ["10.88.0.5/24", "2001:db8:bad::1/64"] {
            let add = format!("address add {address} dev {GUEST_LINK}");
            guest.namespace.ip(&add);
        }
        settle(&guest.namespace);
        let (_rogue, log) = dnsmasq(&lan, &guest.namespace, GUEST_LINK, "10.88.0");
        assert!(!gets_a_lease(&lan.peer), "guard {guard:?}");
        // It did what it could. It advertises itself first when it likes, within five seconds.
        let log = || std::fs::read_to_string(&log).unwrap();
        wait_until("the rogue advertises itself", || {
            log().contains("RTR-ADVERT")
        });
        let log = log();
        assert_eq!(log.contains("DHCPOFFER"), guard == Guard::Layer2, "{log}");
        // What it sent before has come where this comes.
        let peer = format!("{}%{GUEST_LINK}", lan.peer_link_local());
        assert!(guest.reaches(&peer), "guard {guard:?}");
        let addresses = lan.peer.ip("-6 address show dev eth0");
        assert!(!addresses.contains("2001:db8:bad:"), "{addresses}");
        assert!(!lan.peer.ip("-6 route").contains("proto ra"));
    }
}

#[test]
fn a_guest_on_a_pod_without_an_address_is_served_by_the_network() {
    let lan = Guard::Layer2.lan();
    lan.pod.node.ip("address add 10.88.0.1/24 dev br0");
    lan.pod
        .node
        .ip("address add 2001:db8:bad::1/64 dev br0 nodad");
    let (_server, _) = dnsmasq(&lan, &lan.pod.node, "br0", "10.88.0");
    let guest = Guest::behind(&lan.pod, "tap0", POD_MAC);
    let told = guest.udhcpc(lan.pod.dir.path());
    assert!(told.contains("serverid=10.88.0.1"), "{told}");
    assert!(guest.reaches("10.88.0.1"));
    wait_until("the guest has an address by advertisement", || {
        let shown = guest.namespace.ip("-6 address");
        shown.contains("2001:db8:bad:") && !shown.contains("tentative")
    });
    assert!(guest.reaches("2001:db8:bad::1"));
}

/// The rules of a bound pod, which the nft program can read and would make as they are.
fn ruleset(lan: &Lan) -> String {
    let nft = |namespace: &Namespace| success(namespace.command("nft").args(["list", "ruleset"]));
    let rules = nft(&lan.pod.namespace);
    let file = lan.pod.dir.path().join("rules");
    std::fs::write(&file, &rules).unwrap();
    let copy = Namespace::new("copy");
    success(copy.command("nft").arg("-f").arg(&file));
    assert_eq!(nft(&copy), rules);
    // Newer versions of nft name priority 0.
    rules.replace("priority filter", "priority 0")
}

#[test]
fn the_filter_is_the_one_that_its_documentation_shows() {
    let lan = Guard::Full.lan();
    let number = |address: Ipv6Addr| format!("0x{:032x}", address.to_bits());
    let router = router(&lan);
    let expected = include_str!("../data/filter.nft")
        .replace("OWN", &number(ipv6(POD_V6)))
        .replace("GATEWAY", &number(router))
        .replace("ROUTER", &router.to_string());
    assert_eq!(ruleset(&lan), expected);
    for guard in [Guard::Off, Guard::Layer2] {
        ruleset(&guard.lan());
    }
}

#[test]
fn a_set_up_run_again_can_turn_anti_spoofing_off_and_on() {
    let lan = Guard::Full.lan();
    let full = ruleset(&lan);
    success(lan.pod.netbind(&["setup"]).arg("--no-anti-spoofing"));
    assert_ne!(ruleset(&lan), full);
    success(&mut lan.pod.netbind(&["setup"]));
    assert_eq!(ruleset(&lan), full);
}
