//! The protocol's rules, a test each, and what is on the wire as another implementation reads it.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::{self, DhcpOption, OptionCode};
use dhcproto::{Decodable, Decoder};
use proptest::prelude::*;

use super::*;
use crate::mac::Mac;

const GUEST: Mac = Mac([2, 0, 0, 0, 0, 1]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 7, 7, 7);
const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn lease() -> Lease {
    Lease {
        client: GUEST,
        address: "10.1.2.3/24".parse().unwrap(),
        router: Some(Ipv4Addr::new(10, 1, 2, 1)),
        routes: Vec::new(),
        dns: vec![Ipv4Addr::new(10, 96, 0, 10), Ipv4Addr::new(192, 0, 2, 53)],
        search: vec![
            "default.svc.cluster.local".to_owned(),
            "svc.cluster.local".to_owned(),
        ],
        domain: Some("default.svc.cluster.local".to_owned()),
        hostname: Some("vm".to_owned()),
        mtu: 1450,
        ntp: vec![Ipv4Addr::new(192, 0, 2, 123)],
        tftp_server_name: Some("tftp.example".to_owned()),
        boot_file_name: Some("pxelinux.0".to_owned()),
        private: [(224, "a".to_owned()), (254, "b".to_owned())].into(),
        server_id: SERVER_ID,
        seconds: 1000,
    }
}

/// A client's message, as `Message::parse` would make it.
fn message(kind: Kind) -> Message<'static> {
    Message {
        kind,
        xid: 7,
        broadcast: false,
        ciaddr: NONE,
        giaddr: NONE,
        chaddr: GUEST,
        requested: None,
        server_id: None,
        parameters: &[],
        max_size: Some(1500),
        client_id: None,
    }
}

/// One answer, and its reply as dhcproto reads it.
fn answer(message: &Message<'_>) -> (Option<(Reply, v4::Message)>, Option<Event>) {
    let (reply, event) = Responder::new(lease()).answer(message, Duration::ZERO);
    (reply.map(|reply| (reply.clone(), decode(&reply))), event)
}

fn decode(reply: &Reply) -> v4::Message {
    v4::Message::decode(&mut Decoder::new(&reply.payload)).unwrap()
}

#[test]
fn decides_by_the_clients_state() {
    use Kind::*;
    let discover = message(Discover);
    let request = message(Request);
    let selecting = Message {
        server_id: Some(SERVER_ID),
        requested: Some(ADDRESS),
        ..request
    };
    let renewing = Message {
        ciaddr: ADDRESS,
        ..request
    };
    let release = Message {
        ciaddr: ADDRESS,
        server_id: Some(SERVER_ID),
        ..message(Release)
    };
    let decline = Message {
        requested: Some(ADDRESS),
        server_id: Some(SERVER_ID),
        ..message(Decline)
    };
    let cases = [
        ("a discover is offered the lease", discover, Verdict::Offer),
        (
            "whatever address it asks for",
            Message {
                requested: Some(OTHER),
                ..discover
            },
            Verdict::Offer,
        ),
        (
            "nobody else is served",
            Message {
                chaddr: Mac([2, 0, 0, 0, 0, 2]),
                ..discover
            },
            Verdict::Ignore,
        ),
        ("selecting", selecting, Verdict::Ack),
        (
            "selecting another address",
            Message {
                requested: Some(OTHER),
                ..selecting
            },
            Verdict::Nak(OTHER),
        ),
        (
            "selecting another server",
            Message {
                server_id: Some(OTHER),
                ..selecting
            },
            Verdict::Ignore,
        ),
        (
            "rebooting",
            Message {
                requested: Some(ADDRESS),
                ..request
            },
            Verdict::Ack,
        ),
        (
            "rebooting with a stale lease",
            Message {
                requested: Some(OTHER),
                ..request
            },
            Verdict::Nak(OTHER),
        ),
        ("renewing or rebinding", renewing, Verdict::Ack),
        (
            "renewing a stale lease",
            Message {
                ciaddr: OTHER,
                ..request
            },
            Verdict::Nak(OTHER),
        ),
        ("a request for nothing", request, Verdict::Ignore),
        (
            "informing",
            Message {
                ciaddr: OTHER,
                ..message(Inform)
            },
            Verdict::Inform,
        ),
        ("informing from nowhere", message(Inform), Verdict::Ignore),
        ("releasing", release, Verdict::Release),
        (
            "releasing what it never had",
            Message {
                ciaddr: OTHER,
                ..release
            },
            Verdict::Ignore,
        ),
        (
            "releasing to another server",
            Message {
                server_id: Some(OTHER),
                ..release
            },
            Verdict::Ignore,
        ),
        ("declining", decline, Verdict::Decline),
        (
            "declining what was not offered",
            Message {
                requested: Some(OTHER),
                ..decline
            },
            Verdict::Ignore,
        ),
    ];
    for (what, message, expected) in cases {
        assert_eq!(decide(&lease(), &message), expected, "{what}");
    }
}

