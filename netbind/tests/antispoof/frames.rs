//! Frame by frame.

use std::net::Ipv6Addr;

use crate::common::{success, wait_until};
use crate::lan::frame::{self, mac};
use crate::lan::wire::Wire;
use crate::lan::{Lan, PEER_V4, POD_MAC, POD_V4, POD_V6};
use crate::sent::{ALL, ECHO, LAYER_2, NA, NEVER, RA, RS, frames};
use crate::{Guard, ipv4, ipv6};

/// Sends every frame of the guest's, each with one after it that passes, and compares what arrives.
fn sends(guard: Guard) {
    let lan = guard.lan();
    let mut guest = Wire::behind(&lan.pod.namespace, "tap0");
    let mut peer = probe(&lan);
    let own = mac(POD_MAC);
    let mut wrong = Vec::new();
    for (number, (what, frame, passes)) in frames(&lan).into_iter().enumerate() {
        let number = u16::try_from(number).unwrap().to_be_bytes();
        let after = frame::udp4(own, ipv4(POD_V4), (4001, 4001), &number);
        guest.send(&frame);
        guest.send(&after);
        let arrived = peer.until(&after).contains(&frame);
        if arrived != passes.contains(&guard) {
            wrong.push((what, arrived));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}, guard {guard:?}");
}

/// A further station on the network.
pub(crate) fn probe(lan: &Lan) -> Wire {
    let node = &lan.pod.node;
    // A node that bridges without iptables drops nothing.
    for family in ["iptables", "ip6tables"] {
        node.sysctl(&format!("bridge/bridge-nf-call-{family}"), "0");
    }
    node.ip("tuntap add probe0 mode tap");
    node.ip("link set probe0 master br0 up");
    Wire::behind(node, "probe0")
}

#[test]
fn with_anti_spoofing_only_the_guests_own_frames_pass() {
    sends(Guard::Full);
}

#[test]
fn without_anti_spoofing_no_server_and_no_router_passes() {
    sends(Guard::Off);
}

#[test]
fn without_an_address_mac_and_ether_type_are_checked() {
    sends(Guard::Layer2);
}

/// It would send the guest what other pods have joined.
#[test]
fn a_bridge_that_snoops_takes_the_guest_for_no_multicast_router() {
    for guard in [Guard::Full, Guard::Off, Guard::Layer2] {
        let lan = guard.lan();
        let (pod, node) = (&lan.pod.namespace, &lan.pod.node);
        node.ip("link set br0 type bridge mcast_snooping 1");
        let mut routers = node.command("bridge");
        routers.args(["-d", "mdb", "show", "dev", "br0"]);
        let mut is_router = || {
            let shown = success(&mut routers);
            let mut lines = shown.lines();
            lines.any(|line| line.starts_with("router ports") && line.contains("pod0"))
        };
        let mut guest = Wire::behind(pod, "tap0");
        let mut peer = probe(&lan);
        let own = mac(POD_MAC);
        let frames = frames(&lan);
        let after = frame::udp4(own, ipv4(POD_V4), (4001, 4001), b"after");
        for (_, frame, _) in &frames {
            guest.send(frame);
        }
        guest.send(&after);
        peer.until(&after);
        assert!(!is_router(), "guard {guard:?}");
        // Who passes is one.
        success(
            pod.command("nft")
                .args(["delete", "table", "bridge", "k6t-eth0"]),
        );
        for (_, hello, _) in frames.iter().filter(|(what, ..)| *what == "PIM hello") {
            guest.send(hello);
        }
        wait_until("the guest's port is a router's", &mut is_router);
    }
}

#[test]
fn a_guest_has_eight_link_local_addresses_and_no_more() {
    let lan = Guard::Full.lan();
    let mut guest = Wire::behind(&lan.pod.namespace, "tap0");
    let mut peer = probe(&lan);
    let own = mac(POD_MAC);
    let from = |number: u16| {
        let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number);
        frame::udp6(own, address, (4000, 4000), b"l")
    };
    for number in (1..=1000).chain(1..=8) {
        guest.send(&from(number));
    }
    // Nor does it claim more, from an address that it has.
    let claim = |number: u16| {
        let target = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number);
        frame::neighbour(own, ipv6(POD_V6), NA, target)
    };
    for number in 1..=1000 {
        guest.send(&claim(number));
    }
    let after = frame::udp4(own, ipv4(POD_V4), (4001, 4001), b"after");
    guest.send(&after);
    let arrived = peer.until(&after);
    let passed = (1..=1000).filter(|number| arrived.contains(&from(*number)));
    assert_eq!(passed.collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    let claimed = (1..=1000).filter(|number| arrived.contains(&claim(*number)));
    assert_eq!(claimed.collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    let again = arrived.iter().filter(|frame| **frame == from(8)).count();
    assert_eq!(again, 2, "one in use stays so");
}

/// What the network sends, and whether it reaches the guest.
#[test]
fn dhcp_and_router_discovery_reach_the_guest_only_if_we_serve_none() {
    for guard in [Guard::Full, Guard::Off, Guard::Layer2] {
        let lan = guard.lan();
        let mut guest = Wire::behind(&lan.pod.namespace, "tap0");
        let mut peer = probe(&lan);
        let sender = mac("02:00:00:00:00:77");
        let (ipv4, ipv6) = (ipv4(PEER_V4), ipv6("fe80::77"));
        let advertisement = frame::icmpv6(sender, ipv6, RA, &[0; 12]);
        let frames = [
            ("data", frame::udp4(sender, ipv4, (4000, 4000), b"d"), ALL),
            (
                "tag",
                frame::tagged(&frame::udp4(sender, ipv4, (1, 1), b"t"), 7),
                ALL,
            ),
            ("NA", frame::neighbour(sender, ipv6, NA, ipv6), ALL),
            ("echo", frame::icmpv6(sender, ipv6, ECHO, &[0; 8]), ALL),
            (
                "second fragment of options",
                frame::second_fragment_of_options(sender, ipv6),
                ALL,
            ),
            (
                "DHCP offer",
                frame::udp4(sender, ipv4, (67, 68), b"o"),
                LAYER_2,
            ),
            (
                "DHCP offer without a length",
                frame::of_length(0, frame::udp4(sender, ipv4, (67, 68), b"o")),
                LAYER_2,
            ),
            (
                "DHCPv6 reply, too long",
                frame::of_length(999, frame::udp6(sender, ipv6, (547, 546), b"r")),
                LAYER_2,
            ),
            (
                "DHCP discover",
                frame::udp4(sender, ipv4, (68, 67), b"d"),
                LAYER_2,
            ),
            (
                "DHCPv6 reply",
                frame::udp6(sender, ipv6, (547, 546), b"r"),
                LAYER_2,
            ),
            (
                "DHCPv6 solicit",
                frame::udp6(sender, ipv6, (546, 547), b"s"),
                LAYER_2,
            ),
            ("RA", advertisement.clone(), LAYER_2),
            ("RA, tag 0", frame::tagged(&advertisement, 0), LAYER_2),
            (
                "RA, two tags",
                frame::tagged(&frame::tagged(&advertisement, 0), 0),
                LAYER_2,
            ),
            ("RS", frame::icmpv6(sender, ipv6, RS, &[0; 4]), LAYER_2),
            (
                "reflected",
                frame::udp4(mac(POD_MAC), ipv4, (4000, 4000), b"r"),
                NEVER,
            ),
        ];
        for (number, (what, frame, passes)) in frames.into_iter().enumerate() {
            let number = u16::try_from(number).unwrap().to_be_bytes();
            let after = frame::udp4(sender, ipv4, (4001, 4001), &number);
            peer.send(&frame);
            peer.send(&after);
            let arrived = guest.until(&after).contains(&frame);
            assert_eq!(arrived, passes.contains(&guard), "{what}, guard {guard:?}");
        }
    }
}
