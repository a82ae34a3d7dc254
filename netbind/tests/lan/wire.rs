//! A tap's frames, as they are.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::common::guest::attach;
use crate::common::{Namespace, PATIENCE, success, wait_until};

/// A station that is nothing but its frames.
pub(crate) struct Wire(File);

impl Wire {
    /// Behind a tap, as QEMU would be, once its bridge forwards frames.
    pub(crate) fn behind(namespace: &Namespace, tap: &str) -> Self {
        // Each processor has a queue of its own for what crosses a veth: only what is sent from one
        // comes in its order.
        let mut processor = CpuSet::new();
        processor.set(sched_getcpu().unwrap()).unwrap();
        sched_setaffinity(Pid::from_raw(0), &processor).unwrap();
        let wire = Self(namespace.within(|| attach(tap)));
        let mut state = namespace.command("bridge");
        state.args(["link", "show", "dev", tap]);
        wait_until("the tap forwards", || {
            success(&mut state).contains("state forwarding")
        });
        wire
    }

    pub(crate) fn send(&mut self, frame: &[u8]) {
        self.0.write_all(frame).unwrap();
    }

    /// The frames that come until this one does.
    #[track_caller]
    pub(crate) fn until(&mut self, last: &[u8]) -> Vec<Vec<u8>> {
        self.until_one(|frame| frame == last)
    }

    /// The frames that come until one is such, with that.
    #[track_caller]
    pub(crate) fn until_one(&mut self, is_such: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let until = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap();
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, timeout).unwrap();
            assert_eq!(ready, 1, "the last frame came within {PATIENCE:?}");
            let mut frame = vec![0; 65536];
            let length = self.0.read(&mut frame).unwrap();
            frame.truncate(length);
            seen.push(frame);
            if seen.last().is_some_and(|frame| is_such(frame)) {
                return seen;
            }
        }
    }
}
