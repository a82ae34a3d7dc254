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

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::dhcp::{ClasslessRoute, LEASE_SECONDS, Lease, SERVER_ID};
use crate::dns::ResolvConf;
use crate::mac::Mac;
use crate::name;
use crate::network::{Neighbour, PodNetwork, Route};

/// The longest name a Linux interface can have (`IFNAMSIZ` less the terminator).
const NAME_MAX: usize = 15;
/// IPv4's smallest MTU (RFC 791).
const MTU_MIN: u32 = 68;

/// What the pod's network does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The tap device for QEMU.
    pub tap: TapOptions,
    /// The pod's resolver configuration.
    pub resolv_conf: ResolvConf,
    /// The guest's host name, for option 12.
    pub hostname: Option<String>,
    /// What the manifest's `dhcpOptions` add.
    pub dhcp: DhcpOptions,
    /// Addresses for our own devices, chosen at random once and then kept.
    pub macs: PlumbingMacs,
}

/// The tap device that QEMU opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapOptions {
    /// Its name.
    pub name: String,
    /// The user that may attach: QEMU's uid. With no owner any user may.
    pub owner: u32,
    /// The group that may attach.
    pub group: u32,
    /// More than one queue; must match what the domain asks for.
    pub multi_queue: bool,
}

impl Default for TapOptions {
    fn default() -> Self {
        Self {
            name: "tap0".to_owned(),
            owner: 0,
            group: 0,
            multi_queue: false,
        }
    }
}

/// KubeVirt's `interfaces[].dhcpOptions`, and the lease time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOptions {
    /// Seconds until the lease ends ([`LEASE_SECONDS`] unless set).
    pub lease_seconds: u32,
    /// `bootFileName`, option 67.
    pub boot_file_name: Option<String>,
    /// `tftpServerName`, option 66.
    pub tftp_server_name: Option<String>,
    /// `ntpServers`, option 42.
    pub ntp_servers: Vec<Ipv4Addr>,
    /// `privateOptions`, by option number.
    pub private: BTreeMap<u8, String>,
}

impl Default for DhcpOptions {
    fn default() -> Self {
        Self {
            lease_seconds: LEASE_SECONDS,
            boot_file_name: None,
            tftp_server_name: None,
            ntp_servers: Vec::new(),
            private: BTreeMap::new(),
        }
    }
}

/// MAC addresses of our own devices. Kept in the state file, so that a set-up that is run again
/// ends with the same network, and the guest's ARP entry for the DHCP server stays true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlumbingMacs {
    /// The bridge's, which is also the DHCP server's.
    pub bridge: Mac,
    /// The pod's end of the tap.
    pub tap: Mac,
}

impl PlumbingMacs {
    /// Makes the addresses of twelve random bytes.
    pub fn new(random: [u8; 12]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = random;
        Self {
            bridge: Mac::local([a, b, c, d, e, f]),
            tap: Mac::local([g, h, i, j, k, l]),
        }
    }
}

/// One change to the kernel's network. Each can be made again after a crash, with the same result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase")]
pub enum Step {
    /// Keep bridged frames out of iptables, if the namespace's settings can be written: inside a
    /// container they cannot, and only a namespace with a dropping `FORWARD` policy needs it.
    BypassIptables,
    /// Make the bridge: no spanning tree, no multicast snooping, an address of its own (else it
    /// takes over a port's).
    CreateBridge {
        /// Its name.
        name: String,
        /// Its MAC.
        mac: Mac,
        /// The pod link's MTU.
        mtu: u32,
    },
    /// Keep the kernel from giving the link an IPv6 address.
    SilenceIpv6 {
        /// The link.
        link: String,
    },
    /// Make the bridge's packet filter, in one transaction.
    Filter(Filter),
    /// Make the persistent tap, and close it: a descriptor kept on it would keep QEMU out.
    CreateTap(TapOptions),
    /// Set MAC and MTU of the tap.
    ConfigureTap {
        /// The tap.
        name: String,
        /// The MAC of the pod's end of it; not the guest's.
        mac: Mac,
        /// The pod link's MTU.
        mtu: u32,
    },
    /// Bring a link up.
    Up {
        /// The link.
        link: String,
    },
    /// Make a link a port of the bridge.
    Attach {
        /// The link.
        link: String,
        /// The bridge.
        bridge: String,
    },
    /// Let a port learn no addresses.
    StopLearning {
        /// The port.
        port: String,
    },
    /// Tell the bridge that the guest is behind the tap, and nowhere else.
    PinGuest {
        /// The guest's MAC.
        mac: Mac,
        /// The tap.
        port: String,
    },
}

/// The nftables table (bridge family) that guards the binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Its name.
    pub table: String,
    /// The pod's interface, one of the bridge's ports.
    pub interface: String,
    /// The tap, the other port.
    pub tap: String,
    /// The guest's MAC.
    pub guest: Mac,
}

