//! Which frames the sockets receive: classic BPF (packet(7), linux/filter.h). What nobody will
//! answer is dropped in the kernel, in the sender's time.

use socket2::SockFilter;

use crate::mac::Mac;

/// Offsets that are no bytes of the frame: `SKF_AD_OFF` and what follows it.
const PACKET_TYPE: u32 = (-0x1000_i32 + 4).cast_unsigned();
const VLAN_TAG: u32 = (-0x1000_i32 + 44).cast_unsigned();
const VLAN_TAG_PRESENT: u32 = (-0x1000_i32 + 48).cast_unsigned();
/// A tag's number of the VLAN; 0 is none, and the tag only tells a priority (IEEE 802.1Q).
const VLAN: u32 = 0xfff;
/// `skb->pkt_type` of what this machine sends.
const PACKET_OUTGOING: u32 = 4;

const ARP: u32 = libc::ETH_P_ARP as u32;
const IPV4: u32 = libc::ETH_P_IP as u32;
const IPV6: u32 = libc::ETH_P_IPV6 as u32;
const UDP: u32 = libc::IPPROTO_UDP as u32;
const ICMPV6: u32 = libc::IPPROTO_ICMPV6 as u32;

/// Where a jump leads.
#[derive(Clone, Copy)]
enum To {
    Next,
    Step(usize),
    Accept,
    Drop,
}
use To::{Accept, Drop, Next};

/// One instruction; all compare with what the last load read.
#[derive(Clone, Copy)]
enum Step {
    Byte(u32),
    Half(u32),
    Word(u32),
    /// Remembers the length of the IPv4 header at this offset.
    HeaderLength(u32),
    /// A half word behind that header.
    HalfBehind(u32),
    Equal(u32, To, To),
    /// Whether any bit of the mask is set.
    Any(u32, To, To),
}
use Step::{Any, Byte, Equal, Half, HalfBehind, HeaderLength, Word};

/// What the guest may ask: ARP, UDP to port 67 over IPv4 and to port 547 over IPv6, solicitations.
/// Not what is sent to it, nor what another station behind the tap says, nor what is of a VLAN.
pub(super) fn questions(guest: Mac) -> Vec<SockFilter> {
    let [a, b, c, d, e, f] = guest.0;
    program(&[
        /* 0 */ Word(PACKET_TYPE),
        /* 1 */ Equal(PACKET_OUTGOING, Drop, Next),
        /* 2 */ Word(VLAN_TAG_PRESENT),
        /* 3 */ Equal(0, Next, Drop),
        /* 4 */ Word(6),
        /* 5 */ Equal(u32::from_be_bytes([a, b, c, d]), Next, Drop),
        /* 6 */ Half(10),
        /* 7 */ Equal(u32::from_be_bytes([0, 0, e, f]), Next, Drop),
        /* 8 */ Half(12),
        /* 9 */ Equal(ARP, Accept, Next),
        /* 10 */ Equal(IPV4, Next, To::Step(18)),
        /* 11 */ Byte(23),
        /* 12 */ Equal(UDP, Next, Drop),
        /* 13: no fragments */ Half(20),
        /* 14 */ Any(0x3fff, Drop, Next),
        /* 15 */ HeaderLength(14),
        /* 16 */ HalfBehind(16),
        /* 17 */ Equal(67, Accept, Drop),
        /* 18 */ Equal(IPV6, Next, Drop),
        /* 19 */ Byte(20),
        /* 20 */ Equal(ICMPV6, Next, To::Step(24)),
        /* 21 */ Byte(54),
        /* 22 */ Equal(133, Accept, Next),
        /* 23 */ Equal(135, Accept, Drop),
        /* 24 */ Equal(UDP, Next, Drop),
        /* 25 */ Half(56),
        /* 26 */ Equal(547, Accept, Drop),
    ])
}

/// What a gateway may say: neighbour advertisements, not of a VLAN.
pub(super) fn advertisements() -> Vec<SockFilter> {
    program(&[
        /* 0 */ Word(PACKET_TYPE),
        /* 1 */ Equal(PACKET_OUTGOING, Drop, Next),
        /* 2 */ Word(VLAN_TAG_PRESENT),
        /* 3 */ Equal(0, To::Step(6), Next),
        /* 4 */ Word(VLAN_TAG),
        /* 5 */ Any(VLAN, Drop, Next),
        /* 6 */ Half(12),
        /* 7 */ Equal(IPV6, Next, Drop),
        /* 8 */ Byte(20),
        /* 9 */ Equal(ICMPV6, Next, Drop),
        /* 10 */ Byte(54),
        /* 11 */ Equal(136, Accept, Drop),
    ])
}

/// Resolves the jumps. The kernel refuses a program with one that leads out of it.
fn program(steps: &[Step]) -> Vec<SockFilter> {
    let (accept, drop) = (steps.len(), steps.len() + 1);
    let instruction = |code: u32, yes, no, value| SockFilter::new(code as u16, yes, no, value);
    let compiled = steps.iter().enumerate().map(|(index, step)| {
        let load = |size: u32, mode: u32, at| instruction(libc::BPF_LD | size | mode, 0, 0, at);
        let jump = |test: u32, value, yes, no| {
            // Programs are far shorter than 256 steps.
            let by = |to| match to {
                Next => 0,
                To::Step(at) => (at - index - 1) as u8,
                Accept => (accept - index - 1) as u8,
                Drop => (drop - index - 1) as u8,
            };
            instruction(libc::BPF_JMP | test | libc::BPF_K, by(yes), by(no), value)
        };
        match *step {
            Byte(at) => load(libc::BPF_B, libc::BPF_ABS, at),
            Half(at) => load(libc::BPF_H, libc::BPF_ABS, at),
            Word(at) => load(libc::BPF_W, libc::BPF_ABS, at),
            HeaderLength(at) => instruction(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, at),
            HalfBehind(at) => load(libc::BPF_H, libc::BPF_IND, at),
            Equal(value, yes, no) => jump(libc::BPF_JEQ, value, yes, no),
            Any(mask, yes, no) => jump(libc::BPF_JSET, mask, yes, no),
        }
    });
    let end = |length| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, length);
    compiled.chain([end(u32::MAX), end(0)]).collect()
}
