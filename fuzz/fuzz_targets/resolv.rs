//! A resolv.conf, as a pod has it: whatever it says, the guest is told it in messages that another
//! implementation reads.

#![no_main]

use std::net::IpAddr;
use std::time::Duration;

use dhcproto::{Decodable, Decoder, v4, v6};
use fuzz::{guests, right_sum};
use libfuzzer_sys::fuzz_target;
use netbind::dhcp::Lease;
use netbind::ipv6::Ipv6Network;
use netbind::ndp::{ALL_NODES, Advertisement};
use netbind::{dhcp, dhcp6, dns};

fuzz_target!(|text: &str| {
    let conf = dns::parse(text);
    let lease = Lease {
        dns: only(&conf.nameservers, |it| match it {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }),
        search: conf.search.clone(),
        ..guests::lease(guests::MAC)
    };
    let network = Ipv6Network {
        dns: only(&conf.nameservers, |it| match it {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        }),
        search: conf.search,
        ..guests::ipv6()
    };

    let question = guests::discover(guests::MAC);
    let question = dhcp::Message::parse(&question).expect("a sound question");
    let (reply, _) = dhcp::Responder::new(lease).answer(&question, Duration::ZERO);
    let reply = reply.expect("an offer").payload;
    v4::Message::decode(&mut Decoder::new(&reply)).expect("it reads back");

    // An INFORMATION-REQUEST for name servers and search domains.
    let question = [11, 0, 0, 1, 0, 6, 0, 4, 0, 23, 0, 24];
    let question = dhcp6::Message::parse(&question).expect("a sound question");
    let mut responder = dhcp6::Responder::new(&network, guests::SERVER_MAC, guests::MAC);
    let (reply, _) = responder.answer(&question, true, Duration::ZERO);
    let reply = reply.expect("a reply");
    v6::Message::decode(&mut Decoder::new(&reply)).expect("it reads back");

    let packet = Advertisement::new(&network).packet(ALL_NODES);
    assert!(
        packet.len() <= network.mtu as usize,
        "longer than the link's MTU"
    );
    assert_eq!(right_sum(&packet), Some(0xffff));
});

fn only<T>(addresses: &[IpAddr], of: impl Fn(IpAddr) -> Option<T>) -> Vec<T> {
    addresses.iter().copied().filter_map(of).collect()
}
