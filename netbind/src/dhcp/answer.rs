//! What a server says to a client's message.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::lease::{LEASE_SECONDS_MIN, Lease};
use super::message::{HEADER, Kind, Message};
use super::options::{Setting, code};
use super::reply::Writer;
use crate::Event;
use crate::mac::Mac;

/// How long no offer is made after a DECLINE. RFC 2131 section 3.1 step 5: "The client SHOULD wait
/// a minimum of ten seconds before restarting the configuration process", so a client that keeps to
/// that never notices, and one that does not cannot make us spin.
pub const DECLINE_PAUSE: Duration = Duration::from_secs(10);

/// The smallest limit on a message's size that a client may have: an IP datagram of 576 bytes
/// (RFC 2131 section 2).
const MIN_SIZE: usize = 576;
/// IPv4 and UDP headers, which the limit counts.
const IP_UDP: usize = 28;

const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// What the protocol says to do about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// DHCPOFFER of the lease.
    Offer,
    /// DHCPACK of the lease.
    Ack,
    /// DHCPACK of the lease to a DHCPDISCOVER.
    Commit,
    /// DHCPACK with the options, but no lease.
    Inform,
    /// DHCPNAK: the client wants, or thinks that it has, this other address.
    Nak(Ipv4Addr),
    /// The client gave the address back. It stays reserved: there is nobody else to have it.
    Release,
    /// The client found the address in use by another.
    Decline,
    /// Not for us, or not to be answered.
    Ignore,
}

/// Decides from a client's message what to do. Pure; the sections are RFC 2131's.
pub fn decide(lease: &Lease, message: &Message<'_>) -> Verdict {
    if message.chaddr != lease.client {
        return Verdict::Ignore;
    }
    // A message that names a server is for that server only (4.3.2, 4.3.3, 4.3.4).
    if message.server_id.is_some_and(|id| id != lease.server_id) {
        return Verdict::Ignore;
    }
    let ours = lease.address.addr();
    match message.kind {
        // RFC 4039 section 3.1: there is no other server whose offer the client could prefer.
        Kind::Discover if message.rapid_commit => Verdict::Commit,
        // 4.3.1: the client's current binding is offered, whatever address it would like.
        Kind::Discover => Verdict::Offer,
        Kind::Request => {
            // 4.3.2: SELECTING and INIT-REBOOT name the address in option 50, RENEWING and
            // REBINDING in ciaddr. Where a client fills both, both must be ours; one that fills
            // neither is malformed.
            let named = [message.requested.unwrap_or(NONE), message.ciaddr];
            let mut named = named.into_iter().filter(|address| *address != NONE);
            match named.clone().find(|address| *address != ours) {
                // We are the authority for this link: silence would leave the client with an
                // address that nobody routes to it, until that lease ends.
                Some(other) => Verdict::Nak(other),
                None if named.next().is_none() => Verdict::Ignore,
                None => Verdict::Ack,
            }
        }
        // 4.3.5: answered to ciaddr; without one there is nowhere to answer to.
        Kind::Inform if message.ciaddr == NONE => Verdict::Ignore,
        Kind::Inform => Verdict::Inform,
        // 4.3.4 and 4.3.3: never answered. What is not our address is none of our business.
        Kind::Release if message.ciaddr == ours => Verdict::Release,
        // dhcpcd names no address after a rapid commit; there is but one that it can mean.
        Kind::Decline if message.requested.is_none_or(|address| address == ours) => {
            Verdict::Decline
        }
        Kind::Release | Kind::Decline => Verdict::Ignore,
    }
}

/// A message for the client, and where to send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Destination on the link; none means the station that the question came from.
    pub mac: Option<Mac>,
    /// Destination address.
    pub address: Ipv4Addr,
    /// Destination UDP port.
    pub port: u16,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

/// A lease with its options encoded, ready to answer.
#[derive(Clone, Debug)]
pub struct Responder {
    lease: Lease,
    settings: Vec<Setting>,
    declined: Option<Duration>,
    told_too_long: bool,
}

impl Responder {
    /// Encodes a lease's options, once for all answers.
    pub fn new(lease: Lease) -> Self {
        let settings = lease.settings();
        Self {
            lease,
            settings,
            declined: None,
            told_too_long: false,
        }
    }

