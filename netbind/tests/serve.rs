//! The server on a real tap, frame by frame.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::guest::attach;
use common::server::Running;
use common::{Namespace, PATIENCE, Process, allocated, wait_until};
use dhcproto::v4::{self, DhcpOption};
use dhcproto::{Decodable, Decoder, Encodable};
use netbind::dhcp::SERVER_ID;
use netbind::serve::{Server, Sockets, open};
use netbind::{
    Binding, DhcpOptions, Event, Expect, GuestNetwork, Mac, SetupOptions, TapOptions, setup,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::TempDir;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 2);

/// A bound pod with QEMU's end of its tap in our hands.
struct Bound {
    pod: Namespace,
    guest: GuestNetwork,
    tap: File,
    dir: TempDir,
}

impl Bound {
    fn new() -> Self {
        let pod = Namespace::new("pod");
        let dir = TempDir::new().unwrap();
        pod.ip("link add eth0 type veth peer name far");
        pod.ip("link set far up");
        pod.ip("link set eth0 up");
        pod.ip("addr add 10.1.1.2/24 dev eth0");
        let options = SetupOptions {
            interface: "eth0".to_owned(),
            expect: Expect {
                timeout: Duration::from_secs(10),
                ..Expect::default()
            },
            binding: Binding::default(),
            state_file: dir.path().join("state"),
            tap: TapOptions::default(),
            resolv_conf: dir.path().join("none"),
            hostname: None,
            dhcp: DhcpOptions::default(),
        };
        let (guest, tap) = pod.within(|| (setup(&options).unwrap(), attach("tap0")));
        // Until then the kernel drops what is sent to the guest.
        wait_until("the tap has its carrier", || {
            pod.ip("link show tap0").contains("state UP")
        });
        Self {
            pod,
            guest,
            tap,
            dir,
        }
    }

    fn sockets(&self) -> Sockets {
        self.pod.within(|| open(&self.guest).unwrap())
    }

    fn send(&self, frame: &[u8]) {
        (&self.tap).write_all(frame).unwrap();
    }

    /// The next frame to the guest that is a DHCP reply or an ARP reply; none within a moment.
    fn receive(&self, within: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.tap.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap() == 0 {
                return None;
            }
            let mut frame = vec![0; 2048];
            let length = (&self.tap).read(&mut frame).unwrap();
            frame.truncate(length);
            let dhcp = frame[12..14] == [8, 0] && frame[23] == 17 && frame[34..36] == [0, 67];
            let arp_reply = frame[12..14] == [8, 6] && frame[21] == 2;
            if dhcp || arp_reply {
                return Some(frame);
            }
        }
    }
}

