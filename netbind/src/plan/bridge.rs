//! Bridge binding: the guest takes over the pod's addresses and MAC.
//!
//! ```text
//!     node          |  pod's network namespace                          |  guest
//!                   |                                                   |
//!   vethX ----------+-- eth0 (MAC, IP, routes: left as they are)        |
//!                   |     | port, learns nothing                        |
//!                   |   k6t-eth0 (bridge, no address, its input dropped)|
//!                   |     | port, owns the guest's MAC                  |
//!                   |   tap0 --------------------------------------------- MAC and IP of eth0
//!                   |     ^ DHCP, ARP and router discovery, by `serve`  |
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
//! * *The guest's DHCP leaks out, and other servers' answers in.* Neither DHCP nor router discovery
//!   crosses the bridge, as long as the pod has an address for us to serve.

use super::guest::Told;
use super::types::{Allowed, Filter, GuestNetwork, Options, Plan, Step};
use super::{ipv4, ipv6};
use crate::network::PodNetwork;

/// Plans the bridge binding; `guest` holds what both bindings have in common.
pub(super) fn plan(
    network: &PodNetwork,
    options: &Options,
    mut guest: GuestNetwork,
    anti_spoofing: bool,
) -> Plan {
    let told = Told::new(options, &mut guest);
    let served = !network.is_layer_2();
    if served {
        guest.lease = ipv4::ways(network, &mut guest.warnings)
            .map(|ways| told.lease(ways, options.dhcp.server_id));
        guest.ipv6 =
            ipv6::ways(network, guest.server_mac, &mut guest.warnings).map(|ways| told.ipv6(ways));
    }
    guest.neighbours.clone_from(&network.neighbours);
    if !served {
        guest.warnings.push(format!(
            "{} has no address to hand on: the guest has to get its own from the network",
            network.interface
        ));
    }
    if network.kind.as_deref() == Some("macvlan") && guest.mac != network.mac {
        guest.warnings.push(format!(
            "{} is a macvlan, which receives frames for {} only (but in passthru mode): the guest, \
             which has {}, may hear nothing",
            network.interface, network.mac, guest.mac
        ));
    }

    let mut steps = Vec::new();
    let bridge_netfilter = network.bridge_netfilter;
    if let Some(found) = bridge_netfilter.filter(|found| found.is_on()) {
        steps.push(Step::BypassIptables(found));
    }
    let (interface, bridge, tap) = (&guest.interface, &guest.bridge, &guest.tap);
    steps.extend([
        Step::CreateBridge {
            name: bridge.clone(),
            mac: guest.server_mac,
            mtu: network.mtu,
        },
        Step::SilenceIpv6 {
            link: bridge.clone(),
        },
        // Before the first port: no frame ever crosses the bridge unfiltered.
        Step::Filter(Filter {
            table: bridge.clone(),
            interface: Some(interface.clone()),
            tap: tap.clone(),
            guest: guest.mac,
            served,
            allowed: anti_spoofing.then(|| allowed(network, &guest)),
        }),
        Step::Up {
            link: bridge.clone(),
        },
    ]);
    steps.extend(super::tap(network, options, &guest));
    steps.extend([
        Step::Attach {
            link: interface.clone(),
            bridge: bridge.clone(),
        },
        Step::StopLearning {
            port: interface.clone(),
        },
        Step::PinGuest {
            mac: guest.mac,
            port: tap.clone(),
        },
    ]);
    Plan { steps, guest }
}

/// All of the pod's addresses: they are routed to the guest.
fn allowed(network: &PodNetwork, guest: &GuestNetwork) -> Allowed {
    let (ipv4, ipv6) = network.routed();
    Allowed {
        ipv4,
        ipv6,
        router: guest.ipv6.as_ref().map(|ipv6| ipv6.router.address),
    }
}
