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
    guest: Mac,
    mac: Mac,
    address: Ipv4Addr,
    responder: Responder,
}

impl Ipv4 {
    /// A server with this MAC.
    pub(super) fn new(mac: Mac, lease: &Lease) -> Self {
        Self {
            guest: lease.client,
            mac,
            address: lease.server_id,
            responder: Responder::new(lease.clone()),
        }
    }

    /// Answers a frame of the guest.
    pub(super) fn answer(&mut self, frame: &Frame<'_>, now: Duration) -> Answer {
        // A relay is answered at the MAC that it speaks from, which must be no other's.
        if frame.source != self.guest {
            return Answer::default();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::Reply;

    const GUEST: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const SERVER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    /// Found by fuzzing: what a relay is answered went to whoever sent the frame.
    #[test]
    fn only_the_guest_is_answered_also_as_a_relay() {
        let lease = Lease {
            client: GUEST,
            address: "10.1.2.3/24".parse().unwrap(),
            router: None,
            routes: Vec::new(),
            dns: Vec::new(),
            search: Vec::new(),
            domain: None,
            hostname: None,
            mtu: 1500,
            ntp: Vec::new(),
            tftp_server_name: None,
            boot_file_name: None,
            private: Default::default(),
            server_id: Ipv4Addr::new(169, 254, 75, 10),
            seconds: 3600,
        };
        let mut discover = vec![0; 236];
        discover[..3].copy_from_slice(&[1, 1, 6]);
        let relay = Ipv4Addr::new(10, 1, 2, 9);
        discover[24..28].copy_from_slice(&relay.octets());
        discover[28..34].copy_from_slice(&GUEST.0);
        discover.extend([99, 130, 83, 99, 53, 1, 1, 255]);
        // From a relay to a server both ports are the server's.
        let question = ipv4::answer(
            relay,
            &Reply {
                mac: None,
                address: lease.server_id,
                port: 67,
                payload: discover,
            },
        );
        let mut server = Ipv4::new(SERVER, &lease);
        let mut ask = |source| {
            let frame = Frame {
                destination: Mac::BROADCAST,
                source,
                kind: Kind::Ipv4,
                packet: &question,
            };
            server.answer(&frame, Duration::ZERO).to_guest
        };
        assert_eq!(ask(OTHER), None);
        let offer = ask(GUEST).unwrap();
        assert_eq!(offer[..6], GUEST.0);
        assert_eq!(offer[30..34], relay.octets());
    }
}
