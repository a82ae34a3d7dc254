//! The lease as options: their codes, their values, and how much each matters.

use std::net::Ipv4Addr;

use super::lease::Lease;
use crate::name;

/// Option codes (RFC 2132 unless noted).
pub(super) mod code {
    pub(crate) const PAD: u8 = 0;
    pub(crate) const SUBNET_MASK: u8 = 1;
    pub(crate) const ROUTER: u8 = 3;
    pub(crate) const DNS: u8 = 6;
    pub(crate) const HOSTNAME: u8 = 12;
    pub(crate) const DOMAIN: u8 = 15;
    pub(crate) const MTU: u8 = 26;
    pub(crate) const BROADCAST: u8 = 28;
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
    /// RFC 4039.
    pub(crate) const RAPID_COMMIT: u8 = 80;
    /// RFC 3046.
    pub(crate) const RELAY_AGENT: u8 = 82;
    /// RFC 3397.
    pub(crate) const SEARCH: u8 = 119;
    /// RFC 3442.
    pub(crate) const ROUTES: u8 = 121;
    /// The same, by the number that Microsoft gave it before there was an RFC.
    pub(crate) const MICROSOFT_ROUTES: u8 = 249;
    pub(crate) const END: u8 = 255;
}

/// An option that configures the client.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) code: u8,
    /// Of any length: whoever writes it splits it.
    pub(super) value: Vec<u8>,
}

impl Lease {
    /// The options that configure the client, most important first: where a client's messages are
    /// too small for all, the last ones are left out. The mask stands before the router, as
    /// RFC 2132 section 3.3 wants.
    pub(super) fn settings(&self) -> Vec<Setting> {
        let addresses =
            |list: &[Ipv4Addr]| list.iter().flat_map(Ipv4Addr::octets).collect::<Vec<u8>>();
        let text = |value: &Option<String>| value.clone().unwrap_or_default().into_bytes();
        // RFC 2132 section 5.1: at least 68, and 16 bits wide.
        let mtu = u16::try_from(self.mtu).unwrap_or(u16::MAX).max(68);
        // A subnet of one or two addresses has none to spare (RFC 3021).
        let broadcast = (self.address.prefix_len() <= 30).then(|| self.address.broadcast());

        let configured = [
            (code::SUBNET_MASK, addresses(&[self.address.netmask()])),
            (code::ROUTER, addresses(self.router.as_slice())),
            (code::ROUTES, self.encode_routes()),
            (code::MTU, mtu.to_be_bytes().to_vec()),
            (code::DNS, addresses(&self.dns)),
            (code::HOSTNAME, text(&self.hostname)),
            (code::BOOT_FILE_NAME, text(&self.boot_file_name)),
            (code::TFTP_SERVER_NAME, text(&self.tftp_server_name)),
            (code::DOMAIN, text(&self.domain)),
            (code::SEARCH, self.encode_search()),
            (code::NTP, addresses(&self.ntp)),
        ];
        let private = self
            .private
            .iter()
            .map(|(code, value)| (*code, value.clone().into_bytes()));
        // What a client computes itself from the mask is the first to go.
        let derived = [(code::BROADCAST, addresses(broadcast.as_slice()))];
        configured
            .into_iter()
            .chain(private)
            .chain(derived)
            // An empty option is malformed to most clients; nothing to say is said by silence.
            .filter(|(_, value)| !value.is_empty())
            .map(|(code, value)| Setting { code, value })
            .collect()
    }

    /// RFC 3442: the width, then only the octets that it covers, then the router.
    fn encode_routes(&self) -> Vec<u8> {
        let mut routes = Vec::new();
        for route in &self.routes {
            let width = route.destination.prefix_len();
            let octets = route.destination.network().octets();
            routes.push(width);
            routes.extend(octets.iter().take(width.div_ceil(8).into()));
            routes.extend(route.router.octets());
        }
        routes
    }

    /// RFC 3397: plain names, which no client can misread, as long as they have room anywhere; a
    /// longer list compressed, as the RFC has it.
    fn encode_search(&self) -> Vec<u8> {
        /// What `file` can hold.
        const SHORT: usize = 125;
        let mut plain = Vec::new();
        for domain in &self.search {
            name::encode(domain, &mut plain);
        }
        if plain.len() <= SHORT {
            return plain;
        }
        compress(&self.search)
    }
}

/// Names in DNS wire format, each tail that came before replaced by a pointer to it (RFC 1035
/// section 4.1.4), which counts from the start of the list (RFC 3397 section 2).
fn compress(names: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut seen: Vec<(&str, u16)> = Vec::new();
    for name in names {
        let mut rest = Some(name.as_str());
        while let Some(tail) = rest {
            if let Some((_, at)) = seen.iter().find(|(known, _)| *known == tail) {
                out.extend((0xc000 | at).to_be_bytes());
                break;
            }
            // A pointer has 14 bits.
            if let Ok(at @ ..0x4000) = u16::try_from(out.len()) {
                seen.push((tail, at));
            }
            let (label, after) = match tail.split_once('.') {
                Some((label, after)) => (label, Some(after)),
                None => (tail, None),
            };
            // As in `name::encode`, whose check limits labels to 63 bytes.
            out.push(label.len() as u8 & 0x3f);
            out.extend_from_slice(label.as_bytes());
            if after.is_none() {
                out.push(0);
            }
            rest = after;
        }
    }
    out
}
