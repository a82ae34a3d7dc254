//! Devices and directories of the host.

use serde::{Deserialize, Serialize};

use super::{Acpi, Address, Alias, Boot, CharSource, CharType, Rom, VirtioModel};
use crate::{Empty, OnOff, YesNo};

/// A device of the host (formatdomain.html, "Host device assignment").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostDevice {
    /// How it is given.
    #[serde(rename = "@mode", skip_serializing_if = "Option::is_none")]
    pub mode: Option<HostDeviceMode>,
    /// Its bus.
    #[serde(rename = "@type")]
    pub kind: HostDeviceType,
    /// Whether libvirt detaches it from the host's driver.
    #[serde(rename = "@managed", skip_serializing_if = "Option::is_none")]
    pub managed: Option<YesNo>,
    /// `vfio-pci` (mdev).
    #[serde(rename = "@model", skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether its framebuffer is shown (mdev).
    #[serde(rename = "@display", skip_serializing_if = "Option::is_none")]
    pub display: Option<OnOff>,
    /// Whether it has a boot framebuffer (mdev).
    #[serde(rename = "@ramfb", skip_serializing_if = "Option::is_none")]
    pub ramfb: Option<OnOff>,
    /// The host's driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<HostDeviceDriver>,
    /// Which device.
    pub source: HostDeviceSource,
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
    /// Where it sits in the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

/// How a host's device is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostDeviceMode {
    /// As a device of its bus.
    #[serde(rename = "subsystem")]
    Subsystem,
}

/// Buses of host devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostDeviceType {
    /// PCI.
    #[serde(rename = "pci")]
    Pci,
    /// USB.
    #[serde(rename = "usb")]
    Usb,
    /// Mediated devices.
    #[serde(rename = "mdev")]
    Mdev,
}

/// The host's driver of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostDeviceDriver {
    /// `vfio`.
    #[serde(rename = "@name")]
    pub name: String,
}

/// Which of the host's devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostDeviceSource {
    /// What a missing one means.
    #[serde(rename = "@startupPolicy", skip_serializing_if = "Option::is_none")]
    pub startup_policy: Option<String>,
    /// USB vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<UsbId>,
    /// USB product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<UsbId>,
    /// Its address on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<HostAddress>,
}

/// A USB vendor or product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsbId {
    /// As `0x1234`.
    #[serde(rename = "@id")]
    pub id: String,
}

/// An address on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostAddress {
    /// `pci`, where libvirt writes it.
    #[serde(rename = "@type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// PCI domain.
    #[serde(rename = "@domain", skip_serializing_if = "Option::is_none")]
    pub domain: Option<crate::Hex<4>>,
    /// PCI or USB bus.
    #[serde(rename = "@bus", skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// PCI slot.
    #[serde(rename = "@slot", skip_serializing_if = "Option::is_none")]
    pub slot: Option<crate::Hex<2>>,
    /// PCI function.
    #[serde(rename = "@function", skip_serializing_if = "Option::is_none")]
    pub function: Option<crate::Hex<1>>,
    /// USB device number.
    #[serde(rename = "@device", skip_serializing_if = "Option::is_none")]
    pub device: Option<u32>,
    /// UUID of a mediated device.
    #[serde(rename = "@uuid", skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

/// A directory of the host (formatdomain.html, "Filesystems").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filesystem {
    /// What `source` is.
    #[serde(rename = "@type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<FilesystemType>,
    /// `passthrough`, `mapped` or `squash`.
    #[serde(rename = "@accessmode", skip_serializing_if = "Option::is_none")]
    pub access_mode: Option<String>,
    /// Which virtio.
    #[serde(rename = "@model", skip_serializing_if = "Option::is_none")]
    pub model: Option<VirtioModel>,
    /// Who serves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<FilesystemDriver>,
    /// What is served.
    pub source: FilesystemSource,
    /// Its name in the guest.
    pub target: FilesystemTarget,
    /// The guest cannot write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly: Option<Empty>,
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

/// What a filesystem's source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilesystemType {
    /// A directory.
    #[serde(rename = "mount")]
    Mount,
}

/// Who serves a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesystemDriver {
    /// `path` (9p) or `virtiofs`.
    #[serde(rename = "@type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Length of the virtqueue.
    #[serde(rename = "@queue", skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
}

/// What is served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesystemSource {
    /// Path of a directory.
    #[serde(rename = "@dir", skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Path of a virtiofsd's socket.
    #[serde(rename = "@socket", skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
}

/// The name that a guest mounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesystemTarget {
    /// The tag.
    #[serde(rename = "@dir")]
    pub dir: String,
}

/// A USB device at the far end of a connection (formatdomain.html, "Redirected devices").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedirectedDevice {
    /// Its bus.
    #[serde(rename = "@bus")]
    pub bus: RedirectedBus,
    /// What its host end is.
    #[serde(rename = "@type")]
    pub kind: CharType,
    /// The host end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<CharSource>,
    /// Place in the boot order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// Its name in QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
    /// Where it sits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

/// Buses of redirected devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RedirectedBus {
    /// USB.
    #[default]
    #[serde(rename = "usb")]
    Usb,
}
