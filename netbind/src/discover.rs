//! Reads a pod's network from the kernel. Changes nothing.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::link::LinkFlags;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHopFlags,
    RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::mac::Mac;
use crate::netlink::Netlink;
use crate::network::{Address, Neighbour, PodNetwork, Route};
use crate::sysctl;

/// Why a pod's network cannot be used. Each says what would help.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// The kernel refused to tell.
    #[error("cannot read {what} from the kernel")]
    Netlink {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No interface of that name.
    #[error(
        "no network interface named {interface} here (there are: {}); run inside the pod's network \
         namespace, or name the interface that the CNI plugin made",
        present.join(", ")
    )]
    NoInterface {
        /// The name asked for.
        interface: String,
        /// The names that exist.
        present: Vec<String>,
    },
    /// The loopback interface was named.
    #[error(
        "{0} is the loopback interface, which no guest can take over; name the pod's interface"
    )]
    Loopback(String),
    /// The interface shares its MAC address with others.
    #[error(
        "{interface} is of kind {kind}, which shares one MAC address between pods: a guest cannot \
         own it; use a CNI plugin that gives each pod a MAC (bridge, ptp, macvlan)"
    )]
    SharedMac {
        /// The interface.
        interface: String,
        /// Its kind.
        kind: String,
    },
    /// Not an Ethernet interface, or one without an address.
    #[error(
        "{0} has no unicast MAC address to give to the guest; use a CNI plugin that makes Ethernet interfaces"
    )]
    NoMac(String),
    /// The interface is down.
    #[error("{0} is down; the CNI plugin has to bring it up first")]
    Down(String),
    /// No IPv4 address.
    #[error(
        "{0} has no IPv4 address to give to the guest; configure the CNI network's ipam section"
    )]
    NoAddress(String),
}

/// Reads all there is to know about the interface in the calling thread's network namespace.
///
/// # Errors
///
/// [`DiscoverError`] when the interface cannot be handed to a guest, or the kernel does not answer.
pub fn discover(interface: &str) -> Result<PodNetwork, DiscoverError> {
    let failed = |what| move |source| DiscoverError::Netlink { what, source };
    let mut netlink = Netlink::open().map_err(failed("anything"))?;

    let link = netlink.link(interface).map_err(failed("the interface"))?;
    let Some(link) = link else {
        let present = netlink
            .link_names()
            .map_err(failed("the list of interfaces"))?;
        return Err(DiscoverError::NoInterface {
            interface: interface.to_owned(),
            present,
        });
    };
    let name = link.name;
    if link.flags.contains(LinkFlags::Loopback) {
        return Err(DiscoverError::Loopback(name));
    }
    if let Some(kind) = link
        .kind
        .as_deref()
        .filter(|kind| matches!(*kind, "ipvlan" | "ipvtap"))
    {
        return Err(DiscoverError::SharedMac {
            interface: name,
            kind: kind.to_owned(),
        });
    }
    let Some(mac) = link.mac.filter(|mac| mac.is_unicast()) else {
        return Err(DiscoverError::NoMac(name));
    };
    if !link.flags.contains(LinkFlags::Up) {
        return Err(DiscoverError::Down(name));
    }

    let addresses = netlink
        .dump(
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            |reply| match reply {
                RouteNetlinkMessage::NewAddress(m) if m.header.index == link.index => address(m),
                _ => None,
            },
        )
        .map_err(failed("addresses"))?;
    let routes = netlink
        .dump(
            RouteNetlinkMessage::GetRoute(RouteMessage::default()),
            |reply| match reply {
                RouteNetlinkMessage::NewRoute(m) => route(m, link.index),
                _ => None,
            },
        )
        .map_err(failed("routes"))?;
    let neighbours = netlink
        .dump(
            RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
            |reply| match reply {
                RouteNetlinkMessage::NewNeighbour(m) if m.header.ifindex == link.index => {
                    neighbour(m)
                }
                _ => None,
            },
        )
        .map_err(failed("neighbours"))?;

    let network = PodNetwork {
        interface: name,
        index: link.index,
        kind: link.kind,
        mac,
        mtu: link.mtu,
        addresses,
        routes,
        neighbours,
        bridge_netfilter: sysctl::read(sysctl::BRIDGE_NF_CALL_IPTABLES),
    };
    match network.ipv4() {
        Some(_) => Ok(network),
        None => Err(DiscoverError::NoAddress(network.interface)),
    }
}

fn address(message: AddressMessage) -> Option<Address> {
    // IFA_LOCAL is ours; IFA_ADDRESS is the peer's on a point-to-point link, and the only one of IPv6.
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let secondary = message.header.flags.contains(AddressHeaderFlags::Secondary)
        || message.attributes.iter().any(
            |a| matches!(a, AddressAttribute::Flags(f) if f.contains(AddressFlags::Secondary)),
        );
    Some(Address {
        net: IpNet::new(local.or(any)?, message.header.prefix_len).ok()?,
        scope: u8::from(message.header.scope).into(),
        secondary,
    })
}

fn route(message: RouteMessage, index: u32) -> Option<Route> {
    let header = &message.header;
    let (unspecified, length) = match header.address_family {
        AddressFamily::Inet => (IpAddr::from([0u8; 4]), header.destination_prefix_length),
        AddressFamily::Inet6 => (IpAddr::from([0u8; 16]), header.destination_prefix_length),
        _ => return None,
    };
    if header.kind != RouteType::Unicast {
        return None;
    }
    let mut destination = unspecified;
    let mut route = Route {
        destination: IpNet::new(destination, length).ok()?,
        gateway: None,
        source: None,
        scope: u8::from(header.scope).into(),
        on_link: header.flags.contains(RouteFlags::Onlink),
        metric: None,
        mtu: None,
        table: header.table.into(),
    };
    let mut ours = false;
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(&address)?,
            RouteAttribute::Gateway(address) => route.gateway = ip(&address),
            RouteAttribute::Via(via) => route.gateway = via_ip(&via),
            RouteAttribute::PrefSource(address) => route.source = ip(&address),
            RouteAttribute::Oif(oif) => ours = oif == index,
            RouteAttribute::Priority(metric) => route.metric = Some(metric),
            RouteAttribute::Table(table) => route.table = table,
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            // Of several next hops the guest can use those on its own link; it is given the first.
            RouteAttribute::MultiPath(hops) => {
                if let Some(hop) = hops.iter().find(|hop| hop.interface_index == index) {
                    ours = true;
                    route.on_link = hop.flags.contains(RouteNextHopFlags::Onlink);
                    for attribute in &hop.attributes {
                        match attribute {
                            RouteAttribute::Gateway(address) => route.gateway = ip(address),
                            RouteAttribute::Via(via) => route.gateway = via_ip(via),
                            _ => {}
                        }
                    }
                }
            }
            _ => {}
        }
    }
    route.destination = IpNet::new(destination, length).ok()?;
    ours.then_some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn via_ip(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(v4) => Some((*v4).into()),
        RouteVia::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn neighbour(message: NeighbourMessage) -> Option<Neighbour> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(v4.into())
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(v6.into())
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some(Neighbour {
        address: address?,
        mac: mac?,
    })
}