#[test]
fn addresses_replies_as_section_4_1_says() {
    let request = Message {
        requested: Some(ADDRESS),
        ..message(Kind::Request)
    };
    let stale = Message {
        requested: Some(OTHER),
        ..request
    };
    let broadcast = (Some(Mac::BROADCAST), Ipv4Addr::BROADCAST, 68);
    let cases = [
        (
            "unicast to the new address",
            request,
            (Some(GUEST), ADDRESS, 68),
        ),
        (
            "broadcast if asked",
            Message {
                broadcast: true,
                ..request
            },
            broadcast,
        ),
        (
            "to ciaddr if it has one",
            Message {
                ciaddr: ADDRESS,
                broadcast: true,
                requested: None,
                ..request
            },
            (Some(GUEST), ADDRESS, 68),
        ),
        (
            "to the relay",
            Message {
                giaddr: RELAY,
                ..request
            },
            (None, RELAY, 67),
        ),
        ("a NAK is broadcast", stale, broadcast),
        (
            "a NAK for ciaddr too",
            Message {
                ciaddr: OTHER,
                requested: None,
                ..request
            },
            broadcast,
        ),
        (
            "a NAK goes through the relay",
            Message {
                giaddr: RELAY,
                ..stale
            },
            (None, RELAY, 67),
        ),
    ];
    for (what, message, expected) in cases {
        let (reply, _) = answer(&message).0.expect(what);
        assert_eq!((reply.mac, reply.address, reply.port), expected, "{what}");
    }
    // The relay must broadcast it, for the client has no address on this link.
    let (_, nak) = answer(&Message {
        giaddr: RELAY,
        ..stale
    })
    .0
    .unwrap();
    assert!(nak.flags().broadcast());
}

#[test]
fn an_ack_holds_all_that_the_lease_says() {
    let (reply, event) = answer(&Message {
        requested: Some(ADDRESS),
        server_id: Some(SERVER_ID),
        client_id: Some(&[1, 2, 0, 0, 0, 0, 1]),
        ..message(Kind::Request)
    });
    let (_, ack) = reply.unwrap();
    assert_eq!(
        event,
        Some(Event::Acked {
            client: GUEST,
            address: ADDRESS
        })
    );
    assert_eq!(
        (ack.opcode(), ack.xid(), ack.yiaddr()),
        (v4::Opcode::BootReply, 7, ADDRESS)
    );
    assert_eq!(ack.chaddr(), GUEST.0);
    let expected = [
        DhcpOption::MessageType(v4::MessageType::Ack),
        DhcpOption::ServerIdentifier(SERVER_ID),
        DhcpOption::ClientIdentifier(vec![1, 2, 0, 0, 0, 0, 1]),
        DhcpOption::AddressLeaseTime(1000),
        DhcpOption::Renewal(500),
        DhcpOption::Rebinding(875),
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        DhcpOption::Router(vec![Ipv4Addr::new(10, 1, 2, 1)]),
        DhcpOption::InterfaceMtu(1450),
        DhcpOption::DomainNameServer(lease().dns),
        DhcpOption::Hostname("vm".to_owned()),
        DhcpOption::BootfileName(b"pxelinux.0".to_vec()),
        DhcpOption::TFTPServerName(b"tftp.example".to_vec()),
        DhcpOption::DomainName("default.svc.cluster.local".to_owned()),
        DhcpOption::NtpServers(lease().ntp),
    ];
    for option in &expected {
        assert_eq!(ack.opts().get(OptionCode::from(option)), Some(option));
    }
    let Some(DhcpOption::DomainSearch(search)) = ack.opts().get(OptionCode::DomainSearch) else {
        panic!("no option 119");
    };
    let search: Vec<_> = search.iter().map(ToString::to_string).collect();
    assert_eq!(search, ["default.svc.cluster.local.", "svc.cluster.local."]);
    for (code, value) in [(224, b"a"), (254, b"b")] {
        let Some(DhcpOption::Unknown(option)) = ack.opts().get(OptionCode::from(code)) else {
            panic!("no option {code}");
        };
        assert_eq!(option.data(), value);
    }
    assert!(ack.opts().get(OptionCode::ClasslessStaticRoute).is_none());
}

