//! Bus controllers.

use serde::{Deserialize, Serialize};

use super::{Acpi, Address, Alias};
use crate::{Hex, OnOff};

/// A bus controller (formatdomain.html, "Controllers").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    /// The bus.
    #[serde(rename = "@type")]
    pub kind: ControllerType,
    /// Its number among controllers of its kind.
    #[serde(rename = "@index", skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// What it is, such as `pcie-root-port`, `qemu-xhci`, `virtio-scsi`.
    #[serde(rename = "@model", skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Number of ports (virtio-serial, usb).
    #[serde(rename = "@ports", skip_serializing_if = "Option::is_none")]
    pub ports: Option<u32>,
    /// Number of MSI vectors (virtio-serial).
    #[serde(rename = "@vectors", skip_serializing_if = "Option::is_none")]
    pub vectors: Option<u32>,
    /// The device that plays a PCI controller.
    #[serde(rename = "model", skip_serializing_if = "Option::is_none")]
    pub pci_model: Option<PciModel>,
    /// Hardware settings of a PCI controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<PciTarget>,
    /// Size of the 64-bit PCI window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcihole64: Option<crate::Scaled>,
    /// The companion that shares its ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<UsbMaster>,
    /// How QEMU treats it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<ControllerDriver>,
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

impl Controller {
    /// A controller of this kind; the rest is libvirt's choice.
    #[must_use]
    pub fn new(kind: ControllerType) -> Self {
        Self {
            kind,
            index: None,
            model: None,
            ports: None,
            vectors: None,
            pci_model: None,
            target: None,
            pcihole64: None,
            master: None,
            driver: None,
            alias: None,
            acpi: None,
            address: None,
        }
    }
}

/// Buses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControllerType {
    /// PCI and PCIe.
    #[serde(rename = "pci")]
    Pci,
    /// USB.
    #[serde(rename = "usb")]
    Usb,
    /// AHCI.
    #[serde(rename = "sata")]
    Sata,
    /// SCSI.
    #[serde(rename = "scsi")]
    Scsi,
    /// IDE.
    #[serde(rename = "ide")]
    Ide,
    /// Floppy.
    #[serde(rename = "fdc")]
    Fdc,
    /// virtio serial ports.
    #[serde(rename = "virtio-serial")]
    VirtioSerial,
    /// ISA.
    #[serde(rename = "isa")]
    Isa,
    /// Smartcards.
    #[serde(rename = "ccid")]
    Ccid,
}

/// The device that plays a PCI controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciModel {
    /// QEMU's name, such as `pcie-root-port`.
    #[serde(rename = "@name")]
    pub name: String,
}

/// Hardware settings of a PCI controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciTarget {
    /// Chassis number.
    #[serde(rename = "@chassis", skip_serializing_if = "Option::is_none")]
    pub chassis: Option<u32>,
    /// Chassis number of a pci-bridge.
    #[serde(rename = "@chassisNr", skip_serializing_if = "Option::is_none")]
    pub chassis_nr: Option<u32>,
    /// Port number.
    #[serde(rename = "@port", skip_serializing_if = "Option::is_none")]
    pub port: Option<Hex<1>>,
    /// Bus number of an expander.
    #[serde(rename = "@busNr", skip_serializing_if = "Option::is_none")]
    pub bus_nr: Option<u32>,
    /// Whether devices can be plugged.
    #[serde(rename = "@hotplug", skip_serializing_if = "Option::is_none")]
    pub hotplug: Option<OnOff>,
}

/// The companion controller's first port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsbMaster {
    /// The port.
    #[serde(rename = "@startport")]
    pub start_port: u32,
}

/// How QEMU treats a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControllerDriver {
    /// Number of virtqueues (virtio-scsi).
    #[serde(rename = "@queues", skip_serializing_if = "Option::is_none")]
    pub queues: Option<u32>,
    /// Commands that a LUN queues.
    #[serde(rename = "@cmd_per_lun", skip_serializing_if = "Option::is_none")]
    pub cmd_per_lun: Option<u32>,
    /// Sectors in one request.
    #[serde(rename = "@max_sectors", skip_serializing_if = "Option::is_none")]
    pub max_sectors: Option<u32>,
    /// Notify by eventfd.
    #[serde(rename = "@ioeventfd", skip_serializing_if = "Option::is_none")]
    pub ioeventfd: Option<OnOff>,
    /// The I/O thread, from 1.
    #[serde(rename = "@iothread", skip_serializing_if = "Option::is_none")]
    pub iothread: Option<u32>,
    /// DMA through the guest's IOMMU.
    #[serde(rename = "@iommu", skip_serializing_if = "Option::is_none")]
    pub iommu: Option<OnOff>,
    /// Packed virtqueues.
    #[serde(rename = "@packed", skip_serializing_if = "Option::is_none")]
    pub packed: Option<OnOff>,
}
