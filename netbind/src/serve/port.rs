//! A socket that is served, and when it rests.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::{Event, socket};
use crate::pace::Pace;

/// Larger than any question: the guest's MTU bounds it, and a longer one is cut and ignored.
pub(super) const PACKET: usize = 2048;

/// How long a socket rests after a failure: a link that is down says so at once, again and again.
const PAUSE: Duration = Duration::from_millis(100);
/// Packets that are taken at once. Beyond, the kernel's queue overflows, and drops in the sender's
/// time.
const BURST: u32 = 1024;
/// After a burst, one in this time: 16,000 a second, each worth some microseconds.
const INTERVAL: Duration = Duration::from_micros(62);

/// One side of the server.
#[derive(Debug)]
pub(super) struct Port {
    socket: OwnedFd,
    link: String,
    pace: Pace,
    paused_until: Duration,
    failing: bool,
}

impl Port {
    pub(super) fn new(socket: OwnedFd, link: &str) -> Self {
        Self {
            socket,
            link: link.to_owned(),
            pace: Pace::new(BURST, INTERVAL),
            paused_until: Duration::ZERO,
            failing: false,
        }
    }

    /// Until when nothing should be received; it may be past.
    pub(super) fn rests_until(&self) -> Duration {
        self.pace.next().max(self.paused_until)
    }

    /// Receives one packet, an empty one if there is none.
    ///
    /// # Errors
    ///
    /// What there is to tell, if this is the first failure: the socket rests for a while, and is
    /// tried again.
    pub(super) fn receive<'a>(
        &mut self,
        packet: &'a mut [u8; PACKET],
        now: Duration,
    ) -> Result<&'a [u8], Option<Event>> {
        self.pace.allows(now);
        match nix::unistd::read(&self.socket, packet) {
            Ok(length) => {
                self.failing = false;
                Ok(packet.get(..length).unwrap_or_default())
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(&[]),
            Err(error) => Err(self.fail(&error.into(), now)),
        }
    }

    /// Sends one frame; what there is to tell if that fails. A full queue, or a link that is down,
    /// drops it as a wire would: who wants it asks again.
    pub(super) fn send(&mut self, frame: &[u8], now: Duration) -> Option<Event> {
        const LOST: [libc::c_int; 3] = [libc::EAGAIN, libc::ENOBUFS, libc::ENETDOWN];
        let error = socket::send(self.socket.as_raw_fd(), frame).err()?;
        if error
            .raw_os_error()
            .is_some_and(|code| LOST.contains(&code))
        {
            return None;
        }
        self.fail(&error, now)
    }

    /// Lets the socket rest; what there is to tell if it has not been told yet.
    fn fail(&mut self, error: &io::Error, now: Duration) -> Option<Event> {
        self.paused_until = now + PAUSE;
        let told = std::mem::replace(&mut self.failing, true);
        (!told).then(|| Event::Warning {
            message: format!("server on {}: {error}; trying again", self.link),
        })
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
