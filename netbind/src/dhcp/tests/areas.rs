//! Options where room is short: which area, which parts, and what is left out.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Options = Vec<(u8, Vec<u8>)>;

/// The options of each area, in the order in which RFC 3396 joins them. Areas that option 52 does
/// not name must be empty.
fn areas(reply: &Reply) -> [Options; 3] {
    let owned = |(code, value): (u8, &[u8])| (code, value.to_vec());
    let overload = value(reply, 52).first().map_or(0, |value| *value);
    let spare = |bit, range| {
        let bytes: &[u8] = &reply.payload[range];
        if overload & bit == 0 {
            assert!(bytes.iter().all(|byte| *byte == 0));
            return Vec::new();
        }
        area(bytes).map(owned).collect()
    };
    [
        options(reply).map(owned).collect(),
        spare(1, 108..236),
        spare(2, 44..108),
    ]
}

/// One value an option.
fn joined(reply: &Reply) -> BTreeMap<u8, Vec<u8>> {
    let mut joined = BTreeMap::<_, Vec<u8>>::new();
    for (code, value) in areas(reply).concat() {
        joined.entry(code).or_default().extend(value);
    }
    joined
}

/// From a client that names no maximum size: 548 bytes, of which 307 are for options.
fn small() -> Message<'static> {
    Message {
        max_size: None,
        ..message(Kind::Discover)
    }
}

/// A lease with nothing but private options of these lengths, from 224 on.
fn private(lengths: &[usize]) -> Lease {
    let values = lengths.iter().map(|length| "x".repeat(*length));
    Lease {
        private: (224..).zip(values).collect(),
        ..bare()
    }
}

#[test]
fn what_has_no_room_goes_into_file_then_into_sname() {
    // Bytes of private options, and which of all options stand where, after those that always do.
    let cases: [(&[usize], [&[u8]; 3]); 5] = [
        (&[200, 60], [&[224, 225, 28], &[], &[]]),
        (&[200, 100], [&[224, 28, 52], &[225], &[]]),
        (&[230, 100, 61], [&[224, 28, 52], &[225], &[226]]),
        // Whatever is small enough fills the gaps.
        (&[230, 120, 61, 20], [&[224, 227, 28, 52], &[225], &[226]]),
        // An option of up to 255 bytes is never split: 126 have room in no other area.
        (&[250, 126, 61], [&[224, 28, 52], &[226], &[]]),
    ];
    for (lengths, expected) in cases {
        let reply = reply(private(lengths), &small());
        assert!(reply.payload.len() <= 548);
        let [options, file, sname] = areas(&reply);
        let codes = |area: &[(u8, Vec<u8>)]| area.iter().map(|(code, _)| *code).collect();
        let found: [Vec<u8>; 3] = [codes(&options[7..]), codes(&file), codes(&sname)];
        assert_eq!(found, expected, "{lengths:?}");
    }
}

#[test]
fn what_has_no_room_anywhere_is_left_out_and_told_once() {
    let mut responder = Responder::new(private(&[900, 1]));
    let (reply, event) = responder.answer(&small(), Duration::ZERO);
    let reply = reply.unwrap();
    assert_eq!(codes(&reply), [53, 54, 51, 58, 59, 1, 26, 225, 28]);
    assert!(matches!(event, Some(Event::Warning { .. })));
    let (_, event) = responder.answer(&small(), Duration::ZERO);
    assert!(matches!(event, Some(Event::Offered { .. })));

    let large = Message {
        max_size: Some(9000),
        ..small()
    };
    let (reply, _) = responder.answer(&large, Duration::ZERO);
    assert_eq!(value(&reply.unwrap(), 224).len(), 900);
}

#[test]
fn long_routes_are_split_and_join_to_the_same_bytes() {
    let routes: Vec<_> = (0..60)
        .map(|i| ClasslessRoute {
            destination: format!("10.{i}.0.0/16").parse().unwrap(),
            router: Ipv4Addr::new(10, 1, 2, 1),
        })
        .collect();
    let expected: Vec<u8> = routes
        .iter()
        .flat_map(|route| {
            let [a, b, ..] = route.destination.network().octets();
            [&[16, a, b][..], &route.router.octets()].concat()
        })
        .collect();
    let lease = Lease { routes, ..bare() };
    // In one area, and over all three.
    for (message, parts) in [(message(Kind::Discover), [2, 0, 0]), (small(), [2, 1, 1])] {
        let reply = reply(lease.clone(), &message);
        assert_eq!(joined(&reply)[&121], expected);
        let count = |area: Options| area.iter().filter(|(c, _)| *c == 121).count();
        assert_eq!(areas(&reply).map(count), parts);
    }
}

proptest! {
    #[test]
    fn every_option_is_whole_or_absent_and_none_is_while_there_is_room(
        lengths in proptest::collection::vec(0_usize..600, 0..8),
        client_id in proptest::collection::vec(any::<u8>(), 0..400),
        relay_agent in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
        max_size in any::<u16>(),
    ) {
        let lease = private(&lengths);
        let message = Message {
            max_size: Some(max_size),
            client_id: Some(client_id.as_slice().into()),
            relay_agent: relay_agent.as_deref().map(Into::into),
            ..small()
        };
        let reply = reply(lease.clone(), &message);
        let room = usize::from(max_size).clamp(576, 1450) - 28;
        prop_assert!(reply.payload.len() <= room);
        let joined = joined(&reply);
        for (code, text) in &lease.private {
            if let Some(value) = joined.get(code) {
                prop_assert_eq!(value, text.as_bytes());
            }
        }
        if let Some(id) = joined.get(&61) {
            prop_assert_eq!(id, &client_id);
        }
        if let Some(relay_agent) = relay_agent.as_deref().filter(|value| value.len() <= 255) {
            prop_assert_eq!(options(&reply).last(), Some((82, relay_agent)));
        }
        // What is sure to be there.
        for code in [53, 54, 51, 58, 59] {
            prop_assert!(joined.contains_key(&code));
        }
        // Nothing is left out where the options area alone holds it all.
        let framed = |length: usize| length + 2 * length.div_ceil(255);
        let all: usize = lengths.iter().copied().map(framed).sum::<usize>()
            + framed(client_id.len()) + relay_agent.map_or(0, |it| framed(it.len())) + 50;
        if all <= room - 240 {
            let present = lease.private.iter().filter(|(_, text)| !text.is_empty());
            prop_assert!(present.clone().all(|(code, _)| joined.contains_key(code)));
        }
    }
}
