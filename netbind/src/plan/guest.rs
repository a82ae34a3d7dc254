//! What the guest is told, whatever its addresses are.

use std::net::{IpAddr, Ipv4Addr};

use super::types::{GuestNetwork, Options};
use super::{MTU_MIN, PlanError, bridge_name, check_name, ipv4, ipv6};
use crate::dhcp::Lease;
use crate::ipv6::Ipv6Network;
use crate::mac::Mac;
use crate::name;
use crate::network::{PodNetwork, Route};

/// IPv6's smallest MTU (RFC 8200 section 5).
const IPV6_MTU_MIN: u32 = 1280;

/// The guest's side of a plan, with no addresses yet.
pub(super) fn guest(network: &PodNetwork, options: &Options) -> Result<GuestNetwork, PlanError> {
    let interface = &network.interface;
    let bridge = bridge_name(interface);
    let tap = &options.tap.name;
    check_name(interface)?;
    check_name(tap)?;
    if tap == interface || *tap == bridge {
        return Err(PlanError::SameName(tap.clone()));
    }
    if network.mtu < MTU_MIN {
        return Err(PlanError::SmallMtu {
            interface: interface.clone(),
            mtu: network.mtu,
        });
    }
    let dhcp = &options.dhcp;
    let private = |code: &&u8| !(224..=254).contains(*code);
    if let Some(code) = dhcp.private.keys().find(private) {
        return Err(PlanError::PrivateOption(*code));
    }
    if dhcp.lease_seconds < 10 {
        return Err(PlanError::ShortLease(dhcp.lease_seconds));
    }
    let mac = dhcp.client.unwrap_or(network.mac);
    if !mac.is_unicast() || [options.macs.bridge, options.macs.tap].contains(&mac) {
        return Err(PlanError::BadMac(mac));
    }
    Ok(GuestNetwork {
        binding: options.binding.clone(),
        interface: interface.clone(),
        bridge,
        tap: tap.clone(),
        mac,
        mtu: mtu(network),
        server_mac: options.macs.bridge,
        lease: None,
        ipv6: None,
        neighbours: Vec::new(),
        warnings: options.resolv_conf.warnings.clone(),
    })
}

/// The link's MTU, or a default route's where that is smaller (Cilium sets it there); without a
/// default route, the smallest of any route's.
fn mtu(network: &PodNetwork) -> u32 {
    let defaults = [network.default_route(), network.default_route_v6()];
    let smallest = |routes: &mut dyn Iterator<Item = &Route>| {
        routes
            .filter_map(|route| route.mtu)
            .filter(|mtu| *mtu >= MTU_MIN)
            .min()
    };
    let route_mtu = if defaults == [None, None] {
        smallest(&mut network.routes.iter())
    } else {
        smallest(&mut defaults.into_iter().flatten())
    };
    route_mtu.map_or(network.mtu, |mtu| mtu.min(network.mtu))
}

/// What does not depend on the guest's addresses.
pub(super) struct Told<'a> {
    options: &'a Options,
    mac: Mac,
    mtu: u32,
    hostname: Option<&'a String>,
}

impl<'a> Told<'a> {
    pub(super) fn new(options: &'a Options, guest: &mut GuestNetwork) -> Self {
        let hostname = options.hostname.as_ref();
        let hostname = hostname.filter(|hostname| match name::check(hostname) {
            Ok(()) => true,
            Err(reason) => {
                let warning = format!("host name {hostname:?} left out: {reason}");
                guest.warnings.push(warning);
                false
            }
        });
        Self {
            options,
            mac: guest.mac,
            mtu: guest.mtu,
            hostname,
        }
    }

    pub(super) fn lease(&self, ways: ipv4::Ways, server_id: Ipv4Addr) -> Lease {
        let (dhcp, resolv_conf) = (&self.options.dhcp, &self.options.resolv_conf);
        Lease {
            client: self.mac,
            address: ways.address,
            router: ways.router,
            routes: ways.routes,
            dns: of_ipv4(&resolv_conf.nameservers),
            search: resolv_conf.search.clone(),
            // The first of equals: systemd-networkd searches option 15 before option 119's list.
            domain: resolv_conf
                .search
                .iter()
                .rev()
                .max_by_key(|domain| domain.len())
                .cloned(),
            hostname: self.hostname.cloned(),
            mtu: self.mtu,
            ntp: of_ipv4(&dhcp.ntp_servers),
            tftp_server_name: dhcp.tftp_server_name.clone(),
            boot_file_name: dhcp.boot_file_name.clone(),
            private: dhcp.private.clone(),
            server_id,
            seconds: dhcp.lease_seconds,
        }
    }

    pub(super) fn ipv6(&self, ways: ipv6::Ways) -> Ipv6Network {
        let of_ipv6 = |addresses: &[IpAddr]| {
            let addresses = addresses.iter().filter_map(|address| match address {
                IpAddr::V6(address) => Some(*address),
                IpAddr::V4(_) => None,
            });
            addresses.collect()
        };
        let (dhcp, resolv_conf) = (&self.options.dhcp, &self.options.resolv_conf);
        Ipv6Network {
            addresses: ways.addresses,
            router: ways.router,
            on_link: ways.on_link,
            routes: ways.routes,
            dns: of_ipv6(&resolv_conf.nameservers),
            search: resolv_conf.search.clone(),
            ntp: of_ipv6(&dhcp.ntp_servers),
            hostname: self.hostname.cloned(),
            mtu: self.mtu.max(IPV6_MTU_MIN),
            seconds: dhcp.lease_seconds,
        }
    }
}

fn of_ipv4(addresses: &[IpAddr]) -> Vec<Ipv4Addr> {
    let addresses = addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    addresses.collect()
}
