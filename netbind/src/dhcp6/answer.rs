//! What a server says to a client's message.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::decide::{Assignment, Verdict, assign, decide};
use super::message::{Association, AssociationKind, Message};
use super::options::{
    Configuration, Options, Status, code, configuration, fqdn, ia_address, server_duid,
};
use crate::Event;
use crate::dhcp::DECLINE_PAUSE;
use crate::ipv6::Ipv6Network;
use crate::mac::Mac;

/// Message types (RFC 8415 section 7.3).
const ADVERTISE: u8 = 2;
const REPLY: u8 = 7;
/// With the highest the client does not wait for other servers (RFC 8415 section 18.2.1).
const PREFERENCE: u8 = 255;
/// IRT_MINIMUM, in seconds (RFC 8415 section 7.6).
const MIN_REFRESH: u32 = 600;

/// A network with its options encoded, ready to answer.
#[derive(Clone, Debug)]
pub struct Responder {
    network: Ipv6Network,
    client: Mac,
    server_id: [u8; 10],
    configuration: Vec<Configuration>,
    declined: Option<Duration>,
    told_too_long: bool,
}

/// How addresses are handed out.
#[derive(Clone, Copy)]
enum Lease {
    /// By an ADVERTISE: if the client requests them.
    Advertised,
    /// By a REPLY to a SOLICIT.
    Rapid,
    /// By a REPLY.
    Given,
}

impl Responder {
    /// Encodes a network's options, once for all answers. `client` is whom events are about; that
    /// messages come from it is for the caller to see to.
    pub fn new(network: &Ipv6Network, server_mac: Mac, client: Mac) -> Self {
        Self {
            network: network.clone(),
            client,
            server_id: server_duid(server_mac),
            configuration: configuration(network),
            declined: None,
            told_too_long: false,
        }
    }

    /// Answers a client's message with the payload of a UDP datagram, for port 546 of the address
    /// that it came from. `multicast` says whether it was sent to a multicast address; `now` is the
    /// time since any fixed moment, and only paces what follows a DECLINE.
    pub fn answer(
        &mut self,
        message: &Message<'_>,
        multicast: bool,
        now: Duration,
    ) -> (Option<Vec<u8>>, Option<Event>) {
        let client = self.client;
        // As in DHCPv4: a client that declined may begin anew at once (RFC 8415 section 18.2.8), and
        // would go round for as long as another station has the address.
        let paused = self
            .declined
            .is_some_and(|then| now.saturating_sub(then) < DECLINE_PAUSE);
        let status = |status| Some(self.status(message, status));
        match decide(&self.network.addresses, &self.server_id, message, multicast) {
            Verdict::Ignore => (None, None),
            Verdict::Advertise | Verdict::Reply { rapid: true } if paused => (None, None),
            Verdict::Advertise => self.lease(message, Lease::Advertised),
            Verdict::Reply { rapid: true } => self.lease(message, Lease::Rapid),
            Verdict::Reply { rapid: false } => self.lease(message, Lease::Given),
            Verdict::Inform => {
                let mut reply = self.start(message, REPLY);
                // As often as an address would be renewed.
                let refresh = (self.network.seconds / 2).max(MIN_REFRESH);
                reply.put(code::REFRESH_TIME, &refresh.to_be_bytes());
                let left_out = self.configure(message, &mut reply);
                (Some(reply.into_bytes()), self.too_long(left_out))
            }
            Verdict::Confirm(address) => (status(Status::Success), Some(self.acked(address))),
            Verdict::Deny(requested) => (status(Status::NotOnLink), Some(self.naked(requested))),
            Verdict::Release(ours) => (
                status(Status::Success),
                ours.map(|address| Event::Released {
                    client,
                    address: address.into(),
                }),
            ),
            // The client repeats it until it is answered, but it is told and counts once.
            Verdict::Decline(Some(address)) if !paused => {
                let reply = status(Status::Success);
                self.declined = Some(now);
                let event = Event::Declined {
                    client,
                    address: address.into(),
                };
                (reply, Some(event))
            }
            Verdict::Decline(_) => (status(Status::Success), None),
        }
    }

    fn offered(&self, address: Ipv6Addr) -> Event {
        Event::Offered {
            client: self.client,
            address: address.into(),
        }
    }

    fn acked(&self, address: Ipv6Addr) -> Event {
        Event::Acked {
            client: self.client,
            address: address.into(),
        }
    }

    fn naked(&self, requested: Ipv6Addr) -> Event {
        Event::Naked {
            client: self.client,
            requested: requested.into(),
        }
    }

