//! ARP for addresses that nobody else answers for.

use std::net::{IpAddr, Ipv4Addr};

use crate::mac::Mac;
use crate::plan::GuestNetwork;

/// Hardware Ethernet, protocol IPv4, six and four bytes, a request (RFC 826).
const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
/// The length of an Ethernet frame with an ARP packet, without padding.
const LENGTH: usize = 42;

/// Answers the guest's ARP requests for the DHCP server, to which it renews by unicast, and for
/// gateways that have a static neighbour entry in the pod because they answer no ARP themselves.
#[derive(Debug)]
pub(super) struct Arp {
    guest: Mac,
    known: Vec<(Ipv4Addr, Mac)>,
}

impl Arp {
    pub(super) fn new(network: &GuestNetwork) -> Self {
        let server = network.lease.as_ref();
        let server = server.map(|lease| (lease.server_id, network.server_mac));
        let neighbours = network.neighbours.iter().filter_map(|n| match n.address {
            IpAddr::V4(address) => Some((address, n.mac)),
            IpAddr::V6(_) => None,
        });
        Self {
            guest: network.mac,
            known: server.into_iter().chain(neighbours).collect(),
        }
    }

    /// The reply to an ARP request of the guest; none if the frame is anything else.
    pub(super) fn answer(&self, frame: &[u8]) -> Option<[u8; LENGTH]> {
        let frame = frame.first_chunk::<LENGTH>()?;
        if frame[12..14] != [0x08, 0x06] || frame[14..22] != REQUEST || frame[6..12] != self.guest.0
        {
            return None;
        }
        let target: [u8; 4] = frame[38..42].try_into().ok()?;
        let (_, mac) = self
            .known
            .iter()
            .find(|(address, _)| address.octets() == target)?;

        let mut reply = *frame;
        reply[0..6].copy_from_slice(&frame[6..12]);
        reply[6..12].copy_from_slice(&mac.0);
        reply[21] = 2;
        // The sender answers for what was asked; the target is who asked.
        reply[22..28].copy_from_slice(&mac.0);
        reply[28..32].copy_from_slice(&target);
        reply[32..42].copy_from_slice(&frame[22..32]);
        Some(reply)
    }
}
