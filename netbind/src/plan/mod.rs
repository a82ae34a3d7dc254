//! Decides how a pod's network becomes a guest's. Pure.
//!
//! # Bridge binding
//!
//! ```text
//!     node          |  pod's network namespace                          |  guest
//!                   |                                                   |
//!   vethX ----------+-- eth0 (MAC, IP, routes: left as they are)        |
//!                   |     | port, learns nothing                        |
//!                   |   k6t-eth0 (bridge, no address, its input dropped)|
//!                   |     | port, owns the guest's MAC                  |
//!                   |   tap0 --------------------------------------------- MAC and IP of eth0
//!                   |     ^ DHCP and ARP answered here, by `serve`      |
//! ```
//!
//! The pod's interface keeps its name, MAC, addresses and routes: nothing that the CNI plugin made
//! is taken away, so its CHECK finds the very interface it made, and there is nothing that a crash
//! could lose. (A stand-in for it cannot pass: the bridge and ptp plugins' CHECK wants a veth whose
//! peer is the node's.) What usually forbids this is answered so:
//!
//! * *The bridge takes frames for a port's own MAC as its own.* The forwarding entry of that MAC is
//!   moved to the tap, static and sticky, in one request.
//! * *The pod's kernel answers for the pod's IP.* Nothing that arrives at a port is handed up: the
//!   bridge's input drops all.
//! * *A hairpin port on the node reflects the guest's own frames.* What enters `eth0` with the
//!   guest's MAC as its source is dropped, and that port learns nothing.
//! * *The guest's DHCP leaks out, and other servers' answers in.* UDP 67 and 68 are not forwarded.

mod guest;
mod types;

use crate::mac::Mac;
use crate::network::PodNetwork;
use guest::guest;

pub use types::{DhcpOptions, Filter, GuestNetwork, Options, Plan, PlumbingMacs, Step, TapOptions};

/// The longest name a Linux interface can have (`IFNAMSIZ` less the terminator).
const NAME_MAX: usize = 15;
/// IPv4's smallest MTU (RFC 791).
const MTU_MIN: u32 = 68;

/// Why a network cannot be bound as asked. Each says what would help.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No IPv4 address to lease.
    #[error(
        "{0} has no IPv4 address to give to the guest; configure the CNI network's ipam section"
    )]
    NoAddress(String),
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
    /// An MTU that IPv4 cannot work with.
    #[error("{interface} has an MTU of {mtu} bytes; IPv4 needs at least 68")]
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

/// Plans the bridge binding of a pod's interface.
///
/// # Errors
///
/// [`PlanError`] when the network or the options cannot be bound. What the guest can do without
/// (a bad search domain, a route it cannot use) is left out and named in
/// [`GuestNetwork::warnings`].
pub fn plan(network: &PodNetwork, options: &Options) -> Result<Plan, PlanError> {
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
    let guest = guest(network, options, bridge.clone())?;

    let mut steps = Vec::new();
    if network.bridge_netfilter == Some(true) {
        steps.push(Step::BypassIptables);
    }
    let link = |name: &String| name.clone();
    steps.extend([
        Step::CreateBridge {
            name: link(&bridge),
            mac: options.macs.bridge,
            mtu: network.mtu,
        },
        Step::SilenceIpv6 {
            link: link(&bridge),
        },
        // Before the first port: no frame ever crosses the bridge unfiltered.
        Step::Filter(Filter {
            table: bridge.clone(),
            interface: interface.clone(),
            tap: tap.clone(),
            guest: guest.mac,
        }),
        Step::Up {
            link: link(&bridge),
        },
        Step::CreateTap(options.tap.clone()),
        Step::SilenceIpv6 { link: link(tap) },
        Step::ConfigureTap {
            name: link(tap),
            mac: options.macs.tap,
            mtu: network.mtu,
        },
        Step::Attach {
            link: link(tap),
            bridge: link(&bridge),
        },
        Step::Up { link: link(tap) },
        Step::Attach {
            link: link(interface),
            bridge: link(&bridge),
        },
        Step::StopLearning {
            port: link(interface),
        },
        Step::PinGuest {
            mac: guest.mac,
            port: link(tap),
        },
    ]);
    Ok(Plan { steps, guest })
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
