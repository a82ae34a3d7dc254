//! The server in the test's own process, on sockets that the test keeps.

use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use netbind::serve::{Server, Sockets};
use netbind::{Event, GuestNetwork};
use nix::sys::eventfd::EventFd;

use super::PATIENCE;

/// A server on a thread, until its value ends.
pub(crate) struct Running {
    stop: EventFd,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(sockets: Sockets, guest: &GuestNetwork) -> Self {
        let mut server = Server::new(sockets, guest);
        let (sender, events) = channel();
        let stop = EventFd::new().unwrap();
        let stopped = stop.as_fd().try_clone_to_owned().unwrap();
        let thread = thread::spawn(move || {
            server
                .run(stopped.as_fd(), |event| sender.send(event).unwrap())
                .unwrap();
        });
        Self {
            stop,
            events,
            thread: Some(thread),
        }
    }

    /// The next event.
    pub(crate) fn event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.write(1).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}
