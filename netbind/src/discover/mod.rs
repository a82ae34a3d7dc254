//! Reads a pod's network from the kernel, and waits until it is ready. Changes nothing.
//!
//! ```text
//! look -> ready ------------------------------------------> PodNetwork
//!    \-> cannot be bound (ipvlan, no MAC, duplicate, ...) -> DiscoverError
//!     \-> not ready: subscribe, then look after each change, until the deadline
//! ```
//!
//! Nearly always the CNI plugin is done before the first look, which then costs no wait and no
//! further socket. An interface that comes late (a secondary network), duplicate address detection,
//! and expected addresses (SLAAC) are waited for by the kernel's own notifications.
//!
//! An address that nobody expects is not: the kernel does not tell a network without a router from
//! one whose router is yet to speak, and most have none, so each start would wait in vain.

mod check;
mod error;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;

use crate::netlink::{Changes, Netlink};
use crate::network::{Ipv6Link, Ipv6Settings, PodNetwork};
use crate::sysctl;

pub use error::DiscoverError;
use read::Leads;

/// What has to be there before a pod's network is taken as it is.
///
/// An interface that exists, is up, and has no address under duplicate address detection is always
/// asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// How long to wait; zero to look once.
    pub timeout: Duration,
    /// Addresses that the interface has to have, such as the pod's `status.podIPs`.
    pub addresses: Vec<IpAddr>,
}

/// How long a network that had to be waited for has to stay unchanged: a CNI plugin makes
/// interface, addresses and routes one after the other, and tells nobody which was the last.
const SETTLED: Duration = Duration::from_millis(250);

/// Reads all there is to know about the interface in the calling thread's network namespace, once
/// it is as expected.
///
/// # Errors
///
/// [`DiscoverError`] when the interface cannot be handed to a guest, is not as expected in time, or
/// the kernel does not answer.
pub fn discover(interface: &str, expect: &Expect) -> Result<PodNetwork, DiscoverError> {
    let deadline = Instant::now() + expect.timeout;
    let mut netlink = Netlink::open().map_err(DiscoverError::netlink("anything"))?;
    match look(&mut netlink, interface, expect) {
        Err(error) if error.may_pass() && !expect.timeout.is_zero() => {}
        done => return done,
    }

    let mut changes = Changes::subscribe().map_err(DiscoverError::netlink("changes"))?;
    loop {
        // After the subscription, and again after each change: none can be missed.
        let found = look(&mut netlink, interface, expect);
        let until = match &found {
            Ok(_) => deadline.min(Instant::now() + SETTLED),
            Err(error) if error.may_pass() => deadline,
            Err(_) => return found,
        };
        let changed = changes
            .wait(until)
            .map_err(DiscoverError::netlink("changes"))?;
        if !changed {
            return found.map_err(|error| DiscoverError::NotReady {
                timeout: expect.timeout,
                source: Box::new(error),
            });
        }
    }
}

/// Reads the network as it is now.
fn look(
    netlink: &mut Netlink,
    interface: &str,
    expect: &Expect,
) -> Result<PodNetwork, DiscoverError> {
    let link = netlink
        .link(interface)
        .map_err(DiscoverError::netlink("the interface"))?;
    let Some(link) = link else {
        let present = netlink
            .link_names()
            .map_err(DiscoverError::netlink("the list of interfaces"))?;
        return Err(DiscoverError::NoInterface {
            interface: interface.to_owned(),
            present,
        });
    };
    let mac = check::link(&link)?;

    let addresses = netlink
        .dump(
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            |reply| match reply {
                RouteNetlinkMessage::NewAddress(m) if m.header.index == link.index => {
                    read::address(&m)
                }
                _ => None,
            },
        )
        .map_err(DiscoverError::netlink("addresses"))?;
    check::addresses(&link.name, &addresses, &expect.addresses)?;

    let mut elsewhere = BTreeSet::new();
    let routes = netlink
        .dump(
            RouteNetlinkMessage::GetRoute(RouteMessage::default()),
            |reply| match reply {
                RouteNetlinkMessage::NewRoute(m) => match read::route(m, link.index)? {
                    Leads::Here(route) => Some(route),
                    Leads::Elsewhere(net) => {
                        elsewhere.insert(net);
                        None
                    }
                },
                _ => None,
            },
        )
        .map_err(DiscoverError::netlink("routes"))?;
    let neighbours = netlink
        .dump(
            RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
            |reply| match reply {
                RouteNetlinkMessage::NewNeighbour(m) if m.header.ifindex == link.index => {
                    read::neighbour(m)
                }
                _ => None,
            },
        )
        .map_err(DiscoverError::netlink("neighbours"))?;

    let addresses = addresses.into_iter().map(|found| {
        let mut address = found.address;
        address.autoconfigured &= !expect.addresses.contains(&address.net.addr());
        address
    });

    Ok(PodNetwork {
        mac,
        mtu: link.mtu,
        addresses: addresses.collect(),
        routes,
        elsewhere: elsewhere.into_iter().collect(),
        neighbours,
        bridge_netfilter: sysctl::bridge_netfilter(),
        ipv4_forwarding: link.ipv4_forwarding,
        ipv6_settings: ipv6_settings(netlink)?,
        index: link.index,
        kind: link.kind,
        interface: link.name,
    })
}

/// The namespace's settings of IPv6; none in a kernel without it.
fn ipv6_settings(netlink: &mut Netlink) -> Result<Option<Ipv6Settings>, DiscoverError> {
    let forwarding = sysctl::read(sysctl::IPV6_FORWARDING);
    let disabled = sysctl::read(&sysctl::disable_ipv6("default"));
    let (Some(forwarding), Some(disabled)) = (forwarding, disabled) else {
        return Ok(None);
    };
    let links = netlink
        .links()
        .map_err(DiscoverError::netlink("the links' settings"))?;
    let links = links.into_iter().filter_map(|link| {
        let (forwarding, accept_ra) = link.ipv6?;
        Some(Ipv6Link {
            name: link.name,
            forwarding,
            accept_ra,
        })
    });
    Ok(Some(Ipv6Settings {
        forwarding,
        disabled,
        writable: sysctl::is_writable(sysctl::IPV6_FORWARDING),
        links: links.collect(),
    }))
}
