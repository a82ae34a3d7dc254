//! nf_tables, in its own netlink protocol: what enters a bridge ([`filter`]), and the translation
//! between a guest's network and its pod's ([`nat`]).
//!
//! The `nft` program is not needed: one netlink batch is one transaction and one kernel call, and
//! asks nothing of the image (docs/decisions/0004). What is made is what `nft list ruleset` shows,
//! and what `nft -f` would make of that.
//!
//! Message, attribute and key numbers are those of `linux/netfilter/nf_tables.h`.

mod batch;
mod expression;
pub(crate) mod filter;
pub(crate) mod nat;

use expression::{Field, Match, is, one_of};

/// An interface's name as nf_tables compares it: with its end, so the whole name, not a prefix.
fn name(text: &str) -> [u8; 16] {
    let mut whole = [0; 16];
    for (to, from) in whole[..15].iter_mut().zip(text.bytes()) {
        *to = from;
    }
    whole
}

/// The packet entered by this interface.
fn enters(interface: &str) -> Match {
    is(Field::IN_NAME, name(interface))
}

/// The packet is to leave by this interface.
fn leaves(interface: &str) -> Match {
    is(Field::OUT_NAME, name(interface))
}

/// The packet carries this protocol.
fn transport(protocol: u8) -> Match {
    is(Field::TRANSPORT, [protocol])
}

/// Transport protocols (IANA).
const ICMP: u8 = 1;
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const PIM: u8 = 103;

/// Types of ICMPv6 messages (IANA).
mod icmpv6 {
    use super::{Field, ICMPV6, Match, one_of, transport};

    pub(super) const ECHO: u8 = 128;
    pub(super) const MLD_QUERY: u8 = 130;
    pub(super) const MLD_REPORT: u8 = 131;
    pub(super) const MLD_DONE: u8 = 132;
    pub(super) const ROUTER_SOLICITATION: u8 = 133;
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub(super) const REDIRECT: u8 = 137;
    pub(super) const MLD2_REPORT: u8 = 143;
    pub(super) const MULTICAST_ROUTER_ADVERTISEMENT: u8 = 151;
    pub(super) const MULTICAST_ROUTER_SOLICITATION: u8 = 152;
    pub(super) const MULTICAST_ROUTER_TERMINATION: u8 = 153;

    /// A message of one of these types.
    pub(super) fn message(types: impl IntoIterator<Item = u8>) -> [Match; 2] {
        let types = types.into_iter().map(|one| [one]);
        [transport(ICMPV6), one_of(Field::ICMPV6_TYPE, types)]
    }
}

/// The ports of DHCP (RFC 2131 section 4.1) and DHCPv6 (RFC 8415 section 7.2).
mod port {
    pub(super) const DHCP_SERVER: u16 = 67;
    pub(super) const DHCP_CLIENT: u16 = 68;
    pub(super) const DHCPV6_CLIENT: u16 = 546;
    pub(super) const DHCPV6_SERVER: u16 = 547;
    /// All of them.
    pub(super) const DHCP: [u16; 4] = [DHCP_SERVER, DHCP_CLIENT, DHCPV6_CLIENT, DHCPV6_SERVER];
}

/// Ports, in the byte order of packets.
fn ports(ports: impl IntoIterator<Item = u16>) -> impl Iterator<Item = [u8; 2]> {
    ports.into_iter().map(u16::to_be_bytes)
}
