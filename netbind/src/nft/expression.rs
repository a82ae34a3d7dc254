//! What rules are made of: matches, and the statement at the end.

use std::net::IpAddr;

use super::batch::{ANONYMOUS_SET, Attributes};

/// The register that a match loads into, and a statement takes its address from.
const REGISTER: u32 = 1;
/// The register of verdicts.
const VERDICT: u32 = 0;

/// What a match looks at.
#[derive(Clone, Copy)]
pub(super) struct Field {
    load: Load,
    /// Bytes.
    pub(super) length: u32,
    /// The number that the nft program gives to values of its type. It lists sets by it.
    pub(super) kind: u32,
}

/// Where a field is found.
#[derive(Clone, Copy)]
enum Load {
    /// `NFT_META_*`.
    Meta(u32),
    /// `NFT_CT_*`.
    Conntrack(u32),
    /// Bytes from here in the Ethernet header. A tag (802.1Q) is a part of it.
    Link(u32),
    /// Bytes from here in the IP header or ARP packet.
    Network(u32),
    /// Bytes from here behind all of IP's headers.
    Transport(u32),
    /// Bytes from here in IPv6's fragment header.
    Fragment(u32),
}

impl Field {
    /// The interface by which it entered.
    pub(super) const IN_NAME: Self = Self::new(Load::Meta(6), 16, 41);
    /// The interface by which it is to leave.
    pub(super) const OUT_NAME: Self = Self::new(Load::Meta(7), 16, 41);
    /// The EtherType, after the first tag, if there is one.
    pub(super) const PROTOCOL: Self = Self::new(Load::Meta(1), 2, 10);
    /// Whom the frame is for, as `PACKET_*` (linux/if_packet.h).
    pub(super) const PACKET_TYPE: Self = Self::new(Load::Meta(19), 1, 31);
    /// The IP version as `NFPROTO_*`.
    pub(super) const IP_VERSION: Self = Self::new(Load::Meta(15), 1, 2);
    /// The transport protocol.
    pub(super) const TRANSPORT: Self = Self::new(Load::Meta(16), 1, 12);
    /// The state of its connection, a bit mask.
    pub(super) const STATE: Self = Self::new(Load::Conntrack(0), 4, 26);
    /// Which way of its connection, as `IP_CT_DIR_*`.
    pub(super) const DIRECTION: Self = Self::new(Load::Conntrack(1), 1, 27);
    /// What was done to its connection, a bit mask.
    pub(super) const STATUS: Self = Self::new(Load::Conntrack(2), 4, 28);
    /// The destination MAC.
    pub(super) const MAC_TO: Self = Self::new(Load::Link(0), 6, 9);
    /// The source MAC.
    pub(super) const MAC_FROM: Self = Self::new(Load::Link(6), 6, 9);
    /// The EtherType as it stands in the frame: of one with a tag, the tag's.
    pub(super) const ETHER_TYPE: Self = Self::new(Load::Link(12), 2, 10);
    /// An ARP packet's sender (RFC 826), its MAC.
    pub(super) const ARP_SENDER_MAC: Self = Self::new(Load::Network(8), 6, 9);
    /// An ARP packet's sender, its IPv4 address.
    pub(super) const ARP_SENDER: Self = Self::new(Load::Network(14), 4, 7);
    /// The IPv4 address that an ARP packet is about.
    pub(super) const ARP_TARGET: Self = Self::new(Load::Network(24), 4, 7);
    /// The source address of IPv4.
    pub(super) const IPV4_FROM: Self = Self::new(Load::Network(12), 4, 7);
    /// The source network of IPv4, a /8.
    pub(super) const IPV4_FROM_8: Self = Self::new(Load::Network(12), 1, 7);
    /// The destination address of IPv4.
    pub(super) const IPV4_TO: Self = Self::new(Load::Network(16), 4, 7);
    /// The destination network of IPv4, a /8.
    pub(super) const IPV4_TO_8: Self = Self::new(Load::Network(16), 1, 7);
    /// The source address of IPv6.
    pub(super) const IPV6_FROM: Self = Self::new(Load::Network(8), 16, 8);
    /// The destination address of IPv6.
    pub(super) const IPV6_TO: Self = Self::new(Load::Network(24), 16, 8);
    /// An IPv6 fragment's offset, in the upper 13 bits.
    pub(super) const FRAGMENT_OFFSET: Self = Self::new(Load::Fragment(2), 2, 4);
    /// What an IPv6 fragment's header is followed by, as a transport protocol.
    pub(super) const FRAGMENT_NEXT: Self = Self::new(Load::Fragment(0), 1, 12);
    /// The source port.
    pub(super) const PORT_FROM: Self = Self::new(Load::Transport(0), 2, 13);
    /// The destination port.
    pub(super) const PORT_TO: Self = Self::new(Load::Transport(2), 2, 13);
    /// The first byte behind IP's headers.
    pub(super) const FIRST_BYTE: Self = Self::new(Load::Transport(0), 1, 4);
    /// The type of an ICMP message.
    pub(super) const ICMP_TYPE: Self = Self::new(Load::Transport(0), 1, 14);
    /// The type of an IGMP message.
    pub(super) const IGMP_TYPE: Self = Self::new(Load::Transport(0), 1, 42);
    /// The type of an ICMPv6 message.
    pub(super) const ICMPV6_TYPE: Self = Self::new(Load::Transport(0), 1, 29);
    /// The address that a neighbour solicitation or advertisement is about (RFC 4861 sections 4.3
    /// and 4.4).
    pub(super) const ND_TARGET: Self = Self::new(Load::Transport(8), 16, 8);

