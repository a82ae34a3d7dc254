//! IPv4 and UDP around a DHCP message.

use std::net::Ipv4Addr;

use crate::dhcp::Reply;
use crate::packet::{UDP, checksum};

const HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const SERVER: u16 = 67;

/// Finds the payload of a UDP datagram to port 67; none if the packet is anything else.
///
/// Checksums are not looked at: a tap does not damage packets, and guests leave the UDP checksum to
/// hardware that is not there.
pub(in crate::serve) fn question(packet: &[u8]) -> Option<&[u8]> {
    let (fixed, _) = packet.split_first_chunk::<HEADER>()?;
    let [
        first,
        _,
        high,
        low,
        _,
        _,
        fragment_high,
        fragment_low,
        _,
        protocol,
        ..,
    ] = *fixed;
    let header = usize::from(first & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([high, low]));
    let fragment = u16::from_be_bytes([fragment_high, fragment_low]) & 0x3fff;
    if first >> 4 != 4 || header < HEADER || fragment != 0 || protocol != UDP {
        return None;
    }
    // The frame may be padded beyond the datagram.
    let udp = packet.get(header..total.min(packet.len()))?;
    let (fixed, payload) = udp.split_first_chunk::<UDP_HEADER>()?;
    let [_, _, port_high, port_low, high, low, ..] = *fixed;
    if u16::from_be_bytes([port_high, port_low]) != SERVER {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    payload.get(..length.checked_sub(UDP_HEADER)?)
}

/// Builds the packet that carries a reply of the server with this address, with both checksums
/// whole.
pub(in crate::serve) fn answer(server: Ipv4Addr, reply: &Reply) -> Vec<u8> {
    let addresses = [server.octets(), reply.address.octets()].concat();
    // A reply is never longer than the lease's MTU, which is at most 65535.
    let udp_length = (UDP_HEADER + reply.payload.len()) as u16;
    let ip_length = HEADER as u16 + udp_length;

    let mut packet = Vec::with_capacity(ip_length.into());
    // Precedence "internetwork control", as DHCP servers send; don't fragment; TTL 64; UDP.
    packet.extend([0x45, 0xc0]);
    packet.extend(ip_length.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    packet.extend(&addresses);
    let sum = checksum(0, &packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());

    packet.extend(SERVER.to_be_bytes());
    packet.extend(reply.port.to_be_bytes());
    packet.extend(udp_length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(&reply.payload);
    // RFC 768: the pseudo header is part of the sum, and a sum of zero is sent as all ones.
    let pseudo = checksum(u32::from(UDP) + u32::from(udp_length), &addresses);
    let sum = match checksum(u32::from(!pseudo), &packet[HEADER..]) {
        0 => 0xffff,
        sum => sum,
    };
    packet[HEADER + 6..HEADER + 8].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A datagram to the server with this payload.
    fn datagram(payload: &[u8]) -> Vec<u8> {
        let udp = (payload.len() + UDP_HEADER) as u16;
        let mut packet = vec![0x45, 0];
        packet.extend((udp + HEADER as u16).to_be_bytes());
        packet.extend([
            0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67,
        ]);
        packet.extend(udp.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        packet
    }

    #[test]
    fn finds_the_payload_between_headers_and_padding() {
        let mut packet = datagram(b"hello");
        assert_eq!(question(&packet), Some(&b"hello"[..]));
        packet.extend([0; 20]);
        assert_eq!(question(&packet), Some(&b"hello"[..]));
    }

    #[test]
    fn ip_options_are_skipped() {
        let mut packet = datagram(b"hello");
        packet.splice(20..20, [1; 4]);
        packet[0] = 0x46;
        packet[3] += 4;
        assert_eq!(question(&packet), Some(&b"hello"[..]));
    }

    #[test]
    fn other_packets_have_no_payload() {
        let cases: [(&str, usize, u8); 7] = [
            ("another version", 0, 0x65),
            ("a short header", 0, 0x44),
            ("a header beyond the end", 0, 0x4f),
            ("a fragment", 6, 0x20),
            ("TCP", 9, 6),
            ("another port", 23, 68),
            ("a longer datagram than packet", 25, 200),
        ];
        for (what, at, value) in cases {
            let mut packet = datagram(b"hello");
            packet[at] = value;
            assert_eq!(question(&packet), None, "{what}");
        }
        let packet = datagram(b"hello");
        for length in 0..packet.len() {
            assert_eq!(question(&packet[..length]), None, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = question(&bytes);
        }

        #[test]
        fn damaged_packets_never_panic(at in 0_usize..28, value: u8, length in 0_usize..60) {
            let mut packet = datagram(b"hello");
            packet[at] = value;
            packet.truncate(length);
            let _ = question(&packet);
        }
    }
}
