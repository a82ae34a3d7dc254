//! What the guest is told: the lease, and its options in wire format.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::mac::Mac;
use crate::name;

/// The server identifier (option 54) of the first bridge-bound interface, as in KubeVirt.
pub const SERVER_ID: Ipv4Addr = Ipv4Addr::new(169, 254, 75, 10);

/// Lease time in seconds unless configured: one day.
///
/// The address never changes while the pod lives, so the lease could be for ever, as KubeVirt's 999
/// days nearly are. A lease that is renewed, every twelve hours, lets new name servers, routes and
/// MTU reach a guest that runs for months, and makes a guest restored from an old snapshot ask. A
/// day outlasts any restart of the server by far.
pub const LEASE_SECONDS: u32 = 86_400;

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

/// One option in wire format, split as RFC 3396 says where its value is longer than 255 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) code: u8,
    pub(crate) bytes: Vec<u8>,
}

impl Encoded {
    fn new(code: u8, value: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(value.len() + 2);
        for part in value.chunks(255) {
            bytes.push(code);
            bytes.push(part.len() as u8);
            bytes.extend_from_slice(part);
        }
        Self { code, bytes }
    }
}

/// Option codes (RFC 2132 unless noted).
pub(crate) mod code {
    pub(crate) const SUBNET_MASK: u8 = 1;
    pub(crate) const ROUTER: u8 = 3;
    pub(crate) const DNS: u8 = 6;
    pub(crate) const HOSTNAME: u8 = 12;
    pub(crate) const DOMAIN: u8 = 15;
    pub(crate) const MTU: u8 = 26;
    pub(crate) const NTP: u8 = 42;
    pub(crate) const REQUESTED_ADDRESS: u8 = 50;
    pub(crate) const LEASE_TIME: u8 = 51;
    pub(crate) const OVERLOAD: u8 = 52;
    pub(crate) const MESSAGE_TYPE: u8 = 53;
    pub(crate) const SERVER_ID: u8 = 54;
    pub(crate) const PARAMETER_LIST: u8 = 55;
    pub(crate) const MESSAGE: u8 = 56;
    pub(crate) const MAX_SIZE: u8 = 57;
    pub(crate) const RENEWAL_TIME: u8 = 58;
    pub(crate) const REBINDING_TIME: u8 = 59;
    pub(crate) const CLIENT_ID: u8 = 61;
    pub(crate) const TFTP_SERVER_NAME: u8 = 66;
    pub(crate) const BOOT_FILE_NAME: u8 = 67;
    /// RFC 3397.
    pub(crate) const SEARCH: u8 = 119;
    /// RFC 3442.
    pub(crate) const ROUTES: u8 = 121;
}

impl Lease {
    /// The options that tell a client how long it may keep the address. Not sent to an INFORM
    /// (RFC 2131 section 4.3.5).
    pub(crate) fn encode_times(&self) -> Vec<u8> {
        let renewal = self.seconds / 2;
        let rebinding = (u64::from(self.seconds) * 7 / 8) as u32;
        [
            (code::LEASE_TIME, self.seconds),
            (code::RENEWAL_TIME, renewal),
            (code::REBINDING_TIME, rebinding),
        ]
        .into_iter()
        .flat_map(|(code, seconds)| Encoded::new(code, &seconds.to_be_bytes()).bytes)
        .collect()
    }

    /// The options that configure the client, most important first: where a client's messages are
    /// too small for all, the last ones are left out. The mask stands before the router, as
    /// RFC 2132 section 3.3 wants.
    pub(crate) fn encode_options(&self) -> Vec<Encoded> {
        let addresses =
            |list: &[Ipv4Addr]| list.iter().flat_map(Ipv4Addr::octets).collect::<Vec<u8>>();
        let mut routes = Vec::new();
        for route in &self.routes {
            // RFC 3442: width, then only the octets that it covers, then the router.
            let width = route.destination.prefix_len();
            routes.push(width);
            routes.extend(
                route
                    .destination
                    .network()
                    .octets()
                    .iter()
                    .take(width.div_ceil(8).into()),
            );
            routes.extend(route.router.octets());
        }
        let mut search = Vec::new();
        for domain in &self.search {
            name::encode(domain, &mut search);
        }
        // RFC 2132 section 5.1: at least 68, and 16 bits wide.
        let mtu = u16::try_from(self.mtu).unwrap_or(u16::MAX).max(68);
        let text = |value: &Option<String>| value.clone().unwrap_or_default().into_bytes();

        let mut options = vec![
            (code::SUBNET_MASK, self.address.netmask().octets().to_vec()),
            (code::ROUTER, addresses(self.router.as_slice())),
            (code::ROUTES, routes),
            (code::MTU, mtu.to_be_bytes().to_vec()),
            (code::DNS, addresses(&self.dns)),
            (code::HOSTNAME, text(&self.hostname)),
            (code::BOOT_FILE_NAME, text(&self.boot_file_name)),
            (code::TFTP_SERVER_NAME, text(&self.tftp_server_name)),
            (code::DOMAIN, text(&self.domain)),
            (code::SEARCH, search),
            (code::NTP, addresses(&self.ntp)),
        ];
        options.extend(
            self.private
                .iter()
                .map(|(code, value)| (*code, value.clone().into_bytes())),
        );
        options
            .into_iter()
            // An empty option is malformed to most clients; nothing to say is said by silence.
            .filter(|(_, value)| !value.is_empty())
            .map(|(code, value)| Encoded::new(code, &value))
            .collect()
    }
}
