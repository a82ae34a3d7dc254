//! What arrives: solicitations of the guest, advertisements of its gateway.

use std::net::Ipv6Addr;

use super::{HOP_LIMIT, kind, option, solicited_node};
use crate::mac::Mac;
use crate::packet::{ICMPV6, Ipv6Packet};

/// A valid message, and between whom it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it; unspecified if it has no address yet.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
    /// What it says.
    pub kind: Kind,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who routes on this link? (RFC 4861 section 4.1)
    RouterSolicitation,
    /// Who has this address? (RFC 4861 section 4.3)
    NeighbourSolicitation {
        /// The address.
        target: Ipv6Addr,
    },
    /// Its owner's answer (RFC 4861 section 4.4).
    NeighbourAdvertisement {
        /// The address.
        target: Ipv6Addr,
        /// Flag S: it answers a solicitation, so its destination reaches its source.
        solicited: bool,
        /// Flag O: it counts for more than what is known.
        overrides: bool,
        /// The owner's MAC, if it is named.
        mac: Option<Mac>,
    },
}

impl Message {
    /// Reads an IPv6 packet; none unless it is a message of these kinds and passes every test of
    /// RFC 4861 sections 6.1.1, 7.1.1 and 7.1.2.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let packet = Ipv6Packet::parse(packet)?;
        let Ipv6Packet {
            source,
            destination,
            ..
        } = packet;
        if packet.next_header != ICMPV6
            || packet.hop_limit != HOP_LIMIT
            || source.is_multicast()
            || packet.sum() != 0
        {
            return None;
        }
        let (&[kind, code, _, _, flags, _, _, _], rest) = packet.payload.split_first_chunk()?;
        if code != 0 {
            return None;
        }
        // A station without an address cannot be answered by its MAC alone, and says none.
        let nameless = |options: &Options| source.is_unspecified() && options.names_source;
        let kind = match kind {
            kind::ROUTER_SOLICITATION => {
                if nameless(&Options::parse(rest)?) {
                    return None;
                }
                Kind::RouterSolicitation
            }
            kind::NEIGHBOUR_SOLICITATION => {
                let (target, options) = about(rest)?;
                // Duplicate address detection asks all who might have the address.
                let astray = source.is_unspecified() && destination != solicited_node(target);
                if nameless(&options) || astray {
                    return None;
                }
                Kind::NeighbourSolicitation { target }
            }
            kind::NEIGHBOUR_ADVERTISEMENT => {
                let (target, options) = about(rest)?;
                let solicited = flags & 0x40 != 0;
                if solicited && destination.is_multicast() {
                    return None;
                }
                Kind::NeighbourAdvertisement {
                    target,
                    solicited,
                    overrides: flags & 0x20 != 0,
                    mac: options.target,
                }
            }
            _ => return None,
        };
        Some(Self {
            source,
            destination,
            kind,
        })
    }
}

/// The address that a neighbour message is about, and its options.
fn about(rest: &[u8]) -> Option<(Ipv6Addr, Options)> {
    let (target, rest) = rest.split_first_chunk::<16>()?;
    let target = Ipv6Addr::from(*target);
    let options = Options::parse(rest)?;
    (!target.is_multicast()).then_some((target, options))
}

/// The options that matter to us; others are skipped (RFC 4861 section 6.1.1).
#[derive(Default)]
struct Options {
    names_source: bool,
    target: Option<Mac>,
}

impl Options {
    /// None if an option has no length, or leads out of the packet.
    fn parse(mut rest: &[u8]) -> Option<Self> {
        let mut options = Self::default();
        while let Some((&tag, after)) = rest.split_first() {
            // In units of eight bytes, with tag and length.
            let length = usize::from(*after.first()?) * 8;
            let (value, next) = after.get(1..)?.split_at_checked(length.checked_sub(2)?)?;
            match tag {
                option::SOURCE_LINK_LAYER => options.names_source = true,
                // One of another length is of another kind of link (RFC 2464 section 6).
                option::TARGET_LINK_LAYER => {
                    options.target = value.try_into().ok().map(Mac).or(options.target);
                }
                _ => {}
            }
            rest = next;
        }
        Some(options)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Neighbour, SUM_AT, solicit};
    use super::*;

