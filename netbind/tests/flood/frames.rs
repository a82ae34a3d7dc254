//! What a hostile guest sends.

use std::net::{Ipv4Addr, Ipv6Addr};

use dhcproto::{Encodable, v4, v6};
use netbind::dhcp::Lease;
use netbind::dhcp6::server_duid;
use netbind::{GuestNetwork, Mac};
use v4::DhcpOption::{MessageType, RequestedIpAddress, ServerIdentifier};

const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Whom the guest says it is on its link.
const GUEST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbad);
/// Nobody's.
const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0);
const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// Frames of every kind that is listened to, half of them damaged.
///
/// What the guest was leased is declined in [`declining`] only: for a while after that it is right to
/// offer nothing.
pub(crate) fn hostile(guest: &GuestNetwork) -> Vec<Vec<u8>> {
    half_damaged(&sound(guest))
}

/// The same, and the guest finds that another has what it was leased.
pub(crate) fn declining(guest: &GuestNetwork) -> Vec<Vec<u8>> {
    let ours = guest.lease.as_ref().unwrap().address.addr();
    let options = [RequestedIpAddress(ours)];
    let mut frames = sound(guest);
    frames.push(ask(guest, v4::MessageType::Decline, NONE, &options));
    let ours = &guest.ipv6.as_ref().unwrap().addresses;
    frames.push(ask6(guest, v6::MessageType::Decline, ours));
    half_damaged(&frames)
}

/// Many times each frame, and each time one that is like it.
fn half_damaged(sound: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut dice = Dice(1);
    let mut frames = Vec::new();
    for _ in 0..64 {
        for frame in sound {
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

/// Frames that a client could send. All are worth an answer but DHCPv4's RELEASE and what is of another
/// client.
fn sound(guest: &GuestNetwork) -> Vec<Vec<u8>> {
    use v4::MessageType::{Discover, Inform, Release, Request};
    use v6::MessageType as Type;
    let Lease {
        address, server_id, ..
    } = guest.lease.as_ref().unwrap();
    let (ours, server_id) = (address.addr(), *server_id);
    let wants = |address| [RequestedIpAddress(address)];
    let ipv6 = guest.ipv6.as_ref().unwrap();
    let many: Vec<_> = (0..40)
        .map(|i| Ipv6Addr::from_bits(OTHER.to_bits() | i))
        .collect();
    let router = ipv6.router.address;
    let stranger = Mac([2, 0xba, 0xd, 0, 0, 1]);
    vec![
        ask(guest, Discover, NONE, &[]),
        ask(guest, Request, NONE, &wants(ours)),
        ask(guest, Request, NONE, &wants(server_id)),
        ask(guest, Request, ours, &[]),
        ask(guest, Inform, ours, &[]),
        ask(guest, Release, ours, &[ServerIdentifier(server_id)]),
        ask_for(guest, stranger, Discover, NONE, &[]),
        ask6(guest, Type::Solicit, &[]),
        ask6(guest, Type::Request, &[]),
        ask6(guest, Type::Renew, &ipv6.addresses),
        ask6(guest, Type::Rebind, &many),
        ask6(guest, Type::Confirm, &ipv6.addresses),
        ask6(guest, Type::Confirm, &[OTHER]),
        ask6(guest, Type::Release, &ipv6.addresses),
        ask6(guest, Type::Decline, &[OTHER]),
        ask6(guest, Type::InformationRequest, &[]),
        icmpv6(guest.mac, ROUTERS, &[133, 0, 0, 0, 0, 0, 0, 0]),
        icmpv6(
            guest.mac,
            router,
            &[&[135, 0, 0, 0, 0, 0, 0, 0][..], &router.octets()].concat(),
        ),
        arp(guest.mac, ours, server_id),
    ]
}

/// A DHCPv4 message with `ciaddr` and options.
fn ask(
    guest: &GuestNetwork,
    kind: v4::MessageType,
    ciaddr: Ipv4Addr,
    options: &[v4::DhcpOption],
) -> Vec<u8> {
    ask_for(guest, guest.mac, kind, ciaddr, options)
}

/// The same for another client.
fn ask_for(
    guest: &GuestNetwork,
    client: Mac,
    kind: v4::MessageType,
    ciaddr: Ipv4Addr,
    options: &[v4::DhcpOption],
) -> Vec<u8> {
    let mut message = v4::Message::default();
    message.set_chaddr(&client.0).set_ciaddr(ciaddr);
    for option in options.iter().chain([&MessageType(kind)]) {
        message.opts_mut().insert(option.clone());
    }
    dhcp4(guest.mac, &message.to_vec().unwrap())
}

/// A DHCPv6 message about these addresses, to us or to all as its kind is.
fn ask6(guest: &GuestNetwork, kind: v6::MessageType, addresses: &[Ipv6Addr]) -> Vec<u8> {
    use v6::MessageType::{Decline, InformationRequest, Release, Renew, Request};
    let identifier = [&[0, 3, 0, 1], &guest.mac.0[..]].concat();
    let mut options = vec![v6::DhcpOption::ClientId(identifier)];
    if matches!(kind, Request | Renew | Release | Decline) {
        let server = server_duid(guest.server_mac);
        options.push(v6::DhcpOption::ServerId(server.to_vec()));
    }
    if kind != InformationRequest {
        let mut opts = v6::DhcpOptions::new();
        for addr in addresses {
            opts.insert(v6::DhcpOption::IAAddr(v6::IAAddr {
                addr: *addr,
                preferred_life: 0,
                valid_life: 0,
                opts: v6::DhcpOptions::new(),
            }));
        }
        options.push(v6::DhcpOption::IANA(v6::IANA {
            id: 1,
            t1: 0,
            t2: 0,
            opts,
        }));
    }
    let mut message = v6::Message::new(kind);
    for option in options {
        message.opts_mut().insert(option);
    }
    dhcp6(guest.mac, &message.to_vec().unwrap())
}

fn dhcp4(guest: Mac, message: &[u8]) -> Vec<u8> {
    let udp = udp([68, 67], message);
    let length = (udp.len() + 20) as u16;
    let mut frame = ethernet(Mac::BROADCAST, guest, [8, 0]);
    frame.extend([0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(NONE.octets());
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

/// A question of this address for another.
fn arp(guest: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(Mac::BROADCAST, guest, [8, 6]);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(guest.0);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
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
