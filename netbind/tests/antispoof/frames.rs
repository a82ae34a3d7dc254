//! Frame by frame.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::lan::frame::{self, Mac, mac};
use crate::lan::wire::Wire;
use crate::lan::{Lan, NODE_V4, OTHER_V4, OTHER_V6, PEER_V4, POD_MAC, POD_V4, POD_V6};
use crate::{Guard, ipv4, ipv6, router};

const OFF: &[Guard] = &[Guard::Off];
const LAYER_2: &[Guard] = &[Guard::Layer2];
const ALL: &[Guard] = &[Guard::Full, Guard::Off, Guard::Layer2];
/// Where addresses are not checked.
const UNCHECKED: &[Guard] = &[Guard::Off, Guard::Layer2];
const NEVER: &[Guard] = &[];

/// The router advertisements' type, and so on.
const RS: u8 = 133;
const RA: u8 = 134;
const NS: u8 = 135;
const NA: u8 = 136;
const REDIRECT: u8 = 137;
const MLD2_REPORT: u8 = 143;
const ECHO: u8 = 128;
const MLD_QUERY: u8 = 130;
/// Those of IGMP.
const IGMP_QUERY: u8 = 0x11;
const IGMP_REPORT: u8 = 0x16;
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// What a guest may send, and under which guards it reaches the network.
fn frames(lan: &Lan) -> Vec<(&'static str, Vec<u8>, &'static [Guard])> {
    let own = mac(POD_MAC);
    let other: Mac = mac("02:00:00:00:00:66");
    let [own4, other4, gateway4] = [POD_V4, OTHER_V4, NODE_V4].map(ipv4);
    let [own6, other6] = [POD_V6, OTHER_V6].map(ipv6);
    let link_local = ipv6("fe80::1234");
    let router = router(lan);
    let nobody = Ipv6Addr::UNSPECIFIED;
    let data = (4000, 4000);
    let arp = |operation, sender, target| frame::arp(own, operation, sender, (own, target));
    let offer = frame::udp4(own, own4, (67, 68), b"offer");
    let advertisement = frame::icmpv6(own, link_local, RA, &[0; 12]);
    let datagram = frame::udp4(own, own4, data, b"tagged");
    let igmp = |kind| {
        let packet = frame::ipv4(own4, ALL_HOSTS, 2, &[kind, 0, 0, 0, 0, 0, 0, 0]);
        frame::ethernet(frame::BROADCAST, own, 0x0800, &packet)
    };
    vec![
        ("own IPv4", frame::udp4(own, own4, data, b"4"), ALL),
        ("own IPv6", frame::udp6(own, own6, data, b"6"), ALL),
        ("link-local", frame::udp6(own, link_local, data, b"l"), ALL),
        (
            "another IPv4",
            frame::udp4(own, other4, data, b"4"),
            UNCHECKED,
        ),
        (
            "another IPv6",
            frame::udp6(own, other6, data, b"6"),
            UNCHECKED,
        ),
        ("another MAC", frame::udp4(other, own4, data, b"m"), OFF),
        (
            "another MAC, IPv6",
            frame::udp6(other, own6, data, b"m"),
            OFF,
        ),
        ("ARP", arp(1, (own, own4), gateway4), ALL),
        ("ARP announcement", arp(2, (own, own4), own4), ALL),
        ("ARP probe", arp(1, (own, ipv4("0.0.0.0")), own4), ALL),
        (
            "ARP probe for another",
            arp(1, (own, ipv4("0.0.0.0")), other4),
            UNCHECKED,
        ),
        ("ARP for another", arp(2, (own, other4), other4), UNCHECKED),
        (
            "ARP for the gateway",
            arp(2, (own, gateway4), own4),
            UNCHECKED,
        ),
        (
            "ARP with another MAC",
            arp(2, (other, own4), own4),
            UNCHECKED,
        ),
        ("NA", frame::neighbour(own, own6, NA, own6), ALL),
        (
            "NA, link-local",
            frame::neighbour(own, link_local, NA, link_local),
            ALL,
        ),
        (
            "NA for another",
            frame::neighbour(own, own6, NA, other6),
            UNCHECKED,
        ),
        (
            "NA for the router",
            frame::neighbour(own, own6, NA, router),
            UNCHECKED,
        ),
        (
            "NA as the router",
            frame::neighbour(own, router, NA, own6),
            UNCHECKED,
        ),
        ("NS", frame::neighbour(own, own6, NS, other6), ALL),
        (
            "NS of another",
            frame::neighbour(own, other6, NS, own6),
            UNCHECKED,
        ),
        ("DAD", frame::neighbour(own, nobody, NS, own6), ALL),
        (
            "DAD, link-local",
            frame::neighbour(own, nobody, NS, link_local),
            ALL,
        ),
        (
            "DAD for another",
            frame::neighbour(own, nobody, NS, other6),
            UNCHECKED,
        ),
        (
            "DAD for the router",
            frame::neighbour(own, nobody, NS, router),
            UNCHECKED,
        ),
        (
            "MLD from nobody",
            frame::icmpv6(own, nobody, MLD2_REPORT, &[0; 4]),
            ALL,
        ),
        (
            "data from nobody",
            frame::udp6(own, nobody, data, b"n"),
            UNCHECKED,
        ),
        ("echo", frame::icmpv6(own, own6, ECHO, &[0; 8]), ALL),
        (
            "first fragment",
            frame::first_fragment(own, own6, ECHO),
            ALL,
        ),
        ("second fragment", frame::second_fragment(own, own6), ALL),
        // Servers and routers.
        ("DHCP offer", offer.clone(), NEVER),
        (
            "DHCP offer, odd port",
            frame::udp4(own, own4, (4000, 68), b"o"),
            NEVER,
        ),
        (
            "DHCP relayed",
            frame::udp4(own, own4, (67, 67), b"r"),
            NEVER,
        ),
        (
            "DHCPv6 reply",
            frame::udp6(own, link_local, (547, 546), b"r"),
            NEVER,
        ),
        (
            "DHCPv6, odd port",
            frame::udp6(own, own6, (4000, 546), b"r"),
            NEVER,
        ),
        ("RA", advertisement.clone(), NEVER),
        (
            "RA, own IPv6",
            frame::icmpv6(own, own6, RA, &[0; 12]),
            NEVER,
        ),
        (
            "RA behind options",
            frame::icmpv6_behind_options(own, own6, RA),
            NEVER,
        ),
        (
            "RA, fragmented",
            frame::first_fragment(own, own6, RA),
            NEVER,
        ),
        (
            "who knows, fragmented",
            frame::first_fragment_without_message(own, own6),
            NEVER,
        ),
        (
            "redirect",
            frame::icmpv6(own, link_local, REDIRECT, &[0; 36]),
            NEVER,
        ),
        (
            "MLD query",
            frame::icmpv6(own, link_local, MLD_QUERY, &[0; 20]),
            NEVER,
        ),
        ("IGMP query", igmp(IGMP_QUERY), NEVER),
        ("IGMP report", igmp(IGMP_REPORT), ALL),
        ("DHCP offer, tag 0", frame::tagged(&offer, 0), NEVER),
        ("RA, tag 0", frame::tagged(&advertisement, 0), NEVER),
        (
            "RA, two tags",
            frame::tagged(&frame::tagged(&advertisement, 0), 0),
            NEVER,
        ),
        // Questions.
        (
            "DHCP discover",
            frame::udp4(own, own4, (68, 67), b"d"),
            LAYER_2,
        ),
        (
            "DHCPv6 solicit",
            frame::udp6(own, link_local, (546, 547), b"s"),
            LAYER_2,
        ),
        ("RS", frame::icmpv6(own, link_local, RS, &[0; 4]), LAYER_2),
        // Bridges.
        (
            "BPDU",
            frame::ethernet(group(0), own, 38, &[0x42; 38]),
            NEVER,
        ),
        (
            "pause",
            frame::ethernet(group(1), own, 0x8808, &[0; 46]),
            NEVER,
        ),
        (
            "LLDP",
            frame::ethernet(group(0xe), own, 0x88cc, &[0; 46]),
            NEVER,
        ),
        (
            "IPv4 to bridges",
            [&group(0), &datagram[6..]].concat(),
            NEVER,
        ),
        ("tag", frame::tagged(&datagram, 7), OFF),
        (
            "another EtherType",
            frame::ethernet(frame::BROADCAST, own, 0x88b5, &[0; 46]),
            OFF,
        ),
    ]
}