#[test]
fn an_offer_equals_the_ack_but_for_its_type() {
    let (offer, event) = answer(&message(Kind::Discover));
    let (ack, _) = answer(&Message {
        requested: Some(ADDRESS),
        ..message(Kind::Request)
    });
    let (mut offer, ack) = (offer.unwrap().1, ack.unwrap().1);
    assert_eq!(
        event,
        Some(Event::Offered {
            client: GUEST,
            address: ADDRESS
        })
    );
    offer
        .opts_mut()
        .insert(DhcpOption::MessageType(v4::MessageType::Ack));
    assert_eq!(offer, ack);
}

#[test]
fn inform_gets_options_but_no_lease() {
    let (reply, event) = answer(&Message {
        ciaddr: OTHER,
        ..message(Kind::Inform)
    });
    let (reply, ack) = reply.unwrap();
    assert_eq!(
        event,
        Some(Event::Informed {
            client: GUEST,
            address: OTHER
        })
    );
    assert_eq!(
        (reply.address, ack.yiaddr(), ack.ciaddr()),
        (OTHER, NONE, OTHER)
    );
    for code in [
        OptionCode::AddressLeaseTime,
        OptionCode::Renewal,
        OptionCode::Rebinding,
    ] {
        assert!(ack.opts().get(code).is_none(), "{code:?}");
    }
    assert!(ack.opts().get(OptionCode::DomainNameServer).is_some());
}

#[test]
fn broadcasts_nak_for_a_stale_address() {
    let (reply, event) = answer(&Message {
        ciaddr: OTHER,
        ..message(Kind::Request)
    });
    let (_, nak) = reply.unwrap();
    assert_eq!(
        event,
        Some(Event::Naked {
            client: GUEST,
            requested: OTHER
        })
    );
    assert_eq!(nak.opts().msg_type(), Some(v4::MessageType::Nak));
    assert_eq!((nak.yiaddr(), nak.ciaddr()), (NONE, NONE));
    assert!(nak.opts().get(OptionCode::SubnetMask).is_none());
}

#[test]
fn declines_pause_the_offers_and_are_reported_once() {
    let mut responder = Responder::new(lease());
    let decline = Message {
        requested: Some(ADDRESS),
        server_id: Some(SERVER_ID),
        ..message(Kind::Decline)
    };
    let mut at =
        |message: &Message<'_>, seconds| responder.answer(message, Duration::from_secs(seconds));
    assert_eq!(
        at(&decline, 100),
        (
            None,
            Some(Event::Declined {
                client: GUEST,
                address: ADDRESS
            })
        )
    );
    assert_eq!(at(&decline, 105), (None, None));
    assert_eq!(at(&message(Kind::Discover), 109), (None, None));
    assert!(at(&message(Kind::Discover), 110).0.is_some());
    assert!(at(&decline, 111).1.is_some());
}

#[test]
fn release_is_noted_and_the_lease_remains() {
    let mut responder = Responder::new(lease());
    let release = Message {
        ciaddr: ADDRESS,
        ..message(Kind::Release)
    };
    assert_eq!(
        responder.answer(&release, Duration::ZERO),
        (None, Some(Event::Released { client: GUEST }))
    );
    assert!(
        responder
            .answer(&message(Kind::Discover), Duration::ZERO)
            .0
            .is_some()
    );
}

