//! What a client reads.

use dhcproto::v6::{DhcpOption, MessageType, NtpSuboption, OptionCode, Status};

use super::*;

#[test]
fn an_advertise_is_preferred_and_equals_the_reply_otherwise() {
    let options = [ia_na(7, &[]), requested(&[23, 24, 31, 56])];
    let advertise = answer(&sound(SOLICIT, &options)).0.unwrap();
    let reply = answer(&sound(REQUEST, &options)).0.unwrap();
    assert_eq!(advertise.msg_type(), MessageType::Advertise);
    assert_eq!(reply.msg_type(), MessageType::Reply);
    let mut options = advertise.opts().clone();
    assert_eq!(
        options.remove(OptionCode::Preference),
        Some(DhcpOption::Preference(255))
    );
    assert_eq!(&options, reply.opts());
}

#[test]
fn a_reply_holds_all_that_the_network_says() {
    let packet = sound(
        REQUEST,
        &[ia_na(7, &[ADDRESS]), requested(&[23, 24, 31, 56, 39])],
    );
    let reply = answer(&packet).0.unwrap();
    assert_eq!(reply.xid(), TRANSACTION);
    let [ia]: [Granted; 1] = granted(&reply).try_into().unwrap();
    assert_eq!((ia.id, ia.t1, ia.t2), (7, 500, 800));
    assert_eq!(sorted(ia.addresses), [(ADDRESS, 1000), (SECOND, 1000)]);
    let expected = [
        DhcpOption::ClientId(CLIENT_ID.to_vec()),
        DhcpOption::ServerId(vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 2]),
        DhcpOption::DomainNameServers(network().dns),
    ];
    for option in &expected {
        assert_eq!(reply.opts().get(OptionCode::from(option)), Some(option));
    }
    let Some(DhcpOption::DomainSearchList(search)) = reply.opts().get(OptionCode::DomainSearchList)
    else {
        panic!("no option 24");
    };
    let search: Vec<_> = search.iter().map(ToString::to_string).collect();
    assert_eq!(search, ["default.svc.cluster.local.", "svc.cluster.local."]);
    // One option for each server (RFC 5908 section 4).
    let servers: Vec<_> = reply
        .opts()
        .iter()
        .filter_map(|option| match option {
            DhcpOption::NtpServer(servers) => Some(servers.as_slice()),
            _ => None,
        })
        .collect();
    assert_eq!(servers.len(), 2);
    for server in network().ntp {
        assert!(servers.contains(&[NtpSuboption::ServerAddress(server)].as_slice()));
    }
    let sntp: Vec<u8> = network().ntp.iter().flat_map(Ipv6Addr::octets).collect();
    assert_eq!(unknown(&reply, code::SNTP), sntp);
    assert_eq!(unknown(&reply, code::FQDN), [4, 2, b'v', b'm']);
}

/// The value of an option that dhcproto keeps as bytes.
fn unknown(reply: &v6::Message, code: u16) -> Vec<u8> {
    match reply.opts().get(OptionCode::from(code)) {
        Some(DhcpOption::Unknown(option)) => option.data().to_vec(),
        other => panic!("option {code}: {other:?}"),
    }
}

#[test]
fn options_are_sent_to_who_asks_and_name_servers_to_everyone() {
    let cases: [(&[u16], &[u16]); 5] = [
        (&[], &[1, 2, 3, 23, 24]),
        (&[56, 56, 1000], &[1, 2, 3, 23, 24, 56, 56]),
        (&[31, 24], &[1, 2, 3, 23, 24, 31]),
        (&[39], &[1, 2, 3, 23, 24, 39]),
        (&[82, 83], &[1, 2, 3, 23, 24, 82, 83]),
    ];
    for (codes_requested, expected) in cases {
        let packet = sound(RENEW, &[ia_na(1, &[ADDRESS]), requested(codes_requested)]);
        assert_eq!(
            codes(&answer(&packet).0.unwrap()),
            expected,
            "{codes_requested:?}"
        );
    }
}

