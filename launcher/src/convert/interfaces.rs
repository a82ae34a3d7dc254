//! `spec.domain.devices.interfaces`: `<interface>`.

use crds::{DomainSpec, InterfaceModel};
use domain_xml::{
    Acpi, Boot, Device, Interface, InterfaceDriver, InterfaceTarget, InterfaceType, Mac, Mtu, Rom,
    YesNo,
};

use super::{ConvertError, Host, Problem, cpu, devices};

/// One card for each interface, whose host end is the tap that netbind made.
///
/// A card without a place in the boot order has no option ROM: the firmware does not spend
/// seconds on PXE.
pub(super) fn interfaces(spec: &DomainSpec, host: &Host) -> Result<Vec<Device>, ConvertError> {
    let interfaces = spec.devices.interfaces.iter().enumerate();
    interfaces
        .map(|(index, interface)| {
            let path = format!("spec.domain.devices.interfaces[{index}]");
            Ok(Device::Interface(Box::new(card(
                spec, interface, host, &path,
            )?)))
        })
        .collect()
}

fn card(
    spec: &DomainSpec,
    interface: &crds::Interface,
    host: &Host,
    path: &str,
) -> Result<Interface, ConvertError> {
    let bound = host
        .interfaces
        .get(&interface.name)
        .ok_or_else(|| Problem::NoNetwork(interface.name.clone()).at(format!("{path}.name")))?;
    let asked = interface
        .mac_address
        .as_ref()
        .map(|mac| mac.replace('-', ":"));
    let model = interface.model.unwrap_or(InterfaceModel::Virtio);
    let queues = queue_pairs(spec, interface);
    Ok(Interface {
        mac: bound.mac.clone().or(asked).map(|address| Mac {
            address,
            kind: None,
        }),
        target: Some(InterfaceTarget {
            dev: bound.tap.clone(),
            managed: Some(YesNo::No),
        }),
        model: Some(domain_xml::InterfaceModel {
            kind: model_name(model).to_owned(),
        }),
        driver: (queues > 1).then(|| InterfaceDriver {
            queues: Some(queues),
            ..InterfaceDriver::default()
        }),
        mtu: bound.mtu.map(|size| Mtu { size }),
        boot: interface.boot_order.map(|order| Boot { order }),
        rom: interface.boot_order.is_none().then_some(Rom {
            enabled: Some(YesNo::No),
            ..Rom::default()
        }),
        alias: devices::alias(&interface.name),
        acpi: interface
            .acpi_index
            .map(|index| Acpi { index: Some(index) }),
        address: interface
            .pci_address
            .as_deref()
            .map(|address| devices::pci_address(address, &format!("{path}.pciAddress")))
            .transpose()?,
        ..Interface::new(InterfaceType::Ethernet)
    })
}

/// How many pairs of queues the card has: one for each virtual CPU where that is asked for.
///
/// From two, the tap must be a `multi_queue` one, and below it must not: libvirt attaches to no
/// other ("Unable to create tap device: Invalid argument").
#[must_use]
pub fn queue_pairs(spec: &DomainSpec, interface: &crds::Interface) -> u32 {
    /// The kernel's limit on the queues of a tap.
    const MOST: u32 = 256;
    let virtio = matches!(interface.model, None | Some(InterfaceModel::Virtio));
    if virtio && spec.devices.network_interface_multiqueue == Some(true) {
        cpu::count(spec).min(MOST)
    } else {
        1
    }
}

fn model_name(model: InterfaceModel) -> &'static str {
    match model {
        InterfaceModel::Virtio => "virtio-non-transitional",
        InterfaceModel::E1000 => "e1000",
        InterfaceModel::E1000e => "e1000e",
        // QEMU has it since 8.0; an older one refuses it by name.
        InterfaceModel::Igb => "igb",
        InterfaceModel::Ne2kPci => "ne2k_pci",
        InterfaceModel::Pcnet => "pcnet",
        InterfaceModel::Rtl8139 => "rtl8139",
    }
}
