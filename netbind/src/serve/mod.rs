//! Carries packets between the guest's tap and the pure servers.
//!
//! ```text
//! tap     ARP             -> arp
//!         DHCP            -> ipv4 (dhcp)  \
//!         RS, NS, DHCPv6  -> ipv6 (ndp, dhcp6) -> tap
//!                                          \-> uplink: NS for the gateway
//! uplink  NA of the gateway  -> ipv6 -> tap
//! time    unsolicited RA     -> ipv6 -> tap
//! ```
//!
//! A packet socket on the tap, below the bridge: it needs no address, sees what the guest sends
//! even to its gateway's MAC (unicast renewals), writes whole checksums, and nothing of it can
//! leave by the pod's own interface. [`open`] needs CAP_NET_RAW; a [`Server`] needs nothing but the
//! descriptors, so that an unprivileged worker can be handed them, and after a crash its successor
//! the same ones. What the guest sent in between waits in the socket.

mod arp;
mod event;
mod filter;
mod frame;
mod ipv4;
mod ipv6;
mod port;
mod socket;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::pace::Pace;
use crate::plan::GuestNetwork;
use arp::Arp;
use frame::{Frame, Kind};
use ipv4::Ipv4;
use ipv6::Ipv6;
use port::{PACKET, Port};

pub use event::Event;
pub use socket::{Sockets, open};

/// Events told at once before they are paced: far more than any client that behaves causes.
const EVENT_BURST: u32 = 32;
/// After a burst, one event in this time.
const EVENT_INTERVAL: Duration = Duration::from_millis(250);

/// What comes of a frame: at most one frame for each side, and something to tell.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    to_guest: Option<Vec<u8>>,
    to_network: Option<Vec<u8>>,
    event: Option<Event>,
}

/// The guest's DHCP and DHCPv6 server, what advertises its router, and what answers for stations
/// that are silent.
#[derive(Debug)]
pub struct Server {
    tap: Port,
    uplink: Option<Port>,
    arp: Arp,
    ipv4: Option<Ipv4>,
    ipv6: Option<Ipv6>,
    events: Pace,
    /// The moment from which all times count.
    started: Instant,
}

impl Server {
    /// A server on sockets from [`open`], for the guest of that network.
    pub fn new(sockets: Sockets, network: &GuestNetwork) -> Self {
        let ipv4 = network.lease.as_ref();
        let ipv6 = network.ipv6.as_ref();
        Self {
            tap: Port::new(sockets.tap, &network.tap),
            uplink: sockets
                .uplink
                .map(|socket| Port::new(socket, &network.interface)),
            arp: Arp::new(network),
            ipv4: ipv4.map(|lease| Ipv4::new(network.server_mac, lease)),
            ipv6: ipv6.map(|ipv6| Ipv6::new(network, ipv6)),
            events: Pace::new(EVENT_BURST, EVENT_INTERVAL),
            started: Instant::now(),
        }
    }

    /// Serves until `stop` becomes readable or is hung up (an eventfd, or the read end of a pipe).
    ///
    /// Never ends otherwise: a link that is down, a full queue or a malformed packet costs one
    /// answer, not the VM. Whatever the guest sends, memory stays as it is, the time spent on it is
    /// a fraction of one processor's, and after a burst no more than four events a second are told,
    /// so that the listener's may as well.
    ///
    /// The guest does not notice the end: no last advertisement takes its router away, because the
    /// next server speaks for the same one.
    ///
    /// # Errors
    ///
    /// Only if the kernel refuses to wait on the descriptors.
    pub fn run(&mut self, stop: BorrowedFd<'_>, mut on_event: impl FnMut(Event)) -> io::Result<()> {
        if let Some(warning) = self.ipv6.as_ref().and_then(Ipv6::warning) {
            on_event(warning);
        }
        let mut packet = [0; PACKET];
        loop {
            let now = self.started.elapsed();
            self.advertise(now, &mut on_event);
            let mut fds = [
                PollFd::new(stop, PollFlags::POLLIN),
                watched(Some(&self.tap), stop, now),
                watched(self.uplink.as_ref(), stop, now),
            ];
            match poll(&mut fds, self.timeout(now)) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            let [stopped, from_tap, from_uplink] = fds.map(|fd| fd.any() == Some(true));
            if stopped {
                return Ok(());
            }
            let now = self.started.elapsed();
            if from_tap {
                self.serve_guest(&mut packet, now, &mut on_event);
            }
            if from_uplink {
                self.serve_network(&mut packet, now, &mut on_event);
            }
        }
    }