/// A guest's DHCP message in its frame, without a UDP checksum, as with offload.
fn question(guest: &GuestNetwork, to: Mac, options: &[DhcpOption]) -> Vec<u8> {
    let mut message = v4::Message::new_with_id(
        7,
        ADDRESS,
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::UNSPECIFIED,
        &guest.mac.0,
    );
    if !options.contains(&DhcpOption::MessageType(v4::MessageType::Request)) {
        message.set_ciaddr(Ipv4Addr::UNSPECIFIED);
    }
    for option in options {
        message.opts_mut().insert(option.clone());
    }
    let payload = message.to_vec().unwrap();
    let length = payload.len() as u16;
    let mut frame = [&to.0[..], &guest.mac.0, &[8, 0, 0x45, 0]].concat();
    frame.extend((length + 28).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(ADDRESS.octets());
    frame.extend(SERVER_ID.octets());
    frame.extend([0, 68, 0, 67]);
    frame.extend((length + 8).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

fn discover(guest: &GuestNetwork) -> Vec<u8> {
    question(
        guest,
        Mac::BROADCAST,
        &[DhcpOption::MessageType(v4::MessageType::Discover)],
    )
}

/// What RFC 1071's sum of a whole, correct packet is.
fn sum(bytes: &[u8]) -> u32 {
    let mut sum = 0;
    for (i, byte) in bytes.iter().enumerate() {
        sum += u32::from(*byte) << if i % 2 == 0 { 8 } else { 0 };
    }
    (sum & 0xffff) + (sum >> 16)
}

#[test]
fn an_offer_is_a_sound_frame_to_the_guest() {
    let bound = Bound::new();
    let server = Running::start(bound.sockets(), &bound.guest);
    bound.send(&discover(&bound.guest));
    let offer = bound.receive(PATIENCE).unwrap();
    assert_eq!(offer[0..6], bound.guest.mac.0);
    assert_eq!(offer[6..12], bound.guest.server_mac.0);
    assert_eq!(offer[26..30], SERVER_ID.octets());
    assert_eq!(offer[30..34], ADDRESS.octets());
    assert_eq!(sum(&offer[14..34]), 0xffff);
    let udp = &offer[34..];
    let pseudo = [&offer[26..34], &[0, 17], &udp[4..6], udp].concat();
    assert_eq!(sum(&pseudo), 0xffff);
    assert_eq!(usize::from(u16::from_be_bytes([udp[4], udp[5]])), udp.len());
    let message = v4::Message::decode(&mut Decoder::new(&udp[8..])).unwrap();
    assert_eq!(message.opts().msg_type(), Some(v4::MessageType::Offer));
    assert_eq!(
        server.event(),
        Event::Offered {
            client: bound.guest.mac,
            address: ADDRESS.into()
        }
    );
}

#[test]
fn a_renewal_to_the_gateways_mac_is_answered() {
    let bound = Bound::new();
    let server = Running::start(bound.sockets(), &bound.guest);
    let gateway = Mac([2, 0, 0, 0, 0, 0xfe]);
    bound.send(&question(
        &bound.guest,
        gateway,
        &[DhcpOption::MessageType(v4::MessageType::Request)],
    ));
    let ack = bound.receive(PATIENCE).unwrap();
    assert_eq!(ack[0..6], bound.guest.mac.0);
    assert_eq!(
        server.event(),
        Event::Acked {
            client: bound.guest.mac,
            address: ADDRESS.into()
        }
    );
}

#[test]
fn arp_is_answered_for_the_server_and_nobody_else() {
    let bound = Bound::new();
    let _server = Running::start(bound.sockets(), &bound.guest);
    let ask = |target: Ipv4Addr| {
        let mac = bound.guest.mac.0;
        let frame = [
            &Mac::BROADCAST.0[..],
            &mac,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &mac,
            &ADDRESS.octets(),
            &[0; 6],
            &target.octets(),
        ]
        .concat();
        bound.send(&frame);
    };
    // The pod still has its own address, but must not answer for it; nor must we. Questions are
    // answered in their order: the first answer is to the last of them.
    for target in [ADDRESS, Ipv4Addr::new(10, 1, 1, 1), SERVER_ID] {
        ask(target);
    }
    let reply = bound.receive(PATIENCE).unwrap();
    assert_eq!(reply[22..28], bound.guest.server_mac.0);
    assert_eq!(reply[28..32], SERVER_ID.octets());
    assert_eq!(reply[32..38], bound.guest.mac.0);
}

#[test]
fn a_second_server_takes_over_the_same_socket_and_what_waits_in_it() {
    let bound = Bound::new();
    let sockets = bound.sockets();
    let again = Sockets {
        tap: sockets.tap.try_clone().unwrap(),
        uplink: None,
    };
    let first = Running::start(sockets, &bound.guest);
    bound.send(&discover(&bound.guest));
    assert!(bound.receive(PATIENCE).is_some());
    drop(first);
    bound.send(&discover(&bound.guest));
    assert_eq!(bound.receive(Duration::from_millis(200)), None);
    let _second = Running::start(again, &bound.guest);
    assert!(bound.receive(PATIENCE).is_some());
}

#[test]
fn a_tap_that_goes_down_is_a_warning_and_no_end() {
    let bound = Bound::new();
    let server = Running::start(bound.sockets(), &bound.guest);
    bound.pod.ip("link set tap0 down");
    assert!(matches!(server.event(), Event::Warning { .. }));
    bound.pod.ip("link set tap0 up");
    wait_until("the server answers again", || {
        bound.send(&discover(&bound.guest));
        bound.receive(Duration::from_millis(200)).is_some()
    });
}

#[test]
fn a_pipe_that_is_hung_up_stops_the_server() {
    let bound = Bound::new();
    let (stopped, stop) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let mut server = Server::new(bound.sockets(), &bound.guest);
    let thread = thread::spawn(move || server.run(stopped.as_fd(), |_| ()).unwrap());
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn junk_costs_no_memory_and_no_lease() {
    let bound = Bound::new();
    let mut serve = std::process::Command::new(common::NETBIND);
    serve
        .arg("serve")
        .arg("--netns")
        .arg(bound.pod.path())
        .arg("--state")
        .arg(bound.dir.path().join("state"));
    let serve = Process::start(serve.stdout(Stdio::null()));
    let answered = || {
        bound.send(&discover(&bound.guest));
        bound.receive(Duration::from_millis(500)).is_some()
    };
    wait_until("the server answers", answered);
    let before = allocated(&serve);
    let whole = discover(&bound.guest);
    // Each message cut and damaged in every place, and floods of good ones.
    for round in 0..20_u8 {
        for at in 0..whole.len() {
            let mut frame = whole.clone();
            frame[at] = frame[at].wrapping_add(round.wrapping_mul(13) | 1);
            bound.send(&frame);
            bound.send(&whole[..at.max(14)]);
            bound.send(&whole);
        }
    }
    wait_until("the server answers after the flood", answered);
    let grown = allocated(&serve).saturating_sub(before);
    assert!(grown <= 16, "its memory grew by {grown} pages");
}
