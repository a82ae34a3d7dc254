//! What the targets share: how packets lie in an input, and the networks that are served.

use std::time::Duration;

pub mod guests;

/// Ends a packet within an input. One packet is an input as it is, so that a capture is a seed.
pub const NEXT: &[u8] = b"\0NEXT";

/// The packets of an input, each with the time of its arrival. The byte after [`NEXT`] says how many
/// seconds pass until the next packet.
pub fn packets(input: &[u8]) -> Vec<(Duration, &[u8])> {
    let mut packets = Vec::new();
    let (mut now, mut rest) = (Duration::ZERO, input);
    loop {
        let end = rest.windows(NEXT.len()).position(|it| it == NEXT);
        let Some(end) = end else {
            packets.push((now, rest));
            return packets;
        };
        packets.push((now, &rest[..end]));
        let (seconds, after) = match &rest[end + NEXT.len()..] {
            [seconds, after @ ..] => (*seconds, after),
            [] => (0, &[][..]),
        };
        now += Duration::from_secs(seconds.into());
        rest = after;
    }
}

/// RFC 1071's sum of a packet's parts, each of an even number of bytes but the last: 0xffff where it
/// holds its own complement.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 = words
        .map(|word| u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of an IPv6 packet's payload and pseudo header; none where the packet is none, or cut.
pub fn right_sum(packet: &[u8]) -> Option<u16> {
    let (header, rest) = packet.split_at_checked(40)?;
    let payload = rest.get(..u16::from_be_bytes([header[4], header[5]]).into())?;
    Some(sum(&[
        &header[8..],
        &header[4..6],
        &[0, header[6]],
        payload,
    ]))
}

/// An IPv6 packet with the checksum that its ICMPv6 payload should have; anything else as it is.
pub fn with_right_sum(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet.len() >= 44 && packet[6] == 58 {
        packet[42..44].fill(0);
        if let Some(sum) = right_sum(&packet) {
            packet[42..44].copy_from_slice(&(!sum).to_be_bytes());
        }
    }
    packet
}
