//! `spec.domain.devices.disks` and what backs them: `<disk>`.

use crds::{Disk, DiskBus, DiskErrorPolicy, DomainSpec, DriverCache, DriverIO, TrayState};
use domain_xml::{
    Address, BackingFormat, BackingStore, BlockIo, Boot, Cache, Device, Discard, DiskDevice,
    DiskDriver, DiskSource, DiskTarget, Empty, ErrorPolicy, FileType, IoMode, Tray, VirtioModel,
};

use super::{ConvertError, DiskFormat, Host, Problem, VolumeSource, cpu, devices, utf8};

/// One disk for each of the VMI's, in its order.
pub(super) fn disks(spec: &DomainSpec, host: &Host) -> Result<Vec<Device>, ConvertError> {
    let mut names = Names::default();
    let disks = spec.devices.disks.iter().enumerate();
    disks
        .map(|(index, disk)| {
            let path = format!("spec.domain.devices.disks[{index}]");
            let volume = host.volumes.get(&disk.name);
            let volume = volume
                .ok_or_else(|| Problem::NoVolume(disk.name.clone()).at(format!("{path}.name")))?;
            let queues = (spec.devices.block_multi_queue == Some(true)).then(|| cpu::count(spec));
            let shape = Shape::of(disk, volume, &path)?;
            let converted = convert(disk, volume, shape, queues, &mut names, &path)?;
            Ok(Device::Disk(Box::new(converted)))
        })
        .collect()
}

/// Whether any disk is attached to `bus`.
pub(super) fn uses(spec: &DomainSpec, bus: DiskBus) -> bool {
    spec.devices.disks.iter().any(|disk| bus_of(disk) == bus)
}

/// What the guest sees, without how it is stored.
#[derive(Clone, Copy)]
struct Shape {
    device: DiskDevice,
    bus: DiskBus,
    readonly: bool,
    tray: Option<Tray>,
}

impl Shape {
    fn of(disk: &Disk, volume: &VolumeSource, path: &str) -> Result<Self, ConvertError> {
        let bus = bus_of(disk);
        if let Some(cdrom) = &disk.cdrom {
            return Ok(Self {
                device: DiskDevice::Cdrom,
                bus,
                readonly: true,
                tray: cdrom.tray.map(|tray| match tray {
                    TrayState::Open => Tray::Open,
                    TrayState::Closed => Tray::Closed,
                }),
            });
        }
        let device = if disk.lun.is_some() {
            DiskDevice::Lun
        } else {
            DiskDevice::Disk
        };
        let asked = match (&disk.lun, &disk.disk) {
            (Some(lun), _) => lun.readonly,
            (None, Some(disk)) => disk.readonly,
            (None, None) => None,
        };
        let readonly = asked.unwrap_or(false) || volume.read_only;
        if device == DiskDevice::Lun && !volume.block {
            let file = volume.path.clone();
            return Err(Problem::LunFile { path: file }.at(format!("{path}.lun")));
        }
        // libvirt: "readonly sata disks are not supported".
        if readonly && device == DiskDevice::Disk && bus == DiskBus::Sata {
            return Err(Problem::ReadonlySata.at(format!("{path}.disk.bus")));
        }
        Ok(Self {
            device,
            bus,
            readonly,
            tray: None,
        })
    }
}

fn bus_of(disk: &Disk) -> DiskBus {
    let (bus, default) = match (&disk.cdrom, &disk.lun, &disk.disk) {
        (Some(cdrom), _, _) => (cdrom.bus, DiskBus::Sata),
        (None, Some(lun), _) => (lun.bus, DiskBus::Scsi),
        (None, None, Some(disk)) => (disk.bus, DiskBus::Sata),
        (None, None, None) => (None, DiskBus::Sata),
    };
    bus.unwrap_or(default)
}

