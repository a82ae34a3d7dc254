//! A client's DHCP message, read in place.

use std::net::Ipv4Addr;

use super::lease::code;
use crate::mac::Mac;

/// The fixed part of a message: everything before the options (RFC 2131 section 2).
pub(crate) const HEADER: usize = 236;
/// "The first four octets of the 'options' field" (RFC 2131 section 3).
pub(crate) const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// What a client says (option 53). What only servers say is no message to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Looking for servers.
    Discover,
    /// Wants this address, from this server, or on.
    Request,
    /// Found the address in use.
    Decline,
    /// Gives the address back.
    Release,
    /// Has an address, wants the rest.
    Inform,
}

/// A client's message, borrowed from the packet that carried it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What is said.
    pub kind: Kind,
    /// Transaction, chosen by the client.
    pub xid: u32,
    /// The client cannot receive unicast before it is configured.
    pub broadcast: bool,
    /// The client's address, if it has one and can answer ARP for it.
    pub ciaddr: Ipv4Addr,
    /// The relay that passed the message on.
    pub giaddr: Ipv4Addr,
    /// The client.
    pub chaddr: Mac,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server_id: Option<Ipv4Addr>,
    /// Option 55; empty if the client named none.
    pub parameters: &'a [u8],
    /// Option 57.
    pub max_size: Option<u16>,
    /// Option 61.
    pub client_id: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// Reads the payload of a UDP datagram; none if it is not a well-formed message of a DHCP
    /// client on Ethernet. BOOTP clients, which send no message type, are not served.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk::<HEADER>()?;
        let options = rest.strip_prefix(&COOKIE)?;
        // op 1 is BOOTREQUEST; htype 1 and hlen 6 are Ethernet.
        let [1, 1, 6, ..] = header else { return None };

        let mut found = Options::default();
        found.read(options)?;
        // RFC 2132 section 9.3: 1 says that `file` holds options, 2 `sname`, 3 both.
        let overload = found.overload;
        if overload & 1 != 0 {
            found.read(header.get(108..236)?)?;
        }
        if overload & 2 != 0 {
            found.read(header.get(44..108)?)?;
        }

        Some(Self {
            kind: found.kind?,
            xid: u32::from_be_bytes(field(header, 4)?),
            broadcast: header[10] & 0x80 != 0,
            ciaddr: field::<4>(header, 12)?.into(),
            giaddr: field::<4>(header, 24)?.into(),
            chaddr: Mac(field(header, 28)?),
            requested: found.requested,
            server_id: found.server_id,
            parameters: found.parameters,
            max_size: found.max_size,
            client_id: found.client_id,
        })
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The options that a server reads. The first of each counts; none of them may be longer than one
/// option holds, so RFC 3396's joining has nothing to join.
#[derive(Default)]
struct Options<'a> {
    kind: Option<Kind>,
    requested: Option<Ipv4Addr>,
    server_id: Option<Ipv4Addr>,
    parameters: &'a [u8],
    max_size: Option<u16>,
    client_id: Option<&'a [u8]>,
    overload: u8,
}

impl<'a> Options<'a> {
    /// Reads one options area up to its end mark. None if an option's length leads out of the area
    /// or is wrong for its kind.
    fn read(&mut self, mut area: &'a [u8]) -> Option<()> {
        loop {
            // An area without an end mark has been seen from boot ROMs; it ends where it ends.
            let Some((&tag, rest)) = area.split_first() else {
                return Some(());
            };
            match tag {
                0 => area = rest,
                255 => return Some(()),
                _ => {
                    let (&length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(length.into())?;
                    self.take(tag, value)?;
                    area = rest;
                }
            }
        }
    }

    fn take(&mut self, tag: u8, value: &'a [u8]) -> Option<()> {
        match tag {
            code::MESSAGE_TYPE => {
                let kind = match value {
                    [1] => Kind::Discover,
                    [3] => Kind::Request,
                    [4] => Kind::Decline,
                    [7] => Kind::Release,
                    [8] => Kind::Inform,
                    _ => return None,
                };
                self.kind.get_or_insert(kind);
            }
            code::REQUESTED_ADDRESS => {
                self.requested
                    .get_or_insert(<[u8; 4]>::try_from(value).ok()?.into());
            }
            code::SERVER_ID => {
                self.server_id
                    .get_or_insert(<[u8; 4]>::try_from(value).ok()?.into());
            }
            code::MAX_SIZE => {
                self.max_size
                    .get_or_insert(u16::from_be_bytes(value.try_into().ok()?));
            }
            code::PARAMETER_LIST if self.parameters.is_empty() => self.parameters = value,
            code::CLIENT_ID => {
                self.client_id.get_or_insert(value);
            }
            code::OVERLOAD => self.overload = *value.first()?,
            _ => {}
        }
        Some(())
    }
}