#[test]
fn options_come_in_the_order_asked_for() {
    let (reply, _) = answer(&Message {
        parameters: &[42, 6, 6, 200, 12],
        ..message(Kind::Discover)
    });
    let codes = codes(&reply.unwrap().0);
    assert_eq!(
        codes,
        [
            53, 54, 51, 58, 59, 1, 3, 42, 6, 12, 26, 67, 66, 15, 119, 224, 254
        ]
    );
}

#[test]
fn what_has_no_room_is_left_out_from_the_least_important_and_told_once() {
    let lease = Lease {
        private: [(224, "x".repeat(300)), (225, "y".to_owned())].into(),
        ..lease()
    };
    let mut responder = Responder::new(lease);
    let small = Message {
        max_size: None,
        ..message(Kind::Discover)
    };
    let (reply, event) = responder.answer(&small, Duration::ZERO);
    let reply = reply.unwrap();
    assert!(reply.payload.len() <= 548);
    assert_eq!(
        codes(&reply),
        [
            53, 54, 51, 58, 59, 1, 3, 26, 6, 12, 67, 66, 15, 119, 42, 225
        ]
    );
    assert!(matches!(event, Some(Event::Warning { .. })));
    let (_, event) = responder.answer(&small, Duration::ZERO);
    assert!(matches!(event, Some(Event::Offered { .. })));
    let (reply, _) = responder.answer(
        &Message {
            max_size: Some(9000),
            ..small
        },
        Duration::ZERO,
    );
    assert_eq!(
        codes(&reply.unwrap())
            .iter()
            .filter(|code| **code == 224)
            .count(),
        2
    );
}

#[test]
fn long_routes_are_split_and_join_to_the_same_bytes() {
    let routes = (0..60).map(|i| ClasslessRoute {
        destination: format!("10.{i}.0.0/16").parse().unwrap(),
        router: Ipv4Addr::new(10, 1, 2, 1),
    });
    let lease = Lease {
        routes: routes.clone().collect(),
        ..lease()
    };
    let mut responder = Responder::new(lease);
    let (reply, _) = responder.answer(&message(Kind::Discover), Duration::ZERO);
    let reply = reply.unwrap();
    // RFC 3396 section 7: the parts, in order, are one value.
    let joined: Vec<u8> = options(&reply)
        .filter(|(code, _)| *code == 121)
        .flat_map(|(_, value)| value.to_vec())
        .collect();
    let expected: Vec<u8> = routes
        .flat_map(|route| {
            let [a, b, ..] = route.destination.network().octets();
            [&[16, a, b][..], &route.router.octets()].concat()
        })
        .collect();
    assert_eq!(joined, expected);
    assert_eq!(codes(&reply).iter().filter(|code| **code == 121).count(), 2);
}

#[test]
fn routes_have_only_the_octets_that_their_width_covers() {
    let route = |destination: &str| ClasslessRoute {
        destination: destination.parse().unwrap(),
        router: RELAY,
    };
    // RFC 3442's own examples.
    let cases: [(&str, &[u8]); 5] = [
        ("0.0.0.0/0", &[0]),
        ("10.0.0.0/8", &[8, 10]),
        ("10.17.0.0/16", &[16, 10, 17]),
        ("10.229.0.128/25", &[25, 10, 229, 0, 128]),
        ("10.198.122.47/32", &[32, 10, 198, 122, 47]),
    ];
    for (destination, expected) in cases {
        let mut responder = Responder::new(Lease {
            routes: vec![route(destination)],
            ..lease()
        });
        let (reply, _) = responder.answer(&message(Kind::Discover), Duration::ZERO);
        let reply = reply.unwrap();
        let (_, value) = options(&reply).find(|(code, _)| *code == 121).unwrap();
        assert_eq!(value, [expected, &RELAY.octets()].concat(), "{destination}");
    }
}

