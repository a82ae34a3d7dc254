//! What a packet says.

use proptest::prelude::*;

use super::*;

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
fn joins_the_parts_of_long_options() {
    let (duid, list) = ([7; 300], (0..=255).collect::<Vec<u8>>());
    let mut packet = packet(&[
        (55, &list[..200]),
        (53, &[1]),
        (61, &duid[..255]),
        (52, &[3]),
        (57, &1500_u16.to_be_bytes()),
        (55, &list[200..250]),
    ]);
    // RFC 3396 section 5: `file` comes before `sname`.
    packet[108..113].copy_from_slice(&[55, 2, 250, 251, 255]);
    packet[44..50].copy_from_slice(&[55, 4, 252, 253, 254, 255]);
    packet[50..52].copy_from_slice(&[61, 45]);
    packet[52..97].copy_from_slice(&duid[255..]);
    let message = Message::parse(&packet).unwrap();
    assert_eq!(message.parameters, list);
    assert_eq!(message.client_id.as_deref(), Some(duid.as_slice()));
    // Echoed in parts again.
    let reply = reply(lease(), &message);
    assert_eq!(value(&reply, 61), duid);
}

#[test]
fn reads_what_else_a_server_heeds() {
    let circuit: &[u8] = &[1, 2, 3, 4];
    let packet = packet(&[
        (53, &[1]),
        (51, &7776000_u32.to_be_bytes()),
        (57, &1500_u16.to_be_bytes()),
        (80, &[]),
        // Subnet selection (RFC 3011): this link has one subnet.
        (118, &OTHER.octets()),
        (82, circuit),
    ]);
    let expected = Message {
        seconds: Some(7776000),
        rapid_commit: true,
        relay_agent: Some(circuit.into()),
        xid: 0,
        ..message(Kind::Discover)
    };
    assert_eq!(Message::parse(&packet), Some(expected.clone()));
    let reply = reply(lease(), &expected);
    assert_eq!(decode(&reply).yiaddr(), ADDRESS);
    assert!(!codes(&reply).contains(&118));
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
            "two addresses",
            packet(&[(53, &[3]), (50, &[10, 1, 2, 3]), (50, &[10, 1, 2, 4])]),
        ),
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