/// What the guest is given, and where: all that the DHCP server and the domain need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNetwork {
    /// The pod's interface.
    pub interface: String,
    /// The bridge.
    pub bridge: String,
    /// The tap for QEMU.
    pub tap: String,
    /// The guest's MAC.
    pub mac: Mac,
    /// The guest's MTU in bytes: the link's, or the default route's where that is smaller.
    pub mtu: u32,
    /// The MAC from which the DHCP server speaks.
    pub server_mac: Mac,
    /// The lease.
    pub lease: Lease,
    /// Neighbours that answer no ARP themselves and that we answer for.
    pub neighbours: Vec<Neighbour>,
    /// What had to be left out, a line each.
    pub warnings: Vec<String>,
}

/// Steps, in order, and what comes of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What is done.
    pub steps: Vec<Step>,
    /// What the guest gets.
    pub guest: GuestNetwork,
}

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
            guest: network.mac,
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
            mac: network.mac,
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

fn guest(
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
        mac: network.mac,
        mtu,
        server_mac: options.macs.bridge,
        lease: Lease {
            client: network.mac,
            address: ways.address,
            router: ways.router,
            routes: ways.routes,
            dns: dns.collect(),
            search: search.clone(),
            domain: search.iter().max_by_key(|domain| domain.len()).cloned(),
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

/// Translates the pod's routes into what DHCP can say.
fn ways(network: &PodNetwork, address: Ipv4Net, warnings: &mut Vec<String>) -> Ways {
    let mut routes: Vec<(Ipv4Net, Option<Ipv4Addr>, &Route)> = Vec::new();
    for route in network
        .routes
        .iter()
        .filter(|route| route.table == crate::network::MAIN_TABLE)
    {
        let IpNet::V4(destination) = route.destination else {
            continue;
        };
        match route.gateway {
            None => routes.push((destination, None, route)),
            Some(IpAddr::V4(gateway)) => routes.push((destination, Some(gateway), route)),
            Some(IpAddr::V6(gateway)) => warnings.push(format!(
                "route to {destination} left out: DHCP cannot name its gateway {gateway}, an IPv6 address"
            )),
        }
    }

    let subnet = address.trunc();
    // A plugin such as ptp removes the subnet's own route and sends even neighbours through the
    // gateway: there a guest that took them for neighbours would ask in vain.
    let on_link = |net: &Ipv4Net| {
        routes
            .iter()
            .any(|(d, gateway, _)| gateway.is_none() && d.contains(net))
    };
    let address = if on_link(&subnet) || address.prefix_len() == 32 {
        address
    } else {
        Ipv4Net::new_assert(address.addr(), 32)
    };
    let subnet = address.trunc();

    let default = network.default_route();
    let router = default.and_then(|route| match route.gateway {
        Some(IpAddr::V4(gateway)) => Some(gateway),
        _ => None,
    });
    // The client makes the subnet's own route itself.
    let named: Vec<_> = routes
        .iter()
        .filter(|(d, gateway, _)| !(gateway.is_none() && *d == subnet))
        .collect();
    let plain = named
        .iter()
        .all(|(d, gateway, _)| d.prefix_len() == 0 && gateway.is_some_and(|g| subnet.contains(&g)));
    if plain {
        return Ways {
            address,
            router,
            routes: Vec::new(),
        };
    }

    // RFC 3442: a client that reads 121 ignores option 3, so 121 holds the default route as well;
    // each gateway outside the subnet needs a route to itself first.
    let mut classless: Vec<ClasslessRoute> = Vec::new();
    let mut push = |route: ClasslessRoute| {
        // Of several routes to one destination the first has the lowest metric.
        if classless
            .iter()
            .all(|known| known.destination != route.destination)
        {
            classless.push(route);
        }
    };
    let mut named = named;
    named.sort_by_key(|(destination, gateway, route)| {
        (
            gateway.is_some(),
            std::cmp::Reverse(destination.prefix_len()),
            route.metric.unwrap_or(0),
        )
    });
    for (destination, gateway, _) in named.iter().filter(|(_, gateway, _)| gateway.is_none()) {
        push(ClasslessRoute {
            destination: *destination,
            router: gateway.unwrap_or(Ipv4Addr::UNSPECIFIED),
        });
    }
    for gateway in named.iter().filter_map(|(_, gateway, _)| *gateway) {
        let host = Ipv4Net::new_assert(gateway, 32);
        if !subnet.contains(&gateway) && !on_link(&host) {
            push(ClasslessRoute {
                destination: host,
                router: Ipv4Addr::UNSPECIFIED,
            });
        }
    }
    for (destination, gateway, _) in &named {
        if let Some(router) = *gateway {
            push(ClasslessRoute {
                destination: *destination,
                router,
            });
        }
    }
    Ways {
        address,
        router,
        routes: classless,
    }
}
