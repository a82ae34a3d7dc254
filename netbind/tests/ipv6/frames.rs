//! The server's answers frame by frame, at QEMU's end of the tap.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv6Addr;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dhcproto::v6::{self, DhcpOption};
use dhcproto::{Decodable, Decoder, Encodable};
use netbind::Mac;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::common::guest::attach;
use crate::common::server::Running;
use crate::common::{PATIENCE, Process, allocated, success, wait_until};
use crate::{ADDRESS, Bound, NODE};

#[test]
fn a_solicitation_is_answered_at_once_and_to_one() {
    let bound = Bound::by_link_local();
    let mut wire = Wire::of(&bound);
    let _server = Running::start(bound.sockets(), &bound.guest);
    // What comes unasked is to all; it comes once, so that nothing else can be what is awaited.
    let unasked = wire.receive(|frame| frame[54] == 134).unwrap();
    assert_eq!(unasked[..6], [0x33, 0x33, 0, 0, 0, 1]);
    let guest = bound.guest.mac;
    wire.send(&icmpv6(
        guest,
        guest.link_local(),
        "ff02::2",
        &[133, 0, 0, 0, 0, 0, 0, 0],
    ));
    let asked = wire.receive(|frame| frame[54] == 134).unwrap();
    assert_eq!(asked[..6], guest.0);
    assert_eq!(asked[6..12], bound.guest.server_mac.0);
    assert_eq!(asked[22..38], bound.router().octets());
    assert_eq!(asked[38..54], guest.link_local().octets());
    // Of another station: nothing. Then of none, a second too early, and all are told.
    let other = Mac([2, 0, 0, 0, 0x99, 0x99]);
    wire.send(&icmpv6(
        other,
        other.link_local(),
        "ff02::2",
        &[133, 0, 0, 0, 0, 0, 0, 0],
    ));
    wire.send(&icmpv6(
        guest,
        Ipv6Addr::UNSPECIFIED,
        "ff02::2",
        &[133, 0, 0, 0, 0, 0, 0, 0],
    ));
    let all = wire.receive(|frame| frame[54] == 134).unwrap();
    assert_eq!(all[..6], [0x33, 0x33, 0, 0, 0, 1]);
}

#[test]
fn a_dhcpv6_question_is_answered_to_where_it_came_from() {
    let bound = Bound::by_link_local();
    let mut wire = Wire::of(&bound);
    let _server = Running::start(bound.sockets(), &bound.guest);
    let mut solicit = v6::Message::new(v6::MessageType::Solicit);
    let guest = bound.guest.mac;
    let options = solicit.opts_mut();
    options.insert(DhcpOption::ClientId([&[0, 3, 0, 1], &guest.0[..]].concat()));
    options.insert(DhcpOption::ElapsedTime(0));
    options.insert(DhcpOption::IANA(v6::IANA {
        id: 1,
        t1: 0,
        t2: 0,
        opts: v6::DhcpOptions::new(),
    }));
    wire.send(&dhcpv6(guest, &solicit.to_vec().unwrap()));
    let reply = wire.receive(|frame| frame[20] == 17).unwrap();
    assert_eq!(reply[..6], guest.0);
    assert_eq!(reply[6..12], bound.guest.server_mac.0);
    assert_eq!(reply[22..38], bound.guest.server_mac.link_local().octets());
    assert_eq!(reply[38..54], guest.link_local().octets());
    assert_eq!(reply[54..58], [2, 35, 2, 34]);
    assert_eq!(sum(&reply[14..]), 0xffff);
    let message = v6::Message::decode(&mut Decoder::new(&reply[62..])).unwrap();
    assert_eq!(message.msg_type(), v6::MessageType::Advertise);
    assert_eq!(message.xid(), solicit.xid());
    let Some(DhcpOption::IANA(ia)) = message.opts().get(v6::OptionCode::IANA) else {
        panic!("no address: {message:?}");
    };
    let Some(DhcpOption::IAAddr(address)) = ia.opts.get(v6::OptionCode::IAAddr) else {
        panic!("no address: {ia:?}");
    };
    assert_eq!(address.addr.to_string(), ADDRESS);
}

#[test]
fn a_gateway_is_not_heard_in_a_vlan() {
    let bound = Bound::by_global();
    let mut wire = Wire::of(&bound);
    let _server = Running::start(bound.sockets(), &bound.guest);
    let node = &bound.pod.node;
    node.ip("link add br0 type bridge mcast_snooping 0");
    node.ip("tuntap add gateway0 mode tap");
    for link in ["pod0 master br0", "gateway0 master br0", "br0"] {
        node.ip(&format!("link set {link} up"));
    }
    let gateway = Wire(node.within(|| attach("gateway0")));
    wait_until("the gateway's bridge forwards", || {
        let mut state = node.command("bridge");
        let shown = success(state.args(["link", "show", "dev", "gateway0"]));
        shown.contains("state forwarding")
    });
    let here = |mac: Mac| {
        let address: Ipv6Addr = NODE.parse().unwrap();
        let message = [
            &[136, 0, 0, 0, 0x20, 0, 0, 0][..],
            &address.octets(),
            &[2, 1],
            &mac.0,
        ];
        icmpv6(mac, address, "ff02::1", &message.concat())
    };
    let [stranger, moved] = [0x66, 0xfe].map(|last| Mac([2, 0, 0, 0, 0, last]));
    let elsewhere = here(stranger);
    let tagged = |frame: &[u8], vlan| [&frame[..12], &[0x81, 0, 0, vlan], &frame[12..]].concat();
    gateway.send(&tagged(&elsewhere, 7));
    // Number 0 is no VLAN.
    gateway.send(&tagged(&here(moved), 0));
    let router = bound.router().octets();
    let told = wire.receive(|frame| frame[54] == 136 && frame[22..38] == router);
    assert_eq!(told.unwrap()[80..86], moved.0);
}

