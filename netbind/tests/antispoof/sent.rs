//! The frames that a guest sends, honest ones and others.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::lan::frame::{self, Mac, mac};
use crate::lan::{Lan, NODE_V4, OTHER_V4, OTHER_V6, POD_MAC, POD_V4, POD_V6};
use crate::{Guard, ipv4, ipv6, router};

const OFF: &[Guard] = &[Guard::Off];
pub(super) const LAYER_2: &[Guard] = &[Guard::Layer2];
pub(super) const ALL: &[Guard] = &[Guard::Full, Guard::Off, Guard::Layer2];
/// Where addresses are not checked.
const UNCHECKED: &[Guard] = &[Guard::Off, Guard::Layer2];
pub(super) const NEVER: &[Guard] = &[];

/// The router advertisements' type, and so on.
pub(super) const RS: u8 = 133;
pub(super) const RA: u8 = 134;
const NS: u8 = 135;
pub(super) const NA: u8 = 136;
const REDIRECT: u8 = 137;
const MLD2_REPORT: u8 = 143;
pub(super) const ECHO: u8 = 128;
const MLD_QUERY: u8 = 130;
/// Those of multicast router discovery (RFC 4286).
const MRD: [u8; 3] = [151, 152, 153];
const IGMP_MRD: [u8; 3] = [0x30, 0x31, 0x32];
/// Those of IGMP, and of ICMP.
const IGMP_QUERY: u8 = 0x11;
const IGMP_REPORT: u8 = 0x16;
const ICMP_REDIRECT: u8 = 5;
const ICMP_ECHO: u8 = 8;
const ICMP_RA: u8 = 9;
const ICMP_RS: u8 = 10;
/// Protocols.
const ICMP: u8 = 1;
const IGMP: u8 = 2;
const PIM: u8 = 103;

