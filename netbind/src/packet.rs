//! IPv6 packets (RFC 8200), and the sum that IPv4, UDP and ICMPv6 share (RFC 1071).

use std::net::Ipv6Addr;

/// The length of an IPv6 header.
pub(crate) const IPV6_HEADER: usize = 40;

/// The next header of UDP.
pub(crate) const UDP: u8 = 17;
/// The next header of ICMPv6.
pub(crate) const ICMPV6: u8 = 58;

/// An IPv6 packet without extension headers: what our clients ask needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ipv6Packet<'a> {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) payload: &'a [u8],
}

impl<'a> Ipv6Packet<'a> {
    /// Reads a packet, which may have padding behind it; none if it is cut, or no IPv6.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<IPV6_HEADER>()?;
        let (fixed, addresses) = header.split_first_chunk::<8>()?;
        let [version, _, _, _, high, low, next_header, hop_limit] = *fixed;
        let (source, destination) = addresses.split_first_chunk::<16>()?;
        if version >> 4 != 6 {
            return None;
        }
        Some(Self {
            source: Ipv6Addr::from(*source),
            destination: Ipv6Addr::from(*destination.first_chunk::<16>()?),
            next_header,
            hop_limit,
            payload: rest.get(..u16::from_be_bytes([high, low]).into())?,
        })
    }

    /// The checksum of the payload and the pseudo header (RFC 8200 section 8.1): zero if the payload
    /// holds the right one.
    pub(crate) fn sum(&self) -> u16 {
        let pseudo = [self.source.octets(), self.destination.octets()].concat();
        let seed = self.payload.len() as u32 + u32::from(self.next_header);
        checksum(u32::from(!checksum(seed, &pseudo)), self.payload)
    }

    /// Builds the packet, of at most 65535 bytes of payload, with the payload's checksum at
    /// `sum_at`, where it is zero as yet.
    pub(crate) fn build(&self, sum_at: usize) -> Vec<u8> {
        let mut packet = Vec::with_capacity(IPV6_HEADER + self.payload.len());
        packet.extend([0x60, 0, 0, 0]);
        packet.extend((self.payload.len() as u16).to_be_bytes());
        packet.extend([self.next_header, self.hop_limit]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(self.payload);
        // All ones and zero mean the same in this sum, but zero means no sum to UDP.
        let sum = match self.sum() {
            0 => 0xffff,
            sum => sum,
        };
        let at = IPV6_HEADER + sum_at;
        if let Some(place) = packet.get_mut(at..at + 2) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }
}

/// The Internet checksum (RFC 1071) of the bytes, on top of a sum so far.
pub(crate) fn checksum(seed: u32, bytes: &[u8]) -> u16 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let mut sum = pairs
        .iter()
        .fold(seed, |sum, pair| sum + u32::from(u16::from_be_bytes(*pair)));
    if let [last] = last {
        sum += u32::from(*last) << 8;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Folded to 16 bits just above.
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(payload: &[u8]) -> Ipv6Packet<'_> {
        Ipv6Packet {
            source: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
            destination: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2),
            next_header: ICMPV6,
            hop_limit: 255,
            payload,
        }
    }

    #[test]
    fn sums_as_rfc_1071_does() {
        // The example of section 3: 0001 f203 f4f5 f6f7 sum to ddf2.
        assert_eq!(
            checksum(0, &[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
        // An odd byte counts as the high half of a pair.
        assert_eq!(checksum(0, &[0xab]), !0xab00);
    }

    #[test]
    fn a_packet_ends_where_its_header_says() {
        let mut bytes = packet(b"\x85\0\0\0hello").build(2);
        bytes.extend([0xaa; 9]);
        let read = Ipv6Packet::parse(&bytes).unwrap();
        assert_eq!(read.payload.len(), 9);
        assert_eq!(read.sum(), 0);
        for length in 0..49 {
            assert_eq!(Ipv6Packet::parse(&bytes[..length]), None, "{length} bytes");
        }
        bytes[0] = 0x45;
        assert_eq!(Ipv6Packet::parse(&bytes), None);
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_and_sums_up(mut payload in proptest::collection::vec(any::<u8>(), 4..200)) {
            payload[2..4].fill(0);
            let bytes = packet(&payload).build(2);
            let read = Ipv6Packet::parse(&bytes).unwrap();
            prop_assert_eq!(read.sum(), 0);
            prop_assert_eq!((read.source, read.destination), (packet(&[]).source, packet(&[]).destination));
            prop_assert_eq!((read.next_header, read.hop_limit), (ICMPV6, 255));
            prop_assert_eq!(&read.payload[4..], &payload[4..]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Ipv6Packet::parse(&bytes).map(|packet| packet.sum());
        }
    }
}
