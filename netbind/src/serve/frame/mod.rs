//! Ethernet around packets.

pub(super) mod ipv4;
pub(super) mod ipv6;

use crate::mac::Mac;

/// The length of an Ethernet header (IEEE 802.3).
const HEADER: usize = 14;

/// An Ethernet frame without a VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// For whom it is.
    pub(super) destination: Mac,
    /// The station that sent it.
    pub(super) source: Mac,
    /// What it carries.
    pub(super) kind: Kind,
    /// The packet, maybe with padding behind it.
    pub(super) packet: &'a [u8],
}

/// What a frame carries: its EtherType.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ipv4,
    Ipv6,
}

impl<'a> Frame<'a> {
    /// Reads a frame; none if it carries anything else.
    pub(super) fn parse(frame: &'a [u8]) -> Option<Self> {
        let (header, packet) = frame.split_first_chunk::<HEADER>()?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, high, low] = *header;
        let kind = match [high, low] {
            [0x08, 0x00] => Kind::Ipv4,
            [0x86, 0xdd] => Kind::Ipv6,
            _ => return None,
        };
        Some(Self {
            destination: Mac([a, b, c, d, e, f]),
            source: Mac([g, h, i, j, k, l]),
            kind,
            packet,
        })
    }

    /// The frame's bytes.
    pub(super) fn build(&self) -> Vec<u8> {
        let kind = match self.kind {
            Kind::Ipv4 => [0x08, 0x00],
            Kind::Ipv6 => [0x86, 0xdd],
        };
        [&self.destination.0, &self.source.0, &kind[..], self.packet].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        for kind in [Kind::Ipv4, Kind::Ipv6] {
            let frame = Frame {
                destination: Mac::BROADCAST,
                source: Mac([2, 0, 0, 0, 0, 1]),
                kind,
                packet: b"hello",
            };
            let bytes = frame.build();
            assert_eq!(Frame::parse(&bytes), Some(frame));
            for length in 0..HEADER {
                assert_eq!(Frame::parse(&bytes[..length]), None, "{length} bytes");
            }
        }
        // A VLAN tag, and ARP.
        for kind in [[0x81, 0x00], [0x08, 0x06]] {
            assert_eq!(
                Frame::parse(&[&[0; 12], &kind[..], b"hello"].concat()),
                None
            );
        }
    }
}
