//! Rules about devices other than disks and interfaces, and about all devices together.

use super::text::Unique;
use crate::field::Field;
use crate::{Devices, FieldError};

pub(super) fn check(devices: &Devices, at: &Field, errors: &mut Vec<FieldError>) {
    boot_orders(devices, at, errors);
    pci_addresses(devices, at, errors);
    let mut names = Unique::new("give each input a name of its own");
    for (index, input) in devices.inputs.iter().enumerate() {
        let at = at.at("inputs").index(index).at("name");
        names.add(format!("{:?}", input.name), at, errors);
    }
    if let Some(watchdog) = &devices.watchdog
        && watchdog.i6300esb.is_none()
    {
        errors.push(at.at("watchdog").error("has no model; add i6300esb: {}"));
    }
    if devices.video.is_some() && devices.autoattach_graphics_device == Some(false) {
        errors.push(
            at.at("video")
                .error("needs graphics; remove it, or autoattachGraphicsDevice: false"),
        );
    }
}

/// No two devices have the same place in the order, which begins at 1.
fn boot_orders(devices: &Devices, at: &Field, errors: &mut Vec<FieldError>) {
    let disks = devices.disks.iter().map(|disk| disk.boot_order).enumerate();
    let disks = disks.map(|(index, order)| (at.at("disks").index(index), order));
    let interfaces = devices
        .interfaces
        .iter()
        .map(|interface| interface.boot_order);
    let interfaces = interfaces
        .enumerate()
        .map(|(index, order)| (at.at("interfaces").index(index), order));
    let mut orders = Unique::new("give each device a place of its own");
    for (at, order) in disks.chain(interfaces) {
        let at = at.at("bootOrder");
        match order {
            None => {}
            Some(0) => errors.push(at.error("0 is no place; begin with 1")),
            Some(order) => orders.add(order, at, errors),
        }
    }
}

/// No two devices are at the same place on the PCI bus.
fn pci_addresses(devices: &Devices, at: &Field, errors: &mut Vec<FieldError>) {
    let mut addresses = Unique::new("give each device an address of its own");
    for (index, disk) in devices.disks.iter().enumerate() {
        if let Some(address) = disk
            .disk
            .as_ref()
            .and_then(|disk| disk.pci_address.as_ref())
        {
            let at = at.at("disks").index(index).at("disk.pciAddress");
            addresses.add(address.to_lowercase(), at, errors);
        }
    }
    for (index, interface) in devices.interfaces.iter().enumerate() {
        if let Some(address) = &interface.pci_address {
            let at = at.at("interfaces").index(index).at("pciAddress");
            addresses.add(address.to_lowercase(), at, errors);
        }
    }
}
