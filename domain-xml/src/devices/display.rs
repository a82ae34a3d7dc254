//! What a person sees, hears and types on.

use serde::{Deserialize, Serialize};

use super::{Acpi, Address, Alias, VirtioDriver, VirtioModel};
use crate::{OnOff, YesNo};

/// A way to see the guest's screen (formatdomain.html, "Graphical framebuffers").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graphics {
    /// What is spoken.
    #[serde(rename = "@type")]
    pub kind: GraphicsType,
    /// TCP port; -1 for any.
    #[serde(rename = "@port", skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// TCP port for TLS (spice).
    #[serde(rename = "@tlsPort", skip_serializing_if = "Option::is_none")]
    pub tls_port: Option<i32>,
    /// Whether libvirt chooses the port.
    #[serde(rename = "@autoport", skip_serializing_if = "Option::is_none")]
    pub autoport: Option<YesNo>,
    /// TCP port for websockets (vnc).
    #[serde(rename = "@websocket", skip_serializing_if = "Option::is_none")]
    pub websocket: Option<i32>,
    /// Address; repeats the first `listen`'s.
    #[serde(rename = "@listen", skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Path of a unix socket; repeats the first `listen`'s.
    #[serde(rename = "@socket", skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// The keyboard's layout.
    #[serde(rename = "@keymap", skip_serializing_if = "Option::is_none")]
    pub keymap: Option<String>,
    /// Whether several may look at once (vnc).
    #[serde(rename = "@sharePolicy", skip_serializing_if = "Option::is_none")]
    pub share_policy: Option<String>,
    /// Where it is served.
    #[serde(rename = "listen", default, skip_serializing_if = "Vec::is_empty")]
    pub listens: Vec<Listen>,
    /// The audio backend that goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<GraphicsAudio>,
}

impl Graphics {
    /// Graphics of this kind, served nowhere yet.
    #[must_use]
    pub fn new(kind: GraphicsType) -> Self {
        Self {
            kind,
            port: None,
            tls_port: None,
            autoport: None,
            websocket: None,
            listen: None,
            socket: None,
            keymap: None,
            share_policy: None,
            listens: Vec::new(),
            audio: None,
        }
    }
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GraphicsType {
    /// VNC.
    #[serde(rename = "vnc")]
    Vnc,
    /// SPICE.
    #[serde(rename = "spice")]
    Spice,
}

/// Where graphics are served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// The kind.
    #[serde(rename = "@type")]
    pub kind: ListenType,
    /// Address of the host.
    #[serde(rename = "@address", skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// A network of libvirt.
    #[serde(rename = "@network", skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Path of a unix socket.
    #[serde(rename = "@socket", skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// Whether it came from qemu.conf; libvirt writes it.
    #[serde(rename = "@fromConfig", skip_serializing_if = "Option::is_none")]
    pub from_config: Option<u8>,
}

impl Listen {
    /// A place of this kind.
    #[must_use]
    pub fn new(kind: ListenType) -> Self {
        Self {
            kind,
            address: None,
            network: None,
            socket: None,
            from_config: None,
        }
    }
}

/// Kinds of place to serve graphics at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenType {
    /// An address of the host.
    #[serde(rename = "address")]
    Address,
    /// An address of a libvirt network.
    #[serde(rename = "network")]
    Network,
    /// A unix socket.
    #[serde(rename = "socket")]
    Socket,
    /// Nowhere.
    #[serde(rename = "none")]
    None,
}

/// The audio backend that goes with graphics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphicsAudio {
    /// Its number.
    #[serde(rename = "@id")]
    pub id: u8,
}

/// A graphics card (formatdomain.html, "Video devices").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Video {
    /// How QEMU treats it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<VideoDriver>,
    /// What the guest sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<VideoModel>,
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

/// How QEMU treats a graphics card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VideoDriver {
    /// `qemu` or `vhostuser`.
    #[serde(rename = "@name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `io`, `on` or `off`.
    #[serde(rename = "@vgaconf", skip_serializing_if = "Option::is_none")]
    pub vgaconf: Option<String>,
    /// DMA through the guest's IOMMU.
    #[serde(rename = "@iommu", skip_serializing_if = "Option::is_none")]
    pub iommu: Option<OnOff>,
}

