//! What a server says to a client's message.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lease::{Encoded, Lease, code};
use super::message::{COOKIE, HEADER, Kind, Message};
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
/// BOOTP relays and some clients drop shorter messages (RFC 1542 section 2.1).
const BOOTP_SIZE: usize = 300;

/// What the protocol says to do about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// DHCPOFFER of the lease.
    Offer,
    /// DHCPACK of the lease.
    Ack,
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
        // 4.3.1: the client's current binding is offered, whatever address it would like.
        Kind::Discover => Verdict::Offer,
        Kind::Request => {
            // 4.3.2: SELECTING and INIT-REBOOT name the address in option 50, RENEWING and
            // REBINDING in ciaddr. One that names none is malformed.
            let wanted = message.requested.unwrap_or(message.ciaddr);
            match wanted {
                wanted if wanted == ours => Verdict::Ack,
                wanted if wanted.is_unspecified() => Verdict::Ignore,
                // We are the authority for this link: silence would leave the client with an
                // address that nobody routes to it, until that lease ends.
                wanted => Verdict::Nak(wanted),
            }
        }
        // 4.3.5: answered to ciaddr; without one there is nowhere to answer to.
        Kind::Inform if message.ciaddr.is_unspecified() => Verdict::Ignore,
        Kind::Inform => Verdict::Inform,
        // 4.3.4 and 4.3.3: never answered. What is not our address is none of our business.
        Kind::Release if message.ciaddr == ours => Verdict::Release,
        Kind::Decline if message.requested == Some(ours) => Verdict::Decline,
        Kind::Release | Kind::Decline => Verdict::Ignore,
    }
}

/// Something worth telling the VM's owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Event {
    /// The lease was offered.
    Offered {
        /// The client.
        client: Mac,
        /// The address offered.
        address: Ipv4Addr,
    },
    /// The client holds its lease now, for the first time or again.
    Acked {
        /// The client.
        client: Mac,
        /// Its address.
        address: Ipv4Addr,
    },
    /// The client wanted another address and was told that it cannot have it.
    Naked {
        /// The client.
        client: Mac,
        /// The address that it wanted.
        requested: Ipv4Addr,
    },
    /// A client with an address of its own asked for the rest.
    Informed {
        /// The client.
        client: Mac,
        /// The address that it has.
        address: Ipv4Addr,
    },
    /// The client gave its address back.
    Released {
        /// The client.
        client: Mac,
    },
    /// The client found that another station uses the pod's address.
    Declined {
        /// The client.
        client: Mac,
        /// The address.
        address: Ipv4Addr,
    },
    /// Something to look into; the server goes on.
    Warning {
        /// One line.
        message: String,
    },
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
    times: Vec<u8>,
    options: Vec<Encoded>,
    declined: Option<Duration>,
    told_too_long: bool,
}

