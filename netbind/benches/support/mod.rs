//! Frames as a guest sends them, and medians.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::net::{Ipv4Addr, Ipv6Addr};

use netbind::Mac;

/// A UDP datagram over IPv4, in an Ethernet frame. Without a UDP checksum, as RFC 768 allows.
pub(crate) fn udp(
    [from, to]: [Mac; 2],
    [source, destination]: [Ipv4Addr; 2],
    [from_port, to_port]: [u16; 2],
    payload: &[u8],
) -> Vec<u8> {
    let length = payload.len() as u16;
    let mut frame = [&to.0[..], &from.0, &[8, 0, 0x45, 0]].concat();
    frame.extend((length + 28).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    let sum = checksum(&frame[14..]);
    frame[24..26].copy_from_slice(&sum);
    for field in [from_port, to_port, length + 8, 0] {
        frame.extend(field.to_be_bytes());
    }
    frame.extend(payload);
    frame
}

/// A router solicitation (RFC 4861 section 4.1) from a station's link-local address.
pub(crate) fn router_solicitation(mac: Mac) -> Vec<u8> {
    const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let mut message = vec![133, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    message.extend(mac.0);
    let length = message.len() as u16;
    let addresses = [mac.link_local().octets(), ALL_ROUTERS.octets()].concat();
    let pseudo = [
        &addresses[..],
        &u32::from(length).to_be_bytes(),
        &[0, 0, 0, 58],
        &message,
    ]
    .concat();
    message[2..4].copy_from_slice(&checksum(&pseudo));

    let mut frame = vec![0x33, 0x33, 0, 0, 0, 2];
    frame.extend(mac.0);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([58, 255]);
    frame.extend(addresses);
    frame.extend(message);
    frame
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let pairs = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or_default();
        u32::from(pair[0]) << 8 | u32::from(low)
    });
    let mut sum: u32 = pairs.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// The median between the bounds of its 95 % interval, by order statistics.
pub(crate) fn median(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let reach = 0.98 * n.sqrt();
    [n / 2.0 - reach, n / 2.0, n / 2.0 + reach].map(|rank| values[rank.max(0.0) as usize])
}

/// Ours, the peer's, and their ratio, pair by pair, as the benchmark page reads it.
pub(crate) fn compare(pairs: &[(f64, f64)]) -> serde_json::Value {
    serde_json::json!({
        "pairs": pairs.len(),
        "ours": median(pairs.iter().map(|(ours, _)| *ours).collect()),
        "peer": median(pairs.iter().map(|(_, peer)| *peer).collect()),
        "ratio": median(pairs.iter().map(|(ours, peer)| ours / peer).collect()),
    })
}
