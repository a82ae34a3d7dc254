//! DHCP for the guest, each interface on a thread of its own: the answer is on the wire before
//! an event loop would have been woken.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use anyhow::Context;
use launcher::init::PacketSocket;
use launcher::pod::{self, Pod};
use launcher_api::{EventKind, Interface};
use netbind::GuestNetwork;
use netbind::dhcp::Event;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::sync::mpsc::UnboundedSender;

/// The stack of a thread that only answers packets, in bytes.
const STACK: usize = 128 * 1024;

/// What a DHCP server has to tell.
pub(crate) struct LeaseEvent {
    /// The VMI's name for the interface.
    pub(crate) interface: String,
    pub(crate) kind: EventKind,
    pub(crate) message: String,
    /// Whether the guest holds its lease now; `None` where that did not change.
    pub(crate) leased: Option<bool>,
}

/// Serves every interface whose socket init has handed over; returns what is known of them.
///
/// # Errors
/// Where init's description of an interface cannot be read, or no thread can be started.
pub(crate) fn serve(
    pod: &Pod,
    sockets: Vec<PacketSocket>,
    leased: bool,
    events: &UnboundedSender<LeaseEvent>,
) -> anyhow::Result<Vec<Interface>> {
    sockets
        .into_iter()
        .map(
            |PacketSocket {
                 interface,
                 descriptor,
             }| {
                let network: GuestNetwork = pod::read_json(&pod.guest_network(&interface))?;
                let shown = Interface {
                    name: interface.clone(),
                    mac: network.mac.to_string(),
                    address: network.lease.address.to_string(),
                    leased,
                };
                let (socket, events) = (inherited(descriptor)?, events.clone());
                std::thread::Builder::new()
                    .name(format!("dhcp-{interface}"))
                    .stack_size(STACK)
                    .spawn(move || answer(socket, &network, &interface, &events))
                    .context("cannot start the DHCP server's thread")?;
                Ok(shown)
            },
        )
        .collect()
}

/// A socket that init opened for us. QEMU must not get it.
#[expect(
    unsafe_code,
    reason = "the number of an inherited descriptor comes as an argument"
)]
fn inherited(descriptor: i32) -> anyhow::Result<OwnedFd> {
    // SAFETY: init passes each descriptor once, for this process to own.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .context("the packet socket that init should have passed is not there")?;
    Ok(socket)
}

fn answer(
    socket: OwnedFd,
    network: &GuestNetwork,
    interface: &str,
    events: &UnboundedSender<LeaseEvent>,
) {
    let tell = |(kind, message, leased)| {
        let interface = interface.to_owned();
        // The receiver is gone only when the worker ends.
        let _ = events.send(LeaseEvent {
            interface,
            kind,
            message,
            leased,
        });
    };
    // A server runs as long as its worker: nothing ever arrives at this end.
    let ran = std::io::pipe().and_then(|(stop, _keep)| {
        netbind::serve::Server::new(socket, network).run(stop.as_fd(), |event| tell(told(event)))
    });
    if let Err(error) = ran {
        tell((
            EventKind::Warning,
            format!("the DHCP server of {interface} ended: {error}"),
            None,
        ));
    }
}

/// What an event of the server means for the VM.
fn told(event: Event) -> (EventKind, String, Option<bool>) {
    match event {
        Event::Offered { address, .. } => {
            (EventKind::LeaseOffered, format!("offered {address}"), None)
        }
        Event::Acked { client, address } => (
            EventKind::LeaseGranted,
            format!("{client} holds {address}"),
            Some(true),
        ),
        Event::Naked { client, requested } => {
            let message = format!("{client} wanted {requested}, which is not its address");
            (EventKind::Warning, message, None)
        }
        Event::Informed { client, address } => (
            EventKind::LeaseOffered,
            format!("{client} at {address} asked for options"),
            None,
        ),
        Event::Released { client } => (
            EventKind::LeaseReleased,
            format!("{client} gave its address back"),
            Some(false),
        ),
        Event::Declined { address, .. } => {
            let message = format!("the guest found that another station uses {address}");
            (EventKind::Warning, message, None)
        }
        Event::Warning { message } => (EventKind::Warning, message, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ack_and_release_change_who_holds_the_lease() {
        let (client, address) = (netbind::Mac([2, 0, 0, 0, 0, 1]), [10, 0, 0, 2].into());
        let cases = [
            (Event::Offered { client, address }, None),
            (Event::Acked { client, address }, Some(true)),
            (
                Event::Naked {
                    client,
                    requested: address,
                },
                None,
            ),
            (Event::Released { client }, Some(false)),
            (Event::Declined { client, address }, None),
        ];
        for (event, leased) in cases {
            assert_eq!(told(event.clone()).2, leased, "{event:?}");
        }
    }
}