    /// Answers a client's message. `now` is the time since any fixed moment; it only paces the
    /// offers that follow a DECLINE.
    pub fn answer(
        &mut self,
        message: &Message<'_>,
        now: Duration,
    ) -> (Option<Reply>, Option<Event>) {
        let client = message.chaddr;
        let address = IpAddr::V4(self.lease.address.addr());
        let paused = self
            .declined
            .is_some_and(|then| now.saturating_sub(then) < DECLINE_PAUSE);
        let (form, event) = match decide(&self.lease, message) {
            Verdict::Ignore => return (None, None),
            Verdict::Offer | Verdict::Commit | Verdict::Decline if paused => return (None, None),
            Verdict::Offer => (OFFER, Event::Offered { client, address }),
            Verdict::Ack => (ACK, Event::Acked { client, address }),
            Verdict::Commit => (COMMIT, Event::Acked { client, address }),
            Verdict::Inform => {
                let address = message.ciaddr.into();
                (INFORM, Event::Informed { client, address })
            }
            Verdict::Nak(requested) => {
                let requested = requested.into();
                (NAK, Event::Naked { client, requested })
            }
            Verdict::Release => return (None, Some(Event::Released { client, address })),
            Verdict::Decline => {
                self.declined = Some(now);
                return (None, Some(Event::Declined { client, address }));
            }
        };
        let (reply, left_out) = self.reply(message, form);
        (Some(reply), self.too_long(left_out).or(Some(event)))
    }

    /// Warns, once, that the client's messages are too small for all that it should know.
    fn too_long(&mut self, left_out: usize) -> Option<Event> {
        if left_out == 0 || std::mem::replace(&mut self.told_too_long, true) {
            return None;
        }
        Some(Event::Warning {
            message: format!(
                "{left_out} DHCP option(s) left out: they exceed the client's maximum message size; \
                 shorten the pod's search domains or routes, or raise the size in the client (option 57)"
            ),
        })
    }

    /// Builds a reply, and counts the options for which there was no room.
    fn reply(&self, message: &Message<'_>, form: Form) -> (Reply, usize) {
        // `file` and `sname` are the last resort: boot ROMs that cannot read options there are
        // those with the least to be told.
        let (payload, left_out) = match self.compose(message, form, false) {
            (payload, 0) => (payload, 0),
            _ => self.compose(message, form, true),
        };
        let (mac, address, port) = self.destination(message, form);
        let reply = Reply {
            mac,
            address,
            port,
            payload,
        };
        (reply, left_out)
    }

    fn compose(&self, message: &Message<'_>, form: Form, overload: bool) -> (Vec<u8>, usize) {
        // RFC 2132 section 9.10: never above what the client accepts, nor above the link's MTU.
        let room = usize::from(message.max_size.unwrap_or(0))
            .min(self.lease.mtu as usize)
            .max(MIN_SIZE)
            - IP_UDP;
        // RFC 3046 section 2.2: back to the relay, in every reply, whole or not at all. What is
        // longer than an option holds would leave no room in the smallest message.
        let relay_agent = message.relay_agent.as_deref().filter(|it| it.len() <= 255);
        let kept = relay_agent.map_or(0, |value| value.len() + 2);
        let mut writer = Writer::new(&self.header(message, form), room - kept, overload);

        let mut left_out = 0;
        let mut put = |code, value: &[u8]| left_out += usize::from(!writer.put(code, value));
        put(code::MESSAGE_TYPE, &[form.kind]);
        put(code::SERVER_ID, &self.lease.server_id.octets());
        if form.leases {
            for (code, seconds) in self.times(message) {
                put(code, &seconds.to_be_bytes());
            }
        }
        // RFC 6842: a server returns the client identifier.
        if let Some(id) = &message.client_id {
            put(code::CLIENT_ID, id);
        }
        if form.commits {
            put(code::RAPID_COMMIT, &[]);
        }
        if form.configures {
            for (code, value) in self.ordered(&message.parameters) {
                put(code, value);
            }
        } else {
            put(code::MESSAGE, WRONG_ADDRESS);
        }
        let relay_agent = relay_agent.map(|value| (code::RELAY_AGENT, value));
        (writer.finish(relay_agent), left_out)
    }

