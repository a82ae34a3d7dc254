use proptest::collection::vec;
use proptest::prelude::*;

use crate::api::stream::frame::{Control, Decoder, OUR_HEADER, Opcode, Piece, Violation, header};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ ..126 => frame.push(0x80 | short as u8),
        medium @ ..0x10000 => {
            frame.push(0x80 | 126);
            frame.extend((medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// What was sent: messages, and what came between their parts.
#[derive(Clone, Debug, Default, PartialEq)]
struct Heard {
    messages: Vec<Vec<u8>>,
    /// Of one that has not ended.
    begun: Vec<u8>,
    pings: Vec<Vec<u8>>,
    pongs: usize,
    closes: usize,
}

/// Hears what comes in pieces of these lengths, over and over.
fn hear(input: &[u8], lengths: &[usize]) -> Result<Heard, Violation> {
    let mut heard = Heard::default();
    let mut decoder = Decoder::new();
    let (mut rest, mut lengths) = (input, lengths.iter().cycle());
    while !rest.is_empty() {
        let (now, later) = rest.split_at(*lengths.next().unwrap().min(&rest.len()));
        rest = later;
        let mut now = now.to_vec();
        let mut at = 0;
        while at < now.len() {
            let (read, piece) = decoder.read(&mut now[at..])?;
            match piece {
                Some(Piece::Data { place, last }) => {
                    heard.begun.extend(&now[at..][place]);
                    if last {
                        heard.messages.push(std::mem::take(&mut heard.begun));
                    }
                }
                Some(Piece::Ping(said)) => heard.pings.push(said.as_bytes().to_vec()),
                Some(Piece::Pong) => heard.pongs += 1,
                Some(Piece::Close) => heard.closes += 1,
                None => assert_eq!(at + read, now.len(), "some is left, and nothing was told"),
            }
            at += read;
        }
    }
    Ok(heard)
}

#[test]
fn examples_of_the_rfc() {
    // RFC 6455, 5.7.
    let masked = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    let heard = hear(&masked, &[11]).unwrap();
    assert_eq!(heard.messages, [b"Hello"]);
    let pong = [
        0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(hear(&pong, &[3]).unwrap().pongs, 1);
}

#[test]
fn what_is_against_the_protocol_is_refused() {
    use Violation::*;
    let cases = [
        ("not masked", vec![0x82, 0x01, 0x00], Unmasked),
        ("reserved bits", frame(0xc2, b"x"), Reserved),
        ("an unknown kind", frame(0x83, b"x"), Opcode),
        ("an unknown control", frame(0x8b, b"x"), Opcode),
        ("a long ping", frame(0x89, &[0; 126]), Control),
        ("a ping in parts", frame(0x09, b"x"), Control),
        ("goes on with nothing", frame(0x80, b"x"), Sequence),
        (
            "begins twice",
            [frame(0x02, b"x"), frame(0x82, b"y")].concat(),
            Sequence,
        ),
        (
            "goes on after its end",
            [frame(0x02, b"x"), frame(0x80, b"y"), frame(0x80, b"z")].concat(),
            Sequence,
        ),
        (
            "longer than there is",
            [&[0x82, 0xff][..], &[0xff; 8], &MASK].concat(),
            Length,
        ),
    ];
    for (what, input, expected) in cases {
        for length in [1, 2, 100] {
            assert_eq!(hear(&input, &[length]), Err(expected), "{what}");
        }
    }
}

#[test]
fn a_message_is_handed_on_before_it_has_ended() {
    let long = frame(0x82, &vec![7; 1 << 20]);
    let heard = hear(&long[..1000], &[300]).unwrap();
    assert_eq!(heard.begun, vec![7; 1000 - 14]);
    assert!(heard.messages.is_empty());
}

#[test]
fn our_frames_have_their_header_right_before_the_payload() {
    let cases: [(usize, &[u8]); 5] = [
        (0, &[0x82, 0]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (200, &[0x82, 126, 0, 200]),
        (65535, &[0x82, 126, 0xff, 0xff]),
    ];
    for (payload, expected) in cases {
        let (bytes, length) = header(Opcode::Binary, payload);
        assert_eq!(&bytes[OUR_HEADER - length..], expected, "{payload}");
    }
    assert_eq!(header(Opcode::Close, 2).0[2], 0x88);
    assert!(Control::EMPTY.as_bytes().is_empty());
}

#[derive(Clone, Debug)]
enum Sent {
    /// Its parts; with a ping before each but the first.
    Message(Vec<Vec<u8>>, bool),
    Ping(Vec<u8>),
    Pong,
}

fn sent() -> impl Strategy<Value = Sent> {
    let part = prop_oneof![
        4 => vec(any::<u8>(), 0..8),
        2 => vec(any::<u8>(), 120..130),
        1 => vec(any::<u8>(), 65530..65540),
    ];
    prop_oneof![
        4 => (vec(part, 1..4), any::<bool>()).prop_map(|(parts, pings)| Sent::Message(parts, pings)),
        1 => vec(any::<u8>(), 0..=125).prop_map(Sent::Ping),
        1 => Just(Sent::Pong),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_it_is_cut_the_same_is_heard(all in vec(sent(), 0..6), lengths in vec(1_usize..5000, 1..8)) {
        let (mut input, mut expected) = (vec![], Heard::default());
        for sent in all {
            match sent {
                Sent::Message(parts, pings) => {
                    for (at, part) in parts.iter().enumerate() {
                        let first = if at == 0 { 0x02 } else { 0x00 };
                        let last = if at + 1 == parts.len() { 0x80 } else { 0x00 };
                        if pings && at > 0 {
                            input.extend(frame(0x89, b"between"));
                            expected.pings.push(b"between".to_vec());
                        }
                        input.extend(frame(first | last, part));
                    }
                    expected.messages.push(parts.concat());
                }
                Sent::Ping(said) => {
                    input.extend(frame(0x89, &said));
                    expected.pings.push(said);
                }
                Sent::Pong => {
                    input.extend(frame(0x8a, b""));
                    expected.pongs += 1;
                }
            }
        }
        prop_assert_eq!(hear(&input, &lengths), Ok(expected));
    }

    #[test]
    fn noise_is_no_panic(noise in vec(any::<u8>(), 0..200), lengths in vec(1_usize..20, 1..4)) {
        let _ = hear(&noise, &lengths);
    }
}
