//! A client's DHCPv6 messages, as UDP carries them: read, and answered one after the other.

#![no_main]

use std::net::Ipv6Addr;

use dhcproto::v6::{self, DhcpOption, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder};
use fuzz::{guests, packets};
use libfuzzer_sys::fuzz_target;
use netbind::dhcp6::{Message, Responder, server_duid};

fuzz_target!(|input: &[u8]| {
    let networks = [guests::ipv6(), guests::overfull_ipv6()];
    for network in networks {
        let mut responder = Responder::new(&network, guests::SERVER_MAC, guests::MAC);
        for (now, packet) in packets(input) {
            let Some(message) = Message::parse(packet) else {
                continue;
            };
            // A client that unicasts is not answered, so few inputs are spent on it.
            let multicast = message.transaction != [0; 3];
            let (reply, _) = responder.answer(&message, multicast, now);
            if let Some(reply) = reply {
                assert!(
                    reply.len() + 48 <= network.mtu as usize,
                    "longer than the link's MTU"
                );
                check(&network.addresses, &message, &reply);
            }
        }
    }
});

/// What holds for every reply, as another implementation of the protocol reads it.
fn check(ours: &[Ipv6Addr], message: &Message<'_>, reply: &[u8]) {
    let answer = v6::Message::decode(&mut Decoder::new(reply)).expect("it reads back");
    assert!([MessageType::Advertise, MessageType::Reply].contains(&answer.msg_type()));
    assert_eq!(answer.xid(), message.transaction);
    let server = DhcpOption::ServerId(server_duid(guests::SERVER_MAC).to_vec());
    assert_eq!(answer.opts().get(OptionCode::ServerId), Some(&server));
    let client = message
        .client_id
        .map(|id| DhcpOption::ClientId(id.to_vec()));
    assert_eq!(answer.opts().get(OptionCode::ClientId), client.as_ref());
    for option in answer.opts().iter() {
        let DhcpOption::IANA(association) = option else {
            continue;
        };
        assert!(association.t1 <= association.t2);
        for inside in association.opts.iter() {
            if let DhcpOption::IAAddr(address) = inside {
                assert!(address.preferred_life <= address.valid_life);
                assert!(
                    ours.contains(&address.addr) || address.valid_life == 0,
                    "{address:?}"
                );
            }
        }
    }
}