fn convert(
    disk: &Disk,
    volume: &VolumeSource,
    shape: Shape,
    queues: Option<u32>,
    names: &mut Names,
    path: &str,
) -> Result<domain_xml::Disk, ConvertError> {
    let (dev, place) = names.next(shape.bus);
    let pci = disk
        .disk
        .as_ref()
        .and_then(|disk| disk.pci_address.as_deref());
    let address = match pci {
        Some(pci) => Some(devices::pci_address(
            pci,
            &format!("{path}.disk.pciAddress"),
        )?),
        None => place,
    };
    let virtio = shape.bus == DiskBus::Virtio;
    Ok(domain_xml::Disk {
        kind: file_type(volume),
        device: Some(shape.device),
        model: virtio.then_some(VirtioModel::VirtioNonTransitional),
        driver: Some(driver(disk, volume, shape, queues, path)?),
        source: Some(source(volume, path)?),
        backing_store: chain(volume, path)?,
        target: DiskTarget {
            dev,
            bus: Some(match shape.bus {
                DiskBus::Virtio => domain_xml::DiskBus::Virtio,
                DiskBus::Sata => domain_xml::DiskBus::Sata,
                DiskBus::Scsi => domain_xml::DiskBus::Scsi,
                DiskBus::Usb => domain_xml::DiskBus::Usb,
            }),
            tray: shape.tray,
            ..DiskTarget::default()
        },
        readonly: shape.readonly.then_some(Empty {}),
        serial: disk.serial.clone(),
        blockio: block_size(disk, volume, shape.bus, path)?,
        boot: disk.boot_order.map(|order| Boot { order }),
        alias: devices::alias(&disk.name),
        address,
        ..domain_xml::Disk::default()
    })
}

/// How QEMU treats the disk.
///
/// The cache is KubeVirt's: `none` where the storage can be opened with `O_DIRECT`, else
/// `writethrough`. A block device without a cache is read by the kernel's asynchronous I/O.
fn driver(
    disk: &Disk,
    volume: &VolumeSource,
    shape: Shape,
    queues: Option<u32>,
    path: &str,
) -> Result<DiskDriver, ConvertError> {
    let no_direct_io = |field: &str| {
        let file = volume.path.clone();
        Problem::NoDirectIo { path: file }.at(format!("{path}.{field}"))
    };
    let cache = match disk.cache {
        Some(DriverCache::None) if !volume.direct_io => return Err(no_direct_io("cache")),
        Some(DriverCache::None) => Cache::None,
        Some(DriverCache::Writethrough) => Cache::WriteThrough,
        Some(DriverCache::Writeback) => Cache::WriteBack,
        None if volume.direct_io => Cache::None,
        None => Cache::WriteThrough,
    };
    let io = match disk.io {
        Some(DriverIO::Native) if cache != Cache::None => return Err(no_direct_io("io")),
        Some(DriverIO::Native) => Some(IoMode::Native),
        Some(DriverIO::Threads) => Some(IoMode::Threads),
        Some(DriverIO::Default) => None,
        None => (volume.block && cache == Cache::None).then_some(IoMode::Native),
    };
    let policy = match disk.error_policy {
        Some(DiskErrorPolicy::Stop) | None => ErrorPolicy::Stop,
        Some(DiskErrorPolicy::Ignore) => ErrorPolicy::Ignore,
        Some(DiskErrorPolicy::Report) => ErrorPolicy::Report,
        Some(DiskErrorPolicy::Enospace) => ErrorPolicy::NoSpace,
    };
    Ok(DiskDriver {
        name: Some("qemu".to_owned()),
        kind: Some(format(volume)),
        cache: Some(cache),
        error_policy: Some(policy),
        io,
        discard: (!shape.readonly).then_some(Discard::Unmap),
        queues: queues.filter(|_| shape.bus == DiskBus::Virtio),
        ..DiskDriver::default()
    })
}