    /// How long there is nothing to do unless a packet comes.
    fn timeout(&self, now: Duration) -> PollTimeout {
        let ports = [Some(&self.tap), self.uplink.as_ref()];
        let resting = ports.into_iter().flatten().map(Port::rests_until);
        let next = resting
            .filter(|until| *until > now)
            .chain(self.ipv6.as_ref().map(Ipv6::next))
            .min();
        match next {
            None => PollTimeout::NONE,
            // A millisecond is the smallest step, and one too early would be taken again and again.
            Some(next) => {
                PollTimeout::try_from(next.saturating_sub(now) + Duration::from_micros(999))
                    .unwrap_or(PollTimeout::MAX)
            }
        }
    }

    /// Sends the router advertisement that is due, if one is.
    fn advertise(&mut self, now: Duration, on_event: &mut impl FnMut(Event)) {
        // Without randomness the interval is the shortest.
        let random = || getrandom::u32().unwrap_or_default();
        let due = self.ipv6.as_mut();
        let due = due.and_then(|ipv6| ipv6.unsolicited(now, random));
        let told = due.and_then(|frame| self.tap.send(&frame, now));
        self.tell(told, now, on_event);
    }

    /// Receives one packet of the guest and answers it.
    fn serve_guest(
        &mut self,
        packet: &mut [u8; PACKET],
        now: Duration,
        on_event: &mut impl FnMut(Event),
    ) {
        let packet = match self.tap.receive(packet, now) {
            Ok(packet) => packet,
            Err(told) => return self.tell(told, now, on_event),
        };
        let answer = self.answer(packet, now);
        let failed = answer.to_guest.and_then(|frame| self.tap.send(&frame, now));
        self.tell(failed, now, on_event);
        let uplink = self.uplink.as_mut().zip(answer.to_network);
        let failed = uplink.and_then(|(uplink, frame)| uplink.send(&frame, now));
        self.tell(failed, now, on_event);
        self.tell(answer.event, now, on_event);
    }

    fn answer(&mut self, packet: &[u8], now: Duration) -> Answer {
        if let Some(reply) = self.arp.answer(packet) {
            return Answer {
                to_guest: Some(reply.to_vec()),
                ..Answer::default()
            };
        }
        let Some(frame) = Frame::parse(packet) else {
            return Answer::default();
        };
        let answer = match frame.kind {
            Kind::Ipv4 => self.ipv4.as_mut().map(|ipv4| ipv4.answer(&frame, now)),
            Kind::Ipv6 => self.ipv6.as_mut().map(|ipv6| ipv6.answer(&frame, now)),
        };
        answer.unwrap_or_default()
    }

    /// Receives one packet of the network and passes on what the guest should know.
    fn serve_network(
        &mut self,
        packet: &mut [u8; PACKET],
        now: Duration,
        on_event: &mut impl FnMut(Event),
    ) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        let packet = match uplink.receive(packet, now) {
            Ok(packet) => packet,
            Err(told) => return self.tell(told, now, on_event),
        };
        let relayed = self.relay(packet);
        let failed = relayed.and_then(|frame| self.tap.send(&frame, now));
        self.tell(failed, now, on_event);
    }

    /// Tells an event, if there is one and there were not too many.
    fn tell(&mut self, event: Option<Event>, now: Duration, on_event: &mut impl FnMut(Event)) {
        if let Some(event) = event.filter(|_| self.events.allows(now)) {
            on_event(event);
        }
    }

    /// What a packet of the network says that the guest should know.
    fn relay(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let frame = Frame::parse(packet).filter(|frame| frame.kind == Kind::Ipv6)?;
        self.ipv6.as_ref()?.relayed(&frame)
    }
}

/// A server's answers without its sockets, for `fuzz/`.
#[cfg(fuzzing)]
impl Server {
    /// What is sent for a frame of the guest: to it, and to the network.
    pub fn on_guest_frame(&mut self, frame: &[u8], now: Duration) -> [Option<Vec<u8>>; 2] {
        let answer = self.answer(frame, now);
        [answer.to_guest, answer.to_network]
    }

    /// What the guest is sent for a frame of the network.
    pub fn on_network_frame(&self, frame: &[u8]) -> Option<Vec<u8>> {
        self.relay(frame)
    }
}

/// A socket to wait for. In the place of one that rests stands `stop`, which is watched anyway.
fn watched<'a>(port: Option<&'a Port>, stop: BorrowedFd<'a>, now: Duration) -> PollFd<'a> {
    match port.filter(|port| port.rests_until() <= now) {
        Some(port) => PollFd::new(port.as_fd(), PollFlags::POLLIN),
        None => PollFd::new(stop, PollFlags::empty()),
    }
}
