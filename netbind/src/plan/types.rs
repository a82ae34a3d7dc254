//! What goes into a plan, and what comes out.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::dhcp::{LEASE_SECONDS, Lease};
use crate::dns::ResolvConf;
use crate::mac::Mac;
use crate::network::Neighbour;

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
    /// `ntpServers`, option 42.
    pub ntp_servers: Vec<Ipv4Addr>,
    /// `privateOptions`, by option number.
    pub private: BTreeMap<u8, String>,
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
