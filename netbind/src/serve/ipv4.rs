//! What the guest is answered over IPv4.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::Answer;
use super::frame::{Frame, Kind, ipv4};
use crate::dhcp::{Lease, Message, Responder};
use crate::mac::Mac;

/// The guest's DHCP server.
#[derive(Debug)]
pub(super) struct Ipv4 {
    mac: Mac,
    address: Ipv4Addr,
    responder: Responder,
}

impl Ipv4 {
    /// A server with this MAC.
    pub(super) fn new(mac: Mac, lease: &Lease) -> Self {
        Self {
            mac,
            address: lease.server_id,
            responder: Responder::new(lease.clone()),
        }
    }

    /// Answers a frame of the guest.
    pub(super) fn answer(&mut self, frame: &Frame<'_>, now: Duration) -> Answer {
        let Some(message) = ipv4::question(frame.packet).and_then(Message::parse) else {
            return Answer::default();
        };
        let (reply, event) = self.responder.answer(&message, now);
        let to_guest = reply.map(|reply| {
            Frame {
                destination: reply.mac.unwrap_or(frame.source),
                source: self.mac,
                kind: Kind::Ipv4,
                packet: &ipv4::answer(self.address, &reply),
            }
            .build()
        });
        Answer {
            to_guest,
            event,
            ..Answer::default()
        }
    }
}
