//! Ethernet addresses.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A 48-bit Ethernet address, written `02:00:5e:10:00:01` in JSON and on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that every station listens to.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Makes a locally administered unicast address of six random bytes
    /// (IEEE 802: bit 1 of the first octet set, bit 0 clear).
    pub fn local(random: [u8; 6]) -> Self {
        let mut octets = random;
        octets[0] = (octets[0] | 0x02) & !0x01;
        Self(octets)
    }

    /// Whether frames can be sent to one station by this address: neither zero nor multicast.
    pub fn is_unicast(self) -> bool {
        self.0 != [0; 6] && self.0[0] & 1 == 0
    }

    /// The link-local address that a station derives from its MAC (RFC 4291, appendix A: modified
    /// EUI-64).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        Ipv6Addr::from([
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            a ^ 0x02,
            b,
            c,
            0xff,
            0xfe,
            d,
            e,
            f,
        ])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not six hexadecimal octets separated by colons.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an Ethernet address; write six hexadecimal octets as in 02:00:5e:10:00:01")]
pub struct ParseMacError(String);

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseMacError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(fail)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(fail());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| fail())?;
        }
        match parts.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(fail()),
        }
    }
}

impl TryFrom<String> for Mac {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        let mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0xff]);
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
        assert_eq!("02:00:5E:10:00:ff".parse::<Mac>().unwrap(), mac);
        for bad in [
            "",
            "02:00",
            "02:00:5e:10:00:ff:01",
            "2:0:5e:10:0:ff",
            "02:00:5e:10:00:fg",
            "+2:00:5e:10:00:ff",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_link_local_address_holds_the_mac() {
        let mac = Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(mac.link_local().to_string(), "fe80::3656:78ff:fe9a:bcde");
    }

    #[test]
    fn made_addresses_are_local_and_unicast() {
        for first in 0..=255 {
            let mac = Mac::local([first, 1, 2, 3, 4, 5]);
            assert!(mac.is_unicast());
            assert_eq!(mac.0[0] & 2, 2);
        }
        assert!(!Mac([0; 6]).is_unicast());
        assert!(!Mac::BROADCAST.is_unicast());
    }
}
