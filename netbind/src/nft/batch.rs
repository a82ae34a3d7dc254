//! A netlink transaction: all of it happens, or nothing.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::expression::{Match, Statement};
use crate::netlink;

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
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFPROTO_UNSPEC: u8 = 0;
/// nlmsghdr and nfgenmsg.
const HEADERS: usize = 20;
/// Elements of a set in one message, whose list has a length of 16 bits.
const ELEMENTS: usize = 1024;

/// Whose packets a table sees (`NFPROTO_*`).
#[derive(Clone, Copy)]
pub(super) enum Family {
    /// IPv4 and IPv6 packets of the namespace.
    Inet = 1,
    /// Frames that cross a bridge.
    Bridge = 7,
}

/// Where a base chain hooks in, and when among others there: the lower the earlier.
pub(super) struct Hook {
    pub(super) kind: Kind,
    pub(super) place: Place,
    pub(super) priority: i32,
}

/// What a base chain is for.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Filter,
    /// Sees the first packet of each connection.
    Nat,
}

/// Places on a packet's way (`NF_INET_*`, and the same as `NF_BR_*`).
#[derive(Clone, Copy)]
pub(super) enum Place {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// Makes a table, in the place of one that a killed set-up may have left.
///
/// Such a one is the exception. Deleting it in the same batch costs 5 to 12 ms, found there or not:
/// the kernel lets the process that closes the socket wait for what was deleted.
pub(super) fn install(
    family: Family,
    table: &str,
    fill: impl Fn(&mut Batch<'_>),
) -> io::Result<()> {
    let mut fresh = Batch::new(family, table);
    fresh.make_table();
    fill(&mut fresh);
    match fresh.commit() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut again = Batch::new(family, table);
            again.clear_table();
            again.make_table();
            fill(&mut again);
            again.commit()
        }
        other => other,
    }
}

/// Removes a table, if there is one.
pub(super) fn remove(family: Family, table: &str) -> io::Result<()> {
    let mut batch = Batch::new(family, table);
    batch.clear_table();
    batch.commit()
}

/// Changes to one table: messages between a begin and an end, sent at once.
pub(super) struct Batch<'a> {
    family: Family,
    table: &'a str,
    bytes: Vec<u8>,
    sequence: u32,
    sets: u32,
}

impl<'a> Batch<'a> {
    fn new(family: Family, table: &'a str) -> Self {
        let mut batch = Self {
            family,
            table,
            bytes: Vec::with_capacity(8192),
            sequence: 0,
            sets: 0,
        };
        batch.limit(NFNL_MSG_BATCH_BEGIN);
        batch
    }

    /// Deletes the table, whether it exists or not: made first, it is there to be deleted.
    fn clear_table(&mut self) {
        self.nft(NFT_MSG_NEWTABLE, NLM_F_CREATE, |_| ());
        self.nft(NFT_MSG_DELTABLE, 0, |_| ());
    }

    /// Makes the table; one of that name is an error.
    fn make_table(&mut self) {
        self.nft(NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, |_| ());
    }

    /// Makes a chain that packets come to by themselves.
    pub(super) fn base_chain(&mut self, name: &str, hook: &Hook) {
        self.nft(NFT_MSG_NEWCHAIN, NLM_F_CREATE, |out| {
            out.text(3, name);
            out.nested(4, |out| {
                out.number(1, hook.place as u32);
                out.number(2, hook.priority.cast_unsigned());
            });
            out.text(
                7,
                match hook.kind {
                    Kind::Filter => "filter",
                    Kind::Nat => "nat",
                },
            );
        });
    }

    /// Makes chains that rules send packets to.
    pub(super) fn chains(&mut self, names: &[&str]) {
        for name in names {
            self.nft(NFT_MSG_NEWCHAIN, NLM_F_CREATE, |out| out.text(3, name));
        }
    }