/// The graphics card that the guest sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VideoModel {
    /// The card.
    #[serde(rename = "@type")]
    pub kind: VideoType,
    /// Size of the first PCI bar, in KiB (qxl).
    #[serde(rename = "@ram", skip_serializing_if = "Option::is_none")]
    pub ram: Option<u32>,
    /// Video memory, in KiB.
    #[serde(rename = "@vram", skip_serializing_if = "Option::is_none")]
    pub vram: Option<u32>,
    /// Size of the 64-bit bar, in KiB (qxl).
    #[serde(rename = "@vram64", skip_serializing_if = "Option::is_none")]
    pub vram64: Option<u32>,
    /// Framebuffer, in KiB (qxl).
    #[serde(rename = "@vgamem", skip_serializing_if = "Option::is_none")]
    pub vgamem: Option<u32>,
    /// Number of screens.
    #[serde(rename = "@heads", skip_serializing_if = "Option::is_none")]
    pub heads: Option<u32>,
    /// Whether it is the first.
    #[serde(rename = "@primary", skip_serializing_if = "Option::is_none")]
    pub primary: Option<YesNo>,
}

/// Graphics cards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VideoType {
    /// Standard VGA.
    #[default]
    #[serde(rename = "vga")]
    Vga,
    /// Cirrus Logic.
    #[serde(rename = "cirrus")]
    Cirrus,
    /// virtio-gpu.
    #[serde(rename = "virtio")]
    Virtio,
    /// Bochs' display, without VGA.
    #[serde(rename = "bochs")]
    Bochs,
    /// SPICE's.
    #[serde(rename = "qxl")]
    Qxl,
    /// A framebuffer in guest memory.
    #[serde(rename = "ramfb")]
    Ramfb,
    /// None: keeps libvirt from adding one.
    #[serde(rename = "none")]
    None,
}

/// A keyboard or pointer (formatdomain.html, "Input devices").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What it is.
    #[serde(rename = "@type")]
    pub kind: InputType,
    /// How it is attached.
    #[serde(rename = "@bus", skip_serializing_if = "Option::is_none")]
    pub bus: Option<InputBus>,
    /// Which virtio, for the virtio bus.
    #[serde(rename = "@model", skip_serializing_if = "Option::is_none")]
    pub model: Option<VirtioModel>,
    /// Options of a virtio device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<VirtioDriver>,
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

impl Input {
    /// An input device of this kind; the rest is libvirt's choice.
    #[must_use]
    pub fn new(kind: InputType) -> Self {
        Self {
            kind,
            bus: None,
            model: None,
            driver: None,
            alias: None,
            acpi: None,
            address: None,
        }
    }
}

/// Kinds of input device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InputType {
    /// A pointer with absolute coordinates.
    #[serde(rename = "tablet")]
    Tablet,
    /// A pointer with relative coordinates.
    #[serde(rename = "mouse")]
    Mouse,
    /// A keyboard.
    #[serde(rename = "keyboard")]
    Keyboard,
}

/// How an input device is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InputBus {
    /// USB.
    #[serde(rename = "usb")]
    Usb,
    /// virtio.
    #[serde(rename = "virtio")]
    Virtio,
    /// The keyboard controller.
    #[serde(rename = "ps2")]
    Ps2,
}

/// A sound card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sound {
    /// Such as `ich9`.
    #[serde(rename = "@model")]
    pub model: String,
    /// Codecs of an HDA card.
    #[serde(rename = "codec", default, skip_serializing_if = "Vec::is_empty")]
    pub codecs: Vec<Codec>,
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

/// A codec of an HDA card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Codec {
    /// Such as `duplex`.
    #[serde(rename = "@type")]
    pub kind: String,
}

/// Where sound goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audio {
    /// Its number, from 1.
    #[serde(rename = "@id")]
    pub id: u8,
    /// Such as `none`.
    #[serde(rename = "@type")]
    pub kind: String,
}
