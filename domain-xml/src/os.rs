//! `<os>`: firmware, machine and boot, and the SMBIOS tables.

use serde::{Deserialize, Serialize};

use crate::{FileType, YesNo};

/// Firmware, machine and what is booted (formatdomain.html, "Operating system booting").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Os {
    /// Let libvirt choose an image of this kind.
    #[serde(rename = "@firmware", skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareKind>,
    /// Machine and architecture.
    #[serde(rename = "type")]
    pub kind: OsType,
    /// What the chosen image must have.
    #[serde(rename = "firmware", skip_serializing_if = "Option::is_none")]
    pub features: Option<FirmwareFeatures>,
    /// The firmware's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loader: Option<Loader>,
    /// The firmware's variable store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvram: Option<Nvram>,
    /// Path of a kernel that QEMU loads itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Path of the initrd that goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
    /// The kernel's command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// Path of a device tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtb: Option<String>,
    /// Kinds of device to boot from, in order. Excludes `<boot order>` on devices.
    #[serde(rename = "boot", default, skip_serializing_if = "Vec::is_empty")]
    pub boot_devices: Vec<BootDevice>,
    /// The firmware's menu.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootmenu: Option<BootMenu>,
    /// Where SMBIOS tables come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smbios: Option<SmbiosMode>,
    /// SeaBIOS settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios: Option<Bios>,
    /// ACPI tables handed to the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acpi: Option<AcpiTables>,
}

/// Kinds of firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FirmwareKind {
    /// SeaBIOS.
    #[serde(rename = "bios")]
    Bios,
    /// UEFI.
    #[serde(rename = "efi")]
    Efi,
}

/// The machine (`pc-q35-7.2`) and its architecture (`x86_64`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OsType {
    /// Instruction set; the host's where `None`.
    #[serde(rename = "@arch", skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// QEMU's machine type; libvirt's choice where `None`.
    #[serde(rename = "@machine", skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// `hvm`: fully virtualised.
    #[serde(rename = "$text")]
    pub value: String,
}

/// Requirements of firmware selection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareFeatures {
    /// One requirement each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feature: Vec<FirmwareFeature>,
}

/// One requirement of firmware selection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareFeature {
    /// Must it have the feature or lack it.
    #[serde(rename = "@enabled")]
    pub enabled: YesNo,
    /// `enrolled-keys` or `secure-boot`.
    #[serde(rename = "@name")]
    pub name: String,
}

/// The firmware's code (formatdomain.html, "BIOS bootloader").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loader {
    /// The image is not written.
    #[serde(rename = "@readonly", skip_serializing_if = "Option::is_none")]
    pub readonly: Option<YesNo>,
    /// The code enforces Secure Boot; needs SMM.
    #[serde(rename = "@secure", skip_serializing_if = "Option::is_none")]
    pub secure: Option<YesNo>,
    /// How it is mapped.
    #[serde(rename = "@type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<LoaderType>,
    /// It keeps no variables.
    #[serde(rename = "@stateless", skip_serializing_if = "Option::is_none")]
    pub stateless: Option<YesNo>,
    /// Path of the image.
    #[serde(rename = "$text", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// How the firmware is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoaderType {
    /// As read-only memory.
    #[serde(rename = "rom")]
    Rom,
    /// As a flash chip.
    #[serde(rename = "pflash")]
    Pflash,
}

/// The variable store that belongs to one domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nvram {
    /// Path of the store that a missing one is copied from.
    #[serde(rename = "@template", skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Given by libvirt where the store has a `source`.
    #[serde(rename = "@type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<FileType>,
    /// Path of the store.
    #[serde(rename = "$text", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A kind of device to boot from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootDevice {
    /// The kind.
    #[serde(rename = "@dev")]
    pub dev: BootDeviceKind,
}

/// Kinds of device that firmware boots from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootDeviceKind {
    /// The first disk.
    #[serde(rename = "hd")]
    Hd,
    /// The first CD-ROM.
    #[serde(rename = "cdrom")]
    Cdrom,
    /// The first network card.
    #[serde(rename = "network")]
    Network,
    /// The first floppy.
    #[serde(rename = "fd")]
    Fd,
}

/// The firmware's boot menu.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootMenu {
    /// Whether it is shown.
    #[serde(rename = "@enable")]
    pub enable: YesNo,
    /// How long, in milliseconds.
    #[serde(rename = "@timeout", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u16>,
}

/// Where SMBIOS tables come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmbiosMode {
    /// The source.
    #[serde(rename = "@mode")]
    pub mode: SmbiosSource,
}

/// Sources of SMBIOS tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SmbiosSource {
    /// The hypervisor's own.
    #[serde(rename = "emulate")]
    Emulate,
    /// The host's.
    #[serde(rename = "host")]
    Host,
    /// `<sysinfo>`.
    #[serde(rename = "sysinfo")]
    Sysinfo,
}

/// SeaBIOS settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bios {
    /// Write firmware output to the first serial port.
    #[serde(rename = "@useserial", skip_serializing_if = "Option::is_none")]
    pub use_serial: Option<YesNo>,
    /// Milliseconds before a failed boot is tried again; -1 for never.
    #[serde(rename = "@rebootTimeout", skip_serializing_if = "Option::is_none")]
    pub reboot_timeout: Option<i32>,
}

/// ACPI tables handed to the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcpiTables {
    /// One file each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub table: Vec<AcpiTable>,
}

/// One ACPI table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcpiTable {
    /// Its signature: `slic`, and `msdm` in later libvirt.
    #[serde(rename = "@type")]
    pub kind: String,
    /// Path of the file.
    #[serde(rename = "$text")]
    pub path: String,
}

/// What the guest reads from SMBIOS (formatdomain.html, "SMBIOS System Information").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sysinfo {
    /// The format.
    #[serde(rename = "@type")]
    pub kind: SysinfoType,
    /// Type 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios: Option<SysinfoTable>,
    /// Type 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<SysinfoTable>,
    /// Type 2.
    #[serde(rename = "baseBoard", default, skip_serializing_if = "Vec::is_empty")]
    pub base_board: Vec<SysinfoTable>,
    /// Type 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chassis: Option<SysinfoTable>,
    /// Type 11.
    #[serde(rename = "oemStrings", skip_serializing_if = "Option::is_none")]
    pub oem_strings: Option<OemStrings>,
}

/// Formats of system information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SysinfoType {
    /// SMBIOS tables.
    #[default]
    #[serde(rename = "smbios")]
    Smbios,
}

/// One SMBIOS structure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SysinfoTable {
    /// Its strings.
    #[serde(rename = "entry", default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<SysinfoEntry>,
}

/// One string of an SMBIOS structure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SysinfoEntry {
    /// Which one, such as `manufacturer`.
    #[serde(rename = "@name")]
    pub name: String,
    /// The string; empty where `None`.
    #[serde(rename = "$text", skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// SMBIOS type 11.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OemStrings {
    /// The strings, in order.
    #[serde(rename = "entry", default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<OemString>,
}

/// One OEM string.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OemString {
    /// The string; empty where `None`.
    #[serde(rename = "$text", skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}
