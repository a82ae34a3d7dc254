//! What a launcher says, held to what it can mean.
//!
//! A launcher may be in the hands of its guest. Whatever it sends becomes a [`Report`] or a [`Guest`]
//! first: of bounded size, with addresses that are addresses and text that is one printable line.
//! Whose VM it speaks of is not among what it is asked.

use std::net::IpAddr;

use crds::VirtualMachineInstanceGuestOSInfo as GuestOs;
use launcher_api::guest::line;
use launcher_api::{GuestInfo, PauseReason, Phase, Status};

/// The longest text, in characters.
const TEXT: usize = 256;

/// The longest account of a failure, in characters; an Event's note may be of 1024 bytes.
const CAUSE: usize = 250;

/// The most entries of a list.
const ENTRIES: usize = 64;

/// The most addresses of an interface.
const ADDRESSES: usize = 16;

/// What a launcher says of its VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Where the VM stands.
    pub stage: Stage,
    /// The interfaces.
    pub interfaces: Vec<Interface>,
    /// The disks.
    pub disks: Vec<Disk>,
    /// The guest's agent answers.
    pub agent_connected: bool,
    /// The machine type that runs.
    pub machine: Option<String>,
}

/// Where a VM stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Its domain is being made.
    #[default]
    Starting,
    /// Its vCPUs run.
    Running,
    /// Its vCPUs stand still.
    Paused(PauseReason),
    /// The guest was asked to power off.
    ShuttingDown,
    /// It is over.
    Ended(Ended),
}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself or by request.
    Succeeded,
    /// It did not start, or it crashed; for the reason given.
    Failed(String),
}

impl Ended {
    /// A failure, with the launcher's account of it.
    pub fn failed(cause: &str) -> Self {
        Self::Failed(line(cause, CAUSE).unwrap_or_else(|| "the launcher told no cause".into()))
    }
}

/// A network interface, as a launcher or an agent tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name: the VMI's for it, or the guest's where an agent tells.
    pub name: String,
    /// Its MAC address, in lower case.
    pub mac: Option<String>,
    /// Its addresses, without prefix lengths.
    pub addresses: Vec<IpAddr>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The volume's name.
    pub volume: String,
    /// The guest's device, such as `vda`.
    pub target: String,
    /// The size that the guest sees, in bytes.
    pub size: Option<i64>,
}

/// What a guest's agent says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// The operating system.
    pub os: GuestOs,
    /// The interfaces, without loopback.
    pub interfaces: Vec<Interface>,
}

impl From<Status> for Report {
    fn from(told: Status) -> Self {
        let stage = match told.phase() {
            Phase::Unspecified | Phase::Starting => Stage::Starting,
            Phase::Running => Stage::Running,
            Phase::Paused => Stage::Paused(told.pause_reason()),
            Phase::ShuttingDown => Stage::ShuttingDown,
            Phase::Succeeded => Stage::Ended(Ended::Succeeded),
            Phase::Failed => Stage::Ended(Ended::failed(&told.reason)),
        };
        let interfaces = told.interfaces.iter().take(ENTRIES).filter_map(|told| {
            let told_addresses = told.addresses.iter().map(|told| told.address.as_str());
            interface(&told.name, &told.mac, told_addresses)
        });
        let disks = told.disks.iter().take(ENTRIES).filter_map(|told| {
            Some(Disk {
                volume: line(&told.volume, TEXT)?,
                target: line(&told.target, TEXT)?,
                size: i64::try_from(told.size).ok().filter(|size| *size > 0),
            })
        });
        Self {
            stage,
            interfaces: interfaces.collect(),
            disks: disks.collect(),
            agent_connected: told.agent_connected,
            machine: line(&told.machine, TEXT),
        }
    }
}

impl From<GuestInfo> for Guest {
    fn from(told: GuestInfo) -> Self {
        let os = told.os.unwrap_or_default();
        let text = |told: &str| line(told, TEXT);
        let interfaces = told.interfaces.iter().take(ENTRIES).filter_map(|told| {
            let told_addresses = told.addresses.iter().map(String::as_str);
            interface(&told.name, &told.mac, told_addresses)
        });
        let is_loopback = |found: &Interface| {
            found.name == "lo" || found.addresses.iter().any(IpAddr::is_loopback)
        };
        Self {
            os: GuestOs {
                id: text(&os.id),
                kernel_release: text(&os.kernel_release),
                kernel_version: text(&os.kernel_version),
                machine: text(&os.machine),
                name: text(&os.name),
                pretty_name: text(&os.pretty_name),
                version: text(&os.version),
                version_id: text(&os.version_id),
            },
            interfaces: interfaces.filter(|found| !is_loopback(found)).collect(),
        }
    }
}

/// An interface with a name; of its addresses, those that are one.
fn interface<'a>(
    name: &str,
    mac: &str,
    addresses: impl Iterator<Item = &'a str>,
) -> Option<Interface> {
    let addresses = addresses.filter_map(|told| {
        let host = told.split_once('/').map_or(told, |(host, _)| host);
        host.parse().ok()
    });
    Some(Interface {
        name: line(name, TEXT)?,
        mac: is_mac(mac).then(|| mac.to_ascii_lowercase()),
        addresses: addresses.take(ADDRESSES).collect(),
    })
}

/// Six pairs of hexadecimal digits with colons between.
fn is_mac(text: &str) -> bool {
    let mut pairs = 0;
    let all = text.split(':').all(|pair| {
        pairs += 1;
        pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit())
    });
    all && pairs == 6
}
