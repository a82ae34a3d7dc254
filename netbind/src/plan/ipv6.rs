//! The pod's ways over IPv6, in the words of router advertisements.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::ipv6::{Router, Speaker};
use crate::mac::Mac;
use crate::network::{MAIN_TABLE, PodNetwork};

/// The guest's ways to its destinations.
pub(super) struct Ways {
    pub(super) addresses: Vec<Ipv6Addr>,
    pub(super) router: Router,
    pub(super) on_link: Vec<Ipv6Net>,
    pub(super) routes: Vec<Ipv6Net>,
}

/// Translates the pod's routes; none if the pod has no IPv6 address.
///
/// A router advertisement names one router, its own source. So the guest gets the routes of one
/// gateway: the default route's, or else the first.
pub(super) fn ways(network: &PodNetwork, ours: Mac, warnings: &mut Vec<String>) -> Option<Ways> {
    let addresses: Vec<_> = network.ipv6().map(|net| net.addr()).collect();
    if addresses.is_empty() {
        return None;
    }
    let hops = hops(network);
    let default = hops
        .iter()
        .find(|hop| hop.destination.prefix_len() == 0 && hop.gateway.is_some());
    let gateway = default.map_or_else(
        || hops.iter().find_map(|hop| hop.gateway),
        |hop| hop.gateway,
    );
    let router = router(network, gateway, default.is_some(), ours);

    let mut on_link: Vec<Ipv6Net> = Vec::new();
    let mut routes: Vec<Ipv6Net> = Vec::new();
    for hop in hops.iter().filter(|hop| hop.gateway.is_none()) {
        // To itself the guest needs no way.
        let own = addresses
            .iter()
            .any(|a| Ipv6Net::from(*a) == hop.destination);
        if !own && !on_link.contains(&hop.destination) {
            on_link.push(hop.destination);
        }
    }
    for hop in &hops {
        let net = hop.destination;
        if hop.gateway.is_none() || routes.contains(&net) {
            continue;
        }
        if hop.gateway != gateway {
            warnings.push(format!(
                "route to {net} left out: an advertisement cannot name a second router"
            ));
            continue;
        }
        // Where the default route leads there anyhow, it need not be said.
        let hidden = on_link.iter().any(|neighbours| neighbours.contains(&net));
        if net.prefix_len() != 0 && (default.is_none() || hidden) {
            routes.push(net);
        }
    }
    Some(Ways {
        addresses,
        router,
        on_link,
        routes,
    })
}

/// Who forwards, and who answers for it.
fn router(network: &PodNetwork, gateway: Option<Ipv6Addr>, default: bool, ours: Mac) -> Router {
    let Some(gateway) = gateway else {
        return Router {
            address: ours.link_local(),
            default: false,
            speaker: Speaker::Station(ours),
        };
    };
    let station = network.neighbour(IpAddr::V6(gateway)).map(Speaker::Station);
    let (address, speaker) = if gateway.is_unicast_link_local() {
        (gateway, Speaker::Itself)
    } else {
        (ours.link_local(), Speaker::Gateway(gateway))
    };
    Router {
        address,
        default,
        speaker: station.unwrap_or(speaker),
    }
}

/// A route of the pod over IPv6.
struct Hop {
    destination: Ipv6Net,
    /// None where destinations are neighbours.
    gateway: Option<Ipv6Addr>,
}

/// The routes that the guest can use, the lowest metric first.
fn hops(network: &PodNetwork) -> Vec<Hop> {
    let mut routes: Vec<_> = network
        .routes
        .iter()
        .filter(|route| route.table == MAIN_TABLE)
        .collect();
    routes.sort_by_key(|route| route.metric.unwrap_or(0));
    let hop = |destination: IpNet, gateway: Option<IpAddr>| {
        let IpNet::V6(destination) = destination else {
            return None;
        };
        let gateway = match gateway {
            Some(IpAddr::V6(gateway)) => Some(gateway),
            Some(IpAddr::V4(_)) => return None,
            None => None,
        };
        let first = destination.addr();
        // Every link has these.
        let usual = first.is_unicast_link_local() || first.is_multicast();
        (!usual).then_some(Hop {
            destination,
            gateway,
        })
    };
    routes
        .into_iter()
        .filter_map(|route| hop(route.destination, route.gateway))
        .collect()
}
