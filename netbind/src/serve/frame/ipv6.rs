//! IPv6 and UDP around a DHCPv6 message (RFC 8415 section 7.2).

use std::net::Ipv6Addr;

use crate::mac::Mac;
use crate::packet::{Ipv6Packet, UDP};

/// Where servers listen.
const SERVER: u16 = 547;
/// Where clients do.
const CLIENT: u16 = 546;
const UDP_HEADER: usize = 8;
const UDP_SUM_AT: usize = 6;
/// A link is all that a message ever crosses.
const HOP_LIMIT: u8 = 64;

/// A DHCPv6 question.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::serve) struct Question<'a> {
    /// Who asked.
    pub(in crate::serve) source: Ipv6Addr,
    /// Whether it was sent to a group.
    pub(in crate::serve) multicast: bool,
    /// The UDP payload.
    pub(in crate::serve) payload: &'a [u8],
}

impl<'a> Question<'a> {
    /// Finds the payload of a UDP datagram to port 547; none if the packet is anything else.
    ///
    /// The checksum is not looked at: a tap does not damage packets, and guests leave it to hardware
    /// that is not there.
    pub(in crate::serve) fn parse(packet: &'a [u8]) -> Option<Self> {
        let packet = Ipv6Packet::parse(packet)?;
        let (header, payload) = packet.payload.split_first_chunk::<UDP_HEADER>()?;
        let [_, _, port_high, port_low, high, low, ..] = *header;
        // An answer goes to the source, so there has to be one.
        let nameless = packet.source.is_unspecified() || packet.source.is_multicast();
        if packet.next_header != UDP
            || u16::from_be_bytes([port_high, port_low]) != SERVER
            || nameless
        {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        Some(Self {
            source: packet.source,
            multicast: packet.destination.is_multicast(),
            payload: payload.get(..length.checked_sub(UDP_HEADER)?)?,
        })
    }
}

/// Builds the packet that carries an answer from the server with this MAC.
pub(in crate::serve) fn answer(server: Mac, destination: Ipv6Addr, answer: &[u8]) -> Vec<u8> {
    // An answer is never longer than the guest's MTU.
    let length = (UDP_HEADER + answer.len()) as u16;
    let mut payload = Vec::with_capacity(length.into());
    payload.extend(SERVER.to_be_bytes());
    payload.extend(CLIENT.to_be_bytes());
    payload.extend(length.to_be_bytes());
    payload.extend([0, 0]);
    payload.extend(answer);
    Ipv6Packet {
        source: server.link_local(),
        destination,
        next_header: UDP,
        hop_limit: HOP_LIMIT,
        payload: &payload,
    }
    .build(UDP_SUM_AT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUEST: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// A question to the servers' group with this payload, as a client without offload sends it.
    fn question(payload: &[u8]) -> Vec<u8> {
        let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
        let mut packet = answer(GUEST, servers, payload);
        // From the client's port to the server's; the sum is the same.
        packet[40..44].copy_from_slice(&[2, 34, 2, 35]);
        packet
    }

    #[test]
    fn finds_the_payload_between_headers_and_padding() {
        let mut packet = question(b"hello");
        let expected = Some(Question {
            source: GUEST.link_local(),
            multicast: true,
            payload: &b"hello"[..],
        });
        assert_eq!(Question::parse(&packet), expected);
        packet.extend([0; 20]);
        assert_eq!(Question::parse(&packet), expected);
        let server = Mac([2, 0, 0, 0, 0, 2]).link_local();
        packet[24..40].copy_from_slice(&server.octets());
        assert!(!Question::parse(&packet).unwrap().multicast);
    }

    #[test]
    fn other_packets_have_no_payload() {
        let cases: [(&str, usize, u8); 6] = [
            ("IPv4", 0, 0x45),
            ("a fragment", 6, 44),
            ("TCP", 6, 6),
            ("another port", 43, 34),
            ("a longer datagram than packet", 45, 200),
            ("a datagram shorter than its header", 45, 7),
        ];
        for (what, at, value) in cases {
            let mut packet = question(b"hello");
            packet[at] = value;
            assert_eq!(Question::parse(&packet), None, "{what}");
        }
        for source in [
            Ipv6Addr::UNSPECIFIED,
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        ] {
            let mut packet = question(b"hello");
            packet[8..24].copy_from_slice(&source.octets());
            assert_eq!(Question::parse(&packet), None, "{source}");
        }
        let packet = question(b"hello");
        for length in 0..packet.len() {
            assert_eq!(Question::parse(&packet[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn an_answer_is_from_the_server_and_sums_up() {
        for payload in [&b"odd"[..], b"even"] {
            let bytes = answer(GUEST, Ipv6Addr::LOCALHOST, payload);
            let packet = Ipv6Packet::parse(&bytes).unwrap();
            assert_eq!(packet.sum(), 0);
            assert_eq!(packet.payload[..4], [2, 35, 2, 34]);
            assert_eq!(&packet.payload[UDP_HEADER..], payload);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Question::parse(&bytes);
        }

        #[test]
        fn damaged_packets_never_panic(at in 0_usize..53, value: u8, length in 0_usize..60) {
            let mut packet = question(b"hello");
            packet[at] = value;
            packet.truncate(length);
            let _ = Question::parse(&packet);
        }
    }
}
