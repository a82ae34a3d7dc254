//! Decides how a pod's network becomes a guest's. Pure.

mod bridge;
mod guest;
mod ipv4;
mod ipv6;
mod masquerade;
mod types;

use ipnet::IpNet;

use crate::mac::Mac;
use crate::network::PodNetwork;

pub use types::{
    Allowed, Binding, DhcpOptions, Filter, GuestNetwork, Masquerade, Nat, Options, Plan,
    PlumbingMacs, Port, Protocol, Step, TapOptions, Translation,
};

/// The longest name a Linux interface can have (`IFNAMSIZ` less the terminator).
const NAME_MAX: usize = 15;
/// The smallest MTU that we can serve: what a DHCP client must be able to take (RFC 2131 section 2).
const MTU_MIN: u32 = 576;

/// Why a network cannot be bound as asked. Each says what would help.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Masquerade, and no address to hide behind.
    #[error(
        "{0} has no address that a masqueraded guest could use; configure the CNI network's ipam \
         section, or use bridge binding"
    )]
    NoAddress(String),
    /// A guest's network without room for its router and itself.
    #[error(
        "{field}: {net} has no room for a router and the guest; use a prefix of at most {most}"
    )]
    SmallNetwork {
        /// The manifest's field.
        field: &'static str,
        /// Its value.
        net: IpNet,
        /// The longest prefix that has room.
        most: u8,
    },
    /// A guest's network that hides a part of the pod's.
    #[error(
        "{field}: the guest's network {net} overlaps the pod's {what} {other}, which the guest could \
         not reach; set {field} of the pod network to a free range"
    )]
    Overlap {
        /// The manifest's field.
        field: &'static str,
        /// The guest's network.
        net: IpNet,
        /// What of the pod's.
        what: &'static str,
        /// And where that is.
        other: IpNet,
    },
    /// A name that the kernel would refuse.
    #[error(
        "{0:?} cannot be an interface's name; use 1 to 15 bytes without blanks, slashes and colons"
    )]
    BadName(String),
    /// The tap has the name of another of the binding's links.
    #[error(
        "the tap cannot be named {0}, which is another link of the same binding; choose another name"
    )]
    SameName(String),
    /// An MTU that DHCP cannot work with.
    #[error("{interface} has an MTU of {mtu} bytes; DHCP needs at least 576")]
    SmallMtu {
        /// The interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
    },
    /// A guest's MAC that cannot be one station's.
    #[error("{0} cannot be the guest's MAC address; use a unicast one that no other link here has")]
    BadMac(Mac),
    /// A private option outside its range.
    #[error("dhcpOptions.privateOptions: option {0} is outside the private range; use 224 to 254")]
    PrivateOption(u8),
    /// A lease too short to be renewed.
    #[error("a lease of {0} seconds cannot be renewed in time; use at least 10")]
    ShortLease(u32),
}

/// Plans the binding of a pod's interface.
///
/// # Errors
///
/// [`PlanError`] when the network or the options cannot be bound. What the guest can do without
/// (a bad search domain, a route it cannot use) is left out and named in
/// [`GuestNetwork::warnings`].
pub fn plan(network: &PodNetwork, options: &Options) -> Result<Plan, PlanError> {
    let guest = guest::guest(network, options)?;
    match &options.binding {
        Binding::Bridge { anti_spoofing } => {
            Ok(bridge::plan(network, options, guest, *anti_spoofing))
        }
        Binding::Masquerade(masquerade) => masquerade::plan(network, options, guest, masquerade),
    }
}

/// Makes the tap a port of the bridge. It learns nothing: the guest's place is pinned, and a guest
/// that invents addresses cannot fill the table.
fn tap(network: &PodNetwork, options: &Options, guest: &GuestNetwork) -> [Step; 6] {
    let tap = &guest.tap;
    [
        Step::CreateTap(options.tap.clone()),
        Step::SilenceIpv6 { link: tap.clone() },
        Step::ConfigureTap {
            name: tap.clone(),
            mac: options.macs.tap,
            mtu: network.mtu,
        },
        Step::Attach {
            link: tap.clone(),
            bridge: guest.bridge.clone(),
        },
        Step::StopLearning { port: tap.clone() },
        Step::Up { link: tap.clone() },
    ]
}

/// The bridge's name: KubeVirt's `k6t-eth0`; of longer names, such as multus' `pod37a8eec1ce1`, the
/// last bytes, which are the ones that differ.
pub fn bridge_name(interface: &str) -> String {
    const PREFIX: &str = "k6t-";
    let skip = interface.len().saturating_sub(NAME_MAX - PREFIX.len());
    format!("{PREFIX}{}", interface.get(skip..).unwrap_or(interface))
}

/// The kernel's `dev_valid_name`.
fn check_name(name: &str) -> Result<(), PlanError> {
    let fits = (1..=NAME_MAX).contains(&name.len()) && name != "." && name != "..";
    let clean = name
        .bytes()
        .all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
    if fits && clean {
        Ok(())
    } else {
        Err(PlanError::BadName(name.to_owned()))
    }
}
