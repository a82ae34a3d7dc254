//! What is decided.

use super::*;

/// What is decided about a multicast packet.
fn verdict(packet: &[u8]) -> Verdict {
    let message = Message::parse(packet).unwrap();
    decide(&network().addresses, &server_id(), &message, true)
}

#[test]
fn decides_by_the_message() {
    let rapid = option(code::RAPID_COMMIT, &[]);
    let given = Verdict::Reply { rapid: false };
    let cases = [
        (
            "a solicit is advertised to",
            sound(SOLICIT, &[ia_na(1, &[])]),
            Verdict::Advertise,
        ),
        (
            "whatever address it would like",
            sound(SOLICIT, &[ia_na(1, &[OTHER])]),
            Verdict::Advertise,
        ),
        ("or even none", sound(SOLICIT, &[]), Verdict::Advertise),
        (
            "with rapid commit it gets the addresses",
            sound(SOLICIT, &[rapid.clone(), ia_na(1, &[])]),
            Verdict::Reply { rapid: true },
        ),
        (
            "with rapid commit of nothing that we have it does not",
            sound(SOLICIT, &[rapid, ia_pd(1)]),
            Verdict::Advertise,
        ),
        ("requesting", sound(REQUEST, &[ia_na(1, &[ADDRESS])]), given),
        ("renewing", sound(RENEW, &[ia_na(1, &[ADDRESS])]), given),
        (
            "renewing a stale lease",
            sound(RENEW, &[ia_na(1, &[OTHER])]),
            given,
        ),
        ("rebinding", sound(REBIND, &[ia_na(1, &[ADDRESS])]), given),
        (
            "confirming",
            sound(CONFIRM, &[ia_na(1, &[SECOND]), ia_na(2, &[ADDRESS])]),
            Verdict::Confirm(SECOND),
        ),
        (
            "confirming what is stale in part",
            sound(CONFIRM, &[ia_na(1, &[ADDRESS, OTHER])]),
            Verdict::Deny(OTHER),
        ),
        (
            "confirming a temporary address",
            sound(CONFIRM, &[ia_na(1, &[ADDRESS]), ia_ta(2, &[OTHER])]),
            Verdict::Deny(OTHER),
        ),
        (
            "confirming nothing",
            sound(CONFIRM, &[ia_na(1, &[])]),
            Verdict::Ignore,
        ),
        (
            "releasing",
            sound(RELEASE, &[ia_na(1, &[OTHER, ADDRESS])]),
            Verdict::Release(Some(ADDRESS)),
        ),
        (
            "releasing what it never had",
            sound(RELEASE, &[ia_na(1, &[OTHER])]),
            Verdict::Release(None),
        ),
        (
            "declining",
            sound(DECLINE, &[ia_na(1, &[SECOND])]),
            Verdict::Decline(Some(SECOND)),
        ),
        (
            "declining what was not given",
            sound(DECLINE, &[ia_na(1, &[OTHER])]),
            Verdict::Decline(None),
        ),
        (
            "asking for information",
            sound(INFORMATION_REQUEST, &[]),
            Verdict::Inform,
        ),
        (
            "asking for information without a name",
            packet(INFORMATION_REQUEST, &[]),
            Verdict::Inform,
        ),
        (
            "asking for information and an address",
            sound(INFORMATION_REQUEST, &[ia_na(1, &[])]),
            Verdict::Ignore,
        ),
    ];
    for (what, packet, expected) in cases {
        assert_eq!(verdict(&packet), expected, "{what}");
    }
}

#[test]
fn identifiers_are_where_section_16_wants_them() {
    let ours = option(code::SERVER_ID, &server_id());
    let other = option(code::SERVER_ID, OTHER_ID);
    let ia = ia_na(1, &[ADDRESS]);
    // Each kind: to every server, to us, to another server, from nobody to every server or to us.
    let cases = [
        (SOLICIT, [true, false, false, false, false]),
        (REQUEST, [false, true, false, false, false]),
        (CONFIRM, [true, false, false, false, false]),
        (RENEW, [false, true, false, false, false]),
        (REBIND, [true, false, false, false, false]),
        (RELEASE, [false, true, false, false, false]),
        (DECLINE, [false, true, false, false, false]),
        (INFORMATION_REQUEST, [true, true, false, true, true]),
    ];
    for (kind, expected) in cases {
        let ia = if kind == INFORMATION_REQUEST {
            Vec::new()
        } else {
            ia.clone()
        };
        let packets = [
            packet(kind, &[client_id(), ia.clone()]),
            packet(kind, &[client_id(), ours.clone(), ia.clone()]),
            packet(kind, &[client_id(), other.clone(), ia.clone()]),
            packet(kind, std::slice::from_ref(&ia)),
            packet(kind, &[ours.clone(), ia]),
        ];
        let answered = packets.map(|packet| verdict(&packet) != Verdict::Ignore);
        assert_eq!(answered, expected, "type {kind}");
    }
}

