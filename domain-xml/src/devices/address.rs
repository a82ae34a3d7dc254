//! Where a device sits in the guest.

use serde::{Deserialize, Serialize};

use crate::{Hex, OnOff};

/// Where a device sits (formatdomain.html, "Device Addresses"). Which attributes go with which `kind`, libvirt says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The kind of address.
    #[serde(rename = "@type")]
    pub kind: AddressType,
    /// PCI domain.
    #[serde(rename = "@domain", skip_serializing_if = "Option::is_none")]
    pub domain: Option<Hex<4>>,
    /// Index of the controller (drive, virtio-serial, ccid).
    #[serde(rename = "@controller", skip_serializing_if = "Option::is_none")]
    pub controller: Option<u32>,
    /// The bus: hex for pci, decimal otherwise.
    #[serde(rename = "@bus", skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// PCI slot; decimal for ccid.
    #[serde(rename = "@slot", skip_serializing_if = "Option::is_none")]
    pub slot: Option<Hex<2>>,
    /// PCI function.
    #[serde(rename = "@function", skip_serializing_if = "Option::is_none")]
    pub function: Option<Hex<1>>,
    /// Whether the slot holds other functions.
    #[serde(rename = "@multifunction", skip_serializing_if = "Option::is_none")]
    pub multifunction: Option<OnOff>,
    /// SCSI target.
    #[serde(rename = "@target", skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
    /// Unit on the bus.
    #[serde(rename = "@unit", skip_serializing_if = "Option::is_none")]
    pub unit: Option<u32>,
    /// Port (usb as `1.2`, virtio-serial as a number).
    #[serde(rename = "@port", skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// I/O port (isa).
    #[serde(rename = "@iobase", skip_serializing_if = "Option::is_none")]
    pub iobase: Option<Hex<1>>,
    /// Interrupt (isa).
    #[serde(rename = "@irq", skip_serializing_if = "Option::is_none")]
    pub irq: Option<Hex<1>>,
    /// Address of a DIMM.
    #[serde(rename = "@base", skip_serializing_if = "Option::is_none")]
    pub base: Option<Hex<1>>,
    /// UUID of a mediated device.
    #[serde(rename = "@uuid", skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

impl Address {
    /// An address of this kind, whose parts libvirt chooses.
    #[must_use]
    pub fn new(kind: AddressType) -> Self {
        Self {
            kind,
            domain: None,
            controller: None,
            bus: None,
            slot: None,
            function: None,
            multifunction: None,
            target: None,
            unit: None,
            port: None,
            iobase: None,
            irq: None,
            base: None,
            uuid: None,
        }
    }

    /// A place on the PCI bus.
    #[must_use]
    pub fn pci(domain: u16, bus: u8, slot: u8, function: u8) -> Self {
        Self {
            domain: Some(Hex(domain.into())),
            bus: Some(format!("0x{bus:02x}")),
            slot: Some(Hex(slot.into())),
            function: Some(Hex(function.into())),
            ..Self::new(AddressType::Pci)
        }
    }

    /// A place on a disk controller; `target` and `unit` as SCSI counts them.
    #[must_use]
    pub fn drive(controller: u32, target: u32, unit: u32) -> Self {
        Self {
            controller: Some(controller),
            bus: Some("0".to_owned()),
            target: Some(target),
            unit: Some(unit),
            ..Self::new(AddressType::Drive)
        }
    }
}

/// Kinds of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressType {
    /// A PCI or PCIe slot.
    #[serde(rename = "pci")]
    Pci,
    /// A place on a disk controller.
    #[serde(rename = "drive")]
    Drive,
    /// A port of a virtio-serial controller.
    #[serde(rename = "virtio-serial")]
    VirtioSerial,
    /// A smartcard reader's slot.
    #[serde(rename = "ccid")]
    Ccid,
    /// A USB port.
    #[serde(rename = "usb")]
    Usb,
    /// I/O port and interrupt.
    #[serde(rename = "isa")]
    Isa,
    /// A memory slot.
    #[serde(rename = "dimm")]
    Dimm,
    /// Kept but not attached.
    #[serde(rename = "unassigned")]
    Unassigned,
}
