//! Masquerade binding: the guest has a network of its own behind the pod's addresses.
//!
//! ```text
//!     node          |  pod's network namespace                          |  guest
//!                   |                                                   |
//!   vethX ----------+-- eth0 (MAC, IP, routes: left as they are)        |
//!                   |     | forwarded, translated both ways             |
//!                   |   k6t-eth0 (bridge: 10.0.2.1/24, fd10:0:2::1/120) |
//!                   |     | port                                        |
//!                   |   tap0 --------------------------------------------- 10.0.2.2/24, fd10:0:2::2/120
//!                   |     ^ DHCP and router discovery, by `serve`       |
//! ```
//!
//! The pod's kernel is the guest's router, and answers ARP and neighbour solicitations itself. An
//! address family that the pod lacks, the guest lacks as well.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::guest::Told;
use super::types::{
    Allowed, Filter, GuestNetwork, Masquerade, Nat, Options, Plan, Step, Translation,
};
use super::{PlanError, ipv4, ipv6};
use crate::ipv6::{Router, Speaker};
use crate::network::PodNetwork;

/// Plans the masquerade binding; `guest` holds what both bindings have in common.
pub(super) fn plan(
    network: &PodNetwork,
    options: &Options,
    mut guest: GuestNetwork,
    masquerade: &Masquerade,
) -> Result<Plan, PlanError> {
    let ipv4 = ipv4(network, options, masquerade)?;
    let ipv6 = ipv6(network, options, masquerade, &mut guest)?;
    if ipv4.is_none() && ipv6.is_none() {
        return Err(PlanError::NoAddress(network.interface.clone()));
    }
    let told = Told::new(options, &mut guest);
    guest.lease = ipv4.as_ref().map(|ipv4| {
        let ways = ipv4::Ways {
            address: with_prefix_of(ipv4.guest, masquerade.ipv4),
            router: Some(ipv4.bridge),
            routes: Vec::new(),
        };
        told.lease(ways, ipv4.bridge)
    });
    guest.ipv6 = ipv6.as_ref().map(|ipv6| {
        told.ipv6(ipv6::Ways {
            addresses: vec![ipv6.guest],
            router: Router {
                address: guest.server_mac.link_local(),
                default: true,
                speaker: Speaker::Itself,
            },
            on_link: vec![masquerade.ipv6.trunc()],
            routes: Vec::new(),
        })
    });
    let steps = steps(network, options, &guest, masquerade, ipv4, ipv6);
    Ok(Plan { steps, guest })
}

fn steps(
    network: &PodNetwork,
    options: &Options,
    guest: &GuestNetwork,
    masquerade: &Masquerade,
    ipv4: Option<Translation<Ipv4Addr>>,
    ipv6: Option<Translation<Ipv6Addr>>,
) -> Vec<Step> {
    let bridge = &guest.bridge;
    let address = |net: IpNet| Step::Address {
        link: bridge.clone(),
        net,
    };
    let mut steps = Vec::new();
    let bridge_netfilter = network.bridge_netfilter;
    if let Some(found) = bridge_netfilter.filter(|found| found.is_on()) {
        steps.push(Step::BypassIptables(found));
    }
    steps.extend([
        Step::CreateBridge {
            name: bridge.clone(),
            mac: guest.server_mac,
            mtu: network.mtu,
        },
        Step::SilenceIpv6 {
            link: bridge.clone(),
        },
    ]);
    if let Some(ipv4) = &ipv4 {
        steps.push(address(with_prefix_of(ipv4.bridge, masquerade.ipv4).into()));
    }
    if let Some(ipv6) = &ipv6 {
        let prefix = masquerade.ipv6.prefix_len();
        let link_local = guest.server_mac.link_local();
        steps.extend(
            [(ipv6.bridge, prefix), (link_local, 64)]
                .into_iter()
                .filter_map(|(own, prefix)| Some(address(Ipv6Net::new(own, prefix).ok()?.into()))),
        );
    }
    // Behind a router nobody's address but the guest's own is of use: anti-spoofing is not a choice.
    steps.push(Step::Filter(Filter {
        table: bridge.clone(),
        interface: None,
        tap: guest.tap.clone(),
        guest: guest.mac,
        served: true,
        allowed: Some(Allowed {
            ipv4: ipv4.iter().map(|ipv4| ipv4.guest).collect(),
            ipv6: ipv6.iter().map(|ipv6| ipv6.guest).collect(),
            router: Some(guest.server_mac.link_local()),
        }),
    }));
    let forward = Step::Forward {
        interface: guest.interface.clone(),
        bridge: bridge.clone(),
        ipv4: ipv4.is_some(),
        ipv6: ipv6.is_some(),
    };
    // Before anything is forwarded: no packet ever leaves untranslated.
    steps.push(Step::Nat(Nat {
        table: bridge.clone(),
        interface: guest.interface.clone(),
        bridge: bridge.clone(),
        tap: guest.tap.clone(),
        ports: masquerade.ports.clone(),
        ipv4,
        ipv6,
    }));
    steps.extend([
        forward,
        Step::Up {
            link: bridge.clone(),
        },
    ]);
    steps.extend(super::tap(network, options, guest));
    steps.extend([
        Step::Hairpin {
            port: guest.tap.clone(),
        },
        Step::PinGuest {
            mac: guest.mac,
            port: guest.tap.clone(),
        },
    ]);
    steps
}

