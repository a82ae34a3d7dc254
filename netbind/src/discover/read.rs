//! What the kernel's messages say of an interface.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHopFlags,
    RouteType, RouteVia,
};

use crate::mac::Mac;
use crate::network::{Address, Neighbour, Route};

/// An address, and how sure the kernel is of it (RFC 4862 section 5.4).
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) address: Address,
    /// `IFA_F_TENTATIVE`: not found to be unique yet.
    pub(super) tentative: bool,
    /// `IFA_F_DADFAILED`: another station has it.
    pub(super) duplicate: bool,
}

pub(super) fn address(message: &AddressMessage) -> Option<Found> {
    // IFA_LOCAL is ours; IFA_ADDRESS is the peer's on a point-to-point link, and the only one of IPv6.
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    // All flags that matter but one are among the eight that fit into the header.
    let has = |flag| message.header.flags.contains(flag);
    let autoconfigured = message.attributes.iter().any(|a| match a {
        AddressAttribute::Flags(flags) => flags.contains(AddressFlags::Managetempaddr),
        _ => false,
    });
    let duplicate = has(AddressHeaderFlags::Dadfailed);
    Some(Found {
        address: Address {
            net: IpNet::new(local.or(any)?, message.header.prefix_len).ok()?,
            scope: u8::from(message.header.scope).into(),
            secondary: has(AddressHeaderFlags::Secondary),
            deprecated: has(AddressHeaderFlags::Deprecated),
            autoconfigured,
        },
        // A duplicate stays tentative for ever.
        tentative: has(AddressHeaderFlags::Tentative) && !duplicate,
        duplicate,
    })
}

/// By which link a route leads.
pub(super) enum Leads {
    /// By the one that was asked about.
    Here(Route),
    /// By another, to this network.
    Elsewhere(IpNet),
}

pub(super) fn route(message: RouteMessage, index: u32) -> Option<Leads> {
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
    Some(if ours {
        Leads::Here(route)
    } else {
        Leads::Elsewhere(route.destination)
    })
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

pub(super) fn neighbour(message: NeighbourMessage) -> Option<Neighbour> {
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