    const GUEST: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);

    fn address(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    /// A packet with a right sum, from a source to a destination.
    fn packet(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
        Ipv6Packet {
            source: address(source),
            destination: address(destination),
            next_header: ICMPV6,
            hop_limit: HOP_LIMIT,
            payload,
        }
        .build(SUM_AT)
    }

    /// The same, of a type, with an address behind the flags, and options.
    fn neighbour(kind: u8, flags: u8, target: &str, options: &[u8]) -> Vec<u8> {
        let head = [kind, 0, 0, 0, flags, 0, 0, 0];
        [&head[..], &address(target).octets(), options].concat()
    }

    const SLLA: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 1];
    const RS: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn reads_a_captured_router_solicitation() {
        // As Linux 6.18 sent it from a link with the guest's MAC.
        let bytes = [
            &[0x60, 0, 0, 0, 0, 16, 58, 255][..],
            &address("fe80::ff:fe00:1").octets(),
            &address("ff02::2").octets(),
            &[133, 0, 0x7b, 0x2c, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1],
        ]
        .concat();
        assert_eq!(
            Message::parse(&bytes),
            Some(Message {
                source: GUEST.link_local(),
                destination: address("ff02::2"),
                kind: Kind::RouterSolicitation,
            })
        );
    }

    #[test]
    fn reads_what_it_writes() {
        let (source, target) = (address("2001:db8::2"), address("2001:db8::1"));
        let message = Message::parse(&solicit(source, GUEST, target).1).unwrap();
        assert_eq!(message.source, source);
        assert_eq!(message.destination, address("ff02::1:ff00:1"));
        assert_eq!(message.kind, Kind::NeighbourSolicitation { target });

        for (solicited, overrides) in [(true, true), (true, false), (false, true)] {
            let neighbour = Neighbour {
                address: target,
                mac: ROUTER,
                router: true,
            };
            let bytes = neighbour.advertise(source, solicited, overrides);
            let message = Message::parse(&bytes).unwrap();
            assert_eq!((message.source, message.destination), (target, source));
            assert_eq!(
                message.kind,
                Kind::NeighbourAdvertisement {
                    target,
                    solicited,
                    overrides,
                    mac: Some(ROUTER)
                }
            );
        }
    }

    #[test]
    fn reads_solicitations_with_and_without_options() {
        let unknown = [14, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for options in [
            &[][..],
            &SLLA,
            &unknown,
            &[unknown.as_slice(), &SLLA].concat(),
        ] {
            let bytes = packet("fe80::1", "ff02::2", &[&RS, options].concat());
            assert!(Message::parse(&bytes).is_some(), "{options:?}");
        }
        // A station without an address yet.
        assert!(Message::parse(&packet("::", "ff02::2", &RS)).is_some());
        let detection = neighbour(135, 0, "2001:db8::2", &[]);
        assert!(Message::parse(&packet("::", "ff02::1:ff00:2", &detection)).is_some());
    }

    #[test]
    fn refuses_what_rfc_4861_does() {
        let good = neighbour(135, 0, "2001:db8::1", &SLLA);
        let (guest, all) = ("2001:db8::2", "ff02::1:ff00:1");
        let with = |payload: &[u8]| packet(guest, all, payload);
        assert!(Message::parse(&with(&good)).is_some());

        let mut code = good.clone();
        code[1] = 1;
        let mut forwarded = with(&good);
        forwarded[7] = 254;
        let mut damaged = with(&good);
        damaged[60] ^= 1;
        let mut udp = with(&good);
        udp[6] = 17;
        let rs = |options: &[u8]| [&RS, options].concat();
        let mut advertisement = [0; 16];
        advertisement[0] = 134;
        let na = |flags, options: &[u8]| neighbour(136, flags, "2001:db8::1", options);
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("a code", with(&code)),
            ("forwarded by a router", forwarded),
            ("a wrong sum", damaged),
            ("another protocol", udp),
            ("a router advertisement", with(&advertisement)),
            ("a multicast source", packet("ff02::1", all, &good)),
            ("cut in its head", with(&RS[..7])),
            ("cut in its target", with(&good[..23])),
            (
                "a multicast target",
                with(&neighbour(135, 0, "ff02::1", &[])),
            ),
            (
                "an option without length",
                with(&rs(&[1, 0, 0, 0, 0, 0, 0, 0])),
            ),
            (
                "an option beyond the end",
                with(&rs(&[1, 2, 0, 0, 0, 0, 0, 0])),
            ),
            ("an option of one byte", with(&rs(&[1]))),
            (
                "no address but a MAC (RS)",
                packet("::", "ff02::2", &rs(&SLLA)),
            ),
            ("no address but a MAC (NS)", packet("::", all, &good)),
            (
                "detection sent to one",
                packet("::", "2001:db8::1", &neighbour(135, 0, "2001:db8::1", &[])),
            ),
            ("an answer to all", packet(guest, "ff02::1", &na(0x60, &[]))),
        ];
        for (what, bytes) in cases {
            assert_eq!(Message::parse(&bytes), None, "{what}");
        }
    }

    #[test]
    fn a_mac_of_another_kind_of_link_is_none() {
        let infiniband = [
            2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        for options in [&[][..], &infiniband] {
            let bytes = packet(
                "fe80::1",
                "fe80::2",
                &neighbour(136, 0x40, "fe80::1", options),
            );
            let kind = Message::parse(&bytes).unwrap().kind;
            assert!(
                matches!(kind, Kind::NeighbourAdvertisement { mac: None, .. }),
                "{kind:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Message::parse(&bytes);
        }

        /// The sum is right, so that what lies behind it is reached.
        #[test]
        fn arbitrary_messages_never_panic(
            kind in 132_u8..138,
            mut payload in proptest::collection::vec(any::<u8>(), 4..120),
            unspecified: bool,
        ) {
            payload[0] = kind;
            payload[1..4].fill(0);
            let source = if unspecified { "::" } else { "fe80::1" };
            let _ = Message::parse(&packet(source, "ff02::1", &payload));
        }

        /// Options of any length and kind are walked to the end or refused.
        #[test]
        fn options_are_whole_or_refused(
            options in proptest::collection::vec((3_u8.., 0_usize..4), 0..10),
            cut in 0_usize..8,
        ) {
            let mut bytes: Vec<u8> = Vec::new();
            for (tag, length) in &options {
                bytes.extend([*tag, *length as u8]);
                bytes.extend(vec![0; (length * 8).saturating_sub(2)]);
            }
            let sound = options.iter().all(|(_, length)| *length > 0);
            let whole = cut == 0 || bytes.is_empty();
            bytes.truncate(bytes.len().saturating_sub(cut));
            let emptied = bytes.is_empty();
            let read = Message::parse(&packet("fe80::1", "ff02::2", &[&RS, &bytes[..]].concat()));
            if sound {
                prop_assert_eq!(read.is_some(), whole || emptied);
            } else if whole {
                prop_assert_eq!(read, None);
            }
        }
    }
}