    /// The first option of either (section 4.6): its type and its length in eight bytes.
    pub(super) const ND_OPTION: Self = Self::new(Load::Transport(24), 2, 4);
    /// The MAC in it.
    pub(super) const ND_OPTION_MAC: Self = Self::new(Load::Transport(26), 6, 9);
    /// A byte behind it.
    pub(super) const ND_MORE: Self = Self::new(Load::Transport(32), 1, 4);

    const fn new(load: Load, length: u32, kind: u32) -> Self {
        Self { load, length, kind }
    }

    /// Loads the field. What a packet does not have, or a broken one has lost, never matches.
    fn encode(self, out: &mut Attributes<'_>) {
        const LINK_HEADER: u32 = 0;
        const NETWORK_HEADER: u32 = 1;
        const TRANSPORT_HEADER: u32 = 2;
        const FRAGMENT_HEADER: u8 = 44;
        let payload = |out: &mut Attributes<'_>, base, offset| {
            out.expression("payload", |out| {
                out.number(1, REGISTER);
                out.number(2, base);
                out.number(3, offset);
                out.number(4, self.length);
            });
        };
        match self.load {
            Load::Meta(key) => out.expression("meta", |out| {
                out.number(2, key);
                out.number(1, REGISTER);
            }),
            Load::Conntrack(key) => out.expression("ct", |out| {
                out.number(2, key);
                out.number(1, REGISTER);
            }),
            Load::Link(offset) => payload(out, LINK_HEADER, offset),
            Load::Network(offset) => payload(out, NETWORK_HEADER, offset),
            Load::Transport(offset) => payload(out, TRANSPORT_HEADER, offset),
            Load::Fragment(offset) => out.expression("exthdr", |out| {
                out.number(1, REGISTER);
                out.bytes(2, &[FRAGMENT_HEADER]);
                out.number(3, offset);
                out.number(4, self.length);
            }),
        }
    }
}

/// One condition of a rule.
pub(super) struct Match {
    pub(super) field: Field,
    test: Test,
}

