//! What goes into a plan, and what comes out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::dhcp::{LEASE_SECONDS, Lease, SERVER_ID};
use crate::dns::ResolvConf;
use crate::ipv6::Ipv6Network;
use crate::mac::Mac;
use crate::network::{BridgeNetfilter, Neighbour};

/// What the pod's network does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How the guest is connected.
    pub binding: Binding,
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

/// How a guest is connected to the pod's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Binding {
    /// The guest takes over the pod's addresses and MAC (KubeVirt's `interfaces[].bridge`).
    #[serde(rename_all = "camelCase")]
    Bridge {
        /// Whether the guest is held to its own addresses and MAC.
        anti_spoofing: bool,
    },
    /// The guest has a network of its own behind the pod's addresses (`interfaces[].masquerade`).
    Masquerade(Masquerade),
}

impl Default for Binding {
    fn default() -> Self {
        Self::Bridge {
            anti_spoofing: true,
        }
    }
}

/// The guest's own network. Its first host is the router, its second one the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masquerade {
    /// `networks[].pod.vmNetworkCIDR`; 10.0.2.0/24 unless set.
    pub ipv4: Ipv4Net,
    /// `networks[].pod.vmIPv6NetworkCIDR`; fd10:0:2::/120 unless set.
    pub ipv6: Ipv6Net,
    /// `interfaces[].ports`: what of the pod's is the guest's; all if empty.
    pub ports: Vec<Port>,
}

impl Default for Masquerade {
    fn default() -> Self {
        Self {
            ipv4: Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 2, 0), 24),
            ipv6: Ipv6Net::new_assert(Ipv6Addr::new(0xfd10, 0, 2, 0, 0, 0, 0, 0), 120),
            ports: Vec::new(),
        }
    }
}

/// A port that the guest serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number, 1 to 65535.
    pub port: u16,
}

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The tap device that QEMU opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapOptions {
    /// Its name.
    pub name: String,
    /// The user that may attach: QEMU's uid. With no owner any user may.
    pub owner: u32,
    /// The group that the process must be in as well, unless it has CAP_NET_ADMIN.
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

/// Whom to serve, KubeVirt's `interfaces[].dhcpOptions`, and the lease time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOptions {
    /// The guest's MAC where the manifest names one (`interfaces[].macAddress`); else the guest
    /// takes over the pod's.
    pub client: Option<Mac>,
    /// Seconds until the lease ends ([`LEASE_SECONDS`] unless set).
    pub lease_seconds: u32,
    /// `bootFileName`, option 67.
    pub boot_file_name: Option<String>,
    /// `tftpServerName`, option 66.
    pub tftp_server_name: Option<String>,
    /// `ntpServers`: DHCP's option 42, DHCPv6's options 31 and 56.
    pub ntp_servers: Vec<IpAddr>,
    /// `privateOptions`, by option number.
    pub private: BTreeMap<u8, String>,
    /// The server identifier (option 54) in bridge binding; interfaces of one guest must not share
    /// one. In masquerade binding it is the router's address.
    pub server_id: Ipv4Addr,
}

impl Default for DhcpOptions {
    fn default() -> Self {
        Self {
            client: None,
            lease_seconds: LEASE_SECONDS,
            boot_file_name: None,
            tftp_server_name: None,
            ntp_servers: Vec::new(),
            private: BTreeMap::new(),
            server_id: SERVER_ID,
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
    BypassIptables(BridgeNetfilter),
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
    /// Make the translation between the guest's network and the pod's, in one transaction.
    Nat(Nat),
    /// Give a link an address, which is valid at once: nobody else on the link could have it.
    Address {
        /// The link.
        link: String,
        /// The address and its subnet.
        net: IpNet,
    },
    /// Forward packets between the pod's interface and the bridge, and from the pod's own loopback
    /// addresses to the bridge.
    Forward {
        /// The pod's interface.
        interface: String,
        /// The bridge.
        bridge: String,
        /// IPv4, for the two links alone.
        ipv4: bool,
        /// IPv6, for the whole namespace: there is no smaller switch.
        ipv6: bool,
    },
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
    /// Let a port send back what entered by it. A namespace that takes bridged frames through
    /// iptables, as each new one does, turns the guest's calls of the pod's address back while they
    /// are frames, and not as a router would.
    Hairpin {
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
    /// The pod's interface where it is one of the bridge's ports: in bridge binding. Then nothing
    /// that enters the bridge is for the pod itself.
    pub interface: Option<String>,
    /// The tap, the other port.
    pub tap: String,
    /// The guest's MAC.
    pub guest: Mac,
    /// Whether we serve addresses: then neither DHCP nor router discovery crosses the bridge. Else
    /// the network's own reach the guest.
    pub served: bool,
    /// What the guest may send from; all if none.
    pub allowed: Option<Allowed>,
}

/// What the guest may send from, beside its MAC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// IPv4 addresses.
    pub ipv4: Vec<Ipv4Addr>,
    /// IPv6 addresses, beside link-local ones.
    pub ipv6: Vec<Ipv6Addr>,
    /// The router's link-local address, which the guest must not claim.
    pub router: Option<Ipv6Addr>,
}

/// The nftables table (inet family) that translates in masquerade binding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// Its name.
    pub table: String,
    /// The pod's interface.
    pub interface: String,
    /// The bridge.
    pub bridge: String,
    /// The bridge's port for the guest.
    pub tap: String,
    /// What of the pod's is the guest's; all if empty.
    pub ports: Vec<Port>,
    /// Addresses of IPv4, if the pod has any.
    pub ipv4: Option<Translation<Ipv4Addr>>,
    /// Addresses of IPv6, if the pod has any.
    pub ipv6: Option<Translation<Ipv6Addr>>,
}

/// Who is who in one address family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Translation<A> {
    /// The pod's addresses.
    pub pod: Vec<A>,
    /// The bridge's, the guest's router.
    pub bridge: A,
    /// The guest's.
    pub guest: A,
    /// Whether the pod's interface forwarded before: then what it forwards elsewhere is left alone.
    pub forwarded: bool,
}

/// What the guest is given, and where: all that the DHCP server and the domain need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNetwork {
    /// How it is connected.
    pub binding: Binding,
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
    /// The MAC from which our servers speak: the bridge's.
    pub server_mac: Mac,
    /// What DHCP leases; none where the pod has no IPv4 address.
    pub lease: Option<Lease>,
    /// What router advertisements and DHCPv6 tell; none where the pod has no IPv6 address.
    pub ipv6: Option<Ipv6Network>,
    /// Neighbours that answer neither ARP nor solicitations, and that we answer for.
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
