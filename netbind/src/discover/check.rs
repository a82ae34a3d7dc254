//! Decides whether what was found can be handed to a guest, and is all that was expected. Pure.

use std::net::IpAddr;

use netlink_packet_route::link::{InfoData, InfoNetkit, LinkFlags, LinkInfo, NetkitMode};

use super::DiscoverError;
use super::read::Found;
use crate::mac::Mac;
use crate::netlink::Link;
use crate::network::Scope;

/// Whether the link can be a guest's; its MAC.
pub(super) fn link(link: &Link) -> Result<Mac, DiscoverError> {
    let name = || link.name.clone();
    if link.flags.contains(LinkFlags::Loopback) {
        return Err(DiscoverError::Loopback(name()));
    }
    if let Some(kind @ ("ipvlan" | "ipvtap")) = link.kind.as_deref() {
        return Err(DiscoverError::SharedMac {
            interface: name(),
            kind: kind.to_owned(),
        });
    }
    if is_layer_3(link) {
        return Err(DiscoverError::Layer3(name()));
    }
    let mac = link.mac.filter(|mac| mac.is_unicast());
    let mac = mac.ok_or_else(|| DiscoverError::NoMac(name()))?;
    if !link.flags.contains(LinkFlags::Up) {
        return Err(DiscoverError::Down(name()));
    }
    Ok(mac)
}

/// Whether it is a netkit device in its default mode. In its other mode it is as a veth is.
fn is_layer_3(link: &Link) -> bool {
    link.info.iter().any(|info| match info {
        LinkInfo::Data(InfoData::Netkit(settings)) => {
            settings.contains(&InfoNetkit::Mode(NetkitMode::L3))
        }
        _ => false,
    })
}

/// Whether the addresses are there, and for certain.
pub(super) fn addresses(
    interface: &str,
    found: &[Found],
    expected: &[IpAddr],
) -> Result<(), DiscoverError> {
    // Of link-local, temporary and deprecated addresses the guest gets none, so nobody has to wait
    // until the kernel is sure of them: for a pod without IPv6 that would be a second lost.
    let counts = |found: &&Found| {
        let address = &found.address;
        let usable = address.scope == Scope::Global && !address.secondary && !address.deprecated;
        usable || expected.contains(&address.net.addr())
    };
    let of_interest = || found.iter().filter(counts);
    if let Some(duplicate) = of_interest().find(|found| found.duplicate) {
        return Err(DiscoverError::Duplicate {
            interface: interface.to_owned(),
            address: duplicate.address.net.addr(),
        });
    }
    let present = || found.iter().map(|found| found.address.net.addr());
    let missing: Vec<_> = expected
        .iter()
        .copied()
        .filter(|expected| present().all(|present| present != *expected))
        .collect();
    if !missing.is_empty() {
        return Err(DiscoverError::MissingAddress {
            interface: interface.to_owned(),
            missing,
            present: present().collect(),
        });
    }
    match of_interest().find(|found| found.tentative) {
        Some(tentative) => Err(DiscoverError::Tentative {
            interface: interface.to_owned(),
            address: tentative.address.net.addr(),
        }),
        None => Ok(()),
    }
}