/// What is asked of a field. Values are as they stand in a packet, or in the host's byte order
/// where the kernel makes them.
enum Test {
    Is(Vec<u8>),
    IsNot(Vec<u8>),
    AtLeast(Vec<u8>),
    /// Under the mask it is the value.
    Masked {
        mask: Vec<u8>,
        value: Vec<u8>,
    },
    /// Any bit of these is set.
    Any(Vec<u8>),
    OneOf(Vec<Vec<u8>>),
    /// It is in the set, or there was room for it.
    Noted(&'static str),
}

pub(super) fn is(field: Field, value: impl Into<Vec<u8>>) -> Match {
    let test = Test::Is(value.into());
    Match { field, test }
}

pub(super) fn is_not(field: Field, value: impl Into<Vec<u8>>) -> Match {
    let test = Test::IsNot(value.into());
    Match { field, test }
}

pub(super) fn at_least(field: Field, value: impl Into<Vec<u8>>) -> Match {
    let test = Test::AtLeast(value.into());
    Match { field, test }
}

pub(super) fn masked(field: Field, mask: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Match {
    let test = Test::Masked {
        mask: mask.into(),
        value: value.into(),
    };
    Match { field, test }
}

/// Any bit of these is set.
pub(super) fn any(field: Field, bits: u32) -> Match {
    let test = Test::Any(bits.to_ne_bytes().into());
    Match { field, test }
}

/// One of several values, of which there must be one.
pub(super) fn one_of<T: Into<Vec<u8>>>(field: Field, values: impl IntoIterator<Item = T>) -> Match {
    let mut values: Vec<Vec<u8>> = values.into_iter().map(Into::into).collect();
    // A set takes no value twice.
    values.sort_unstable();
    values.dedup();
    let test = match values.as_slice() {
        [value] => Test::Is(value.clone()),
        _ => Test::OneOf(values),
    };
    Match { field, test }
}

/// Notes the field's value in a set made by [`recent`](super::batch::Batch::recent).
pub(super) fn noted(field: Field, set: &'static str) -> Match {
    let test = Test::Noted(set);
    Match { field, test }
}

impl Match {
    /// The values of the set that the match looks up.
    pub(super) fn elements(&self) -> Option<&[Vec<u8>]> {
        match &self.test {
            Test::OneOf(values) => Some(values),
            _ => None,
        }
    }

    /// Writes the match; `set` is the number of the set of its [`elements`](Self::elements).
    pub(super) fn encode(&self, out: &mut Attributes<'_>, set: u32) {
        const EQ: u32 = 0;
        const NEQ: u32 = 1;
        const GTE: u32 = 5;
        const UPDATE: u32 = 1;
        self.field.encode(out);
        match &self.test {
            Test::Is(value) => compare(out, EQ, value),
            Test::IsNot(value) => compare(out, NEQ, value),
            Test::AtLeast(value) => compare(out, GTE, value),
            Test::Masked { mask, value } => {
                and(out, mask);
                compare(out, EQ, value);
            }
            Test::Any(mask) => {
                and(out, mask);
                compare(out, NEQ, &vec![0; mask.len()]);
            }
            Test::OneOf(_) => out.expression("lookup", |out| {
                out.text(1, ANONYMOUS_SET);
                out.number(2, REGISTER);
                out.number(4, set);
            }),
            Test::Noted(name) => out.expression("dynset", |out| {
                out.text(1, name);
                out.number(3, UPDATE);
                out.number(4, REGISTER);
            }),
        }
    }
}

fn compare(out: &mut Attributes<'_>, operation: u32, value: &[u8]) {
    out.expression("cmp", |out| {
        out.number(1, REGISTER);
        out.number(2, operation);
        out.nested(3, |out| out.bytes(1, value));
    });
}

fn and(out: &mut Attributes<'_>, mask: &[u8]) {
    out.expression("bitwise", |out| {
        out.number(1, REGISTER);
        out.number(2, REGISTER);
        out.number(3, mask.len() as u32);
        out.nested(4, |out| out.bytes(1, mask));
        out.nested(5, |out| out.bytes(1, &vec![0; mask.len()]));
    });
}

/// What happens to a packet that a rule matches.
pub(super) enum Statement<'a> {
    /// The table lets it pass.
    Accept,
    Drop,
    /// Another chain decides, in the place of this one.
    Goto(&'a str),
    /// The connection goes to this address instead.
    Dnat(IpAddr),
    /// The connection comes from the address of the interface by which it leaves.
    Masquerade,
}

impl Statement<'_> {
    pub(super) fn encode(&self, out: &mut Attributes<'_>) {
        const DROP: u32 = 0;
        const ACCEPT: u32 = 1;
        const GOTO: u32 = (-4_i32).cast_unsigned();
        match self {
            Self::Accept => verdict(out, ACCEPT, None),
            Self::Drop => verdict(out, DROP, None),
            Self::Goto(chain) => verdict(out, GOTO, Some(chain)),
            Self::Dnat(IpAddr::V4(address)) => dnat(out, 2, &address.octets()),
            Self::Dnat(IpAddr::V6(address)) => dnat(out, 10, &address.octets()),
            Self::Masquerade => out.expression("masq", |_| ()),
        }
    }
}

fn verdict(out: &mut Attributes<'_>, code: u32, chain: Option<&str>) {
    out.expression("immediate", |out| {
        out.number(1, VERDICT);
        out.nested(2, |out| {
            out.nested(2, |out| {
                out.number(1, code);
                if let Some(chain) = chain {
                    out.text(2, chain);
                }
            });
        });
    });
}

/// A new destination; the family is `NFPROTO_*`.
fn dnat(out: &mut Attributes<'_>, family: u32, address: &[u8]) {
    const DESTINATION: u32 = 1;
    out.expression("immediate", |out| {
        out.number(1, REGISTER);
        out.nested(2, |out| out.bytes(1, address));
    });
    out.expression("nat", |out| {
        out.number(1, DESTINATION);
        out.number(2, family);
        out.number(3, REGISTER);
    });
}
