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

use expression::{Field, Match, is};

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

/// Transport protocols (IANA).
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

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
