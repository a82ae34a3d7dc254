//! A client's DHCP messages, as UDP carries them: read, and answered one after the other.

#![no_main]

use dhcproto::v4::{self, MessageType};
use dhcproto::{Decodable, Decoder};
use fuzz::{guests, packets};
use libfuzzer_sys::fuzz_target;
use netbind::Mac;
use netbind::dhcp::{Lease, Message, Reply, Responder};

fuzz_target!(|input: &[u8]| {
    // Who speaks first is the guest, so that a capture of any client is a useful seed.
    let Some(client) = input.get(28..34).and_then(|mac| mac.try_into().ok()) else {
        return;
    };
    for lease in [
        guests::lease(Mac(client)),
        guests::overfull_lease(Mac(client)),
    ] {
        let mut responder = Responder::new(lease.clone());
        for (now, packet) in packets(input) {
            let Some(message) = Message::parse(packet) else {
                continue;
            };
            let (reply, _) = responder.answer(&message, now);
            if let Some(reply) = reply {
                check(&lease, &message, &reply);
            }
        }
    }
});

/// What holds for every reply, as another implementation of the protocol reads it.
fn check(lease: &Lease, message: &Message<'_>, reply: &Reply) {
    let limit = u32::from(message.max_size.unwrap_or(0))
        .min(lease.mtu)
        .max(576)
        - 28;
    assert!(
        reply.payload.len() <= limit as usize,
        "longer than the client takes"
    );
    let answer = v4::Message::decode(&mut Decoder::new(&reply.payload)).expect("it reads back");
    assert_eq!(answer.opcode(), v4::Opcode::BootReply);
    assert_eq!(answer.xid(), message.xid);
    assert_eq!(
        answer.chaddr(),
        lease.client.0,
        "only the guest is answered"
    );
    assert_eq!(answer.giaddr(), message.giaddr);
    let options = answer.opts();
    let kind = options.msg_type().expect("a message type");
    match kind {
        MessageType::Offer => assert_eq!(answer.yiaddr(), lease.address.addr()),
        MessageType::Ack => {
            assert!([lease.address.addr(), [0; 4].into()].contains(&answer.yiaddr()));
        }
        MessageType::Nak => assert!(answer.yiaddr().is_unspecified()),
        kind => panic!("{kind:?} is no server's"),
    }
    let server = v4::DhcpOption::ServerIdentifier(lease.server_id);
    assert_eq!(options.get(v4::OptionCode::ServerIdentifier), Some(&server));
    assert!(
        reply
            .mac
            .is_none_or(|mac| mac == lease.client || mac == Mac::BROADCAST)
    );
}
