//! A client's DHCPv6 message, read in place.

use std::net::Ipv6Addr;

use super::options::code;

/// The longest DUID: a type of two bytes, and 128 (RFC 8415 section 11.1).
const MAX_DUID: usize = 130;
/// The shortest DUID.
const MIN_DUID: usize = 3;

/// What a client says (RFC 8415 section 7.3). What only servers and relays say is no message to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Looking for servers.
    Solicit,
    /// Wants addresses from this server.
    Request,
    /// Was away, and asks whether its addresses are still right.
    Confirm,
    /// Wants to keep its addresses, from the server that gave them.
    Renew,
    /// Wants to keep its addresses, from any server.
    Rebind,
    /// Gives addresses back.
    Release,
    /// Found addresses in use.
    Decline,
    /// Wants the configuration, and no address.
    InformationRequest,
}

impl Kind {
    fn new(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Solicit,
            3 => Self::Request,
            4 => Self::Confirm,
            5 => Self::Renew,
            6 => Self::Rebind,
            8 => Self::Release,
            9 => Self::Decline,
            11 => Self::InformationRequest,
            _ => return None,
        })
    }
}

/// A client's message, borrowed from the packet that carried it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What is said.
    pub kind: Kind,
    /// Transaction, chosen by the client.
    pub transaction: [u8; 3],
    /// Option 1, a DUID.
    pub client_id: Option<&'a [u8]>,
    /// Option 2, a DUID.
    pub server_id: Option<&'a [u8]>,
    /// Option 14: the client would do without ADVERTISE and REQUEST.
    pub rapid_commit: bool,
    /// Option 6, codes of two bytes each; empty if the client named none.
    pub requested: &'a [u8],
    /// The flags of option 39 (RFC 4704 section 4.1).
    pub fqdn: Option<u8>,
    /// All options; their structure is known to be sound.
    options: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads the payload of a UDP datagram; none if it is not a well-formed message of a client,
    /// down to the addresses in its identity associations. Of an option that may stand only once
    /// the first counts.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let ([kind, transaction @ ..], options) = packet.split_first_chunk::<4>()?;
        let mut message = Self {
            kind: Kind::new(*kind)?,
            transaction: *transaction,
            client_id: None,
            server_id: None,
            rapid_commit: false,
            requested: &[],
            fqdn: None,
            options,
        };
        for option in Options(options) {
            let (code, value) = option?;
            message.take(code, value)?;
        }
        Some(message)
    }

    fn take(&mut self, code: u16, value: &'a [u8]) -> Option<()> {
        match code {
            code::CLIENT_ID if (MIN_DUID..=MAX_DUID).contains(&value.len()) => {
                self.client_id.get_or_insert(value);
            }
            code::CLIENT_ID => return None,
            code::SERVER_ID => {
                self.server_id.get_or_insert(value);
            }
            code::RAPID_COMMIT if value.is_empty() => self.rapid_commit = true,
            code::RAPID_COMMIT => return None,
            code::REQUESTED if !value.len().is_multiple_of(2) => return None,
            code::REQUESTED if self.requested.is_empty() => self.requested = value,
            code::FQDN => {
                self.fqdn.get_or_insert(*value.first()?);
            }
            code::IA_NA | code::IA_TA | code::IA_PD => {
                Association::parse(code, value)?;
            }
            _ => {}
        }
        Some(())
    }

    /// The identity associations, in the message's order.
    pub fn associations(&self) -> impl Iterator<Item = Association<'a>> + use<'a> {
        Options(self.options)
            .flatten()
            .filter_map(|(code, value)| Association::parse(code, value))
    }

    /// The addresses that the message names, in all of its associations.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv6Addr> + use<'a> {
        self.associations().flat_map(|one| one.addresses())
    }

    /// Whether the client asked for an option.
    pub fn requests(&self, code: u16) -> bool {
        let (codes, _) = self.requested.as_chunks::<2>();
        codes.contains(&code.to_be_bytes())
    }
}

/// What an identity association is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssociationKind {
    /// IA_NA: addresses.
    Addresses,
    /// IA_TA: temporary addresses, which RFC 9915 no longer has.
    Temporary,
    /// IA_PD: prefixes for a router to delegate.
    Prefixes,
}

/// An identity association: IA_NA, IA_TA or IA_PD (RFC 8415 sections 21.4, 21.5 and 21.21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Association<'a> {
    /// What it is for.
    pub kind: AssociationKind,
    /// The IAID, chosen by the client.
    pub id: [u8; 4],
    options: &'a [u8],
}

impl<'a> Association<'a> {
    fn parse(code: u16, value: &'a [u8]) -> Option<Self> {
        let (id, rest) = value.split_first_chunk()?;
        // T1 and T2 of a client's message are to be ignored.
        let (kind, options) = match code {
            code::IA_NA => (AssociationKind::Addresses, rest.get(8..)?),
            code::IA_TA => (AssociationKind::Temporary, rest),
            code::IA_PD => (AssociationKind::Prefixes, rest.get(8..)?),
            _ => return None,
        };
        for option in Options(options) {
            let fixed = match option? {
                (code::IA_ADDRESS, value) => value.get(24..)?,
                (code::IA_PREFIX, value) => value.get(25..)?,
                _ => continue,
            };
            for option in Options(fixed) {
                option?;
            }
        }
        Some(Self {
            kind,
            id: *id,
            options,
        })
    }

    /// The option's code.
    pub(super) fn code(self) -> u16 {
        match self.kind {
            AssociationKind::Addresses => code::IA_NA,
            AssociationKind::Temporary => code::IA_TA,
            AssociationKind::Prefixes => code::IA_PD,
        }
    }

    /// The addresses in it: those that the client has, or would like.
    pub fn addresses(self) -> impl Iterator<Item = Ipv6Addr> + use<'a> {
        Options(self.options)
            .flatten()
            .filter(|(code, _)| *code == code::IA_ADDRESS)
            .filter_map(|(_, value)| value.first_chunk::<16>())
            .map(|octets| Ipv6Addr::from(*octets))
    }
}

/// The options of an area, code and value (RFC 8415 section 21.1). Ends with a none where a length
/// leads out of the area.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = Option<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = split(self.0);
        self.0 = split.map_or(&[], |(_, _, rest)| rest);
        Some(split.map(|(code, value, _)| (code, value)))
    }
}

/// The code and the value of an area's first option, and the rest of the area.
fn split(area: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let ([a, b, c, d], rest) = area.split_first_chunk::<4>()?;
    let length = u16::from_be_bytes([*c, *d]);
    let (value, rest) = rest.split_at_checked(length.into())?;
    Some((u16::from_be_bytes([*a, *b]), value, rest))
}
