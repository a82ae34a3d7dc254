//! The bridge's packet filter, in nf_tables' own netlink protocol.
//!
//! Three fixed chains do not need the `nft` program: one netlink batch is one transaction and one
//! kernel call, and asks nothing of the image. What it makes is what this would make:
//!
//! ```text
//! table bridge k6t-eth0 {
//!     chain reflected { type filter hook prerouting priority -300; iifname "eth0" ether saddr GUEST drop }
//!     chain local     { type filter hook input priority 0; iifname "eth0" drop; iifname "tap0" drop }
//!     chain dhcp      { type filter hook forward priority 0;
//!                       iifname "eth0" udp dport 67-68 drop; iifname "tap0" udp dport 67-68 drop }
//! }
//! ```
//!
//! Message and attribute numbers are those of `linux/netfilter/nf_tables.h`.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::netlink;
use crate::plan::Filter;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;
const NLMSG_ERROR: u16 = 2;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_BRIDGE: u8 = 7;
/// nlmsghdr and nfgenmsg.
const HEADERS: usize = 20;

/// Makes the table, in the place of one that a killed set-up may have left.
///
/// Such a one is the exception. Deleting it in the same batch costs 5 to 12 ms, found there or not:
/// the kernel lets the process that closes the socket wait for what was deleted.
pub(crate) fn install(filter: &Filter) -> io::Result<()> {
    let mut fresh = Batch::new();
    fresh.new_table(&filter.table);
    match fill(fresh, filter) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut again = Batch::new();
            again.clear_table(&filter.table);
            again.new_table(&filter.table);
            fill(again, filter)
        }
        other => other,
    }
}

fn fill(mut batch: Batch, filter: &Filter) -> io::Result<()> {
    let table = filter.table.as_str();

    let (interface, tap) = (Match::Port(&filter.interface), Match::Port(&filter.tap));
    batch.chain(
        table,
        "reflected",
        Hook {
            number: 0,
            priority: -300,
        },
    );
    batch.drop_rule(
        table,
        "reflected",
        &[interface, Match::Source(filter.guest.0)],
    );
    batch.chain(
        table,
        "local",
        Hook {
            number: 1,
            priority: 0,
        },
    );
    batch.chain(
        table,
        "dhcp",
        Hook {
            number: 2,
            priority: 0,
        },
    );
    for port in [interface, tap] {
        batch.drop_rule(table, "local", &[port]);
        batch.drop_rule(table, "dhcp", &[port, Match::Udp, Match::DhcpPorts]);
    }
    batch.commit()
}

/// Removes the table, if there is one.
pub(crate) fn remove(table: &str) -> io::Result<()> {
    let mut batch = Batch::new();
    batch.clear_table(table);
    batch.commit()
}

/// One condition of a rule.
#[derive(Clone, Copy)]
enum Match<'a> {
    /// The frame entered by this port.
    Port(&'a str),
    /// The frame's source MAC.
    Source([u8; 6]),
    /// IPv4 or IPv6, and UDP.
    Udp,
    /// Destination port 67 or 68.
    DhcpPorts,
}

/// Where a chain hooks in: `NF_BR_*` and the order at that place.
struct Hook {
    number: u32,
    priority: i32,
}

