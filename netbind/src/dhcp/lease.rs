//! What the guest is told: the lease, and its options in wire format.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::mac::Mac;

/// The server identifier (option 54) of the first bridge-bound interface, as in KubeVirt.
pub const SERVER_ID: Ipv4Addr = Ipv4Addr::new(169, 254, 75, 10);

/// Lease time in seconds unless configured: one day.
///
/// What the guest is told never changes while the pod lives, so the lease could be for ever, as
/// KubeVirt's 999 days nearly are. A lease that is renewed, every twelve hours, makes a guest ask
/// that was moved to another pod as it ran, with a lease of its old one. A day outlasts any restart
/// of the server by far.
pub const LEASE_SECONDS: u32 = 86_400;

/// The shortest lease in seconds that a client gets, also where it asks for less (option 51).
///
/// A client may want a shorter lease than ours, and gets it down to this; a longer one it does not
/// get, for then it would notice that it was moved later than the pod's owner decided.
pub const LEASE_SECONDS_MIN: u32 = 10;

/// A DHCP lease for exactly one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The only client that is served.
    pub client: Mac,
    /// The client's address and the prefix length of its subnet (option 1).
    pub address: Ipv4Net,
    /// The default gateway (option 3).
    pub router: Option<Ipv4Addr>,
    /// Classless static routes (option 121); if there are any, the default route is among them.
    pub routes: Vec<ClasslessRoute>,
    /// Name servers (option 6).
    pub dns: Vec<Ipv4Addr>,
    /// Search domains (option 119).
    pub search: Vec<String>,
    /// The longest search domain (option 15), as in KubeVirt.
    pub domain: Option<String>,
    /// The client's host name (option 12).
    pub hostname: Option<String>,
    /// The largest packet in bytes (option 26).
    pub mtu: u32,
    /// Time servers (option 42).
    pub ntp: Vec<Ipv4Addr>,
    /// TFTP server name (option 66).
    pub tftp_server_name: Option<String>,
    /// Boot file name (option 67).
    pub boot_file_name: Option<String>,
    /// Options 224 to 254, private to the site (RFC 3942).
    pub private: BTreeMap<u8, String>,
    /// The server identifier (option 54).
    pub server_id: Ipv4Addr,
    /// Lease time in seconds (option 51); renewal (58) at a half, rebinding (59) at seven eighths.
    pub seconds: u32,
}

/// A route in option 121 (RFC 3442).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClasslessRoute {
    /// Where it leads.
    pub destination: Ipv4Net,
    /// The next hop; 0.0.0.0 means that destinations are neighbours on the link.
    pub router: Ipv4Addr,
}