    /// Makes a set that rules put keys into, by [`noted`](super::expression::noted).
    pub(super) fn recent(&mut self, set: &Recent) {
        const EVAL: u32 = 0x20;
        const TIMEOUT: u32 = 0x10;
        let id = self.next_set();
        self.nft(NFT_MSG_NEWSET, NLM_F_CREATE, |out| {
            out.text(2, set.name);
            out.number(3, EVAL | TIMEOUT);
            out.number(4, set.kind);
            out.number(5, set.length);
            out.nested(9, |out| out.number(1, set.size));
            out.number(10, id);
            out.long(11, set.timeout.as_millis() as u64);
        });
    }

    /// Appends a rule to a chain: if all matches hold, the statement is performed.
    pub(super) fn rule(&mut self, chain: &str, matches: &[Match], statement: &Statement<'_>) {
        let sets: Vec<_> = matches
            .iter()
            .map(|one| one.elements().map(|list| self.anonymous(one, list)))
            .collect();
        // In the order in which they are written.
        self.nft(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |out| {
            out.text(2, chain);
            out.nested(4, |out| {
                for (one, set) in matches.iter().zip(sets) {
                    one.encode(out, set.unwrap_or(0));
                }
                statement.encode(out);
            });
        });
    }

    /// Makes the set that a rule looks up; its number in this batch.
    fn anonymous(&mut self, one: &Match, elements: &[Vec<u8>]) -> u32 {
        const ANONYMOUS: u32 = 0x1;
        const CONSTANT: u32 = 0x2;
        let id = self.next_set();
        self.nft(NFT_MSG_NEWSET, NLM_F_CREATE, |out| {
            out.text(2, ANONYMOUS_SET);
            out.number(3, ANONYMOUS | CONSTANT);
            out.number(4, one.field.kind);
            out.number(5, one.field.length);
            out.nested(9, |out| out.number(1, elements.len() as u32));
            out.number(10, id);
        });
        for some in elements.chunks(ELEMENTS) {
            self.nft(NFT_MSG_NEWSETELEM, NLM_F_CREATE, |out| {
                out.text(2, ANONYMOUS_SET);
                out.number(4, id);
                out.nested(3, |out| {
                    for element in some {
                        out.nested(1, |out| out.nested(1, |out| out.bytes(1, element)));
                    }
                });
            });
        }
        id
    }

    fn next_set(&mut self) -> u32 {
        self.sets += 1;
        self.sets
    }

    /// A message about the table, whose name is the first attribute of each of them.
    fn nft(&mut self, message: u16, flags: u16, attributes: impl FnOnce(&mut Attributes<'_>)) {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | message;
        let table = self.table;
        self.message(kind, flags, self.family as u8, 0, |out| {
            out.text(1, table);
            attributes(out);
        });
    }

    /// The transaction's begin or end.
    fn limit(&mut self, kind: u16) {
        self.message(kind, 0, NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES, |_| ());
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
        self.limit(NFNL_MSG_BATCH_END);
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

/// The name by which the kernel is asked to find one itself.
pub(super) const ANONYMOUS_SET: &str = "__set%d";

/// A set of keys lately seen.
pub(super) struct Recent {
    pub(super) name: &'static str,
    /// nft's number of the keys' type.
    pub(super) kind: u32,
    /// The keys' length in bytes.
    pub(super) length: u32,
    /// So many at most.
    pub(super) size: u32,
    /// A key not seen for so long is forgotten.
    pub(super) timeout: Duration,
}

/// Writes netlink attributes: length, kind, value, padding to four bytes.
pub(super) struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend((value.len() as u16 + 4).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let mut terminated = value.as_bytes().to_vec();
        terminated.push(0);
        self.bytes(kind, &terminated);
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn long(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn nested(&mut self, kind: u16, inner: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.bytes(kind | NLA_F_NESTED, &[]);
        inner(&mut Attributes { bytes: self.bytes });
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// One element of a rule's list of expressions.
    pub(super) fn expression(&mut self, name: &str, data: impl FnOnce(&mut Attributes<'_>)) {
        self.nested(1, |out| {
            out.text(1, name);
            out.nested(2, data);
        });
    }
}