impl Responder {
    /// Encodes a lease's options, once for all answers.
    pub fn new(lease: Lease) -> Self {
        let (times, options) = (lease.encode_times(), lease.encode_options());
        Self {
            lease,
            times,
            options,
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
        let address = self.lease.address.addr();
        let paused = self
            .declined
            .is_some_and(|then| now.saturating_sub(then) < DECLINE_PAUSE);
        match decide(&self.lease, message) {
            Verdict::Ignore => (None, None),
            Verdict::Offer if paused => (None, None),
            Verdict::Offer => {
                let (reply, left_out) = self.reply(message, OFFER);
                (
                    Some(reply),
                    self.too_long(left_out)
                        .or(Some(Event::Offered { client, address })),
                )
            }
            Verdict::Ack => {
                let (reply, _) = self.reply(message, ACK);
                (Some(reply), Some(Event::Acked { client, address }))
            }
            Verdict::Inform => {
                let (reply, _) = self.reply(message, INFORM);
                (
                    Some(reply),
                    Some(Event::Informed {
                        client,
                        address: message.ciaddr,
                    }),
                )
            }
            Verdict::Nak(requested) => {
                let (reply, _) = self.reply(message, NAK);
                (Some(reply), Some(Event::Naked { client, requested }))
            }
            Verdict::Release => (None, Some(Event::Released { client })),
            Verdict::Decline if paused => (None, None),
            Verdict::Decline => {
                self.declined = Some(now);
                (None, Some(Event::Declined { client, address }))
            }
        }
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
        // RFC 2132 section 9.10: never above what the client accepts, nor above the link's MTU.
        let room = usize::from(message.max_size.unwrap_or(0))
            .min(self.lease.mtu as usize)
            .max(MIN_SIZE)
            - IP_UDP;
        let mut payload = Vec::with_capacity(room);
        self.header(message, form, &mut payload);
        payload.extend_from_slice(&[code::MESSAGE_TYPE, 1, form.kind]);
        payload.extend_from_slice(&[code::SERVER_ID, 4]);
        payload.extend_from_slice(&self.lease.server_id.octets());
        // RFC 6842: a server returns the client identifier. At most 257 bytes, so it has room.
        if let Some(id) = message.client_id {
            payload.extend_from_slice(&[code::CLIENT_ID, id.len() as u8]);
            payload.extend_from_slice(id);
        }
        let mut left_out = 0;
        if form.times {
            payload.extend_from_slice(&self.times);
        }
        if form.configures {
            left_out = self.configure(message.parameters, room, &mut payload);
        } else {
            payload.extend_from_slice(&[code::MESSAGE, WRONG_ADDRESS.len() as u8]);
            payload.extend_from_slice(WRONG_ADDRESS);
        }
        payload.push(255);
        if payload.len() < BOOTP_SIZE {
            payload.resize(BOOTP_SIZE, 0);
        }
        let (mac, address, port) = self.destination(message, form);
        (
            Reply {
                mac,
                address,
                port,
                payload,
            },
            left_out,
        )
    }

    fn header(&self, message: &Message<'_>, form: Form, payload: &mut Vec<u8>) {
        let mut header = [0; HEADER];
        // RFC 2131 table 3.
        header[..3].copy_from_slice(&[2, 1, 6]);
        header[4..8].copy_from_slice(&message.xid.to_be_bytes());
        // 4.1: a NAK through a relay has the broadcast bit set, so that the relay broadcasts it:
        // the client may not have the address that it thinks it has.
        let relayed_nak = form.kind == NAK.kind && !message.giaddr.is_unspecified();
        header[10] = if message.broadcast || relayed_nak {
            0x80
        } else {
            0
        };
        if form.kind == ACK.kind {
            header[12..16].copy_from_slice(&message.ciaddr.octets());
        }
        if form.times {
            header[16..20].copy_from_slice(&self.lease.address.addr().octets());
        }
        header[24..28].copy_from_slice(&message.giaddr.octets());
        header[28..34].copy_from_slice(&message.chaddr.0);
        payload.extend_from_slice(&header);
        payload.extend_from_slice(&COOKIE);
    }

    /// Appends the options that configure the client: the mask and the ways out of the subnet,
    /// then what it asked for in its order (RFC 2132 section 9.8), then the rest, because clients
    /// use more than they ask for. Returns how many had no room.
    fn configure(&self, parameters: &[u8], room: usize, payload: &mut Vec<u8>) -> usize {
        const FIRST: [u8; 3] = [code::SUBNET_MASK, code::ROUTER, code::ROUTES];
        // One bit an option: a client may name an option twice, and there are at most 42 of ours.
        let mut sent = 0_u64;
        let mut left_out = 0;
        let mut send = |wanted: u8, payload: &mut Vec<u8>| {
            let found = self
                .options
                .iter()
                .enumerate()
                .find(|(_, option)| option.code == wanted);
            let Some((index, option)) = found else { return };
            if sent & (1 << index) != 0 {
                return;
            }
            sent |= 1 << index;
            // One byte stays for the end mark.
            if payload.len() + option.bytes.len() < room {
                payload.extend_from_slice(&option.bytes);
            } else {
                left_out += 1;
            }
        };
        for code in FIRST.iter().chain(parameters) {
            send(*code, payload);
        }
        for option in &self.options {
            send(option.code, payload);
        }
        left_out
    }

    /// Where a reply goes: RFC 2131 section 4.1.
    fn destination(&self, message: &Message<'_>, form: Form) -> (Option<Mac>, Ipv4Addr, u16) {
        if !message.giaddr.is_unspecified() {
            return (None, message.giaddr, 67);
        }
        if form.kind == NAK.kind {
            return (Some(Mac::BROADCAST), Ipv4Addr::BROADCAST, 68);
        }
        if !message.ciaddr.is_unspecified() {
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
    times: bool,
    /// The configuration.
    configures: bool,
}

const OFFER: Form = Form {
    kind: 2,
    times: true,
    configures: true,
};
const ACK: Form = Form {
    kind: 5,
    times: true,
    configures: true,
};
/// RFC 2131 section 4.3.5: no lease time, no yiaddr.
const INFORM: Form = Form {
    kind: 5,
    times: false,
    configures: true,
};
const NAK: Form = Form {
    kind: 6,
    times: false,
    configures: false,
};