/// A transaction: messages between a begin and an end, sent at once.
struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Batch {
    fn new() -> Self {
        let mut batch = Self {
            bytes: Vec::with_capacity(2048),
            sequence: 0,
        };
        batch.message(
            NFNL_MSG_BATCH_BEGIN,
            0,
            NFPROTO_UNSPEC,
            NFNL_SUBSYS_NFTABLES,
            |_| (),
        );
        batch
    }

    /// Deletes a table, whether it exists or not: made first, it is there to be deleted.
    fn clear_table(&mut self, name: &str) {
        self.table(NFT_MSG_NEWTABLE, name);
        self.table(NFT_MSG_DELTABLE, name);
    }

    /// Makes a table; one of that name is an error.
    fn new_table(&mut self, name: &str) {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE;
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.message(kind, flags, NFPROTO_BRIDGE, 0, |out| out.text(1, name));
    }

    fn table(&mut self, message: u16, name: &str) {
        self.nft(message, |out| out.text(1, name));
    }

    fn chain(&mut self, table: &str, name: &str, hook: Hook) {
        self.nft(NFT_MSG_NEWCHAIN, |out| {
            out.text(1, table);
            out.text(3, name);
            out.nested(4, |out| {
                out.number(1, hook.number);
                out.number(2, hook.priority.cast_unsigned());
            });
            out.text(7, "filter");
        });
    }

    fn drop_rule(&mut self, table: &str, chain: &str, matches: &[Match<'_>]) {
        self.nft(NFT_MSG_NEWRULE, |out| {
            out.text(1, table);
            out.text(2, chain);
            out.nested(4, |out| {
                for one in matches {
                    one.encode(out);
                }
                out.expression("immediate", |out| {
                    out.number(1, 0);
                    out.nested(2, |out| out.nested(2, |out| out.number(1, 0)));
                });
            });
        });
    }

    fn nft(&mut self, message: u16, attributes: impl FnOnce(&mut Attributes<'_>)) {
        let flags = match message {
            NFT_MSG_DELTABLE => 0,
            // Rules in the order in which they are written.
            NFT_MSG_NEWRULE => NLM_F_CREATE | NLM_F_APPEND,
            _ => NLM_F_CREATE,
        };
        self.message(
            NFNL_SUBSYS_NFTABLES << 8 | message,
            flags,
            NFPROTO_BRIDGE,
            0,
            attributes,
        );
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        self.sequence += 1;
        // nlmsghdr: the length is filled in below.
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        // nfgenmsg: family, version 0, resource.
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        attributes(&mut Attributes {
            bytes: &mut self.bytes,
        });
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Sends the batch. The kernel performs all of it or nothing.
    fn commit(mut self) -> io::Result<()> {
        // The last message that changes something is acknowledged when all have been performed.
        let last = self.sequence;
        self.acknowledge_last();
        self.message(
            NFNL_MSG_BATCH_END,
            0,
            NFPROTO_UNSPEC,
            NFNL_SUBSYS_NFTABLES,
            |_| (),
        );
        let socket = netlink::connect(NETLINK_NETFILTER)?;
        socket.send(&self.bytes, 0)?;
        loop {
            let (datagram, _) = socket.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while let Some((header, after)) = rest.split_first_chunk::<HEADERS>() {
                let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
                let length = u32::from_ne_bytes(word(0)) as usize;
                let kind = u16::from_ne_bytes([header[4], header[5]]);
                let sequence = u32::from_ne_bytes(word(8));
                if kind == NLMSG_ERROR {
                    match i32::from_ne_bytes(word(16)) {
                        0 if sequence == last => return Ok(()),
                        0 => {}
                        error => return Err(io::Error::from_raw_os_error(error.saturating_neg())),
                    }
                }
                let skip = length.next_multiple_of(4).saturating_sub(HEADERS);
                rest = after.get(skip..).unwrap_or_default();
            }
        }
    }

    fn acknowledge_last(&mut self) {
        let mut at = 0;
        let mut last = 0;
        while let Some(length) = self.bytes.get(at..at + 4) {
            last = at;
            let length = u32::from_ne_bytes([length[0], length[1], length[2], length[3]]);
            at += length as usize;
        }
        // The flags' low byte, in either byte order, holds NLM_F_REQUEST already.
        let flags = u16::from_ne_bytes([self.bytes[last + 6], self.bytes[last + 7]]) | NLM_F_ACK;
        self.bytes[last + 6..last + 8].copy_from_slice(&flags.to_ne_bytes());
    }
}

impl Match<'_> {
    fn encode(self, out: &mut Attributes<'_>) {
        const REGISTER: u32 = 1;
        const META_IIFNAME: u32 = 6;
        const META_L4PROTO: u32 = 16;
        const LINK_HEADER: u32 = 0;
        const TRANSPORT_HEADER: u32 = 2;
        const EQ: u32 = 0;
        const LTE: u32 = 3;
        const GTE: u32 = 5;
        let meta = |out: &mut Attributes<'_>, key| {
            out.expression("meta", |out| {
                out.number(2, key);
                out.number(1, REGISTER);
            });
        };
        let payload = |out: &mut Attributes<'_>, base, offset, length| {
            out.expression("payload", |out| {
                out.number(1, REGISTER);
                out.number(2, base);
                out.number(3, offset);
                out.number(4, length);
            });
        };
        let compare = |out: &mut Attributes<'_>, operation, value: &[u8]| {
            out.expression("cmp", |out| {
                out.number(1, REGISTER);
                out.number(2, operation);
                out.nested(3, |out| out.bytes(1, value));
            });
        };
        match self {
            Match::Port(name) => {
                // Compared with its end: the whole name, not a prefix of it.
                let mut whole = [0; 16];
                for (to, from) in whole[..15].iter_mut().zip(name.bytes()) {
                    *to = from;
                }
                meta(out, META_IIFNAME);
                compare(out, EQ, &whole);
            }
            Match::Source(mac) => {
                payload(out, LINK_HEADER, 6, 6);
                compare(out, EQ, &mac);
            }
            Match::Udp => {
                meta(out, META_L4PROTO);
                compare(out, EQ, &[17]);
            }
            Match::DhcpPorts => {
                payload(out, TRANSPORT_HEADER, 2, 2);
                compare(out, GTE, &67_u16.to_be_bytes());
                compare(out, LTE, &68_u16.to_be_bytes());
            }
        }
    }
}

/// Writes netlink attributes: length, kind, value, padding to four bytes.
struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend((value.len() as u16 + 4).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn text(&mut self, kind: u16, value: &str) {
        let mut terminated = value.as_bytes().to_vec();
        terminated.push(0);
        self.bytes(kind, &terminated);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn nested(&mut self, kind: u16, inner: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.bytes(kind | NLA_F_NESTED, &[]);
        inner(&mut Attributes { bytes: self.bytes });
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// One element of a rule's list of expressions.
    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Attributes<'_>)) {
        self.nested(1, |out| {
            out.text(1, name);
            out.nested(2, data);
        });
    }
}
