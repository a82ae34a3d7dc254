//! What a pod's network interface looks like before anything of it is changed.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::mac::Mac;

/// A pod's interface as the CNI plugin left it: all that [`plan`](crate::plan()) decides from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetwork {
    /// The interface's name, usually `eth0`.
    pub interface: String,
    /// The interface's index in its namespace.
    pub index: u32,
    /// The driver's name for the kind of link (`veth`, `macvlan`, ...); none for hardware.
    pub kind: Option<String>,
    /// The Ethernet address, which the guest takes over.
    pub mac: Mac,
    /// The largest packet the link carries, in bytes.
    pub mtu: u32,
    /// Addresses in the kernel's order; the guest gets the first IPv4 one.
    pub addresses: Vec<Address>,
    /// Unicast routes that leave through this interface, in every table but `local`.
    pub routes: Vec<Route>,
    /// Permanent neighbour entries: some plugins make one for a gateway that answers no ARP.
    pub neighbours: Vec<Neighbour>,
    /// `net.bridge.bridge-nf-call-iptables` of the namespace; none where bridge netfilter is absent.
    pub bridge_netfilter: Option<bool>,
}

impl PodNetwork {
    /// The IPv4 address that the guest takes over: the first that is neither secondary nor
    /// link-local scoped.
    pub fn ipv4(&self) -> Option<Ipv4Net> {
        self.addresses
            .iter()
            .filter(|a| !a.secondary)
            .find_map(|a| match a.net {
                IpNet::V4(net) if a.scope == Scope::Global => Some(net),
                _ => None,
            })
    }

    /// The default route over IPv4 with the lowest metric.
    pub fn default_route(&self) -> Option<&Route> {
        self.routes
            .iter()
            .filter(|r| r.table == MAIN_TABLE)
            .filter(|r| r.destination == IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)))
            .min_by_key(|r| r.metric.unwrap_or(0))
    }
}

/// The main routing table (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// An address of the pod's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Address and prefix length.
    pub net: IpNet,
    /// How far the address is valid.
    pub scope: Scope,
    /// `IFA_F_SECONDARY`: a further address in a subnet that has one already.
    pub secondary: bool,
}

/// How far an address or a route reaches (`rt_scope_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everywhere.
    Global,
    /// This site.
    Site,
    /// This link: destinations are neighbours.
    Link,
    /// This host.
    Host,
    /// Nowhere.
    Nowhere,
    /// A scope that an administrator numbered.
    #[serde(untagged)]
    Other(u8),
}

impl From<u8> for Scope {
    fn from(value: u8) -> Self {
        match value {
            0 => Self::Global,
            200 => Self::Site,
            253 => Self::Link,
            254 => Self::Host,
            255 => Self::Nowhere,
            other => Self::Other(other),
        }
    }
}

/// A unicast route through the pod's interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads; `0.0.0.0/0` for the default.
    pub destination: IpNet,
    /// The next hop; none where destinations are neighbours on the link.
    pub gateway: Option<IpAddr>,
    /// The source address the pod would use.
    pub source: Option<IpAddr>,
    /// How far it reaches.
    pub scope: Scope,
    /// The gateway is to be taken as a neighbour although no route says so (`onlink`).
    pub on_link: bool,
    /// Lower wins; none is 0.
    pub metric: Option<u32>,
    /// The largest packet on this route, in bytes, where it differs from the link's.
    pub mtu: Option<u32>,
    /// Routing table number; 254 is `main`.
    pub table: u32,
}

/// A fixed pair of address and Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
}
