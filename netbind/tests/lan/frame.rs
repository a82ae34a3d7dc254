//! Frames, honest ones and others. Checksums of transport protocols are left out: who looks at one
//! has received the frame already.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) type Mac = [u8; 6];

/// Reads an address that a test wrote.
pub(crate) fn mac(text: &str) -> Mac {
    let octets = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap());
    octets.collect::<Vec<_>>().try_into().unwrap()
}

pub(crate) const BROADCAST: Mac = [0xff; 6];
pub(crate) const ALL_NODES: Mac = [0x33, 0x33, 0, 0, 0, 1];

const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

pub(crate) fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to, from].concat();
    frame.extend(kind.to_be_bytes());
    // Not padded: a bridge that shows frames to iptables cuts the padding off.
    frame.extend(payload);
    frame
}

/// The same frame with a tag in front of its type.
pub(crate) fn tagged(frame: &[u8], number: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    let mut tag = vec![0x81, 0x00];
    tag.extend(number.to_be_bytes());
    [addresses, &tag, rest].concat()
}

/// An address by which bridges talk to each other (IEEE 802.1D tables 7-10 and 12-1).
pub(crate) fn group(last: u8) -> Mac {
    [0x01, 0x80, 0xc2, 0, 0, last]
}

/// The same frame to another station.
pub(crate) fn to(mac: Mac, frame: &[u8]) -> Vec<u8> {
    [&mac, &frame[6..]].concat()
}

/// The same frame of ICMPv6 with its checksum, for who looks at it.
pub(crate) fn checked(mut frame: Vec<u8>) -> Vec<u8> {
    // The addresses, the length and the message: what else there is of the header counts 0.
    let words = frame[22..].chunks(2);
    let words = words.map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |b| (*b).into()));
    let length = frame.len() as u32 - 54;
    let sum: u32 = words.sum::<u32>() + length + u32::from(ICMPV6);
    let folded = (sum >> 16) + (sum & 0xffff);
    let folded = !((folded >> 16) + folded) as u16;
    frame[56..58].copy_from_slice(&folded.to_be_bytes());
    frame
}

/// A packet of ARP; operation 1 asks, 2 answers.
pub(crate) fn arp(
    from: Mac,
    operation: u8,
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation];
    for (mac, address) in [sender, target] {
        packet.extend(mac);
        packet.extend(address.octets());
    }
    ethernet(BROADCAST, from, 0x0806, &packet)
}

pub(crate) fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    sum_up(&mut packet[..20]);
    packet
}

/// Writes the checksum of an IPv4 header.
fn sum_up(header: &mut [u8]) {
    header[10..12].fill(0);
    let words = header.as_chunks::<2>().0;
    let sum: u32 = words
        .iter()
        .map(|w| u32::from(u16::from_be_bytes(*w)))
        .sum();
    // Ten words: the carry is small, and so is the second.
    let folded = (sum >> 16) + (sum & 0xffff);
    let folded = !((folded >> 16) + folded) as u16;
    header[10..12].copy_from_slice(&folded.to_be_bytes());
}

/// The same frame of IP, which says of its packet that it has this length.
pub(crate) fn of_length(length: u16, mut frame: Vec<u8>) -> Vec<u8> {
    let is_ipv4 = frame[12..14] == [8, 0];
    let at = if is_ipv4 { 16 } else { 18 };
    frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
    if is_ipv4 {
        sum_up(&mut frame[14..34]);
    }
    frame
}

pub(crate) fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    // 255 hops, as neighbour discovery wants.
    packet.extend([next, 255]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// A datagram of UDP.
pub(crate) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut datagram = Vec::new();
    for field in [from, to, length, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    datagram
}

/// UDP over IPv4 to everybody.
pub(crate) fn udp4(from: Mac, address: Ipv4Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let datagram = udp(ports.0, ports.1, payload);
    let packet = ipv4(address, Ipv4Addr::BROADCAST, UDP, &datagram);
    ethernet(BROADCAST, from, 0x0800, &packet)
}

/// UDP over IPv6 to all nodes.
pub(crate) fn udp6(from: Mac, address: Ipv6Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let datagram = udp(ports.0, ports.1, payload);
    ethernet(ALL_NODES, from, 0x86dd, &to_all(address, UDP, &datagram))
}

fn to_all(from: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    ipv6(from, "ff02::1".parse().unwrap(), next, payload)
}

/// An ICMPv6 message of this type to all nodes.
pub(crate) fn icmpv6(from: Mac, address: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    let message = message(kind, body);
    ethernet(ALL_NODES, from, 0x86dd, &to_all(address, ICMPV6, &message))
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0], body].concat()
}

/// A neighbour solicitation (type 135) or advertisement (136) about a target.
pub(crate) fn neighbour(from: Mac, address: Ipv6Addr, kind: u8, target: Ipv6Addr) -> Vec<u8> {
    neighbour_with(from, address, kind, target, &[])
}

/// The same with options.
pub(crate) fn neighbour_with(
    from: Mac,
    address: Ipv6Addr,
    kind: u8,
    target: Ipv6Addr,
    options: &[u8],
) -> Vec<u8> {
    let body = [&[0; 4], target.octets().as_slice(), options].concat();
    icmpv6(from, address, kind, &body)
}

/// A message behind destination options that say nothing.
pub(crate) fn icmpv6_behind_options(from: Mac, address: Ipv6Addr, kind: u8) -> Vec<u8> {
    let packet = [options(ICMPV6), message(kind, &[0; 12])].concat();
    let packet = to_all(address, DESTINATION_OPTIONS, &packet);
    ethernet(ALL_NODES, from, 0x86dd, &packet)
}

/// Eight bytes of destination options.
fn options(next: u8) -> Vec<u8> {
    vec![next, 0, 1, 4, 0, 0, 0, 0]
}

/// The first of two fragments, with the whole message in it.
pub(crate) fn first_fragment(from: Mac, address: Ipv6Addr, kind: u8) -> Vec<u8> {
    fragment(from, address, ICMPV6, 0, &message(kind, &[0; 12]))
}

/// The first of two fragments, which ends before the message begins.
pub(crate) fn first_fragment_without_message(from: Mac, address: Ipv6Addr) -> Vec<u8> {
    fragment(from, address, DESTINATION_OPTIONS, 0, &options(ICMPV6))
}

/// The second of two fragments.
pub(crate) fn second_fragment(from: Mac, address: Ipv6Addr) -> Vec<u8> {
    fragment(from, address, ICMPV6, 2, &[0; 16])
}

/// The second of two fragments of options and what follows them.
pub(crate) fn second_fragment_of_options(from: Mac, address: Ipv6Addr) -> Vec<u8> {
    fragment(from, address, DESTINATION_OPTIONS, 2, &[0; 16])
}

fn fragment(from: Mac, address: Ipv6Addr, next: u8, eighths: u16, part: &[u8]) -> Vec<u8> {
    let more = u16::from(eighths == 0);
    let mut packet = vec![next, 0];
    packet.extend((eighths << 3 | more).to_be_bytes());
    packet.extend([0, 0, 0, 7]);
    packet.extend(part);
    ethernet(ALL_NODES, from, 0x86dd, &to_all(address, FRAGMENT, &packet))
}