/// What a guest may send, and under which guards it reaches the network.
pub(super) fn frames(lan: &Lan) -> Vec<(&'static str, Vec<u8>, &'static [Guard])> {
    let own = mac(POD_MAC);
    let other: Mac = mac("02:00:00:00:00:66");
    let [own4, other4, gateway4] = [POD_V4, OTHER_V4, NODE_V4].map(ipv4);
    let [own6, other6] = [POD_V6, OTHER_V6].map(ipv6);
    let link_local = ipv6("fe80::1234");
    let router = router(lan);
    let node = ipv6(&lan.node_link_local());
    let nobody = Ipv6Addr::UNSPECIFIED;
    let data = (4000, 4000);
    let arp = |operation, sender, target| frame::arp(own, operation, sender, (own, target));
    let offer = frame::udp4(own, own4, (67, 68), b"offer");
    let reply = frame::udp6(own, link_local, (547, 546), b"r");
    let advertisement = frame::icmpv6(own, link_local, RA, &[0; 12]);
    let datagram = frame::udp4(own, own4, data, b"tagged");
    // To all hosts, unless it is for certain routers.
    let from_own4 = |protocol, message: [u8; 8]| {
        let last = match (protocol, message[0]) {
            (PIM, _) => 13,
            (IGMP, 0x30..=0x32) => 106,
            _ => 1,
        };
        let to = Ipv4Addr::new(224, 0, 0, last);
        let packet = frame::ipv4(own4, to, protocol, &message);
        frame::ethernet([0x01, 0, 0x5e, 0, 0, last], own, 0x0800, &packet)
    };
    let igmp = |kind| from_own4(IGMP, [kind, 0, 0, 0, 0, 0, 0, 0]);
    let icmp = |kind| from_own4(ICMP, [kind, 0, 0, 0, 0, 0, 0, 0]);
    // The checksum is right: a bridge looks at it.
    let [mrd, mrd_question, mrd_end] = IGMP_MRD;
    let mrd = from_own4(IGMP, [mrd, 20, 0xcf, 0xd5, 0, 20, 0, 2]);
    // Version 2, type 0.
    let hello = [0x20, 0, 0xdf, 0xff, 0, 0, 0, 0];
    let hello6 = frame::ipv6(own6, ipv6("ff02::d"), PIM, &hello);
    let hello6 = frame::ethernet([0x33, 0x33, 0, 0, 0, 0xd], own, 0x86dd, &hello6);
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
        // The pod knows its gateway by another address: this one is free.
        (
            "NA for the node, link-local",
            frame::neighbour(own, node, NA, node),
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
        (
            "second fragment of options",
            frame::second_fragment_of_options(own, own6),
            ALL,
        ),
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
        ("DHCPv6 reply", reply.clone(), NEVER),
        (
            "DHCPv6, odd port",
            frame::udp6(own, own6, (4000, 546), b"r"),
            NEVER,
        ),
        // Whom a client listens to that reads frames.
        (
            "DHCP offer without a length",
            frame::of_length(0, offer.clone()),
            NEVER,
        ),
        (
            "DHCP offer, too short for a header",
            frame::of_length(19, offer.clone()),
            NEVER,
        ),
        (
            "DHCPv6 reply, too long",
            frame::of_length(999, reply.clone()),
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
        (
            "IGMP query, tag 0",
            frame::tagged(&igmp(IGMP_QUERY), 0),
            NEVER,
        ),
        ("IGMP of DVMRP", igmp(0x13), NEVER),
        ("IGMP report", igmp(IGMP_REPORT), ALL),
        ("IGMP report, first version", igmp(0x12), ALL),
        ("IGMP report, third version", igmp(0x22), ALL),
        ("IGMP leave", igmp(0x17), ALL),
        (
            "IGMP report, tag",
            frame::tagged(&igmp(IGMP_REPORT), 7),
            OFF,
        ),
        ("MRD advertisement", mrd, NEVER),
        ("MRD solicitation", igmp(mrd_question), NEVER),
        ("MRD termination", igmp(mrd_end), NEVER),
        (
            "MRD advertisement, IPv6",
            frame::icmpv6(own, link_local, MRD[0], &[0; 4]),
            NEVER,
        ),
        (
            "MRD solicitation, IPv6",
            frame::icmpv6(own, link_local, MRD[1], &[]),
            NEVER,
        ),
        (
            "MRD termination, IPv6",
            frame::icmpv6(own, link_local, MRD[2], &[]),
            NEVER,
        ),
        ("PIM hello", from_own4(PIM, hello), NEVER),
        ("PIM hello, IPv6", hello6, NEVER),
        ("ICMP redirect", icmp(ICMP_REDIRECT), NEVER),
        ("ICMP router advertisement", icmp(ICMP_RA), NEVER),
        ("ICMP router solicitation", icmp(ICMP_RS), ALL),
        ("ICMP echo", icmp(ICMP_ECHO), ALL),
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
            frame::ethernet(frame::group(0), own, 38, &[0x42; 38]),
            NEVER,
        ),
        (
            "pause",
            frame::ethernet(frame::group(1), own, 0x8808, &[0; 46]),
            NEVER,
        ),
        (
            "LLDP",
            frame::ethernet(frame::group(0xe), own, 0x88cc, &[0; 46]),
            NEVER,
        ),
        (
            "IPv4 to bridges",
            frame::to(frame::group(0), &datagram),
            NEVER,
        ),
        (
            "MVRP",
            frame::ethernet(frame::group(0x21), own, 0x88f5, &[0; 46]),
            NEVER,
        ),
        (
            "GMRP",
            frame::ethernet(frame::group(0x20), own, 38, &[0x42; 38]),
            NEVER,
        ),
        (
            "IS-IS",
            frame::ethernet(frame::group(0x14), own, 38, &[0xfe; 38]),
            OFF,
        ),
        (
            "CDP",
            frame::ethernet(cisco(0xcc), own, 38, &[0xaa; 38]),
            NEVER,
        ),
        (
            "PVST+",
            frame::ethernet(cisco(0xcd), own, 38, &[0xaa; 38]),
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

/// An address that Cisco's bridges talk to each other by.
fn cisco(last: u8) -> Mac {
    [0x01, 0x00, 0x0c, 0xcc, 0xcc, last]
}
