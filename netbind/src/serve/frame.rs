//! Ethernet, IPv4 and UDP around a DHCP message.

use crate::dhcp::Reply;
use crate::mac::Mac;
use crate::plan::GuestNetwork;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;

/// A DHCP question from the tap.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// The station that sent it.
    pub(super) source: Mac,
    /// The UDP payload.
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Finds the payload of a UDP datagram to port 67; none if the frame is anything else.
    ///
    /// Checksums are not looked at: a tap does not damage packets, and guests leave the UDP
    /// checksum to hardware that is not there.
    pub(super) fn parse(frame: &'a [u8]) -> Option<Self> {
        let (ethernet, ip) = frame.split_first_chunk::<ETHERNET>()?;
        let source = Mac(ethernet.get(6..12)?.try_into().ok()?);
        if ethernet[12..] != [0x08, 0x00] {
            return None;
        }
        let first = *ip.first()?;
        let header = usize::from(first & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes(ip.get(2..4)?.try_into().ok()?));
        let fragment = u16::from_be_bytes(ip.get(6..8)?.try_into().ok()?) & 0x3fff;
        if first >> 4 != 4 || header < IPV4 || fragment != 0 || *ip.get(9)? != 17 {
            return None;
        }
        // The frame may be padded beyond the datagram.
        let udp = ip.get(header..total.min(ip.len()))?;
        let (udp_header, payload) = udp.split_first_chunk::<UDP>()?;
        let [_, _, port_high, port_low, length_high, length_low, ..] = *udp_header;
        if u16::from_be_bytes([port_high, port_low]) != 67 {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        Some(Self {
            source,
            payload: payload.get(..length.checked_sub(UDP)?)?,
        })
    }
}

/// Builds the frame that carries a reply, with both checksums whole.
pub(super) fn build(network: &GuestNetwork, to: Mac, reply: &Reply) -> Vec<u8> {
    let server = network.lease.server_id.octets();
    let client = reply.address.octets();
    // A reply is never longer than the lease's MTU, which is at most 65535.
    let udp_length = (UDP + reply.payload.len()) as u16;
    let ip_length = IPV4 as u16 + udp_length;

    let mut frame = Vec::with_capacity(ETHERNET + usize::from(ip_length));
    frame.extend(to.0);
    frame.extend(network.server_mac.0);
    frame.extend([0x08, 0x00]);

    // Precedence "internetwork control", as DHCP servers send; don't fragment; TTL 64; UDP.
    frame.extend([0x45, 0xc0]);
    frame.extend(ip_length.to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(server);
    frame.extend(client);
    let sum = checksum(0, &frame[ETHERNET..]);
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());

    let udp = frame.len();
    frame.extend(67_u16.to_be_bytes());
    frame.extend(reply.port.to_be_bytes());
    frame.extend(udp_length.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(&reply.payload);
    // RFC 768: the pseudo header is part of the sum, and a sum of zero is sent as all ones.
    let pseudo = [server, client].concat();
    let seed = u32::from(!checksum(17 + u32::from(udp_length), &pseudo));
    let sum = match checksum(seed, &frame[udp..]) {
        0 => 0xffff,
        sum => sum,
    };
    frame[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The Internet checksum (RFC 1071) of the bytes, on top of a sum so far.
fn checksum(seed: u32, bytes: &[u8]) -> u16 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let mut sum = pairs
        .iter()
        .fold(seed, |sum, pair| sum + u32::from(u16::from_be_bytes(*pair)));
    if let [last] = last {
        sum += u32::from(*last) << 8;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Folded to 16 bits just above.
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A question to the server with this payload.
    fn question(payload: &[u8]) -> Vec<u8> {
        let udp = (payload.len() + UDP) as u16;
        let mut frame = vec![
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0,
        ];
        frame.extend((udp + IPV4 as u16).to_be_bytes());
        frame.extend([
            0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67,
        ]);
        frame.extend(udp.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn finds_the_payload_between_headers_and_padding() {
        let mut frame = question(b"hello");
        let expected = Some(Frame {
            source: Mac([2, 0, 0, 0, 0, 1]),
            payload: &b"hello"[..],
        });
        assert_eq!(Frame::parse(&frame), expected);
        frame.extend([0; 20]);
        assert_eq!(Frame::parse(&frame), expected);
    }

    #[test]
    fn ip_options_are_skipped() {
        let mut frame = question(b"hello");
        frame.splice(34..34, [1; 4]);
        frame[14] = 0x46;
        frame[17] += 4;
        assert_eq!(Frame::parse(&frame).unwrap().payload, b"hello");
    }

    #[test]
    fn other_frames_have_no_payload() {
        let cases: [(&str, usize, u8); 8] = [
            ("IPv6", 12, 0x86),
            ("another version", 14, 0x65),
            ("a short header", 14, 0x44),
            ("a header beyond the end", 14, 0x4f),
            ("a fragment", 20, 0x20),
            ("TCP", 23, 6),
            ("another port", 37, 68),
            ("a longer datagram than packet", 39, 200),
        ];
        for (what, at, value) in cases {
            let mut frame = question(b"hello");
            frame[at] = value;
            assert_eq!(Frame::parse(&frame), None, "{what}");
        }
        let frame = question(b"hello");
        for length in 0..frame.len() {
            assert_eq!(Frame::parse(&frame[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn sums_as_rfc_1071_does() {
        // The example of section 3: 0001 f203 f4f5 f6f7 sum to ddf2.
        assert_eq!(
            checksum(0, &[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
        // An odd byte counts as the high half of a pair.
        assert_eq!(checksum(0, &[0xab]), !0xab00);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Frame::parse(&bytes);
        }

        #[test]
        fn damaged_frames_never_panic(at in 0_usize..42, value: u8, length in 0_usize..60) {
            let mut frame = question(b"hello");
            frame[at] = value;
            frame.truncate(length);
            let _ = Frame::parse(&frame);
        }
    }
}
