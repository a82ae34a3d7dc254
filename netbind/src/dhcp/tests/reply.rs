//! What an answer holds.

use super::*;

#[test]
fn an_ack_holds_all_that_the_lease_says() {
    let (reply, event) = answer(&Message {
        requested: Some(ADDRESS),
        server_id: Some(SERVER_ID),
        client_id: Some([1, 2, 0, 0, 0, 0, 1].as_slice().into()),
        ..message(Kind::Request)
    });
    let (_, ack) = reply.unwrap();
    assert_eq!(
        event,
        Some(Event::Acked {
            client: GUEST,
            address: ADDRESS.into()
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
        DhcpOption::BroadcastAddr(Ipv4Addr::new(10, 1, 2, 255)),
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
            address: ADDRESS.into()
        })
    );
    offer
        .opts_mut()
        .insert(DhcpOption::MessageType(v4::MessageType::Ack));
    assert_eq!(offer, ack);
}

#[test]
fn options_come_in_the_order_asked_for() {
    let (reply, _) = answer(&Message {
        parameters: [42, 6, 6, 200, 12].as_slice().into(),
        ..message(Kind::Discover)
    });
    let codes = codes(&reply.unwrap().0);
    assert_eq!(
        codes,
        [
            53, 54, 51, 58, 59, 1, 3, 42, 6, 12, 26, 67, 66, 15, 119, 224, 254, 28
        ]
    );
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
        let lease = Lease {
            routes: vec![route(destination)],
            ..lease()
        };
        let value = value(&reply(lease, &message(Kind::Discover)), 121);
        assert_eq!(value, [expected, &RELAY.octets()].concat(), "{destination}");
    }
}

#[test]
fn nothing_to_say_is_no_empty_option() {
    let reply = reply(bare(), &message(Kind::Discover));
    assert_eq!(codes(&reply), [53, 54, 51, 58, 59, 1, 26, 28]);
    // RFC 1542 section 2.1.
    assert!(reply.payload.len() >= 300);
}

#[test]
fn a_subnet_without_a_broadcast_address_is_told_none() {
    for (address, expected) in [
        ("10.1.2.3/30", &[10, 1, 2, 3][..]),
        ("10.1.2.3/31", &[]),
        ("10.1.2.3/32", &[]),
    ] {
        let lease = Lease {
            address: address.parse().unwrap(),
            ..lease()
        };
        let reply = reply(lease, &message(Kind::Discover));
        assert_eq!(value(&reply, 28), expected, "{address}");
    }
}

#[test]
fn long_lists_of_search_domains_are_compressed() {
    let clusters = |count: usize| -> Vec<String> {
        (0..count)
            .flat_map(|i| {
                ["", "svc.", "team.svc."].map(|of| format!("{of}cluster-{i}.example.com"))
            })
            .collect()
    };
    for (count, pointers) in [(1, false), (3, true), (8, true)] {
        let lease = Lease {
            search: clusters(count),
            ..lease()
        };
        let (reply, _) = Responder::new(lease).answer(&message(Kind::Discover), Duration::ZERO);
        let reply = reply.unwrap();
        assert_eq!(codes(&reply).iter().filter(|c| **c == 119).count(), 1);
        assert_eq!(value(&reply, 119).contains(&0xc0), pointers);
        let decoded = decode(&reply);
        let Some(DhcpOption::DomainSearch(search)) = decoded.opts().get(OptionCode::DomainSearch)
        else {
            panic!("no option 119");
        };
        let search: Vec<_> = search.iter().map(ToString::to_string).collect();
        let expected: Vec<_> = clusters(count).iter().map(|d| format!("{d}.")).collect();
        assert_eq!(search, expected);
    }
}