fn ipv4(
    network: &PodNetwork,
    options: &Options,
    masquerade: &Masquerade,
) -> Result<Option<Translation<Ipv4Addr>>, PlanError> {
    if network.ipv4().next().is_none() {
        return Ok(None);
    }
    let cidr = masquerade.ipv4;
    let mut hosts = cidr.hosts();
    let (Some(bridge), Some(guest), true) = (hosts.next(), hosts.next(), cidr.prefix_len() <= 30)
    else {
        return Err(PlanError::SmallNetwork {
            field: "vmNetworkCIDR",
            net: cidr.into(),
            most: 30,
        });
    };
    refuse_overlap(network, options, cidr.into(), "vmNetworkCIDR")?;
    Ok(Some(Translation {
        pod: network.routed().0,
        bridge,
        guest,
        forwarded: network.ipv4_forwarding,
    }))
}

fn ipv6(
    network: &PodNetwork,
    options: &Options,
    masquerade: &Masquerade,
    guest: &mut GuestNetwork,
) -> Result<Option<Translation<Ipv6Addr>>, PlanError> {
    if network.ipv6().next().is_none() {
        return Ok(None);
    }
    let forwards = network
        .ipv6_settings
        .as_ref()
        .is_some_and(|s| s.writable || (s.forwarding && !s.disabled));
    if !forwards {
        guest.warnings.push(
            "IPv6 left out: /proc/sys is read-only, and net.ipv6.conf.all.forwarding is 0 or \
             net.ipv6.conf.default.disable_ipv6 is 1; set them in the pod's \
             securityContext.sysctls, or use bridge binding"
                .to_owned(),
        );
        return Ok(None);
    }
    let cidr = masquerade.ipv6;
    // The network's first address is every router's (RFC 4291 section 2.6.1).
    let mut hosts = cidr.hosts().skip(1);
    let (Some(bridge), Some(guest), true) = (hosts.next(), hosts.next(), cidr.prefix_len() <= 126)
    else {
        return Err(PlanError::SmallNetwork {
            field: "vmIPv6NetworkCIDR",
            net: cidr.into(),
            most: 126,
        });
    };
    refuse_overlap(network, options, cidr.into(), "vmIPv6NetworkCIDR")?;
    Ok(Some(Translation {
        pod: network.routed().1,
        bridge,
        guest,
        forwarded: network
            .ipv6_settings
            .as_ref()
            .is_some_and(|settings| settings.forwarding),
    }))
}

/// Refuses a guest's network that hides a part of the pod's: the guest could never reach it.
fn refuse_overlap(
    network: &PodNetwork,
    options: &Options,
    cidr: IpNet,
    field: &'static str,
) -> Result<(), PlanError> {
    let overlaps = |other: &IpNet| cidr.contains(other) || other.contains(&cidr);
    let addresses = network.addresses.iter().map(|a| ("address", a.net));
    let routes = network.routes.iter().map(|r| r.destination);
    let routes = routes.chain(network.elsewhere.iter().copied());
    let routes = routes.map(|net| ("route", net));
    let servers = options.resolv_conf.nameservers.iter();
    let servers = servers.map(|server| ("name server", IpNet::from(*server)));
    let found = addresses
        .chain(routes)
        .chain(servers)
        // A default route leads everywhere.
        .find(|(_, net)| net.prefix_len() != 0 && overlaps(net));
    match found {
        Some((what, other)) => Err(PlanError::Overlap {
            field,
            net: cidr.trunc(),
            what,
            other,
        }),
        None => Ok(()),
    }
}

/// An address in the guest's network.
fn with_prefix_of(address: Ipv4Addr, cidr: Ipv4Net) -> Ipv4Net {
    // The prefix length is one already.
    Ipv4Net::new_assert(address, cidr.prefix_len())
}