#[test]
fn a_flood_costs_neither_memory_nor_the_processor_nor_the_answer() {
    let bound = Bound::by_global();
    let mut wire = Wire::of(&bound);
    let serve = Process::start(bound.pod.netbind(&["serve"]).stdout(Stdio::null()));
    let read =
        |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", serve.0.id())).unwrap();
    let busy = || {
        let stat = read("stat");
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
        // User and system time, in hundredths of a second.
        let ticks = fields
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().unwrap());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    };
    let guest = bound.guest.mac;
    let source = guest.link_local();
    let rs = icmpv6(guest, source, "ff02::2", &[133, 0, 0, 0, 0, 0, 0, 0]);
    let about = |kind: u8, target: Ipv6Addr| {
        let payload = [
            &[kind, 0, 0, 0, 0, 0, 0, 0][..],
            &target.octets(),
            &[1, 1],
            &guest.0,
        ]
        .concat();
        icmpv6(guest, source, "ff02::1", &payload)
    };
    let mut long = [133, 0, 0, 0, 0, 0, 0, 0].to_vec();
    long.extend([14, 1, 0, 0, 0, 0, 0, 0].repeat(100));
    let flood = [
        rs.clone(),
        about(135, bound.router()),
        about(135, source),
        about(136, bound.router()),
        icmpv6(guest, source, "ff02::2", &long),
        dhcpv6(guest, &[1, 0, 0, 1, 0, 1, 0, 4, 0, 3, 0, 1]),
        rs[..60].to_vec(),
    ];
    let mut answered = || {
        wire.send(&rs);
        wire.receive(|frame| frame[54] == 134).is_some()
    };
    wait_until("the server answers", &mut answered);
    let (pages, cpu) = (allocated(&serve), busy());
    let (started, mut sent) = (Instant::now(), 0_u64);
    // Many, however slow the machine is.
    while started.elapsed() < Duration::from_secs(3) || sent < 60_000 {
        for frame in &flood {
            wire.send(frame);
            sent += 1;
        }
    }
    let (wall, spent) = (started.elapsed(), busy() - cpu);
    assert!(
        spent < wall / 2,
        "{spent:?} of {wall:?} were spent on {sent} frames"
    );
    wire.drain();
    let mut answered = || {
        wire.send(&rs);
        wire.receive(|frame| frame[54] == 134).is_some()
    };
    wait_until("the server answers after the flood", &mut answered);
    let grown = allocated(&serve).saturating_sub(pages);
    assert!(grown <= 16, "its memory grew by {grown} pages");
}

/// QEMU's end of the tap, frame by frame.
struct Wire(File);

impl Wire {
    fn of(bound: &Bound) -> Self {
        let tap = bound.pod.namespace.within(|| attach("tap0"));
        // Until then the kernel drops what is sent to the guest.
        wait_until("the tap has its carrier", || {
            bound
                .pod
                .namespace
                .ip("link show tap0")
                .contains("state UP")
        });
        Self(tap)
    }

    fn send(&self, frame: &[u8]) {
        (&self.0).write_all(frame).unwrap();
    }

    /// The next frame of IPv6 without extensions to the guest that is awaited; none within a while.
    fn receive(&mut self, awaited: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let frame = self.next(left)?;
            if frame.len() > 60 && frame[12..14] == [0x86, 0xdd] && awaited(&frame) {
                return Some(frame);
            }
        }
    }

    /// Throws away what waits.
    fn drain(&mut self) {
        while self.next(Duration::ZERO).is_some() {}
    }

    fn next(&mut self, within: Duration) -> Option<Vec<u8>> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::try_from(within).unwrap()).unwrap() == 0 {
            return None;
        }
        let mut frame = vec![0; 2048];
        let length = self.0.read(&mut frame).unwrap();
        frame.truncate(length);
        Some(frame)
    }
}

/// An IPv6 frame of the guest to a group, with the sum of its payload at an offset.
fn frame(
    from: Mac,
    source: Ipv6Addr,
    to: &str,
    protocol: u8,
    payload: &[u8],
    sum_at: usize,
) -> Vec<u8> {
    let to: Ipv6Addr = to.parse().unwrap();
    let group = to.octets();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([protocol, 255]);
    packet.extend(source.octets());
    packet.extend(group);
    packet.extend(payload);
    let sum = !(sum(&packet) as u16);
    packet[40 + sum_at..42 + sum_at].copy_from_slice(&sum.to_be_bytes());
    [
        &[0x33, 0x33][..],
        &group[12..],
        &from.0,
        &[0x86, 0xdd],
        &packet,
    ]
    .concat()
}

fn icmpv6(from: Mac, source: Ipv6Addr, to: &str, payload: &[u8]) -> Vec<u8> {
    frame(from, source, to, 58, payload, 2)
}

/// A DHCPv6 message of a client to all servers.
fn dhcpv6(from: Mac, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16 + 8).to_be_bytes();
    let udp = [&[2, 34, 2, 35][..], &length, &[0, 0], payload].concat();
    frame(from, from.link_local(), "ff02::1:2", 17, &udp, 6)
}

/// RFC 1071's sum of an IPv6 packet's payload and pseudo header: all ones if it holds the right sum.
fn sum(packet: &[u8]) -> u32 {
    let length = packet.len() as u32 - 40;
    let mut sum = length + u32::from(packet[6]);
    for (i, byte) in packet[8..].iter().enumerate() {
        sum += u32::from(*byte) << if i % 2 == 0 { 8 } else { 0 };
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
