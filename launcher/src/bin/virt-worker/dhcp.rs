//! DHCP, DHCPv6 and router advertisements for the guest, each interface on a thread of its own: the
//! answer is on the wire before an event loop would have been woken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use anyhow::Context;
use launcher::init::PacketSockets;
use launcher::pod::{self, Pod};
use launcher_api::{Address, EventKind, Interface};
use netbind::serve::{Server, Sockets};
use netbind::{Event, GuestNetwork};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::sync::mpsc::UnboundedSender;

/// The stack of a thread that only answers packets, in bytes.
const STACK: usize = 128 * 1024;

/// The addresses that the guest holds, by the VMI's names of interfaces.
pub(crate) type Held = BTreeMap<String, BTreeSet<IpAddr>>;

/// What a guest's server has to tell.
pub(crate) struct LeaseEvent {
    /// The VMI's name for the interface.
    pub(crate) interface: String,
    pub(crate) told: Told,
}

/// What an event of a server means for the VM.
pub(crate) struct Told {
    pub(crate) kind: EventKind,
    pub(crate) message: String,
    pub(crate) change: Option<Change>,
}

/// What the guest has that it had not before, or the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It holds this address now.
    Holds(IpAddr),
    /// It gave this address back.
    Left(IpAddr),
}

/// Serves every interface whose sockets init has handed over; returns what is known of them. `held`
/// is what the guest held when an earlier worker ended.
///
/// # Errors
/// Where init's description of an interface cannot be read, or no thread can be started.
pub(crate) fn serve(
    pod: &Pod,
    sockets: Vec<PacketSockets>,
    held: &Held,
    events: &UnboundedSender<LeaseEvent>,
) -> anyhow::Result<Vec<Interface>> {
    let interfaces = sockets.into_iter().map(|inherited| {
        let interface = inherited.interface;
        let network: GuestNetwork = pod::read_json(&pod.guest_network(&interface))?;
        let shown = show(&interface, &network, held);
        let (sockets, events) = (
            Sockets {
                tap: take_over(inherited.tap)?,
                uplink: inherited.uplink.map(take_over).transpose()?,
            },
            events.clone(),
        );
        std::thread::Builder::new()
            .name(format!("dhcp-{interface}"))
            .stack_size(STACK)
            .spawn(move || answer(sockets, &network, &interface, &events))
            .context("cannot start the DHCP server's thread")?;
        Ok(shown)
    });
    interfaces.collect()
}

/// An interface as the status tells of it.
fn show(name: &str, network: &GuestNetwork, held: &Held) -> Interface {
    let ipv4 = network.lease.iter().map(|lease| lease.address.to_string());
    let ipv6 = network.ipv6.iter().flat_map(|ipv6| &ipv6.addresses);
    // The prefix length that DHCPv6 leaves its clients with.
    let ipv6 = ipv6.map(|address| format!("{address}/128"));
    let mut interface = Interface {
        name: name.to_owned(),
        mac: network.mac.to_string(),
        addresses: ipv4
            .chain(ipv6)
            .map(|address| Address {
                address,
                leased: false,
            })
            .collect(),
        ..Interface::default()
    };
    if let Some(first) = interface.addresses.first() {
        interface.address = first.address.clone();
    }
    mark(&mut interface, held);
    interface
}

/// Marks the addresses of an interface that the guest holds.
pub(crate) fn mark(interface: &mut Interface, held: &Held) {
    let held = held.get(&interface.name);
    let holds = |address: &str| {
        let host = address.split('/').next()?.parse::<IpAddr>().ok()?;
        Some(held?.contains(&host))
    };
    for address in &mut interface.addresses {
        address.leased = holds(&address.address) == Some(true);
    }
    interface.leased = interface.addresses.iter().any(|address| address.leased);
}

