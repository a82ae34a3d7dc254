//! Serial ports, consoles and channels.

use serde::{Deserialize, Serialize};

use super::{Acpi, Address, Alias};
use crate::{OnOff, YesNo};

/// A character device (formatdomain.html, "Consoles, serial, parallel & channel devices").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharDevice {
    /// What its host end is.
    #[serde(rename = "@type")]
    pub kind: CharType,
    /// The pseudo terminal; libvirt writes it.
    #[serde(rename = "@tty", skip_serializing_if = "Option::is_none")]
    pub tty: Option<String>,
    /// The host end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<CharSource>,
    /// What is spoken over TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// A copy of what the guest writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// The guest end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<CharTarget>,
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

/// Host ends of a character device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CharType {
    /// A unix socket.
    #[default]
    #[serde(rename = "unix")]
    Unix,
    /// A pseudo terminal.
    #[serde(rename = "pty")]
    Pty,
    /// A file.
    #[serde(rename = "file")]
    File,
    /// A named pipe.
    #[serde(rename = "pipe")]
    Pipe,
    /// A device.
    #[serde(rename = "dev")]
    Dev,
    /// A TCP socket.
    #[serde(rename = "tcp")]
    Tcp,
    /// A UDP socket.
    #[serde(rename = "udp")]
    Udp,
    /// Nothing.
    #[serde(rename = "null")]
    Null,
    /// QEMU's standard input and output.
    #[serde(rename = "stdio")]
    Stdio,
    /// QEMU's virtual console.
    #[serde(rename = "vc")]
    Vc,
    /// SPICE's agent.
    #[serde(rename = "spicevmc")]
    SpiceVmc,
    /// A SPICE port.
    #[serde(rename = "spiceport")]
    SpicePort,
}

/// The host end of a character device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharSource {
    /// Who listens.
    #[serde(rename = "@mode", skip_serializing_if = "Option::is_none")]
    pub mode: Option<SocketMode>,
    /// Path of socket, file or device.
    #[serde(rename = "@path", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Host of a TCP or UDP socket.
    #[serde(rename = "@host", skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Port of a TCP or UDP socket.
    #[serde(rename = "@service", skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Name of a SPICE port.
    #[serde(rename = "@channel", skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Whether a file is appended to.
    #[serde(rename = "@append", skip_serializing_if = "Option::is_none")]
    pub append: Option<OnOff>,
    /// Whether TLS is spoken.
    #[serde(rename = "@tls", skip_serializing_if = "Option::is_none")]
    pub tls: Option<YesNo>,
}

/// Who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketMode {
    /// QEMU.
    #[serde(rename = "bind")]
    Bind,
    /// The other side.
    #[serde(rename = "connect")]
    Connect,
}

/// What is spoken over TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// `raw` or `telnet`.
    #[serde(rename = "@type")]
    pub kind: String,
}

/// A copy of what the guest writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Path of the file.
    #[serde(rename = "@file")]
    pub file: String,
    /// Whether it is appended to; truncated otherwise.
    #[serde(rename = "@append", skip_serializing_if = "Option::is_none")]
    pub append: Option<OnOff>,
}

/// The guest end of a character device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharTarget {
    /// Such as `isa-serial`, `serial`, `virtio`.
    #[serde(rename = "@type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its number.
    #[serde(rename = "@port", skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// A channel's name, such as `org.qemu.guest_agent.0`.
    #[serde(rename = "@name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether the guest opened it; libvirt writes it.
    #[serde(rename = "@state", skip_serializing_if = "Option::is_none")]
    pub state: Option<ChannelState>,
    /// The device, such as `isa-serial`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<CharModel>,
}

/// Whether the guest opened a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelState {
    /// It did.
    #[serde(rename = "connected")]
    Connected,
    /// It did not.
    #[serde(rename = "disconnected")]
    Disconnected,
}

/// The device that plays a serial port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharModel {
    /// QEMU's name.
    #[serde(rename = "@name")]
    pub name: String,
}