#[test]
fn nothing_to_say_is_no_empty_option() {
    let bare = Lease {
        router: None,
        dns: Vec::new(),
        search: Vec::new(),
        domain: None,
        hostname: None,
        ntp: Vec::new(),
        tftp_server_name: None,
        boot_file_name: None,
        private: Default::default(),
        ..lease()
    };
    let (reply, _) = Responder::new(bare).answer(&message(Kind::Discover), Duration::ZERO);
    let reply = reply.unwrap();
    assert_eq!(codes(&reply), [53, 54, 51, 58, 59, 1, 26]);
    // RFC 1542 section 2.1.
    assert!(reply.payload.len() >= 300);
}

#[test]
fn reads_options_from_overloaded_fields() {
    let mut packet = packet(&[(53, &[3]), (52, &[3])]);
    packet[108..115].copy_from_slice(&[50, 4, 10, 1, 2, 3, 255]);
    packet[44..51].copy_from_slice(&[54, 4, 169, 254, 75, 10, 255]);
    let message = Message::parse(&packet).unwrap();
    assert_eq!(
        (message.requested, message.server_id),
        (Some(ADDRESS), Some(SERVER_ID))
    );
}

#[test]
fn malformed_packets_are_no_messages() {
    let good = packet(&[(53, &[1])]);
    assert!(Message::parse(&good).is_some());
    let broken = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        packet
    };
    let cases = [
        ("empty", Vec::new()),
        ("no options", good[..240].to_vec()),
        ("cut before the cookie", good[..238].to_vec()),
        ("a server's reply", broken(0, 2)),
        ("token ring", broken(1, 6)),
        ("long hardware address", broken(2, 16)),
        ("another cookie", broken(236, 0)),
        ("an offer", packet(&[(53, &[2])])),
        ("a long type", packet(&[(53, &[1, 1])])),
        ("BOOTP", packet(&[(12, b"vm")])),
        ("a short address", packet(&[(53, &[1]), (50, &[1, 2, 3])])),
        (
            "an option past the end",
            [&good[..243], &[12, 200, 1]].concat(),
        ),
        ("an option without length", [&good[..243], &[12]].concat()),
    ];
    for (what, packet) in cases {
        assert_eq!(Message::parse(&packet), None, "{what}");
    }
}

/// A client's packet with these options.
fn packet(options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut packet = vec![0; 236];
    packet[..3].copy_from_slice(&[1, 1, 6]);
    packet[28..34].copy_from_slice(&GUEST.0);
    packet.extend([99, 130, 83, 99]);
    for (code, value) in options {
        packet.extend([*code, value.len() as u8]);
        packet.extend(*value);
    }
    packet.push(255);
    packet
}

fn options(reply: &Reply) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = &reply.payload[240..];
    std::iter::from_fn(move || {
        let (&code, after) = rest.split_first()?;
        if code == 255 {
            assert!(after.iter().all(|byte| *byte == 0));
            return None;
        }
        let (value, after) = after[1..].split_at(after[0].into());
        rest = after;
        Some((code, value))
    })
}

fn codes(reply: &Reply) -> Vec<u8> {
    options(reply).map(|(code, _)| code).collect()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Message::parse(&bytes);
    }

    #[test]
    fn a_mutated_request_gets_a_sound_reply_or_none(
        kind in 0_u8..10,
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        keep in any::<prop::sample::Index>(),
        parameters in proptest::collection::vec(any::<u8>(), 0..80),
        size in any::<u16>(),
    ) {
        let mut bytes = packet(&[
            (53, &[kind]),
            (50, &ADDRESS.octets()),
            (57, &size.to_be_bytes()),
            (55, &parameters),
            (61, &[9; 20]),
        ]);
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - keep.index(3));
        let mut responder = Responder::new(lease());
        if let Some(message) = Message::parse(&bytes)
            && let (Some(reply), _) = responder.answer(&message, Duration::ZERO)
        {
            prop_assert!(reply.payload.len() >= 300);
            prop_assert!(reply.payload.len() <= usize::from(message.max_size.unwrap_or(0)).clamp(576, 1450) - 28);
            let decoded = decode(&reply);
            prop_assert_eq!(decoded.xid(), message.xid);
            prop_assert!(decoded.opts().get(OptionCode::ServerIdentifier).is_some());
            prop_assert_eq!(message.chaddr, GUEST);
        }
    }
}
