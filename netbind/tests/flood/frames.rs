//! What a hostile guest sends.

use std::net::{Ipv4Addr, Ipv6Addr};

use dhcproto::{Encodable, v4, v6};
use netbind::Mac;
use netbind::dhcp::SERVER_ID;
use v4::DhcpOption::{MessageType, RequestedIpAddress};

use crate::lab::{ADDRESS, ADDRESS6, GATEWAY6};

const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Whom the guest says it is on its link.
const GUEST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbad);

/// Frames of every kind that is listened to, half of them damaged.
///
/// Two kinds are not among them, because after them it is right not to answer for a while: to a
/// DECLINE, which says that the lease is of no use, and to more NAKs than one client needs.
pub(crate) fn hostile(guest: Mac) -> Vec<Vec<u8>> {
    let sound = sound(guest);
    let mut dice = Dice(1);
    let mut frames = Vec::new();
    for _ in 0..64 {
        for frame in &sound {
            let mut damaged = frame.clone();
            // The headers stay, or nobody would look at the rest.
            let content = 42..frame.len();
            for _ in 0..=dice.below(4) {
                damaged[content.start + dice.below(content.len())] = dice.below(256) as u8;
            }
            damaged.truncate(frame.len() - dice.below(2) * dice.below(content.len()));
            frames.extend([frame.clone(), damaged]);
        }
    }
    frames
}

/// Frames that a client could send, each of which is worth an answer.
fn sound(guest: Mac) -> Vec<Vec<u8>> {
    let ask = |kind, more: &[v4::DhcpOption], client: Mac| {
        let mut message = v4::Message::default();
        message.set_chaddr(&client.0);
        message.opts_mut().insert(MessageType(kind));
        for option in more {
            message.opts_mut().insert(option.clone());
        }
        dhcp4(guest, &message.to_vec().unwrap())
    };
    let wants = |address| [RequestedIpAddress(address)];
    let ask6 = |kind, options: &[v6::DhcpOption]| {
        let mut message = v6::Message::new(kind);
        let identifier = v6::DhcpOption::ClientId([&[0, 3, 0, 1], &guest.0[..]].concat());
        for option in options.iter().chain([&identifier]) {
            message.opts_mut().insert(option.clone());
        }
        dhcp6(guest, &message.to_vec().unwrap())
    };
    let association = |count: u16| {
        let mut opts = v6::DhcpOptions::new();
        for i in 0..count {
            opts.insert(v6::DhcpOption::IAAddr(v6::IAAddr {
                addr: Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, i),
                preferred_life: 0,
                valid_life: 0,
                opts: v6::DhcpOptions::new(),
            }));
        }
        v6::DhcpOption::IANA(v6::IANA {
            id: 1,
            t1: 0,
            t2: 0,
            opts,
        })
    };
    let router = GATEWAY6.octets();
    vec![
        ask(v4::MessageType::Discover, &[], guest),
        ask(v4::MessageType::Request, &wants(ADDRESS), guest),
        ask(v4::MessageType::Request, &wants(SERVER_ID), guest),
        ask(v4::MessageType::Discover, &[], Mac([2, 0xba, 0xd, 0, 0, 1])),
        ask6(v6::MessageType::Solicit, &[association(0)]),
        ask6(v6::MessageType::Rebind, &[association(40)]),
        ask6(v6::MessageType::InformationRequest, &[]),
        icmpv6(guest, ROUTERS, &[133, 0, 0, 0, 0, 0, 0, 0]),
        icmpv6(
            guest,
            ADDRESS6,
            &[&[135, 0, 0, 0, 0, 0, 0, 0][..], &router].concat(),
        ),
        arp(guest),
    ]
}

fn dhcp4(guest: Mac, message: &[u8]) -> Vec<u8> {
    let udp = udp([68, 67], message);
    let length = (udp.len() + 20) as u16;
    let mut frame = ethernet(Mac::BROADCAST, guest, [8, 0]);
    frame.extend([0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(Ipv4Addr::UNSPECIFIED.octets());
    frame.extend(Ipv4Addr::BROADCAST.octets());
    frame.extend(udp);
    frame
}

fn dhcp6(guest: Mac, message: &[u8]) -> Vec<u8> {
    ipv6(guest, 17, SERVERS, &udp([546, 547], message))
}

/// A datagram without a checksum, as with offload.
fn udp(ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let head = [ports[0], ports[1], payload.len() as u16 + 8, 0];
    let head = head.iter().flat_map(|field| field.to_be_bytes());
    head.chain(payload.iter().copied()).collect()
}

fn icmpv6(guest: Mac, destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let pseudo = [
        &GUEST.octets()[..],
        &destination.octets(),
        &[0, 0, 0, message.len() as u8, 0, 0, 0, 58],
    ];
    let words = pseudo.concat();
    let words = words.chunks(2).chain(message.chunks(2));
    let mut sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[2..4].copy_from_slice(&(!sum as u16).to_be_bytes());
    ipv6(guest, 58, destination, &message)
}

fn ipv6(guest: Mac, kind: u8, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(Mac([0x33, 0x33, 0, 0, 0, 2]), guest, [0x86, 0xdd]);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([kind, 255]);
    frame.extend(GUEST.octets());
    frame.extend(destination.octets());
    frame.extend(payload);
    frame
}

/// A question for the DHCP server's address.
fn arp(guest: Mac) -> Vec<u8> {
    let mut frame = ethernet(Mac::BROADCAST, guest, [8, 6]);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(guest.0);
    frame.extend(ADDRESS.octets());
    frame.extend([0; 6]);
    frame.extend(SERVER_ID.octets());
    // Ethernet's shortest frame has 60 bytes.
    frame.resize(60, 0);
    frame
}

fn ethernet(to: Mac, from: Mac, kind: [u8; 2]) -> Vec<u8> {
    [&to.0[..], &from.0, &kind].concat()
}

/// Numbers without a pattern, the same in each run (Numerical Recipes' generator).
struct Dice(u32);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % end
    }
}