    /// The answer to a SOLICIT, REQUEST, RENEW or REBIND.
    fn lease(&mut self, message: &Message<'_>, lease: Lease) -> (Option<Vec<u8>>, Option<Event>) {
        let mut reply = match lease {
            Lease::Advertised => self.start(message, ADVERTISE),
            Lease::Rapid | Lease::Given => self.start(message, REPLY),
        };
        match lease {
            Lease::Advertised => reply.put(code::PREFERENCE, &[PREFERENCE]),
            Lease::Rapid => reply.put(code::RAPID_COMMIT, &[]),
            Lease::Given => true,
        };
        let mut event = None;
        for (one, assignment) in assign(&self.network.addresses, message) {
            let mut value = reply.inside(&self.association(one, assignment));
            match assignment {
                Assignment::Addresses { others_end } => {
                    self.addresses(one, others_end, &mut value);
                    let first = self.network.addresses.first().copied();
                    event = first.map(|address| match lease {
                        Lease::Advertised => self.offered(address),
                        Lease::Rapid | Lease::Given => self.acked(address),
                    });
                }
                Assignment::NoAddresses => {
                    value.put(code::STATUS, &Status::NoAddrsAvail.encode());
                }
                Assignment::NoPrefixes => {
                    value.put(code::STATUS, &Status::NoPrefixAvail.encode());
                }
            }
            // There is always room for the first; for all of a hundred there need not be.
            reply.put(one.code(), &value.into_bytes());
        }
        let left_out = self.configure(message, &mut reply);
        (Some(reply.into_bytes()), self.too_long(left_out).or(event))
    }

    /// What an association begins with: its identifier and, unless it is temporary, T1 and T2. Of
    /// one that holds nothing they say nothing (RFC 8415 section 21.4).
    fn association(&self, one: Association<'_>, assignment: Assignment) -> Vec<u8> {
        let seconds = match assignment {
            Assignment::Addresses { .. } => self.network.seconds,
            _ => 0,
        };
        // Exactly four fifths, rounded down, with no product that overflows.
        let four_fifths = seconds - seconds.div_ceil(5);
        let mut value = one.id.to_vec();
        if one.kind != AssociationKind::Temporary {
            value.extend((seconds / 2).to_be_bytes());
            value.extend(four_fifths.to_be_bytes());
        }
        value
    }

    /// Appends our addresses, and the end of others that the client has, as far as there is room.
    fn addresses(&self, one: Association<'_>, others_end: bool, value: &mut Options) {
        let ours = &self.network.addresses;
        for address in ours {
            value.put(
                code::IA_ADDRESS,
                &ia_address(*address, self.network.seconds),
            );
        }
        if others_end {
            for other in one.addresses().filter(|address| !ours.contains(address)) {
                value.put(code::IA_ADDRESS, &ia_address(other, 0));
            }
        }
    }

    /// Appends the options that configure the client: some that every client needs, and what it
    /// asked for. Returns how many had no room.
    fn configure(&self, message: &Message<'_>, reply: &mut Options) -> usize {
        let mut left_out = 0;
        for option in &self.configuration {
            let wanted = option.always || message.requests(option.code);
            left_out += usize::from(wanted && !reply.put(option.code, &option.value));
        }
        // RFC 4704 section 6 would have it only for clients that sent one; some ask and send none.
        if let Some(hostname) = &self.network.hostname
            && message.requests(code::FQDN)
        {
            let value = fqdn(hostname, message.fqdn.unwrap_or(0));
            left_out += usize::from(!reply.put(code::FQDN, &value));
        }
        left_out
    }

    /// Warns, once, that the link's packets are too small for all that the client should know.
    fn too_long(&mut self, left_out: usize) -> Option<Event> {
        if left_out == 0 || std::mem::replace(&mut self.told_too_long, true) {
            return None;
        }
        Some(Event::Warning {
            message: format!(
                "{left_out} DHCPv6 option(s) left out: they exceed the MTU of {} bytes; shorten the \
                 pod's search domains or the lists of servers",
                self.network.mtu
            ),
        })
    }

    /// A message of this type with both identifiers.
    fn start(&self, message: &Message<'_>, kind: u8) -> Options {
        let mut reply = Options::reply(&self.network, kind, message.transaction);
        reply.put(code::SERVER_ID, &self.server_id);
        if let Some(id) = message.client_id {
            reply.put(code::CLIENT_ID, id);
        }
        reply
    }

    /// A whole reply that says only this.
    fn status(&self, message: &Message<'_>, status: Status) -> Vec<u8> {
        let mut reply = self.start(message, REPLY);
        reply.put(code::STATUS, &status.encode());
        reply.into_bytes()
    }
}
