//! What a pod's network interface looks like before anything of it is changed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
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
    /// Addresses in the kernel's order. There may be none.
    pub addresses: Vec<Address>,
    /// Unicast routes that leave through this interface, in every table but `local`.
    pub routes: Vec<Route>,
    /// Networks that the pod reaches by its other links.
    pub elsewhere: Vec<IpNet>,
    /// Permanent neighbour entries: some plugins make one for a gateway that answers no ARP.
    pub neighbours: Vec<Neighbour>,
    /// Which tables of the namespace bridged frames go through; none where bridge netfilter is absent.
    pub bridge_netfilter: Option<BridgeNetfilter>,
    /// `net.ipv4.conf.INTERFACE.forwarding`.
    pub ipv4_forwarding: bool,
    /// The settings of IPv6; none in a kernel without it.
    pub ipv6_settings: Option<Ipv6Settings>,
}

/// The namespace's `net.bridge.bridge-nf-call-*`. In a new namespace all of them are on, and a `FORWARD`
/// policy of drop would kill the guest's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeNetfilter {
    /// IPv4 packets go through iptables.
    pub iptables: bool,
    /// IPv6 packets go through ip6tables.
    pub ip6tables: bool,
    /// ARP goes through arptables.
    pub arptables: bool,
}

impl BridgeNetfilter {
    /// Whether any of them is on.
    pub fn is_on(self) -> bool {
        self.iptables || self.ip6tables || self.arptables
    }
}

/// The settings of a namespace that IPv6 masquerade changes, and its end puts back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Settings {
    /// `net.ipv6.conf.all.forwarding`.
    pub forwarding: bool,
    /// `net.ipv6.conf.default.disable_ipv6`: a new link has no IPv6.
    pub disabled: bool,
    /// Whether the settings can be changed. A container's `/proc/sys` is read-only, and there is no
    /// netlink path to them.
    pub writable: bool,
    /// What each link has of its own: forwarding for the namespace changes it for all.
    pub links: Vec<Ipv6Link>,
}

/// `net.ipv6.conf.LINK`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Link {
    /// The link.
    pub name: String,
    /// `forwarding`.
    pub forwarding: bool,
    /// `accept_ra`: 2 accepts advertisements also where packets are forwarded.
    pub accept_ra: u8,
}

impl PodNetwork {
    /// The IPv4 addresses that the guest could take over: all that are global, and not deprecated.
    /// The kernel lists secondary ones last.
    pub fn ipv4(&self) -> impl Iterator<Item = Ipv4Net> {
        self.usable().filter_map(|address| match address.net {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        })
    }

    /// The IPv6 addresses that the guest takes over: all that are global, and neither temporary
    /// (RFC 8981) nor deprecated (RFC 4862 section 5.5.4).
    pub fn ipv6(&self) -> impl Iterator<Item = Ipv6Net> {
        self.usable().filter_map(|address| match address.net {
            IpNet::V6(net) => Some(net),
            IpNet::V4(_) => None,
        })
    }

    /// Whether nobody gave the pod an address: the guest is to get its own from the network. What the
    /// kernel makes of an advertisement depends on when that came, and the guest's kernel can do as
    /// well; to serve that alone would keep the guest from the network's DHCP server.
    pub(crate) fn is_layer_2(&self) -> bool {
        self.usable().all(|address| address.autoconfigured)
    }

    fn usable(&self) -> impl Iterator<Item = &Address> {
        let temporary = |address: &Address| address.secondary && address.net.addr().is_ipv6();
        self.addresses
            .iter()
            .filter(move |a| a.scope == Scope::Global && !temporary(a) && !a.deprecated)
    }

    /// All addresses that are routed to the pod, also those that the guest is not told of.
    pub fn routed(&self) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        for address in &self.addresses {
            match address.net {
                IpNet::V4(net) => ipv4.push(net.addr()),
                IpNet::V6(net) if address.scope != Scope::Link => ipv6.push(net.addr()),
                IpNet::V6(_) => {}
            }
        }
        (ipv4, ipv6)
    }

    /// The default route over IPv4 with the lowest metric.
    pub fn default_route(&self) -> Option<&Route> {
        self.best_route(IpNet::V4(Ipv4Net::default()))
    }

    /// The default route over IPv6 with the lowest metric.
    pub fn default_route_v6(&self) -> Option<&Route> {
        self.best_route(IpNet::V6(Ipv6Net::default()))
    }

    fn best_route(&self, destination: IpNet) -> Option<&Route> {
        self.routes
            .iter()
            .filter(|r| r.table == MAIN_TABLE && r.destination == destination)
            .min_by_key(|r| r.metric.unwrap_or(0))
    }

    /// The MAC of a neighbour that has a permanent entry.
    pub fn neighbour(&self, address: IpAddr) -> Option<Mac> {
        let known = self.neighbours.iter().find(|n| n.address == address)?;
        Some(known.mac)
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
    /// `IFA_F_SECONDARY`: a further address in an IPv4 subnet that has one already; of IPv6 a
    /// temporary one (the flag is the same).
    pub secondary: bool,
    /// `IFA_F_DEPRECATED`: not to be used by new connections.
    pub deprecated: bool,
    /// `IFA_F_MANAGETEMPADDR`: made by the kernel of a router's advertisement (RFC 4862), and
    /// [expected](crate::Expect::addresses) by nobody.
    pub autoconfigured: bool,
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
