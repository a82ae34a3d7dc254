//! Options in wire format, in a reply that does not grow beyond a packet.

use std::net::Ipv6Addr;

use crate::ipv6::Ipv6Network;
use crate::mac::Mac;
use crate::name;

/// IPv6 and UDP headers, around every reply.
const IP_UDP: u32 = 40 + 8;
/// The smallest MTU of an IPv6 link (RFC 8200 section 5).
const MIN_MTU: u32 = 1280;
/// The longest that a client waits before it asks again, in seconds: the least that RFC 8415
/// section 21.24 allows. There is no crowd of clients that could ask at once after a pause of ours.
const MAX_RT: u32 = 60;

/// Option codes (RFC 8415 unless noted).
pub(super) mod code {
    pub(crate) const CLIENT_ID: u16 = 1;
    pub(crate) const SERVER_ID: u16 = 2;
    pub(crate) const IA_NA: u16 = 3;
    pub(crate) const IA_TA: u16 = 4;
    pub(crate) const IA_ADDRESS: u16 = 5;
    /// The Option Request option.
    pub(crate) const REQUESTED: u16 = 6;
    pub(crate) const PREFERENCE: u16 = 7;
    pub(crate) const STATUS: u16 = 13;
    pub(crate) const RAPID_COMMIT: u16 = 14;
    /// RFC 3646 section 3.
    pub(crate) const DNS: u16 = 23;
    /// RFC 3646 section 4.
    pub(crate) const SEARCH: u16 = 24;
    pub(crate) const IA_PD: u16 = 25;
    pub(crate) const IA_PREFIX: u16 = 26;
    /// RFC 4075; deprecated, and the only one that some clients know.
    pub(crate) const SNTP: u16 = 31;
    pub(crate) const REFRESH_TIME: u16 = 32;
    /// RFC 4704.
    pub(crate) const FQDN: u16 = 39;
    /// RFC 5908.
    pub(crate) const NTP: u16 = 56;
    pub(crate) const SOL_MAX_RT: u16 = 82;
    pub(crate) const INF_MAX_RT: u16 = 83;
}

/// The server's DUID: a DUID-LL, hardware type Ethernet (RFC 8415 section 11.4). Made of the MAC
/// that the server's frames come from, it is the same after any restart.
pub fn server_duid(mac: Mac) -> [u8; 10] {
    let [a, b, c, d, e, f] = mac.0;
    [0, 3, 0, 1, a, b, c, d, e, f]
}

/// Status codes (RFC 8415 section 21.13).
#[derive(Clone, Copy)]
pub(super) enum Status {
    Success,
    NoAddrsAvail,
    NotOnLink,
    NoPrefixAvail,
}

impl Status {
    /// The option's value: the code, and words for whoever reads the client's log.
    pub(super) fn encode(self) -> Vec<u8> {
        let (code, text) = match self {
            Self::Success => (0_u16, ""),
            Self::NoAddrsAvail => (2, "the first IA_NA has all addresses"),
            Self::NotOnLink => (4, "this address is not yours on this link"),
            Self::NoPrefixAvail => (6, "no prefix is delegated"),
        };
        [&code.to_be_bytes(), text.as_bytes()].concat()
    }
}

/// An address in an association, valid for a time in seconds (RFC 8415 section 21.6).
pub(super) fn ia_address(address: Ipv6Addr, seconds: u32) -> [u8; 24] {
    let mut value = [0; 24];
    value[..16].copy_from_slice(&address.octets());
    value[16..20].copy_from_slice(&seconds.to_be_bytes());
    value[20..].copy_from_slice(&seconds.to_be_bytes());
    value
}

/// An option that configures the client.
#[derive(Clone, Debug)]
pub(super) struct Configuration {
    pub(super) code: u16,
    /// Sent to whoever does not ask for it as well.
    pub(super) always: bool,
    pub(super) value: Vec<u8>,
}

/// The options that configure the client, most important first.
pub(super) fn configuration(network: &Ipv6Network) -> Vec<Configuration> {
    let addresses = |list: &[Ipv6Addr]| list.iter().flat_map(Ipv6Addr::octets).collect::<Vec<u8>>();
    let mut search = Vec::new();
    for domain in &network.search {
        name::encode(domain, &mut search);
    }
    // RFC 5908 section 4: one source of time an option. 1 is a server's address, 16 bytes long.
    let ntp = network
        .ntp
        .iter()
        .map(|server| [&[0, 1, 0, 16], server.octets().as_slice()].concat());
    [
        (code::DNS, true, addresses(&network.dns)),
        (code::SEARCH, true, search),
        (code::SNTP, false, addresses(&network.ntp)),
        (code::SOL_MAX_RT, false, MAX_RT.to_be_bytes().to_vec()),
        (code::INF_MAX_RT, false, MAX_RT.to_be_bytes().to_vec()),
    ]
    .into_iter()
    .chain(ntp.map(|server| (code::NTP, false, server)))
    // An empty option is malformed to most clients; nothing to say is said by silence.
    .filter(|(_, _, value)| !value.is_empty())
    .map(|(code, always, value)| Configuration {
        code,
        always,
        value,
    })
    .collect()
}

/// The Client FQDN option (RFC 4704 section 4) for a client that sent one with these flags.
pub(super) fn fqdn(hostname: &str, asked: u8) -> Vec<u8> {
    const SERVER_UPDATES: u8 = 1;
    const OVERRIDDEN: u8 = 2;
    const NO_UPDATES: u8 = 4;
    // Section 6.1: we change no DNS; a client that wanted us to is told so.
    let overridden = if asked & SERVER_UPDATES != 0 {
        OVERRIDDEN
    } else {
        0
    };
    let mut value = vec![NO_UPDATES | overridden];
    name::encode(hostname, &mut value);
    // Section 4.2: a name that is not fully qualified does not end with the root.
    if !hostname.contains('.') {
        value.pop();
    }
    value
}

/// Options, one after the other, in no more than some bytes.
#[derive(Debug)]
pub(super) struct Options {
    bytes: Vec<u8>,
    room: usize,
}

impl Options {
    /// A reply that fits in one packet on this network, so that it is never fragmented.
    pub(super) fn reply(network: &Ipv6Network, kind: u8, transaction: [u8; 3]) -> Self {
        // At most what UDP's length of 16 bits counts.
        let mtu = network.mtu.clamp(MIN_MTU, u16::MAX.into());
        let room = (mtu - IP_UDP) as usize;
        let mut bytes = Vec::with_capacity(MIN_MTU as usize);
        bytes.push(kind);
        bytes.extend(transaction);
        Self { bytes, room }
    }

    /// The value of an option of this area: these bytes, then options.
    pub(super) fn inside(&self, fixed: &[u8]) -> Self {
        Self {
            bytes: fixed.to_vec(),
            room: self.room.saturating_sub(self.bytes.len() + 4),
        }
    }

    /// Appends an option if there is room for it.
    pub(super) fn put(&mut self, code: u16, value: &[u8]) -> bool {
        let fits = self.bytes.len() + 4 + value.len() <= self.room;
        if fits {
            self.bytes.extend(code.to_be_bytes());
            // The room is less than 16 bits count.
            self.bytes.extend((value.len() as u16).to_be_bytes());
            self.bytes.extend(value);
        }
        fits
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
