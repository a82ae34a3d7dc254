//! `<devices>`: the emulator and, in order, everything attached.

mod address;
mod chardev;
mod controller;
mod disk;
mod display;
mod hostdev;
mod interface;
mod misc;

pub use address::*;
pub use chardev::*;
pub use controller::*;
pub use disk::*;
pub use display::*;
pub use hostdev::*;
pub use interface::*;
pub use misc::*;

use serde::{Deserialize, Serialize};

/// The emulator and the devices (formatdomain.html, "Devices").
///
/// One ordered list rather than a list a kind: where libvirt places devices that carry no
/// address follows their order in the document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Devices {
    /// Path of QEMU; libvirt's choice for machine and architecture where `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator: Option<String>,
    /// Everything attached, in order.
    #[serde(rename = "$value", default, skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<Device>,
}

/// One device. An element that is not among these is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// A disk, CD-ROM or LUN.
    Disk(Box<Disk>),
    /// A bus controller.
    Controller(Controller),
    /// A directory of the host.
    Filesystem(Filesystem),
    /// A network card.
    Interface(Box<Interface>),
    /// A serial port.
    Serial(CharDevice),
    /// A console.
    Console(CharDevice),
    /// A stream between guest and host.
    Channel(CharDevice),
    /// A keyboard or pointer.
    Input(Input),
    /// A trusted platform module.
    Tpm(Tpm),
    /// A way to see the guest's screen.
    Graphics(Graphics),
    /// A sound card.
    Sound(Sound),
    /// Where sound goes.
    Audio(Audio),
    /// A graphics card.
    Video(Video),
    /// A device of the host.
    Hostdev(Box<HostDevice>),
    /// A USB device at the far end of a connection.
    Redirdev(RedirectedDevice),
    /// A watchdog.
    Watchdog(Watchdog),
    /// The memory balloon.
    Memballoon(MemoryBalloon),
    /// A source of random numbers.
    Rng(Rng),
    /// The device by which a guest reports a panic.
    Panic(Panic),
    /// A socket between guest and host.
    Vsock(Vsock),
}

/// The device's name in QEMU; `ua-` starts names that the user gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// The name.
    #[serde(rename = "@name")]
    pub name: String,
}

/// A device's place in the boot order. Excludes `<boot dev>` in `<os>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// From 1, unique in the domain.
    #[serde(rename = "@order")]
    pub order: u32,
}

/// The number by which the guest's firmware names the device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acpi {
    /// The index, from which `eno1` is made.
    #[serde(rename = "@index", skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
}

/// Which virtio the device speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VirtioModel {
    /// Whatever fits its bus: 1.0 behind a PCIe root port, both elsewhere.
    #[default]
    #[serde(rename = "virtio")]
    Virtio,
    /// Both, on a conventional PCI bus.
    #[serde(rename = "virtio-transitional")]
    VirtioTransitional,
    /// 1.0 only.
    #[serde(rename = "virtio-non-transitional")]
    VirtioNonTransitional,
}

/// Options of every virtio device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtioDriver {
    /// The backend: `qemu`, `vhost`, `vhostuser`.
    #[serde(rename = "@name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// DMA through the guest's IOMMU.
    #[serde(rename = "@iommu", skip_serializing_if = "Option::is_none")]
    pub iommu: Option<crate::OnOff>,
    /// Address translation services.
    #[serde(rename = "@ats", skip_serializing_if = "Option::is_none")]
    pub ats: Option<crate::OnOff>,
    /// Packed virtqueues.
    #[serde(rename = "@packed", skip_serializing_if = "Option::is_none")]
    pub packed: Option<crate::OnOff>,
    /// A page for each queue's notification.
    #[serde(rename = "@page_per_vq", skip_serializing_if = "Option::is_none")]
    pub page_per_vq: Option<crate::OnOff>,
}
