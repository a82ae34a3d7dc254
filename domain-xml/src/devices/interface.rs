//! Network cards.

use serde::{Deserialize, Serialize};

use super::{Acpi, Address, Alias, Boot};
use crate::{OnOff, YesNo};

/// A network card (formatdomain.html, "Network interfaces").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// What its host end is.
    #[serde(rename = "@type")]
    pub kind: InterfaceType,
    /// Whether libvirt detaches the host's device (hostdev).
    #[serde(rename = "@managed", skip_serializing_if = "Option::is_none")]
    pub managed: Option<YesNo>,
    /// The hardware address; made up where `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The host end (bridge, network, hostdev).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<InterfaceSource>,
    /// The tap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<InterfaceTarget>,
    /// The card that the guest sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<InterfaceModel>,
    /// How QEMU treats it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<InterfaceDriver>,
    /// Whether the cable is plugged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// What the guest is told of the MTU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    /// Interrupt coalescing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coalesce: Option<Coalesce>,
    /// Place in the boot order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// Its option ROM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rom: Option<Rom>,
    /// Its name in QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
    /// Its index for firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acpi: Option<Acpi>,
    /// Where it sits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

impl Interface {
    /// A card with this host end; the rest is libvirt's choice.
    #[must_use]
    pub fn new(kind: InterfaceType) -> Self {
        Self {
            kind,
            managed: None,
            mac: None,
            source: None,
            target: None,
            model: None,
            driver: None,
            link: None,
            mtu: None,
            coalesce: None,
            boot: None,
            rom: None,
            alias: None,
            acpi: None,
            address: None,
        }
    }
}

/// What a card's host end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InterfaceType {
    /// A tap.
    #[serde(rename = "ethernet")]
    Ethernet,
    /// A bridge of the host.
    #[serde(rename = "bridge")]
    Bridge,
    /// A network of libvirt.
    #[serde(rename = "network")]
    Network,
    /// QEMU's user-mode network.
    #[serde(rename = "user")]
    User,
    /// A PCI function of the host.
    #[serde(rename = "hostdev")]
    Hostdev,
}

/// A hardware address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mac {
    /// As `52:54:00:00:00:01`; the first octet is even.
    #[serde(rename = "@address")]
    pub address: String,
    /// `static` keeps VMware from checking it.
    #[serde(rename = "@type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// The host end of a card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceSource {
    /// Name of a bridge.
    #[serde(rename = "@bridge", skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Name of a libvirt network.
    #[serde(rename = "@network", skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Address of a PCI function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

/// The tap (formatdomain.html, "Generic ethernet connection").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceTarget {
    /// Its name.
    #[serde(rename = "@dev")]
    pub dev: String,
    /// Whether libvirt makes and removes it.
    #[serde(rename = "@managed", skip_serializing_if = "Option::is_none")]
    pub managed: Option<YesNo>,
}

/// The card that the guest sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceModel {
    /// Such as `virtio-non-transitional`, `e1000e`.
    #[serde(rename = "@type")]
    pub kind: String,
}

/// How QEMU treats a card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceDriver {
    /// Who moves packets.
    #[serde(rename = "@name", skip_serializing_if = "Option::is_none")]
    pub name: Option<InterfaceBackend>,
    /// Number of queue pairs; the tap must be `multi_queue` where 2 or more.
    #[serde(rename = "@queues", skip_serializing_if = "Option::is_none")]
    pub queues: Option<u32>,
    /// Length of the receive queue.
    #[serde(rename = "@rx_queue_size", skip_serializing_if = "Option::is_none")]
    pub rx_queue_size: Option<u32>,
    /// Length of the transmit queue.
    #[serde(rename = "@tx_queue_size", skip_serializing_if = "Option::is_none")]
    pub tx_queue_size: Option<u32>,
    /// Notify by eventfd.
    #[serde(rename = "@ioeventfd", skip_serializing_if = "Option::is_none")]
    pub ioeventfd: Option<OnOff>,
    /// Fewer notifications.
    #[serde(rename = "@event_idx", skip_serializing_if = "Option::is_none")]
    pub event_idx: Option<OnOff>,
    /// DMA through the guest's IOMMU.
    #[serde(rename = "@iommu", skip_serializing_if = "Option::is_none")]
    pub iommu: Option<OnOff>,
    /// Packed virtqueues.
    #[serde(rename = "@packed", skip_serializing_if = "Option::is_none")]
    pub packed: Option<OnOff>,
}

/// Who moves packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InterfaceBackend {
    /// QEMU.
    #[serde(rename = "qemu")]
    Qemu,
    /// The kernel.
    #[serde(rename = "vhost")]
    Vhost,
    /// The device itself.
    #[serde(rename = "vfio")]
    Vfio,
}

/// A network cable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Its state.
    #[serde(rename = "@state")]
    pub state: LinkState,
}

/// States of a network cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkState {
    /// Plugged.
    #[serde(rename = "up")]
    Up,
    /// Unplugged.
    #[serde(rename = "down")]
    Down,
}

/// What the guest is told of the MTU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mtu {
    /// Bytes.
    #[serde(rename = "@size")]
    pub size: u32,
}

/// Interrupt coalescing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coalesce {
    /// Of received packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx: Option<CoalesceRx>,
}

/// Interrupt coalescing of received packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoalesceRx {
    /// By their number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<CoalesceFrames>,
}

/// Interrupt coalescing by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoalesceFrames {
    /// Packets before an interrupt.
    #[serde(rename = "@max", skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// An option ROM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rom {
    /// Whether it is seen in the memory map.
    #[serde(rename = "@bar", skip_serializing_if = "Option::is_none")]
    pub bar: Option<OnOff>,
    /// Whether it is there at all.
    #[serde(rename = "@enabled", skip_serializing_if = "Option::is_none")]
    pub enabled: Option<YesNo>,
    /// Path of its content.
    #[serde(rename = "@file", skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}
