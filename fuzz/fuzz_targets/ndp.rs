//! IPv6 packets with ICMPv6 in them, as neighbour discovery reads them. Their sums are made right,
//! or nearly all would end there.

#![no_main]

use fuzz::{packets, with_right_sum};
use libfuzzer_sys::fuzz_target;
use netbind::Mac;
use netbind::ndp::{Kind, Message, Neighbour, Schedule, solicit};

fuzz_target!(|input: &[u8]| {
    let mut schedule = Schedule::new(Default::default());
    for (now, packet) in packets(input) {
        let Some(message) = Message::parse(&with_right_sum(packet)) else {
            continue;
        };
        assert!(!message.source.is_multicast());
        match message.kind {
            Kind::RouterSolicitation => {
                schedule.solicited(message.source, now);
            }
            Kind::NeighbourSolicitation { target } => {
                let (group, packet) = solicit(message.source, Mac([2; 6]), target);
                // Who has no address yet names no MAC, which `solicit` does.
                if !message.source.is_unspecified() {
                    let again = Message::parse(&packet).expect("it reads back");
                    assert_eq!((again.kind, again.destination), (message.kind, group));
                }
            }
            Kind::NeighbourAdvertisement {
                target: address,
                solicited,
                overrides,
                mac,
            } => {
                let neighbour = Neighbour {
                    address,
                    mac: mac.unwrap_or(Mac([2; 6])),
                    router: false,
                };
                let packet = neighbour.advertise(message.destination, solicited, overrides);
                let again = Message::parse(&packet).expect("it reads back");
                assert_eq!(again.destination, message.destination);
            }
        }
    }
});
