//! What the guest is told: the pod's network in DHCP's words.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::{GuestNetwork, MTU_MIN, Options, PlanError};
use crate::dhcp::{ClasslessRoute, Lease, SERVER_ID};
use crate::name;
use crate::network::{MAIN_TABLE, PodNetwork};

/// The guest's side of a plan.
pub(super) fn guest(
    network: &PodNetwork,
    options: &Options,
    bridge: String,
) -> Result<GuestNetwork, PlanError> {
    let dhcp = &options.dhcp;
    if let Some(code) = dhcp
        .private
        .keys()
        .find(|code| !(224..=254).contains(*code))
    {
        return Err(PlanError::PrivateOption(*code));
    }
    if dhcp.lease_seconds < 10 {
        return Err(PlanError::ShortLease(dhcp.lease_seconds));
    }
    let mac = dhcp.client.unwrap_or(network.mac);
    if !mac.is_unicast() || [options.macs.bridge, options.macs.tap].contains(&mac) {
        return Err(PlanError::BadMac(mac));
    }
    let Some(address) = network.ipv4() else {
        return Err(PlanError::NoAddress(network.interface.clone()));
    };
    let mut warnings = options.resolv_conf.warnings.clone();
    let others = network
        .addresses
        .iter()
        .filter(|a| matches!(a.net, IpNet::V4(v4) if v4 != address));
    for other in others {
        warnings.push(format!(
            "address {} left out: DHCP gives the guest one address",
            other.net
        ));
    }
    let ways = ways(network, address, &mut warnings);
    let mtu = mtu(network);
    let dns = options
        .resolv_conf
        .nameservers
        .iter()
        .filter_map(|ip| match ip {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
    let hostname = options
        .hostname
        .as_ref()
        .filter(|hostname| match name::check(hostname) {
            Ok(()) => true,
            Err(reason) => {
                warnings.push(format!("host name {hostname:?} left out: {reason}"));
                false
            }
        });
    let search = &options.resolv_conf.search;

    Ok(GuestNetwork {
        interface: network.interface.clone(),
        bridge,
        tap: options.tap.name.clone(),
        mac,
        mtu,
        server_mac: options.macs.bridge,
        lease: Lease {
            client: mac,
            address: ways.address,
            router: ways.router,
            routes: ways.routes,
            dns: dns.collect(),
            search: search.clone(),
            // The first of equals: systemd-networkd searches option 15 before option 119's list.
            domain: search
                .iter()
                .rev()
                .max_by_key(|domain| domain.len())
                .cloned(),
            hostname: hostname.cloned(),
            mtu,
            ntp: dhcp.ntp_servers.clone(),
            tftp_server_name: dhcp.tftp_server_name.clone(),
            boot_file_name: dhcp.boot_file_name.clone(),
            private: dhcp.private.clone(),
            server_id: SERVER_ID,
            seconds: dhcp.lease_seconds,
        },
        neighbours: network
            .neighbours
            .iter()
            .filter(|n| n.address.is_ipv4())
            .copied()
            .collect(),
        warnings,
    })
}

/// The link's MTU, or the default route's where that is smaller (Cilium sets it there); without a
/// default route, the smallest of any route's.
fn mtu(network: &PodNetwork) -> u32 {
    let route_mtu = match network.default_route() {
        Some(route) => route.mtu,
        None => network.routes.iter().filter_map(|route| route.mtu).min(),
    };
    route_mtu
        .filter(|mtu| *mtu >= MTU_MIN)
        .map_or(network.mtu, |mtu| mtu.min(network.mtu))
}

/// The guest's ways to its destinations.
struct Ways {
    address: Ipv4Net,
    router: Option<Ipv4Addr>,
    routes: Vec<ClasslessRoute>,
}

/// A route of the pod over IPv4.
struct Hop {
    destination: Ipv4Net,
    /// None where destinations are neighbours.
    gateway: Option<Ipv4Addr>,
    metric: u32,
}

/// Translates the pod's routes into what DHCP can say.
fn ways(network: &PodNetwork, address: Ipv4Net, warnings: &mut Vec<String>) -> Ways {
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
        return Ways {
            address,
            router,
            routes: Vec::new(),
        };
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
    Ways {
        address,
        router,
        routes,
    }
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
