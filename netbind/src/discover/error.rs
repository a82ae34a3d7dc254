//! Why a pod's network cannot be used.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// Why a pod's network cannot be used. Each says what would help.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// The kernel refused to tell.
    #[error("cannot read {what} from the kernel")]
    Netlink {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What may still come did not come in time.
    #[error("the pod's network was not ready within {} s", timeout.as_secs_f32())]
    NotReady {
        /// How long it was waited for.
        timeout: Duration,
        /// What was missing at the end.
        source: Box<Self>,
    },
    /// No interface of that name.
    #[error(
        "no network interface named {interface} here (there are: {}); run inside the pod's network \
         namespace, or name the interface that the CNI plugin made",
        present.join(", ")
    )]
    NoInterface {
        /// The name asked for.
        interface: String,
        /// The names that exist.
        present: Vec<String>,
    },
    /// The interface is down.
    #[error("{0} is down; the CNI plugin has to bring it up first")]
    Down(String),
    /// An address is not the pod's for certain yet.
    #[error(
        "{address} on {interface} is tentative: the kernel is finding out whether another station has \
         it, which takes a second or two; allow for it, and look whether the other end of {interface} \
         is up"
    )]
    Tentative {
        /// The interface.
        interface: String,
        /// The address.
        address: IpAddr,
    },
    /// An address that was expected is not there.
    #[error(
        "{interface} does not have the expected address {} (it has: {}); look at what the CNI plugin's \
         ipam section and the network's router advertisements give it",
        list(missing),
        list(present)
    )]
    MissingAddress {
        /// The interface.
        interface: String,
        /// The addresses that are not there.
        missing: Vec<IpAddr>,
        /// The addresses that are.
        present: Vec<IpAddr>,
    },
    /// Another station has one of the addresses.
    #[error(
        "{address} on {interface} is a duplicate: another station on the link answered for it; take \
         the address from that station, or give the pod another one by making it anew"
    )]
    Duplicate {
        /// The interface.
        interface: String,
        /// The address.
        address: IpAddr,
    },
    /// The loopback interface was named.
    #[error(
        "{0} is the loopback interface, which no guest can take over; name the pod's interface"
    )]
    Loopback(String),
    /// The interface shares its MAC address with others.
    #[error(
        "{interface} is of kind {kind}, which shares one MAC address between pods: a guest cannot \
         own it; use a CNI plugin that gives each pod a MAC (bridge, ptp, macvlan)"
    )]
    SharedMac {
        /// The interface.
        interface: String,
        /// Its kind.
        kind: String,
    },
    /// A netkit device that carries bare packets.
    #[error(
        "{0} is a netkit device in layer-3 mode, which has no MAC address and carries no ARP: a guest \
         could not be addressed; set Cilium's bpf.datapathMode to veth or netkit-l2"
    )]
    Layer3(String),
    /// Not an Ethernet interface, or one without an address.
    #[error(
        "{0} has no unicast MAC address to give to the guest; use a CNI plugin that makes Ethernet interfaces"
    )]
    NoMac(String),
}

impl DiscoverError {
    /// For `map_err`, with what was asked for.
    pub(super) fn netlink(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Netlink { what, source }
    }

    /// Whether waiting may help.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::NoInterface { .. }
            | Self::Down(_)
            | Self::Tentative { .. }
            | Self::MissingAddress { .. } => true,
            Self::Netlink { .. }
            | Self::NotReady { .. }
            | Self::Duplicate { .. }
            | Self::Loopback(_)
            | Self::SharedMac { .. }
            | Self::Layer3(_)
            | Self::NoMac(_) => false,
        }
    }
}

fn list(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return "none".to_owned();
    }
    let texts: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    texts.join(", ")
}
