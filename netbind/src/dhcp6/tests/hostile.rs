//! What no client in its right mind sends.

use proptest::prelude::*;

use super::*;

#[test]
fn reads_a_message() {
    let packet = sound(
        REQUEST,
        &[
            option(8, &[0, 0]),
            ia_pd(1),
            ia_na(2, &[ADDRESS, OTHER]),
            ia_ta(3, &[SECOND]),
            requested(&[23, 56]),
            option(20, &[]),
            option(code::FQDN, &[1, 2, b'v', b'm']),
            option(16, b"PXEClient"),
        ],
    );
    let message = Message::parse(&packet).unwrap();
    assert_eq!(
        (message.kind, message.transaction, message.fqdn),
        (Kind::Request, TRANSACTION, Some(1))
    );
    assert_eq!(message.client_id, Some(CLIENT_ID));
    assert_eq!(message.server_id, Some(&server_id()[..]));
    assert!(message.requests(56) && !message.requests(31) && !message.rapid_commit);
    let associations: Vec<_> = message
        .associations()
        .map(|one| (one.kind, one.id, one.addresses().collect::<Vec<_>>()))
        .collect();
    assert_eq!(
        associations,
        [
            (AssociationKind::Prefixes, [0, 0, 0, 1], vec![]),
            (
                AssociationKind::Addresses,
                [0, 0, 0, 2],
                vec![ADDRESS, OTHER]
            ),
            (AssociationKind::Temporary, [0, 0, 0, 3], vec![SECOND]),
        ]
    );
}

#[test]
fn the_first_of_an_option_counts() {
    let packet = packet(
        INFORMATION_REQUEST,
        &[
            client_id(),
            option(code::CLIENT_ID, OTHER_ID),
            requested(&[31]),
            requested(&[56]),
        ],
    );
    let message = Message::parse(&packet).unwrap();
    assert_eq!(message.client_id, Some(CLIENT_ID));
    assert!(message.requests(31) && !message.requests(56));
}

#[test]
fn malformed_packets_are_no_messages() {
    let short_address = option(code::IA_ADDRESS, &[0; 23]);
    let cut_address = [&[0; 24][..], &[0, 13, 0, 9]].concat();
    let in_ia = |inner: &[u8]| option(code::IA_NA, &[&[0; 12][..], inner].concat());
    let cases = [
        ("no options, and no transaction", vec![SOLICIT, 1, 2]),
        ("nothing", vec![]),
        ("what a server says", packet(2, &[client_id()])),
        ("a reply", packet(7, &[client_id()])),
        ("a reconfigure", packet(10, &[client_id()])),
        ("what a relay passes on", packet(12, &[vec![0; 30]])),
        ("an unknown type", packet(200, &[client_id()])),
        ("an empty DUID", packet(SOLICIT, &[option(1, &[])])),
        (
            "a DUID without contents",
            packet(SOLICIT, &[option(1, &[0, 1])]),
        ),
        ("an endless DUID", packet(SOLICIT, &[option(1, &[0; 131])])),
        ("half an option's head", packet(SOLICIT, &[vec![0, 1, 0]])),
        (
            "an option past the end",
            packet(SOLICIT, &[vec![0, 1, 0, 9, 1]]),
        ),
        ("half a code", packet(SOLICIT, &[option(6, &[0, 23, 0])])),
        (
            "a rapid commit of something",
            packet(SOLICIT, &[option(14, &[1])]),
        ),
        ("a name without flags", packet(SOLICIT, &[option(39, &[])])),
        (
            "an association without times",
            packet(SOLICIT, &[option(3, &[0; 11])]),
        ),
        (
            "a temporary association without identifier",
            packet(SOLICIT, &[option(4, &[0; 3])]),
        ),
        (
            "a delegation without times",
            packet(SOLICIT, &[option(25, &[0; 11])]),
        ),
        ("a short address", packet(SOLICIT, &[in_ia(&short_address)])),
        (
            "an option past its association",
            packet(SOLICIT, &[in_ia(&[0, 13, 0, 9])]),
        ),
        (
            "an option past its address",
            packet(SOLICIT, &[in_ia(&option(code::IA_ADDRESS, &cut_address))]),
        ),
        (
            "a short prefix",
            packet(
                SOLICIT,
                &[option(
                    code::IA_PD,
                    &[vec![0; 12], option(code::IA_PREFIX, &[0; 24])].concat(),
                )],
            ),
        ),
    ];
    for (what, packet) in cases {
        assert_eq!(Message::parse(&packet), None, "{what}");
    }
    let good = sound(SOLICIT, &[ia_na(1, &[ADDRESS])]);
    assert!(Message::parse(&good).is_some());
    // Each option ends where the next begins, or the packet.
    let ends = [4, 4 + client_id().len(), good.len()];
    for length in 0..=good.len() {
        let parsed = Message::parse(&good[..length]).is_some();
        assert_eq!(parsed, ends.contains(&length), "{length} bytes");
    }
}

#[test]
fn a_hundred_associations_get_no_more_than_a_packet() {
    let many: Vec<_> = (0..100)
        .flat_map(|id| [ia_na(id, &[OTHER; 3]), ia_pd(id)])
        .collect();
    for kind in [SOLICIT, REQUEST, RENEW, REBIND] {
        let packet = sound(kind, &many);
        let message = Message::parse(&packet).unwrap();
        let (reply, _) = responder().answer(&message, true, Duration::ZERO);
        let reply = reply.unwrap();
        assert!(reply.len() <= 1450 - 48, "{} bytes", reply.len());
        decode(&reply);
    }
    let stale = sound(REBIND, &[ia_na(1, &[OTHER; 200])]);
    let message = Message::parse(&stale).unwrap();
    let (reply, _) = responder().answer(&message, true, Duration::ZERO);
    let granted = granted(&decode(&reply.unwrap()));
    assert!(
        granted[0].addresses.contains(&(ADDRESS, 1000)),
        "ours come first"
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Message::parse(&bytes);
    }

    #[test]
    fn a_mutated_message_gets_a_sound_reply_or_none(
        kind in 0_u8..13,
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        keep in any::<prop::sample::Index>(),
        codes in proptest::collection::vec(0_u16..60, 0..40),
        named in proptest::collection::vec(any::<u128>(), 0..60),
        mtu in 0_u32..70_000,
        multicast: bool,
    ) {
        let named: Vec<_> = named.into_iter().map(Ipv6Addr::from).chain([ADDRESS]).collect();
        let options = [
            requested(&codes),
            ia_na(1, &named),
            ia_na(2, &named[..1]),
            ia_ta(3, &[]),
            ia_pd(4),
            option(code::FQDN, &[1]),
        ];
        let mut bytes = sound(kind, &options);
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - keep.index(3));
        let mut responder = Responder::new(&Ipv6Network { mtu, ..network() }, SERVER, GUEST);
        if let Some(message) = Message::parse(&bytes)
            && let (Some(reply), _) = responder.answer(&message, multicast, Duration::ZERO)
        {
            prop_assert!(reply.len() <= mtu.clamp(1280, 65535) as usize - 48);
            let decoded = decode(&reply);
            prop_assert_eq!(decoded.xid(), message.transaction);
            let client = decoded.opts().get(v6::OptionCode::ClientId);
            let echoed = message.client_id.map(|id| v6::DhcpOption::ClientId(id.to_vec()));
            prop_assert_eq!(client, echoed.as_ref());
            let server = v6::DhcpOption::ServerId(server_id().to_vec());
            prop_assert_eq!(decoded.opts().get(v6::OptionCode::ServerId), Some(&server));
            prop_assert!(multicast);
        }
    }
}