#[test]
fn a_rapid_commit_says_so() {
    let packet = sound(SOLICIT, &[ia_na(1, &[]), option(code::RAPID_COMMIT, &[])]);
    let reply = answer(&packet).0.unwrap();
    assert_eq!(reply.msg_type(), MessageType::Reply);
    assert_eq!(codes(&reply), [1, 2, 3, 14, 23, 24]);
}

#[test]
fn a_request_for_a_stale_address_gets_the_right_ones() {
    let packet = sound(REQUEST, &[ia_na(1, &[OTHER])]);
    let [ia]: [Granted; 1] = granted(&answer(&packet).0.unwrap()).try_into().unwrap();
    assert_eq!(sorted(ia.addresses), [(ADDRESS, 1000), (SECOND, 1000)]);
}

#[test]
fn a_stale_address_ends_where_it_is_renewed() {
    for kind in [RENEW, REBIND] {
        let packet = sound(kind, &[ia_na(1, &[OTHER, ADDRESS])]);
        let [ia]: [Granted; 1] = granted(&answer(&packet).0.unwrap()).try_into().unwrap();
        assert_eq!((ia.t1, ia.t2), (500, 800));
        assert_eq!(
            sorted(ia.addresses),
            [(ADDRESS, 1000), (OTHER, 0), (SECOND, 1000)]
        );
    }
}

fn sorted(mut addresses: Vec<(Ipv6Addr, u32)>) -> Vec<(Ipv6Addr, u32)> {
    addresses.sort();
    addresses
}

#[test]
fn what_cannot_be_had_gets_a_status() {
    let cases = [
        (
            sound(SOLICIT, &[ia_na(1, &[]), ia_na(2, &[]), ia_ta(3, &[])]),
            vec![
                (Some(2), Status::NoAddrsAvail),
                (Some(3), Status::NoAddrsAvail),
            ],
        ),
        (
            sound(REBIND, &[ia_pd(4)]),
            vec![(Some(4), Status::NoPrefixAvail)],
        ),
        (
            sound(CONFIRM, &[ia_na(1, &[ADDRESS])]),
            vec![(None, Status::Success)],
        ),
        (
            sound(CONFIRM, &[ia_na(1, &[OTHER])]),
            vec![(None, Status::NotOnLink)],
        ),
        (
            sound(RELEASE, &[ia_na(1, &[ADDRESS])]),
            vec![(None, Status::Success)],
        ),
        (
            sound(DECLINE, &[ia_na(1, &[OTHER])]),
            vec![(None, Status::Success)],
        ),
    ];
    for (packet, expected) in cases {
        let reply = answer(&packet).0.unwrap();
        let mut found = statuses(&reply);
        found.sort_by_key(|(id, _)| *id);
        assert_eq!(found, expected, "{packet:?}");
        // Sections 18.3.3, 18.3.7 and 18.3.8: such an answer holds nothing else.
        if expected[0].0.is_none() {
            assert_eq!(codes(&reply), [1, 2, 13]);
        }
    }
}

#[test]
fn an_association_without_addresses_has_no_times() {
    let reply = answer(&sound(REQUEST, &[ia_na(1, &[]), ia_na(2, &[])]))
        .0
        .unwrap();
    let expected = Granted {
        id: 2,
        t1: 0,
        t2: 0,
        addresses: Vec::new(),
    };
    assert!(granted(&reply).contains(&expected));
}

