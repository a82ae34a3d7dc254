//! `spec.domain.devices`, without the kinds that have a module of their own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::{Disk, Interface};

/// The devices of the machine.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Devices {
    /// Attach graphics, reached by VNC. Defaults to true.
    pub autoattach_graphics_device: Option<bool>,
    /// Attach an input device. Defaults to false.
    pub autoattach_input_device: Option<bool>,
    /// Attach a memory balloon. Defaults to true.
    pub autoattach_mem_balloon: Option<bool>,
    /// Attach an interface on the pod network when none is named. Defaults to true.
    pub autoattach_pod_interface: Option<bool>,
    /// Attach a serial console. Defaults to true.
    pub autoattach_serial_console: Option<bool>,
    /// Give virtio disks one queue for each virtual CPU. Defaults to false.
    pub block_multi_queue: Option<bool>,
    /// Disks, CD-ROM drives and LUNs. Their contents are the volumes of the same names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// Input devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// Network interfaces. What they are connected to are the networks of the same names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Keep a log of the serial console.
    pub log_serial_console: Option<bool>,
    /// Give virtio interfaces one pair of queues for each virtual CPU. Defaults to false.
    pub network_interface_multiqueue: Option<bool>,
    /// Attach a random number generator fed by the host.
    pub rng: Option<Rng>,
    /// The video device.
    pub video: Option<VideoDevice>,
    /// A watchdog.
    pub watchdog: Option<Watchdog>,
}

/// An input device.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Input {
    /// What it is attached to. Defaults to usb.
    pub bus: Option<InputBus>,
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub type_: InputType,
}

/// What an input device is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputBus {
    /// USB.
    Usb,
    /// virtio.
    Virtio,
}

/// What an input device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    /// A pointer with absolute coordinates.
    Tablet,
    /// A keyboard.
    Keyboard,
}

/// A random number generator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rng {}

/// The video device.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VideoDevice {
    /// Its model. Defaults to vga with BIOS and bochs with EFI.
    #[serde(rename = "type")]
    pub type_: Option<VideoType>,
}

/// A video device's model (libvirt's `video/model/@type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VideoType {
    /// Standard VGA.
    Vga,
    /// Cirrus Logic GD5446.
    Cirrus,
    /// virtio-gpu.
    Virtio,
    /// Bochs display, without VGA.
    Bochs,
    /// A frame buffer in guest memory.
    Ramfb,
}

/// A watchdog.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Watchdog {
    /// An Intel 6300ESB on the PCI bus.
    pub i6300esb: Option<I6300ESBWatchdog>,
    /// Its name.
    pub name: String,
}

/// An Intel 6300ESB watchdog.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct I6300ESBWatchdog {
    /// What happens when the guest stops feeding it. Defaults to reset.
    pub action: Option<WatchdogAction>,
}

/// What a watchdog does (libvirt's `watchdog/@action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WatchdogAction {
    /// Power the machine off.
    Poweroff,
    /// Reset the machine.
    Reset,
    /// Ask the guest to shut down.
    Shutdown,
}
