//! Rules about disks, and about their volumes.

use super::text::{self, Unique};
use crate::field::Field;
use crate::{
    BlockSize, Disk, DiskBus, DriverCache, DriverIO, FieldError, VirtualMachineInstanceSpec, Volume,
};

/// The sizes of blocks that QEMU knows, in bytes.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 512..=2 * 1024 * 1024;

pub(super) fn check(spec: &VirtualMachineInstanceSpec, at: &Field, errors: &mut Vec<FieldError>) {
    let disks = &spec.domain.devices.disks;
    let mut names = Unique::new("give each disk a name of its own");
    for (index, disk) in disks.iter().enumerate() {
        let at = at.at("domain.devices.disks").index(index);
        names.add(format!("{:?}", disk.name), at.at("name"), errors);
        match spec.volumes.iter().find(|volume| volume.name == disk.name) {
            Some(volume) => target(disk, volume, &at, errors),
            None => errors.push(at.at("name").error(format!(
                "no volume is named {:?}; add it to volumes, or remove the disk",
                disk.name
            ))),
        }
        if let Some(serial) = &disk.serial {
            text::serial(serial, &at.at("serial"), errors);
        }
        let cached = matches!(
            disk.cache,
            Some(DriverCache::Writethrough | DriverCache::Writeback)
        );
        if disk.io == Some(DriverIO::Native) && cached {
            errors.push(
                at.at("io")
                    .error("native needs cache none; change one of the two"),
            );
        }
        if let Some(size) = &disk.block_size {
            block_size(size, &at.at("blockSize"), errors);
        }
    }
}

fn target(disk: &Disk, volume: &Volume, at: &Field, errors: &mut Vec<FieldError>) {
    let given = [
        disk.disk.is_some(),
        disk.cdrom.is_some(),
        disk.lun.is_some(),
    ];
    if given.into_iter().filter(|given| *given).count() > 1 {
        errors.push(at.error("is several things at once; leave one of disk, cdrom and lun"));
    }
    if let Some(target) = &disk.disk {
        let at = at.at("disk");
        let sata = matches!(target.bus, None | Some(DiskBus::Sata));
        if sata && target.readonly == Some(true) {
            // libvirt: "readonly sata disks are not supported".
            errors.push(at.at("readonly").error(
                "no SATA disk is read-only; use bus virtio or scsi, or cdrom instead of disk",
            ));
        }
        let claim = volume.persistent_volume_claim.as_ref();
        if sata && claim.is_some_and(|claim| claim.read_only == Some(true)) {
            errors.push(at.at("bus").error(format!(
                "volume {:?} is read-only, and no SATA disk is; use bus virtio or scsi, or cdrom \
                 instead of disk",
                volume.name
            )));
        }
        if let Some(address) = &target.pci_address {
            let at = at.at("pciAddress");
            text::pci_address(address, &at, errors);
            if target.bus != Some(DiskBus::Virtio) {
                errors.push(
                    at.error("only virtio disks are on the PCI bus; use bus virtio, or remove it"),
                );
            }
        }
    }
    if let Some(target) = &disk.cdrom {
        let at = at.at("cdrom");
        if !matches!(target.bus, None | Some(DiskBus::Sata | DiskBus::Scsi)) {
            errors.push(
                at.at("bus")
                    .error("no CD-ROM drive is on that bus; use sata or scsi"),
            );
        }
        if target.readonly == Some(false) {
            errors.push(
                at.at("readonly")
                    .error("a CD-ROM cannot be written; remove it, or use disk"),
            );
        }
    }
    if let Some(target) = &disk.lun {
        let at = at.at("lun");
        if !matches!(target.bus, None | Some(DiskBus::Scsi)) {
            errors.push(at.at("bus").error("no LUN is on that bus; use scsi"));
        }
        if volume.host_disk.is_none() && volume.persistent_volume_claim.is_none() {
            errors.push(at.error(format!(
                "volume {:?} is no SCSI device; use a persistentVolumeClaim or a hostDisk that is \
                 one, or use disk",
                volume.name
            )));
        }
    }
}

fn block_size(size: &BlockSize, at: &Field, errors: &mut Vec<FieldError>) {
    let Some(custom) = &size.custom else {
        if size.match_volume.is_none() {
            errors.push(at.error("says nothing; add custom or matchVolume"));
        }
        return;
    };
    if size.match_volume.is_some() {
        errors.push(
            at.at("matchVolume")
                .error("excludes custom; leave one of the two"),
        );
    }
    let at = at.at("custom");
    for (name, bytes) in [("logical", custom.logical), ("physical", custom.physical)] {
        let valid = bytes.is_some_and(|b| b.is_power_of_two() && BLOCK_SIZES.contains(&b));
        if !valid {
            let found = bytes.map_or("not given".to_owned(), |b| {
                format!("{b} is no size of a block")
            });
            errors.push(at.at(name).error(format!(
                "{found}; write a power of two from {} to {}",
                BLOCK_SIZES.start(),
                BLOCK_SIZES.end()
            )));
        }
    }
    if let (Some(logical), Some(physical)) = (custom.logical, custom.physical)
        && logical > physical
    {
        errors.push(at.at("logical").error(format!(
            "{logical} is more than physical, {physical}; make it at most that"
        )));
    }
}
