//! What the guest is told over IPv6: by router advertisements and by DHCPv6.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use crate::mac::Mac;

/// The guest's IPv6 network.
///
/// Addresses are managed: DHCPv6 hands them out, and no prefix is for autoconfiguration, because
/// only the pod's own addresses are routed to the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Network {
    /// The guest's addresses, all in one IA_NA (RFC 8415 section 21.4). Never empty.
    pub addresses: Vec<Ipv6Addr>,
    /// The guest's router.
    pub router: Router,
    /// Networks whose hosts are neighbours (RFC 4861 section 4.6.2, flag L).
    pub on_link: Vec<Ipv6Net>,
    /// Further networks behind the router (RFC 4191 section 2.3).
    pub routes: Vec<Ipv6Net>,
    /// Name servers (RFC 8106 section 5.1; RFC 3646 section 3).
    pub dns: Vec<Ipv6Addr>,
    /// Search domains (RFC 8106 section 5.2; RFC 3646 section 4).
    pub search: Vec<String>,
    /// Time servers (RFC 4075; RFC 5908).
    pub ntp: Vec<Ipv6Addr>,
    /// The guest's host name (RFC 4704).
    pub hostname: Option<String>,
    /// The largest packet in bytes (RFC 4861 section 4.6.4); at least 1280.
    pub mtu: u32,
    /// How long an address is valid, and preferred, in seconds; renewal at a half, rebinding at four
    /// fifths.
    pub seconds: u32,
}

/// Who forwards the guest's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// Its link-local address: the source of router advertisements, and so the next hop of the
    /// guest's routes.
    pub address: Ipv6Addr,
    /// Whether it is a default router; else its advertisements have a lifetime of zero.
    pub default: bool,
    /// Who answers neighbour solicitations for its address.
    pub speaker: Speaker,
}

/// Who answers neighbour solicitations for the router's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Speaker {
    /// The router: a gateway that the pod knows by its link-local address, or the pod's kernel.
    Itself,
    /// We do, with this MAC: the gateway's, if the pod has a permanent neighbour entry for it, or
    /// ours where there is no gateway.
    Station(Mac),
    /// We do, with the MAC that the gateway has at that moment. The pod knows the gateway by this
    /// address only, which no router advertisement can name.
    Gateway(Ipv6Addr),
}
