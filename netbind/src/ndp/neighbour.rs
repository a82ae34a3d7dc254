//! Neighbour messages that we send.

use std::net::Ipv6Addr;

use super::{HOP_LIMIT, SUM_AT, kind, option, solicited_node};
use crate::mac::Mac;
use crate::packet::{ICMPV6, Ipv6Packet};

/// A station of the link that we answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: Ipv6Addr,
    /// Its MAC.
    pub mac: Mac,
    /// Whether it routes. A guest forgets a default router that says it does not (RFC 4861 section
    /// 7.2.5).
    pub router: bool,
}

impl Neighbour {
    /// Its neighbour advertisement (RFC 4861 section 4.4) as an IPv6 packet.
    ///
    /// One that is `solicited` must not be sent to a group; one that `overrides` replaces the MAC
    /// that is known.
    pub fn advertise(&self, destination: Ipv6Addr, solicited: bool, overrides: bool) -> Vec<u8> {
        let flags =
            u8::from(self.router) << 7 | u8::from(solicited) << 6 | u8::from(overrides) << 5;
        packet(
            self.address,
            destination,
            [kind::NEIGHBOUR_ADVERTISEMENT, flags],
            self.address,
            (option::TARGET_LINK_LAYER, self.mac),
        )
    }
}

/// A neighbour solicitation (RFC 4861 section 4.3) to whoever has `target`, as an IPv6 packet from
/// the station with this address and MAC; and the group that it is sent to.
pub fn solicit(source: Ipv6Addr, mac: Mac, target: Ipv6Addr) -> (Ipv6Addr, Vec<u8>) {
    let group = solicited_node(target);
    let packet = packet(
        source,
        group,
        [kind::NEIGHBOUR_SOLICITATION, 0],
        target,
        (option::SOURCE_LINK_LAYER, mac),
    );
    (group, packet)
}

fn packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    [kind, flags]: [u8; 2],
    target: Ipv6Addr,
    (option, mac): (u8, Mac),
) -> Vec<u8> {
    let mut payload = [0; 32];
    payload[0] = kind;
    payload[4] = flags;
    payload[8..24].copy_from_slice(&target.octets());
    // Its length in units of eight bytes.
    payload[24..26].copy_from_slice(&[option, 1]);
    payload[26..].copy_from_slice(&mac.0);
    Ipv6Packet {
        source,
        destination,
        next_header: ICMPV6,
        hop_limit: HOP_LIMIT,
        payload: &payload,
    }
    .build(SUM_AT)
}
