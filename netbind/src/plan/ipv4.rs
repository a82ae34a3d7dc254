//! The pod's ways over IPv4, in DHCP's words.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::dhcp::ClasslessRoute;
use crate::network::{MAIN_TABLE, PodNetwork};

/// The guest's ways to its destinations.
pub(super) struct Ways {
    pub(super) address: Ipv4Net,
    pub(super) router: Option<Ipv4Addr>,
    pub(super) routes: Vec<ClasslessRoute>,
}

/// A route of the pod over IPv4.
struct Hop {
    destination: Ipv4Net,
    /// None where destinations are neighbours.
    gateway: Option<Ipv4Addr>,
    metric: u32,
}

/// Translates the pod's routes into what DHCP can say; none if the pod has no IPv4 address.
pub(super) fn ways(network: &PodNetwork, warnings: &mut Vec<String>) -> Option<Ways> {
    let address = network.ipv4().next()?;
    for other in network.ipv4().skip(1) {
        warnings.push(format!(
            "address {other} left out: DHCP gives the guest one address"
        ));
    }
    let mut hops = hops(network, warnings);
    // A plugin such as ptp removes the subnet's own route and sends even neighbours through the
    // gateway: there a guest that took them for neighbours would ask in vain.
    let address = if are_neighbours(&hops, address.trunc()) {
        address
    } else {
        host(address.addr())
    };
    let subnet = address.trunc();
    let router = network
        .default_route()
        .and_then(|route| match route.gateway {
            Some(IpAddr::V4(gateway)) => Some(gateway),
            _ => None,
        });

    // RFC 3442: a client that reads 121 ignores option 3, so if anything is in 121, the default
    // route is as well; and each gateway outside the subnet needs a route to itself before it.
    let unknown: Vec<_> = hops
        .iter()
        .filter_map(|hop| hop.gateway)
        .filter(|gateway| !subnet.contains(gateway) && !are_neighbours(&hops, host(*gateway)))
        .map(|gateway| (host(gateway), Ipv4Addr::UNSPECIFIED))
        .collect();
    // The client makes the subnet's own route itself.
    hops.retain(|hop| hop.gateway.is_some() || hop.destination != subnet);
    hops.sort_by_key(|hop| (Reverse(hop.destination.prefix_len()), hop.metric));
    let is_plain = |hop: &Hop| {
        hop.destination.prefix_len() == 0
            && hop.gateway.is_some_and(|gateway| subnet.contains(&gateway))
    };
    if hops.iter().all(is_plain) {
        return Some(Ways {
            address,
            router,
            routes: Vec::new(),
        });
    }
    let neighbours = hops
        .iter()
        .filter(|hop| hop.gateway.is_none())
        .map(|hop| (hop.destination, Ipv4Addr::UNSPECIFIED));
    let beyond = hops
        .iter()
        .filter_map(|hop| Some((hop.destination, hop.gateway?)));
    let mut routes: Vec<ClasslessRoute> = Vec::new();
    for (destination, router) in neighbours.chain(unknown).chain(beyond) {
        // Of several routes to one destination the first has the lowest metric.
        if routes.iter().all(|known| known.destination != destination) {
            routes.push(ClasslessRoute {
                destination,
                router,
            });
        }
    }
    Some(Ways {
        address,
        router,
        routes,
    })
}

/// The routes that the guest can use: those that the pod uses for any packet, and over IPv4.
fn hops(network: &PodNetwork, warnings: &mut Vec<String>) -> Vec<Hop> {
    let mut hops = Vec::new();
    for route in network
        .routes
        .iter()
        .filter(|route| route.table == MAIN_TABLE)
    {
        let IpNet::V4(destination) = route.destination else {
            continue;
        };
        let gateway = match route.gateway {
            None => None,
            Some(IpAddr::V4(gateway)) => Some(gateway),
            Some(IpAddr::V6(gateway)) => {
                warnings.push(format!(
                    "route to {destination} left out: DHCP cannot name its gateway {gateway}, \
                     an IPv6 address"
                ));
                continue;
            }
        };
        hops.push(Hop {
            destination,
            gateway,
            metric: route.metric.unwrap_or(0),
        });
    }
    hops
}

/// Whether the pod reaches all of a network without a gateway.
fn are_neighbours(hops: &[Hop], net: Ipv4Net) -> bool {
    hops.iter()
        .any(|hop| hop.gateway.is_none() && hop.destination.contains(&net))
}

/// The network of one address.
fn host(address: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::from(address)
}
