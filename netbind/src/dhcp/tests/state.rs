//! Who gets which answer, and where it goes.

use super::*;

#[test]
fn decides_by_the_clients_state() {
    use Kind::*;
    let discover = message(Discover);
    let request = message(Request);
    let selecting = Message {
        server_id: Some(SERVER_ID),
        requested: Some(ADDRESS),
        ..request.clone()
    };
    let renewing = Message {
        ciaddr: ADDRESS,
        ..request.clone()
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
        (
            "a discover is offered the lease",
            discover.clone(),
            Verdict::Offer,
        ),
        (
            "whatever address it asks for",
            Message {
                requested: Some(OTHER),
                ..discover.clone()
            },
            Verdict::Offer,
        ),
        (
            "or committed to it",
            Message {
                rapid_commit: true,
                ..discover.clone()
            },
            Verdict::Commit,
        ),
        (
            "only a discover is committed to",
            Message {
                rapid_commit: true,
                ..selecting.clone()
            },
            Verdict::Ack,
        ),
        (
            "nobody else is served",
            Message {
                chaddr: Mac([2, 0, 0, 0, 0, 2]),
                ..discover.clone()
            },
            Verdict::Ignore,
        ),
        ("selecting", selecting.clone(), Verdict::Ack),
        (
            "selecting another address",
            Message {
                requested: Some(OTHER),
                ..selecting.clone()
            },
            Verdict::Nak(OTHER),
        ),
        (
            "selecting another server",
            Message {
                server_id: Some(OTHER),
                ..selecting.clone()
            },
            Verdict::Ignore,
        ),
        (
            "rebooting",
            Message {
                requested: Some(ADDRESS),
                ..request.clone()
            },
            Verdict::Ack,
        ),
        (
            "rebooting with a stale lease",
            Message {
                requested: Some(OTHER),
                ..request.clone()
            },
            Verdict::Nak(OTHER),
        ),
        ("renewing or rebinding", renewing.clone(), Verdict::Ack),
        (
            "renewing, with the address in both places",
            Message {
                requested: Some(ADDRESS),
                ..renewing.clone()
            },
            Verdict::Ack,
        ),
        (
            "renewing, and asking for another address",
            Message {
                requested: Some(OTHER),
                ..renewing.clone()
            },
            Verdict::Nak(OTHER),
        ),
        (
            "renewing, with an empty option 50",
            Message {
                requested: Some(NONE),
                ..renewing
            },
            Verdict::Ack,
        ),
        (
            "renewing a stale lease",
            Message {
                ciaddr: OTHER,
                ..request.clone()
            },
            Verdict::Nak(OTHER),
        ),
        ("a request for nothing", request.clone(), Verdict::Ignore),
        (
            "informing",
            Message {
                ciaddr: OTHER,
                ..message(Inform)
            },
            Verdict::Inform,
        ),
        ("informing from nowhere", message(Inform), Verdict::Ignore),
        ("releasing", release.clone(), Verdict::Release),
        (
            "releasing what it never had",
            Message {
                ciaddr: OTHER,
                ..release.clone()
            },
            Verdict::Ignore,
        ),
        (
            "releasing to another server",
            Message {
                server_id: Some(OTHER),
                ..release.clone()
            },
            Verdict::Ignore,
        ),
        ("declining", decline.clone(), Verdict::Decline),
        (
            "declining what was committed at once, as dhcpcd 9.4 says it",
            message(Decline),
            Verdict::Decline,
        ),
        (
            "declining what was not offered",
            Message {
                requested: Some(OTHER),
                ..decline.clone()
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
        ..request.clone()
    };
    let broadcast = (Some(Mac::BROADCAST), Ipv4Addr::BROADCAST, 68);
    let cases = [
        (
            "unicast to the new address",
            request.clone(),
            (Some(GUEST), ADDRESS, 68),
        ),
        (
            "broadcast if asked",
            Message {
                broadcast: true,
                ..request.clone()
            },
            broadcast,
        ),
        (
            "to ciaddr if it has one",
            Message {
                ciaddr: ADDRESS,
                broadcast: true,
                requested: None,
                ..request.clone()
            },
            (Some(GUEST), ADDRESS, 68),
        ),
        (
            "to the relay",
            Message {
                giaddr: RELAY,
                ..request.clone()
            },
            (None, RELAY, 67),
        ),
        ("a NAK is broadcast", stale.clone(), broadcast),
        (
            "a NAK for ciaddr too",
            Message {
                ciaddr: OTHER,
                requested: None,
                ..request.clone()
            },
            broadcast,
        ),
        (
            "a NAK goes through the relay",
            Message {
                giaddr: RELAY,
                ..stale.clone()
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
        ..stale.clone()
    })
    .0
    .unwrap();
    assert!(nak.flags().broadcast());
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
            address: OTHER.into()
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
            requested: OTHER.into()
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
                address: ADDRESS.into()
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
        (
            None,
            Some(Event::Released {
                client: GUEST,
                address: ADDRESS.into()
            })
        )
    );
    assert!(
        responder
            .answer(&message(Kind::Discover), Duration::ZERO)
            .0
            .is_some()
    );
}

#[test]
fn a_committed_discover_gets_an_ack_that_says_so() {
    let discover = Message {
        rapid_commit: true,
        ..message(Kind::Discover)
    };
    let mut responder = Responder::new(lease());
    let (reply, event) = responder.answer(&discover, Duration::ZERO);
    let reply = reply.unwrap();
    assert_eq!(decode(&reply).opts().msg_type(), Some(v4::MessageType::Ack));
    assert_eq!(decode(&reply).yiaddr(), ADDRESS);
    assert!(options(&reply).any(|option| option == (80, &[])));
    let (client, address) = (GUEST, ADDRESS.into());
    assert_eq!(event, Some(Event::Acked { client, address }));
    // RFC 4039 section 3.1: in no other reply.
    let renewing = Message {
        ciaddr: ADDRESS,
        kind: Kind::Request,
        ..discover.clone()
    };
    let (reply, _) = responder.answer(&renewing, Duration::ZERO);
    assert!(!codes(&reply.unwrap()).contains(&80));

    let decline = Message {
        requested: Some(ADDRESS),
        ..message(Kind::Decline)
    };
    responder.answer(&decline, Duration::ZERO);
    assert_eq!(responder.answer(&discover, Duration::ZERO), (None, None));
}

#[test]
fn a_shorter_lease_is_granted_down_to_a_floor_and_a_longer_one_never() {
    let for_ever = u32::MAX;
    let cases: [(u32, Option<u32>, &[u32]); 8] = [
        (1000, None, &[1000, 500, 875]),
        (1000, Some(500), &[500, 250, 438]),
        (1000, Some(5000), &[1000, 500, 875]),
        (1000, Some(for_ever), &[1000, 500, 875]),
        (1000, Some(0), &[10, 5, 9]),
        (for_ever, None, &[for_ever]),
        (for_ever, Some(500), &[500, 250, 438]),
        (5, Some(7), &[5, 2, 5]),
    ];
    for (ours, wanted, expected) in cases {
        let lease = Lease {
            seconds: ours,
            ..lease()
        };
        for kind in [Kind::Discover, Kind::Request] {
            let message = Message {
                seconds: wanted,
                ciaddr: ADDRESS,
                ..message(kind)
            };
            let reply = reply(lease.clone(), &message);
            let times: Vec<_> = [51, 58, 59]
                .iter()
                .flat_map(|code| value(&reply, *code))
                .collect();
            let expected: Vec<_> = expected.iter().flat_map(|s| s.to_be_bytes()).collect();
            assert_eq!(times, expected, "{ours} {wanted:?}");
        }
    }
}

#[test]
fn two_exchanges_at_once_do_not_mix() {
    let first = Message {
        client_id: Some(b"boot ROM".as_slice().into()),
        broadcast: true,
        ..message(Kind::Discover)
    };
    let second = Message {
        xid: 8,
        client_id: Some(b"\xffsystem".as_slice().into()),
        ..message(Kind::Discover)
    };
    let select = |discover: &Message<'static>| Message {
        kind: Kind::Request,
        requested: Some(ADDRESS),
        server_id: Some(SERVER_ID),
        ..discover.clone()
    };
    let mut responder = Responder::new(lease());
    let both = [first, second];
    let requests = both.each_ref().map(select);
    for message in both.iter().chain(&requests) {
        let (reply, _) = responder.answer(message, Duration::ZERO);
        let reply = reply.unwrap();
        let decoded = decode(&reply);
        assert_eq!(decoded.xid(), message.xid);
        assert_eq!(decoded.yiaddr(), ADDRESS);
        assert_eq!(Some(value(&reply, 61).into()), message.client_id);
        assert_eq!(reply.mac == Some(Mac::BROADCAST), message.broadcast);
    }
}

#[test]
fn each_interfaces_server_is_one_of_its_own() {
    let second = Ipv4Addr::new(169, 254, 75, 11);
    let lease = Lease {
        server_id: second,
        ..lease()
    };
    let select = |server_id| Message {
        requested: Some(ADDRESS),
        server_id: Some(server_id),
        ..message(Kind::Request)
    };
    assert_eq!(decide(&lease, &select(SERVER_ID)), Verdict::Ignore);
    assert_eq!(value(&reply(lease, &select(second)), 54), second.octets());
}

#[test]
fn what_the_relay_says_comes_back_last_in_every_reply() {
    let circuit: &[u8] = &[1, 4, b'p', b'o', b'r', b't'];
    let relayed = |kind| Message {
        giaddr: RELAY,
        relay_agent: Some(circuit.into()),
        parameters: [82, 6].as_slice().into(),
        ..message(kind)
    };
    let messages = [
        relayed(Kind::Discover),
        Message {
            requested: Some(ADDRESS),
            ..relayed(Kind::Request)
        },
        Message {
            requested: Some(OTHER),
            ..relayed(Kind::Request)
        },
        Message {
            ciaddr: OTHER,
            ..relayed(Kind::Inform)
        },
    ];
    for message in messages {
        let reply = reply(lease(), &message);
        assert_eq!(options(&reply).last(), Some((82, circuit)), "{message:?}");
    }
    // Whole or not at all.
    let long = Message {
        relay_agent: Some([0; 256].as_slice().into()),
        ..relayed(Kind::Discover)
    };
    assert!(!codes(&reply(lease(), &long)).contains(&82));
}
