//! A client's DHCP message, read in place.

use std::array::TryFromSliceError;
use std::borrow::Cow;
use std::net::Ipv4Addr;
use std::ops::Range;

use super::options::code;
use crate::mac::Mac;

/// The fixed part of a message: everything before the options (RFC 2131 section 2).
pub(super) const HEADER: usize = 236;
/// The `file` field, which may hold options as well.
pub(super) const FILE: Range<usize> = 108..236;
/// The `sname` field, which may hold options as well.
pub(super) const SNAME: Range<usize> = 44..108;
/// "The first four octets of the 'options' field" (RFC 2131 section 3).
pub(super) const COOKIE: [u8; 4] = [99, 130, 83, 99];

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

/// A client's message, borrowed from the packet that carried it but for options that came in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The address that it would like (option 50).
    pub requested: Option<Ipv4Addr>,
    /// The server that it speaks to (option 54).
    pub server_id: Option<Ipv4Addr>,
    /// The lease time in seconds that it would like (option 51).
    pub seconds: Option<u32>,
    /// The options that it wants, in its order (option 55); empty if it named none.
    pub parameters: Cow<'a, [u8]>,
    /// The longest message in bytes that it takes, IP header included (option 57).
    pub max_size: Option<u16>,
    /// Its identifier (option 61): any bytes, such as a DUID (RFC 4361).
    pub client_id: Option<Cow<'a, [u8]>>,
    /// It can do with an ACK to its DISCOVER (option 80, RFC 4039).
    pub rapid_commit: bool,
    /// What the relay wants to be told again (option 82, RFC 3046).
    pub relay_agent: Option<Cow<'a, [u8]>>,
}

impl<'a> Message<'a> {
    /// Reads the payload of a UDP datagram; none if it is not a well-formed message of a DHCP
    /// client on Ethernet. BOOTP clients, which send no message type, are not served.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk::<HEADER>()?;
        let options = rest.strip_prefix(&COOKIE)?;
        // op 1 is BOOTREQUEST; htype 1 and hlen 6 are Ethernet.
        let [1, 1, 6, ..] = header else { return None };

        // RFC 3396 section 5: in this order the areas are one.
        let mut found = Options::default();
        found.read(options)?;
        // RFC 2132 section 9.3: 1 says that `file` holds options, 2 `sname`, 3 both.
        let overload = fixed::<1>(&found.overload).ok()?.map_or(0, |[value]| value);
        if overload & 1 != 0 {
            found.read(header.get(FILE)?)?;
        }
        if overload & 2 != 0 {
            found.read(header.get(SNAME)?)?;
        }

        let kind = match fixed(&found.kind).ok()?? {
            [1] => Kind::Discover,
            [3] => Kind::Request,
            [4] => Kind::Decline,
            [7] => Kind::Release,
            [8] => Kind::Inform,
            _ => return None,
        };
        Some(Self {
            kind,
            xid: u32::from_be_bytes(field(header, 4)?),
            broadcast: header[10] & 0x80 != 0,
            ciaddr: field::<4>(header, 12)?.into(),
            giaddr: field::<4>(header, 24)?.into(),
            chaddr: Mac(field(header, 28)?),
            requested: fixed::<4>(&found.requested).ok()?.map(Ipv4Addr::from),
            server_id: fixed::<4>(&found.server_id).ok()?.map(Ipv4Addr::from),
            seconds: fixed(&found.seconds).ok()?.map(u32::from_be_bytes),
            parameters: found.parameters.unwrap_or_default(),
            max_size: fixed(&found.max_size).ok()?.map(u16::from_be_bytes),
            client_id: found.client_id,
            rapid_commit: found.rapid_commit.is_some(),
            relay_agent: found.relay_agent,
        })
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The value of an option that has a fixed length, if it came.
fn fixed<const N: usize>(value: &Value<'_>) -> Result<Option<[u8; N]>, TryFromSliceError> {
    value.as_deref().map(TryInto::try_into).transpose()
}

/// An option's value, if it came. RFC 3396 section 7: options of one code are parts of one value.
type Value<'a> = Option<Cow<'a, [u8]>>;

/// The options that a server reads.
#[derive(Default)]
struct Options<'a> {
    kind: Value<'a>,
    requested: Value<'a>,
    server_id: Value<'a>,
    seconds: Value<'a>,
    parameters: Value<'a>,
    max_size: Value<'a>,
    client_id: Value<'a>,
    rapid_commit: Value<'a>,
    relay_agent: Value<'a>,
    overload: Value<'a>,
}

impl<'a> Options<'a> {
    /// Reads one options area up to its end mark. None if an option's length leads out of the area.
    fn read(&mut self, mut area: &'a [u8]) -> Option<()> {
        loop {
            // An area without an end mark has been seen from boot ROMs; it ends where it ends.
            let Some((&tag, rest)) = area.split_first() else {
                return Some(());
            };
            match tag {
                code::PAD => area = rest,
                code::END => return Some(()),
                _ => {
                    let (&length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(length.into())?;
                    self.take(tag, value);
                    area = rest;
                }
            }
        }
    }

    fn take(&mut self, tag: u8, value: &'a [u8]) {
        let known = match tag {
            code::MESSAGE_TYPE => &mut self.kind,
            code::REQUESTED_ADDRESS => &mut self.requested,
            code::SERVER_ID => &mut self.server_id,
            code::LEASE_TIME => &mut self.seconds,
            code::PARAMETER_LIST => &mut self.parameters,
            code::MAX_SIZE => &mut self.max_size,
            code::CLIENT_ID => &mut self.client_id,
            code::RAPID_COMMIT => &mut self.rapid_commit,
            code::RELAY_AGENT => &mut self.relay_agent,
            code::OVERLOAD => &mut self.overload,
            _ => return,
        };
        match known {
            None => *known = Some(Cow::Borrowed(value)),
            Some(parts) => parts.to_mut().extend_from_slice(value),
        }
    }
}
