//! Rules about firmware.

use uuid::Uuid;

use super::text;
use crate::defaults::is_on;
use crate::field::Field;
use crate::{DomainSpec, FieldError, Firmware, KernelBoot};

pub(super) fn check(domain: &DomainSpec, at: &Field, errors: &mut Vec<FieldError>) {
    let Some(firmware) = &domain.firmware else {
        return;
    };
    if let Some(uuid) = &firmware.uuid
        && Uuid::try_parse(uuid).is_err()
    {
        errors.push(at.at("uuid").error(format!(
            "{uuid:?} is no UUID; write one such as 5d307ca9-b3ef-428c-8861-06e72d69f223"
        )));
    }
    if let Some(serial) = &firmware.serial {
        text::serial(serial, &at.at("serial"), errors);
    }
    bootloader(domain, firmware, &at.at("bootloader"), errors);
    if let Some(boot) = &firmware.kernel_boot {
        kernel_boot(boot, &at.at("kernelBoot"), errors);
    }
}

fn bootloader(domain: &DomainSpec, firmware: &Firmware, at: &Field, errors: &mut Vec<FieldError>) {
    let Some(bootloader) = &firmware.bootloader else {
        return;
    };
    if bootloader.bios.is_some() && bootloader.efi.is_some() {
        errors.push(at.at("efi").error("excludes bios; leave one of the two"));
    }
    let console = domain.devices.autoattach_serial_console.unwrap_or(true);
    let serial = bootloader.bios.as_ref().and_then(|bios| bios.use_serial);
    if serial == Some(true) && !console {
        errors.push(
            at.at("bios.useSerial")
                .error("needs a serial console; remove it, or autoattachSerialConsole: false"),
        );
    }
    if let Some(efi) = &bootloader.efi {
        let at = at.at("efi");
        if efi.persistent == Some(true) {
            errors.push(at.at("persistent").error("not supported yet; remove it"));
        }
        let acpi = domain
            .features
            .as_ref()
            .and_then(|features| features.acpi.as_ref());
        if acpi.is_some_and(|acpi| acpi.enabled == Some(false)) {
            errors.push(at.error("needs ACPI; remove it, or features.acpi.enabled: false"));
        }
        let smm = domain
            .features
            .as_ref()
            .is_some_and(|features| is_on(&features.smm));
        if efi.secure_boot.unwrap_or(true) && !smm {
            errors.push(at.at("secureBoot").error(
                "needs system management mode; add features.smm: {}, or write secureBoot: false",
            ));
        }
    }
}

fn kernel_boot(boot: &KernelBoot, at: &Field, errors: &mut Vec<FieldError>) {
    let Some(container) = &boot.container else {
        let detail = "required; name the image that holds the kernel";
        errors.push(at.at("container").error(detail));
        return;
    };
    let at = at.at("container");
    text::image(&container.image, &at.at("image"), errors);
    match &container.kernel_path {
        Some(path) => text::absolute_path(path, &at.at("kernelPath"), errors),
        None => errors.push(
            at.at("kernelPath")
                .error("required; write the kernel's path in the image"),
        ),
    }
    if let Some(path) = &container.initrd_path {
        text::absolute_path(path, &at.at("initrdPath"), errors);
    }
}
