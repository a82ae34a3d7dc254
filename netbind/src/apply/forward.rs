//! What makes the pod a router for its guest, and no router any more.
//!
//! Forwarding of IPv4 is a setting of each link, and goes by netlink, for /proc/sys is read-only in
//! a container. Of IPv6 it is one of the namespace, and has no other path than /proc/sys.

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED};
use netlink_packet_route::link::{AfSpecInet, AfSpecUnspec, LinkAttribute};

use super::{ApplyError, set};
use crate::netlink::Netlink;
use crate::network::PodNetwork;
use crate::plan::GuestNetwork;
use crate::sysctl;

/// `IPV4_DEVCONF_*` (linux/ip.h).
const FORWARDING: u16 = 1;
const ROUTE_LOCALNET: u16 = 26;

/// Forwards IPv4 packets that enter by the pod's interface or by the bridge. The bridge carries
/// those from and to the pod's loopback addresses as well.
pub(super) fn ipv4(netlink: &mut Netlink, interface: &str, bridge: &str) -> Result<(), ApplyError> {
    let on = [(FORWARDING, 1), (ROUTE_LOCALNET, 1)];
    for (link, settings) in [(bridge, &on[..]), (interface, &on[..1])] {
        let what = format!("forward IPv4 packets of {link}");
        set(netlink, link, what, vec![settings_of_ipv4(settings)])?;
    }
    Ok(())
}

/// Forwards IPv6 packets, and keeps the routes that the pod's links have from advertisements: a
/// namespace that comes to forward drops those of links that take advertisements only if it does
/// not. The bridge is to take none, its guest is no router.
pub(super) fn ipv6(netlink: &mut Netlink, bridge: &str) -> Result<(), ApplyError> {
    if sysctl::read(sysctl::IPV6_FORWARDING) == Some(true) {
        return Ok(());
    }
    let error = ApplyError::new("read the links' settings of IPv6");
    let mut links = netlink.links().map_err(error)?;
    links.retain(|link| link.name != bridge && link.ipv6.is_some_and(|(_, ra)| ra == 1));
    for link in links {
        let accept_ra = sysctl::accept_ra(&link.name);
        sysctl::set(&accept_ra, 2).map_err(ApplyError::new(format!("write {accept_ra}")))?;
    }
    let error = ApplyError::new(format!("write {}", sysctl::IPV6_FORWARDING));
    sysctl::write(sysctl::IPV6_FORWARDING, true).map_err(error)
}

/// Puts back what was found. The interface may be gone: a CNI plugin's DEL may come first.
pub(super) fn revert(
    netlink: &mut Netlink,
    guest: &GuestNetwork,
    found: &PodNetwork,
) -> Result<(), ApplyError> {
    let interface = &found.interface;
    let what = format!("stop forwarding IPv4 packets of {interface}");
    let link = netlink
        .link(interface)
        .map_err(ApplyError::new(what.clone()))?;
    if link.is_some() && guest.lease.is_some() && !found.ipv4_forwarding {
        let off = settings_of_ipv4(&[(FORWARDING, 0)]);
        set(netlink, interface, what, vec![off])?;
    }
    let (Some(settings), Some(_)) = (&found.ipv6_settings, &guest.ipv6) else {
        return Ok(());
    };
    let write = |path: &str, value| {
        if sysctl::get(path).is_none_or(|now| now == value) {
            return Ok(());
        }
        sysctl::set(path, value).map_err(ApplyError::new(format!("write {path}")))
    };
    // The namespace's first: it sets every link's.
    write(sysctl::IPV6_FORWARDING, settings.forwarding.into())?;
    for link in &settings.links {
        write(&sysctl::ipv6_forwarding(&link.name), link.forwarding.into())?;
        write(&sysctl::accept_ra(&link.name), link.accept_ra)?;
    }
    Ok(())
}

/// Settings of a link's IPv4, to be made by a request (`IFLA_INET_CONF`). The crate's own type
/// leaves out what is 0.
fn settings_of_ipv4(settings: &[(u16, u32)]) -> LinkAttribute {
    const IFLA_INET_CONF: u16 = 1;
    let mut list = Vec::new();
    for (setting, value) in settings {
        let one = DefaultNla::new(*setting, value.to_ne_bytes().to_vec());
        let start = list.len();
        list.resize(start + one.buffer_len(), 0);
        one.emit(&mut list[start..]);
    }
    let list = DefaultNla::new(IFLA_INET_CONF | NLA_F_NESTED, list);
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![AfSpecInet::Other(list)])])
}