/// The sizes that the manifest gives, or those of the volume.
fn block_size(
    disk: &Disk,
    volume: &VolumeSource,
    bus: DiskBus,
    path: &str,
) -> Result<Option<BlockIo>, ConvertError> {
    let Some(size) = &disk.block_size else {
        return Ok(None);
    };
    let (field, size) = match (&size.custom, &size.match_volume, volume.block_size) {
        (Some(custom), _, _) => {
            let size = BlockIo {
                logical_block_size: custom.logical,
                physical_block_size: custom.physical,
            };
            ("custom.logical", size)
        }
        (None, Some(asked), _) if asked.enabled == Some(false) => return Ok(None),
        (None, Some(_), Some(size)) => {
            let size = BlockIo {
                logical_block_size: Some(size.logical),
                physical_block_size: Some(size.physical),
            };
            ("matchVolume", size)
        }
        (None, Some(_), None) => {
            let file = volume.path.clone();
            let path = format!("{path}.blockSize.matchVolume");
            return Err(Problem::NoBlockSize { path: file }.at(path));
        }
        (None, None, _) => return Ok(None),
    };
    match size.logical_block_size {
        Some(logical) if bus == DiskBus::Sata && logical != 512 => {
            Err(Problem::SataBlockSize(logical).at(format!("{path}.blockSize.{field}")))
        }
        _ => Ok(Some(size)),
    }
}

fn file_type(volume: &VolumeSource) -> FileType {
    if volume.block {
        FileType::Block
    } else {
        FileType::File
    }
}

fn format(volume: &VolumeSource) -> domain_xml::DiskFormat {
    match volume.format {
        DiskFormat::Raw => domain_xml::DiskFormat::Raw,
        DiskFormat::Qcow2 => domain_xml::DiskFormat::Qcow2,
    }
}

fn source(volume: &VolumeSource, path: &str) -> Result<DiskSource, ConvertError> {
    let name = utf8(&volume.path, || format!("{path}.name"))?;
    let (file, dev) = if volume.block {
        (None, Some(name))
    } else {
        (Some(name), None)
    };
    Ok(DiskSource {
        file,
        dev,
        fdgroup: volume.fd_group.clone(),
        ..DiskSource::default()
    })
}

/// All layers below the disk, down to the end, so that libvirt reads no image's header.
/// Nothing where a qcow2 image may have layers that the caller did not tell.
fn chain(volume: &VolumeSource, path: &str) -> Result<Option<BackingStore>, ConvertError> {
    match (&volume.backing, volume.format) {
        (Some(below), _) => layer(below, path).map(Some),
        (None, DiskFormat::Raw) => Ok(Some(BackingStore::default())),
        (None, DiskFormat::Qcow2) => Ok(None),
    }
}

fn layer(volume: &VolumeSource, path: &str) -> Result<BackingStore, ConvertError> {
    let below = match &volume.backing {
        Some(below) => layer(below, path)?,
        None => BackingStore::default(),
    };
    Ok(BackingStore {
        kind: Some(file_type(volume)),
        index: None,
        format: Some(BackingFormat {
            kind: format(volume),
        }),
        source: Some(source(volume, path)?),
        backing_store: Some(Box::new(below)),
    })
}

/// Names and places on their buses, in order.
///
/// libvirt derives a SCSI disk's place from its name; since SATA and USB disks share the
/// prefix, the place is given.
#[derive(Default)]
struct Names {
    vd: usize,
    sd: usize,
    scsi: u32,
}

impl Names {
    fn next(&mut self, bus: DiskBus) -> (String, Option<Address>) {
        let (prefix, count) = match bus {
            DiskBus::Virtio => ("vd", &mut self.vd),
            DiskBus::Sata | DiskBus::Scsi | DiskBus::Usb => ("sd", &mut self.sd),
        };
        let name = format!("{prefix}{}", letters(*count));
        *count += 1;
        let address = (bus == DiskBus::Scsi).then(|| {
            let address = Address::drive(0, 0, self.scsi);
            self.scsi += 1;
            address
        });
        (name, address)
    }
}

/// a to z, then aa to zz, and so on: how Linux counts disks.
fn letters(mut index: usize) -> String {
    let mut letters = Vec::new();
    loop {
        // A remainder of 26 fits a byte.
        letters.push(b'a' + (index % 26) as u8);
        index /= 26;
        if index == 0 {
            break;
        }
        index -= 1;
    }
    letters.into_iter().rev().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_on_after_z() {
        for (index, name) in [
            (0, "a"),
            (25, "z"),
            (26, "aa"),
            (51, "az"),
            (52, "ba"),
            (701, "zz"),
            (702, "aaa"),
        ] {
            assert_eq!(letters(index), name);
        }
    }
}
