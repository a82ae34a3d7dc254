//! Neighbour discovery (RFC 4861) on the link between a guest and its router, with no socket in it.
//!
//! ```text
//! packet -> Message::parse -> router solicitation    -> Schedule  -> Advertisement
//!                          -> neighbour solicitation -> Neighbour -> neighbour advertisement
//! ```
//!
//! The router does not know of it: in bridge binding we speak in the name of the pod's gateway, and
//! in masquerade binding in the kernel's. An [`Advertisement`] is encoded once; a [`Schedule`]
//! says when one is sent, and a [`Message`] is what was asked.

mod advertisement;
mod message;
mod neighbour;
mod schedule;

use std::net::Ipv6Addr;

pub use advertisement::Advertisement;
pub use message::{Kind, Message};
pub use neighbour::{Neighbour, solicit};
pub use schedule::{INTERVAL_MAX, Schedule};

/// Every node of the link (RFC 4291 section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What all messages are sent with, so that none that a router has forwarded is believed.
const HOP_LIMIT: u8 = 255;
/// Where the checksum stands in an ICMPv6 message.
const SUM_AT: usize = 2;

/// Message types.
mod kind {
    pub(super) const ROUTER_SOLICITATION: u8 = 133;
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
}

/// Option types.
mod option {
    pub(super) const SOURCE_LINK_LAYER: u8 = 1;
    pub(super) const TARGET_LINK_LAYER: u8 = 2;
    pub(super) const PREFIX: u8 = 3;
    pub(super) const MTU: u8 = 5;
    /// RFC 4191.
    pub(super) const ROUTE: u8 = 24;
    /// RFC 8106.
    pub(super) const NAME_SERVERS: u8 = 25;
    /// RFC 8106.
    pub(super) const SEARCH: u8 = 31;
}

/// The group in which every owner of an address listens (RFC 4291 section 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}
