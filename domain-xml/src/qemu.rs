//! What is handed to QEMU past libvirt.

use serde::{Deserialize, Serialize};

/// The namespace that the prefix `qemu:` stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum QemuNamespace {
    /// libvirt's only one.
    #[default]
    #[serde(rename = "http://libvirt.org/schemas/domain/qemu/1.0")]
    V1,
}

/// Arguments and environment for QEMU (drvqemu.html, "Pass-through of arbitrary qemu commands"). A domain that has them is tainted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QemuCommandline {
    /// Declared where it is used.
    #[serde(rename = "@xmlns:qemu", default)]
    pub namespace: QemuNamespace,
    /// Arguments, in order.
    #[serde(
        rename(serialize = "qemu:arg", deserialize = "arg"),
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub args: Vec<QemuArg>,
    /// Environment variables.
    #[serde(
        rename(serialize = "qemu:env", deserialize = "env"),
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<QemuEnv>,
}

/// One argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QemuArg {
    /// As QEMU's `argv` has it.
    #[serde(rename = "@value")]
    pub value: String,
}

/// One environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QemuEnv {
    /// Its name.
    #[serde(rename = "@name")]
    pub name: String,
    /// Its value; empty where `None`.
    #[serde(rename = "@value", skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Changes to what libvirt tells QEMU of a device (drvqemu.html, "Overriding properties of QEMU
/// devices"). A domain that has them is tainted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QemuOverride {
    /// Declared where it is used.
    #[serde(rename = "@xmlns:qemu", default)]
    pub namespace: QemuNamespace,
    /// The devices, by alias.
    #[serde(
        rename(serialize = "qemu:device", deserialize = "device"),
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub devices: Vec<QemuDevice>,
}

/// Changes to one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QemuDevice {
    /// The device's alias; the user's own, since libvirt's are not stable.
    #[serde(rename = "@alias")]
    pub alias: String,
    /// Properties of the device that the guest sees.
    #[serde(rename(serialize = "qemu:frontend", deserialize = "frontend"))]
    pub frontend: QemuFrontend,
}

/// Properties of a device that the guest sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QemuFrontend {
    /// The changes.
    #[serde(rename(serialize = "qemu:property", deserialize = "property"), default)]
    pub properties: Vec<QemuProperty>,
}

/// A change to one property.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QemuProperty {
    /// Its name in `qemu-system-x86_64 -device …,help`.
    #[serde(rename = "@name")]
    pub name: String,
    /// The value's type, or that the property is left out.
    #[serde(rename = "@type")]
    pub kind: QemuPropertyType,
    /// The value; `None` with [`QemuPropertyType::Remove`].
    #[serde(rename = "@value", skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Types of QEMU's properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QemuPropertyType {
    /// Text.
    String,
    /// A number that may be negative.
    Signed,
    /// A number.
    Unsigned,
    /// `true` or `false`.
    Bool,
    /// Left out.
    Remove,
}