#[test]
fn unicast_is_not_accepted() {
    for kind in [
        SOLICIT,
        REQUEST,
        CONFIRM,
        RENEW,
        REBIND,
        RELEASE,
        DECLINE,
        INFORMATION_REQUEST,
    ] {
        let packet = sound(kind, &[ia_na(1, &[ADDRESS])]);
        let message = Message::parse(&packet).unwrap();
        let verdict = decide(&network().addresses, &server_id(), &message, false);
        assert_eq!(verdict, Verdict::Ignore, "type {kind}");
    }
}

#[test]
fn the_first_association_gets_all_addresses() {
    let all = |others_end| Assignment::Addresses { others_end };
    let cases = [
        (
            "a solicit's wish is not heard",
            sound(SOLICIT, &[ia_na(1, &[OTHER])]),
            vec![all(false)],
        ),
        (
            "a request for one of two",
            sound(REQUEST, &[ia_na(1, &[SECOND])]),
            vec![all(false)],
        ),
        (
            "a request for none",
            sound(REQUEST, &[ia_na(1, &[])]),
            vec![all(false)],
        ),
        (
            "a request for another address",
            sound(REQUEST, &[ia_na(1, &[ADDRESS, OTHER])]),
            vec![all(false)],
        ),
        (
            "what a renewal has beside ours ends",
            sound(RENEW, &[ia_na(1, &[OTHER])]),
            vec![all(true)],
        ),
        (
            "as with a rebinding",
            sound(REBIND, &[ia_na(1, &[ADDRESS])]),
            vec![all(true)],
        ),
        (
            "and the rest get none",
            sound(
                SOLICIT,
                &[ia_pd(1), ia_ta(2, &[]), ia_na(3, &[]), ia_na(4, &[ADDRESS])],
            ),
            vec![
                Assignment::NoPrefixes,
                Assignment::NoAddresses,
                all(false),
                Assignment::NoAddresses,
            ],
        ),
    ];
    for (what, packet, expected) in cases {
        let message = Message::parse(&packet).unwrap();
        let assigned: Vec<_> = assign(&network().addresses, &message)
            .map(|(_, assignment)| assignment)
            .collect();
        assert_eq!(assigned, expected, "{what}");
    }
}

#[test]
fn declines_pause_the_offers_and_are_reported_once() {
    let mut responder = responder();
    let mut at = |kind, options: &[Vec<u8>], seconds| {
        let packet = sound(kind, options);
        let message = Message::parse(&packet).unwrap();
        let (reply, event) = responder.answer(&message, true, Duration::from_secs(seconds));
        (reply.is_some(), event)
    };
    let ia = [ia_na(1, &[ADDRESS])];
    let rapid = [option(code::RAPID_COMMIT, &[]), ia_na(1, &[])];
    let declined = Event::Declined {
        client: GUEST,
        address: ADDRESS.into(),
    };
    assert_eq!(at(DECLINE, &ia, 100), (true, Some(declined.clone())));
    // Its reply may have been lost.
    assert_eq!(at(DECLINE, &ia, 101), (true, None));
    assert_eq!(at(SOLICIT, &ia, 109), (false, None));
    assert_eq!(at(SOLICIT, &rapid, 109), (false, None));
    assert_eq!(at(SOLICIT, &ia, 110), (true, offered(ADDRESS)));
    assert_eq!(at(DECLINE, &ia, 111), (true, Some(declined)));
}

#[test]
fn declining_what_was_not_given_pauses_nothing() {
    let mut responder = responder();
    let mut ask =
        |packet: &[u8]| responder.answer(&Message::parse(packet).unwrap(), true, Duration::ZERO);
    let (reply, event) = ask(&sound(DECLINE, &[ia_na(1, &[OTHER])]));
    assert!(reply.is_some() && event.is_none());
    let (_, event) = ask(&sound(SOLICIT, &[ia_na(1, &[])]));
    assert_eq!(event, offered(ADDRESS));
}

#[test]
fn what_happened_is_told() {
    let released = Some(Event::Released {
        client: GUEST,
        address: ADDRESS.into(),
    });
    let rapid = option(code::RAPID_COMMIT, &[]);
    let cases = [
        (sound(SOLICIT, &[ia_na(1, &[])]), offered(ADDRESS)),
        (sound(SOLICIT, &[rapid, ia_na(1, &[])]), acked(ADDRESS)),
        (sound(SOLICIT, &[ia_pd(1)]), None),
        (sound(REQUEST, &[ia_na(1, &[ADDRESS])]), acked(ADDRESS)),
        (sound(REQUEST, &[ia_na(1, &[OTHER])]), acked(ADDRESS)),
        (sound(CONFIRM, &[ia_na(1, &[SECOND])]), acked(SECOND)),
        (sound(CONFIRM, &[ia_na(1, &[OTHER])]), naked(OTHER)),
        (sound(RENEW, &[ia_na(1, &[ADDRESS])]), acked(ADDRESS)),
        (sound(REBIND, &[ia_na(1, &[OTHER])]), acked(ADDRESS)),
        (sound(RELEASE, &[ia_na(1, &[ADDRESS])]), released),
        (sound(RELEASE, &[ia_na(1, &[OTHER])]), None),
        (sound(INFORMATION_REQUEST, &[]), None),
    ];
    for (packet, expected) in cases {
        assert_eq!(answer(&packet).1, expected, "{packet:?}");
    }
}