    fn header(&self, message: &Message<'_>, form: Form) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        // RFC 2131 table 3.
        header[..3].copy_from_slice(&[2, 1, 6]);
        header[4..8].copy_from_slice(&message.xid.to_be_bytes());
        // 4.1: a NAK through a relay has the broadcast bit set, so that the relay broadcasts it:
        // the client may not have the address that it thinks it has.
        let relayed_nak = form.kind == NAK.kind && message.giaddr != NONE;
        if message.broadcast || relayed_nak {
            header[10] = 0x80;
        }
        if form.kind == ACK.kind {
            header[12..16].copy_from_slice(&message.ciaddr.octets());
        }
        if form.leases {
            header[16..20].copy_from_slice(&self.lease.address.addr().octets());
        }
        header[24..28].copy_from_slice(&message.giaddr.octets());
        header[28..34].copy_from_slice(&message.chaddr.0);
        header
    }

    /// How long the client may keep the address, by option: renewal at a half, rebinding at seven
    /// eighths (RFC 2131 section 4.4.5). The time that it asked for, where that is shorter.
    fn times(&self, message: &Message<'_>) -> impl Iterator<Item = (u8, u32)> + use<> {
        let ours = self.lease.seconds;
        let seconds = message.seconds.map_or(ours, |wanted| {
            wanted.clamp(LEASE_SECONDS_MIN.min(ours), ours)
        });
        let renewal = seconds / 2;
        let rebinding = seconds - seconds / 8;
        // All ones is for ever (RFC 2131 section 3.3).
        let ends = seconds != u32::MAX;
        [(code::LEASE_TIME, seconds)].into_iter().chain(
            [
                (code::RENEWAL_TIME, renewal),
                (code::REBINDING_TIME, rebinding),
            ]
            .into_iter()
            .filter(move |_| ends),
        )
    }

    /// The options that configure the client, each once: the mask and the ways out of the subnet,
    /// then what it asked for in its order (RFC 2132 section 9.8), then the rest, because clients
    /// use more than they ask for.
    ///
    /// RFC 3442 would have option 3 left out beside 121. It stays, because scripts that know only
    /// it are in use, and clients that know 121 must ignore it.
    fn ordered(&self, parameters: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
        const FIRST: [u8; 3] = [code::SUBNET_MASK, code::ROUTER, code::ROUTES];
        let asks = |code| parameters.contains(&code);
        // Windows before Vista knows routes by Microsoft's own number only.
        let routes = if asks(code::MICROSOFT_ROUTES) && !asks(code::ROUTES) {
            code::MICROSOFT_ROUTES
        } else {
            code::ROUTES
        };
        let rest = self.settings.iter().map(|setting| setting.code);
        let mut sent = [false; 256];
        FIRST
            .into_iter()
            .chain(parameters.iter().copied())
            .chain(rest)
            .filter(move |code| !std::mem::replace(&mut sent[usize::from(*code)], true))
            .filter_map(|wanted| self.settings.iter().find(|setting| setting.code == wanted))
            .map(move |setting| {
                let code = if setting.code == code::ROUTES {
                    routes
                } else {
                    setting.code
                };
                (code, setting.value.as_slice())
            })
    }

    /// Where a reply goes: RFC 2131 section 4.1.
    fn destination(&self, message: &Message<'_>, form: Form) -> (Option<Mac>, Ipv4Addr, u16) {
        if message.giaddr != NONE {
            return (None, message.giaddr, 67);
        }
        if form.kind == NAK.kind {
            return (Some(Mac::BROADCAST), Ipv4Addr::BROADCAST, 68);
        }
        if message.ciaddr != NONE {
            return (Some(message.chaddr), message.ciaddr, 68);
        }
        if message.broadcast {
            return (Some(Mac::BROADCAST), Ipv4Addr::BROADCAST, 68);
        }
        (Some(message.chaddr), self.lease.address.addr(), 68)
    }
}

const WRONG_ADDRESS: &[u8] = b"this address is not yours on this link";

/// What one kind of reply holds.
#[derive(Clone, Copy)]
struct Form {
    kind: u8,
    /// An address for a time.
    leases: bool,
    /// The configuration.
    configures: bool,
    /// Rapid Commit.
    commits: bool,
}

const OFFER: Form = Form {
    kind: 2,
    leases: true,
    configures: true,
    commits: false,
};
const ACK: Form = Form { kind: 5, ..OFFER };
/// RFC 4039 section 3.1: "MUST include the Rapid Commit option".
const COMMIT: Form = Form {
    commits: true,
    ..ACK
};
/// RFC 2131 section 4.3.5: no lease time, no yiaddr.
const INFORM: Form = Form {
    leases: false,
    ..ACK
};
const NAK: Form = Form {
    kind: 6,
    leases: false,
    configures: false,
    commits: false,
};