/// An address that bridges do not forward.
fn group(last: u8) -> Mac {
    [0x01, 0x80, 0xc2, 0, 0, last]
}

/// Sends every frame of the guest's, each with one after it that passes, and compares what arrives.
fn sends(guard: Guard) {
    let lan = guard.lan();
    let mut guest = Wire::behind(&lan.pod.namespace, "tap0");
    let mut peer = probe(&lan);
    let own = mac(POD_MAC);
    for (number, (what, frame, passes)) in frames(&lan).into_iter().enumerate() {
        let number = u16::try_from(number).unwrap().to_be_bytes();
        let after = frame::udp4(own, ipv4(POD_V4), (4001, 4001), &number);
        guest.send(&frame);
        guest.send(&after);
        let arrived = peer.until(&after).contains(&frame);
        assert_eq!(arrived, passes.contains(&guard), "{what}, guard {guard:?}");
    }
}

/// A further station on the network.
fn probe(lan: &Lan) -> Wire {
    let node = &lan.pod.node;
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
        let frames = [
            ("data", frame::udp4(sender, ipv4, (4000, 4000), b"d"), ALL),
            (
                "tag",
                frame::tagged(&frame::udp4(sender, ipv4, (1, 1), b"t"), 7),
                ALL,
            ),
            ("NA", frame::neighbour(sender, ipv6, NA, ipv6), ALL),
            (
                "DHCP offer",
                frame::udp4(sender, ipv4, (67, 68), b"o"),
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
            ("RA", frame::icmpv6(sender, ipv6, RA, &[0; 12]), LAYER_2),
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