#[test]
fn information_is_to_be_refreshed_like_a_lease() {
    let refresh = |seconds| {
        let network = Ipv6Network {
            seconds,
            ..network()
        };
        let packet = packet(INFORMATION_REQUEST, &[]);
        let message = Message::parse(&packet).unwrap();
        let mut responder = Responder::new(&network, SERVER, GUEST);
        let reply = decode(&responder.answer(&message, true, Duration::ZERO).0.unwrap());
        assert_eq!(codes(&reply), [2, 23, 24, 32]);
        unknown(&reply, code::REFRESH_TIME)
    };
    assert_eq!(refresh(86_400), 43_200_u32.to_be_bytes());
    // IRT_MINIMUM.
    assert_eq!(refresh(60), 600_u32.to_be_bytes());
}

#[test]
fn the_host_name_is_the_clients_and_changes_no_dns() {
    // Hostname, the client's flags, the answer (RFC 4704 section 4): flag N, and O if S was set.
    let cases: [(&str, Option<u8>, &[u8]); 4] = [
        ("vm", None, b"\x04\x02vm"),
        ("vm", Some(0), b"\x04\x02vm"),
        ("vm", Some(1), b"\x06\x02vm"),
        ("vm.example", Some(4), b"\x04\x02vm\x07example\x00"),
    ];
    for (hostname, flags, expected) in cases {
        let network = Ipv6Network {
            hostname: Some(hostname.to_owned()),
            ..network()
        };
        let mut options = vec![requested(&[code::FQDN])];
        options.extend(flags.map(|flags| option(code::FQDN, &[flags])));
        let packet = sound(INFORMATION_REQUEST, &options);
        let message = Message::parse(&packet).unwrap();
        let mut responder = Responder::new(&network, SERVER, GUEST);
        let (reply, _) = responder.answer(&message, true, Duration::ZERO);
        assert_eq!(unknown(&decode(&reply.unwrap()), code::FQDN), expected);
    }
}

#[test]
fn nothing_to_say_is_no_empty_option() {
    let bare = Ipv6Network {
        dns: Vec::new(),
        search: Vec::new(),
        ntp: Vec::new(),
        hostname: None,
        ..network()
    };
    let packet = sound(SOLICIT, &[ia_na(1, &[]), requested(&[23, 24, 31, 39, 56])]);
    let message = Message::parse(&packet).unwrap();
    let mut responder = Responder::new(&bare, SERVER, GUEST);
    let (reply, _) = responder.answer(&message, true, Duration::ZERO);
    assert_eq!(codes(&decode(&reply.unwrap())), [1, 2, 3, 7]);
}

#[test]
fn what_has_no_room_is_left_out_and_told_once() {
    let network = Ipv6Network {
        search: vec!["x".repeat(60) + ".example"; 20],
        mtu: 1280,
        ..network()
    };
    let mut responder = Responder::new(&network, SERVER, GUEST);
    let packet = sound(SOLICIT, &[ia_na(1, &[]), requested(&[56])]);
    let message = Message::parse(&packet).unwrap();
    let (reply, event) = responder.answer(&message, true, Duration::ZERO);
    // The name servers stand before, the time servers after what has no room.
    assert_eq!(codes(&decode(&reply.unwrap())), [1, 2, 3, 7, 23, 56, 56]);
    assert!(matches!(event, Some(Event::Warning { .. })), "{event:?}");
    let (_, event) = responder.answer(&message, true, Duration::ZERO);
    assert_eq!(event, offered(ADDRESS));
}

#[test]
fn times_do_not_overflow() {
    for (seconds, t1, t2) in [
        (0, 0, 0),
        (1, 0, 0),
        (9, 4, 7),
        (u32::MAX, 0x7fff_ffff, 0xcccc_cccc),
    ] {
        let network = Ipv6Network {
            seconds,
            ..network()
        };
        let packet = sound(REQUEST, &[ia_na(1, &[])]);
        let message = Message::parse(&packet).unwrap();
        let mut responder = Responder::new(&network, SERVER, GUEST);
        let (reply, _) = responder.answer(&message, true, Duration::ZERO);
        let granted = granted(&decode(&reply.unwrap()));
        assert_eq!((granted[0].t1, granted[0].t2), (t1, t2), "{seconds}");
    }
}