/// A socket that init opened for us. QEMU must not get it.
#[expect(
    unsafe_code,
    reason = "the number of an inherited descriptor comes as an argument"
)]
fn take_over(descriptor: i32) -> anyhow::Result<OwnedFd> {
    // SAFETY: init passes each descriptor once, for this process to own.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .context("the packet socket that init should have passed is not there")?;
    Ok(socket)
}

fn answer(
    sockets: Sockets,
    network: &GuestNetwork,
    interface: &str,
    events: &UnboundedSender<LeaseEvent>,
) {
    let tell = |told| {
        let interface = interface.to_owned();
        // The receiver is gone only when the worker ends.
        let _ = events.send(LeaseEvent { interface, told });
    };
    // A server runs as long as its worker: nothing ever arrives at this end.
    let ran = std::io::pipe().and_then(|(stop, _keep)| {
        Server::new(sockets, network).run(stop.as_fd(), |event| tell(told(event)))
    });
    if let Err(error) = ran {
        tell(Told {
            kind: EventKind::Warning,
            message: format!("the DHCP server of {interface} ended: {error}"),
            change: None,
        });
    }
}

/// What an event of the server means for the VM.
fn told(event: Event) -> Told {
    let mut change = None;
    let (kind, message) = match event {
        Event::Offered { address, .. } => (EventKind::LeaseOffered, format!("offered {address}")),
        Event::Acked { client, address } => {
            change = Some(Change::Holds(address));
            (EventKind::LeaseGranted, format!("{client} holds {address}"))
        }
        Event::Naked { client, requested } => (
            EventKind::Warning,
            format!("{client} wanted {requested}, which is not its address"),
        ),
        Event::Informed { client, address } => (
            EventKind::LeaseOffered,
            format!("{client} at {address} asked for options"),
        ),
        Event::Released { client, address } => {
            change = Some(Change::Left(address));
            (
                EventKind::LeaseReleased,
                format!("{client} gave {address} back"),
            )
        }
        Event::Declined { address, .. } => (
            EventKind::Warning,
            format!("the guest found that another station uses {address}"),
        ),
        Event::Warning { message } => (EventKind::Warning, message),
    };
    Told {
        kind,
        message,
        change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ack_and_release_change_what_the_guest_holds() {
        let client = netbind::Mac([2, 0, 0, 0, 0, 1]);
        for address in [
            IpAddr::from([10, 0, 0, 2]),
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 2]),
        ] {
            let cases = [
                (Event::Offered { client, address }, None),
                (
                    Event::Acked { client, address },
                    Some(Change::Holds(address)),
                ),
                (
                    Event::Naked {
                        client,
                        requested: address,
                    },
                    None,
                ),
                (Event::Informed { client, address }, None),
                (
                    Event::Released { client, address },
                    Some(Change::Left(address)),
                ),
                (Event::Declined { client, address }, None),
            ];
            for (event, change) in cases {
                assert_eq!(told(event.clone()).change, change, "{event:?}");
            }
        }
    }

    #[test]
    fn an_interface_is_leased_while_the_guest_holds_one_of_its_addresses() {
        let address = |address: &str| Address {
            address: address.to_owned(),
            leased: false,
        };
        let mut interface = Interface {
            name: "default".to_owned(),
            addresses: vec![address("10.0.0.2/24"), address("fd00::2/128")],
            ..Interface::default()
        };
        let held = |name: &str, addresses: &[&str]| -> Held {
            let addresses = addresses.iter().map(|address| address.parse().unwrap());
            [(name.to_owned(), addresses.collect())].into()
        };
        let cases = [
            (held("default", &["fd00::2"]), (true, [false, true])),
            (held("default", &["10.0.0.2"]), (true, [true, false])),
            (held("default", &[]), (false, [false, false])),
            (held("other", &["10.0.0.2"]), (false, [false, false])),
        ];
        for (held, expected) in cases {
            mark(&mut interface, &held);
            let each = [0, 1].map(|index: usize| interface.addresses[index].leased);
            assert_eq!((interface.leased, each), expected, "{held:?}");
        }
    }
}
