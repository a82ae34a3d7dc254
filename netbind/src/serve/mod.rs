//! Carries packets between the guest's tap and the pure DHCP server.
//!
//! A packet socket on the tap, below the bridge: it needs no address, sees what the guest sends
//! even to its gateway's MAC (unicast renewals), writes whole checksums, and nothing of it can
//! leave by the pod's own interface. [`open`] needs CAP_NET_RAW; a [`Server`] needs nothing but the
//! descriptor, so that an unprivileged worker can be handed it, and after a crash its successor the
//! same one. What the guest sent in between waits in the socket.

mod arp;
mod frame;
mod pace;
mod socket;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::dhcp::{Event, Message, Responder};
use crate::plan::GuestNetwork;
use arp::Arp;
use frame::Frame;
use pace::Pace;

pub use socket::open;

/// How long to wait after a failed receive or send before the next: a tap that is down says so at
/// once, again and again.
const PAUSE: Duration = Duration::from_millis(100);
/// Larger than any DHCP message: the guest's MTU bounds it, and a longer one is cut and ignored.
const PACKET: usize = 2048;

/// The guest's DHCP server, and what answers ARP for it.
#[derive(Debug)]
pub struct Server {
    socket: OwnedFd,
    responder: Responder,
    arp: Arp,
    network: GuestNetwork,
    pace: Pace,
}

impl Server {
    /// A server on a socket from [`open`], for the guest of that network.
    pub fn new(socket: OwnedFd, network: &GuestNetwork) -> Self {
        Self {
            socket,
            responder: Responder::new(network.lease.clone()),
            arp: Arp::new(network),
            network: network.clone(),
            pace: Pace::new(),
        }
    }

    /// Serves until `stop` becomes readable or is hung up (an eventfd, or the read end of a pipe).
    ///
    /// Never ends otherwise: a link that is down, a full queue or a malformed packet costs one
    /// answer, not the VM. Whatever the guest sends, memory stays as it is, and after a burst no
    /// more than four events a second are told, so that the listener's may as well.
    ///
    /// # Errors
    ///
    /// Only if the kernel refuses to wait on the descriptors.
    pub fn run(&mut self, stop: BorrowedFd<'_>, mut on_event: impl FnMut(Event)) -> io::Result<()> {
        let started = Instant::now();
        let mut failing = false;
        let mut packet = [0; PACKET];
        loop {
            // While the socket fails only `stop` is waited for, so that a broken link cannot spin.
            let timeout = if failing {
                poll_timeout(PAUSE)
            } else {
                PollTimeout::NONE
            };
            let mut fds = [
                PollFd::new(stop, PollFlags::POLLIN),
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            ];
            let watched = if failing { 1 } else { 2 };
            match poll(&mut fds[..watched], timeout) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            if fds[0].any() == Some(true) {
                return Ok(());
            }
            let served = self.serve_one(&mut packet, started.elapsed(), &mut on_event);
            let now_failing = served.is_err();
            if let (false, Err(error)) = (failing, served) {
                on_event(Event::Warning {
                    message: format!("DHCP server on {}: {error}; trying again", self.network.tap),
                });
            }
            failing = now_failing;
        }
    }

    /// Receives one packet and answers it.
    fn serve_one(
        &mut self,
        packet: &mut [u8; PACKET],
        now: Duration,
        on_event: &mut impl FnMut(Event),
    ) -> io::Result<()> {
        let length = match nix::unistd::read(&self.socket, packet) {
            Ok(length) => length,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let packet = packet.get(..length).unwrap_or_default();
        if let Some(answer) = self.arp.answer(packet) {
            return self.send(&answer);
        }
        let Some(frame) = Frame::parse(packet) else {
            return Ok(());
        };
        let Some(message) = Message::parse(frame.payload) else {
            return Ok(());
        };
        let (reply, event) = self.responder.answer(&message, now);
        if let Some(reply) = reply {
            let to = reply.mac.unwrap_or(frame.source);
            self.send(&frame::build(&self.network, to, &reply))?;
        }
        if let Some(event) = event.filter(|_| self.pace.allows(now)) {
            on_event(event);
        }
        Ok(())
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        // A full queue toward the guest drops the answer, as a wire would: the client asks again.
        match socket::send(self.socket.as_raw_fd(), frame) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => {
                Ok(())
            }
            other => other,
        }
    }
}

fn poll_timeout(pause: Duration) -> PollTimeout {
    PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX)
}
