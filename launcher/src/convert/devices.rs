//! `spec.domain.devices` without disks and interfaces, and the controllers of all.

use std::collections::HashSet;

use crds::{DiskBus, DomainSpec, InputBus, InputType, VideoType};
use domain_xml::{
    Address, Alias, BalloonModel, BalloonStats, CharDevice, CharModel, CharSource, CharTarget,
    CharType, Controller, ControllerDriver, ControllerType, Device, Graphics, GraphicsType, Input,
    Listen, ListenType, Log, MemoryBalloon, OnOff, Rng, RngBackend, RngModel, SocketMode, Video,
    VideoModel, VirtioModel, Watchdog, WatchdogAction, WatchdogModel,
};

use super::{ConvertError, Host, Problem, cpu, disks, firmware, memory, utf8};

/// Seconds between two readings of the guest's memory statistics (KubeVirt's
/// `memBalloonStatsPeriod`).
const BALLOON_PERIOD: u32 = 10;

/// Video memory in KiB, for the cards that have their own.
const VIDEO_MEMORY: u32 = 16384;

/// The name by which QEMU's guest agent finds its channel.
const AGENT: &str = "org.qemu.guest_agent.0";

/// The controllers whose model matters; libvirt adds PCIe root ports and SATA as needed.
pub(super) fn controllers(spec: &DomainSpec) -> Vec<Device> {
    let usb = disks::uses(spec, DiskBus::Usb) || inputs(spec).any(|input| input.1 == InputBus::Usb);
    let mut list = vec![
        controller(ControllerType::Usb, if usb { "qemu-xhci" } else { "none" }),
        controller(ControllerType::VirtioSerial, "virtio-non-transitional"),
    ];
    if disks::uses(spec, DiskBus::Scsi) {
        let queues = (spec.devices.block_multi_queue == Some(true)).then(|| cpu::count(spec));
        list.push(Controller {
            driver: queues.map(|queues| ControllerDriver {
                queues: Some(queues),
                ..ControllerDriver::default()
            }),
            ..controller(ControllerType::Scsi, "virtio-non-transitional")
        });
    }
    list.into_iter().map(Device::Controller).collect()
}

fn controller(kind: ControllerType, model: &str) -> Controller {
    Controller {
        index: Some(0),
        model: Some(model.to_owned()),
        ..Controller::new(kind)
    }
}

/// The devices that are neither disks, interfaces nor controllers.
pub(super) fn devices(spec: &DomainSpec, host: &Host) -> Result<Vec<Device>, ConvertError> {
    let mut list = Vec::new();
    if spec.devices.autoattach_serial_console.unwrap_or(true) {
        list.push(Device::Serial(console(spec, host)?));
    }
    list.push(Device::Channel(agent(host)?));
    list.extend(inputs(spec).map(|(name, bus, kind)| Device::Input(input(name, bus, kind))));
    if spec.devices.autoattach_graphics_device.unwrap_or(true) {
        list.push(Device::Graphics(graphics(host)?));
        list.push(Device::Video(video(spec)));
    }
    list.extend(watchdog(spec).map(Device::Watchdog));
    list.push(Device::Memballoon(balloon(spec)));
    if spec.devices.rng.is_some() {
        list.push(Device::Rng(random()));
    }
    Ok(list)
}

/// A name of the user's, where libvirt can carry it.
pub(super) fn alias(name: &str) -> Option<Alias> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"_.-".contains(&c);
    (!name.is_empty() && name.bytes().all(allowed)).then(|| Alias {
        name: format!("ua-{name}"),
    })
}

/// Leaves an alias to the first device that has it: KubeVirt's names are unique among disks
/// and among interfaces only, libvirt's among all devices.
pub(super) fn make_aliases_unique(list: &mut [Device]) {
    let mut seen = HashSet::new();
    for device in list {
        let alias = match device {
            Device::Disk(disk) => &mut disk.alias,
            Device::Interface(interface) => &mut interface.alias,
            Device::Input(input) => &mut input.alias,
            Device::Watchdog(watchdog) => &mut watchdog.alias,
            _ => continue,
        };
        if alias
            .as_ref()
            .is_some_and(|alias| !seen.insert(alias.name.clone()))
        {
            *alias = None;
        }
    }
}

/// An address such as `0000:00:08.0`; `path` is the field that holds it.
///
/// On q35 it is a slot of bus 0, or slot 0 of a bus behind a root port, which libvirt adds: it
/// refuses any other by name ("slot must be <= 0").
pub(super) fn pci_address(text: &str, path: &str) -> Result<Address, ConvertError> {
    parse_pci(text).ok_or_else(|| Problem::PciAddress(text.to_owned()).at(path))
}

fn parse_pci(text: &str) -> Option<Address> {
    let (rest, function) = text.split_once('.')?;
    let mut parts = rest.split(':');
    let domain = u16::from_str_radix(parts.next()?, 16).ok()?;
    let bus = u8::from_str_radix(parts.next()?, 16).ok()?;
    let slot = u8::from_str_radix(parts.next()?, 16).ok()?;
    let function = u8::from_str_radix(function, 16).ok()?;
    let whole = parts.next().is_none() && slot < 32 && function < 8;
    whole.then(|| Address::pci(domain, bus, slot, function))
}

/// A socket that QEMU listens on.
fn listen(host: &Host, file: &str) -> Result<CharDevice, ConvertError> {
    let path = utf8(&host.runtime_dir.join(file), || {
        "spec.domain.devices".to_owned()
    })?;
    Ok(CharDevice {
        kind: CharType::Unix,
        source: vec![CharSource {
            mode: Some(SocketMode::Bind),
            path: Some(path),
            ..CharSource::default()
        }],
        ..CharDevice::default()
    })
}

/// The first serial port; what the guest writes is also in a log, unless that is turned off.
fn console(spec: &DomainSpec, host: &Host) -> Result<CharDevice, ConvertError> {
    let log = host.runtime_dir.join("serial0.log");
    let log = utf8(&log, || "spec.domain.devices.logSerialConsole".to_owned())?;
    let logged = spec.devices.log_serial_console.unwrap_or(true);
    Ok(CharDevice {
        log: logged.then_some(Log {
            file: log,
            append: Some(OnOff::On),
        }),
        target: Some(CharTarget {
            kind: Some("isa-serial".to_owned()),
            port: Some(0),
            model: Some(CharModel {
                name: "isa-serial".to_owned(),
            }),
            ..CharTarget::default()
        }),
        ..listen(host, "serial0.sock")?
    })
}

fn agent(host: &Host) -> Result<CharDevice, ConvertError> {
    Ok(CharDevice {
        target: Some(CharTarget {
            kind: Some("virtio".to_owned()),
            name: Some(AGENT.to_owned()),
            ..CharTarget::default()
        }),
        ..listen(host, "agent.sock")?
    })
}

/// Names, buses and kinds of the inputs: those that are named, else the tablet that
/// `autoattachInputDevice` asks for.
fn inputs(spec: &DomainSpec) -> impl Iterator<Item = (&str, InputBus, InputType)> {
    let named = &spec.devices.inputs;
    let attach = named.is_empty() && spec.devices.autoattach_input_device == Some(true);
    let named = named.iter().map(|input| {
        (
            &*input.name,
            input.bus.unwrap_or(InputBus::Usb),
            input.type_,
        )
    });
    named.chain(attach.then_some(("default-0", InputBus::Usb, InputType::Tablet)))
}

fn input(name: &str, bus: InputBus, kind: InputType) -> Input {
    let (bus, model) = match bus {
        InputBus::Usb => (domain_xml::InputBus::Usb, None),
        // libvirt knows transitional models of evdev passthrough only.
        InputBus::Virtio => (domain_xml::InputBus::Virtio, Some(VirtioModel::Virtio)),
    };
    Input {
        bus: Some(bus),
        model,
        alias: alias(name),
        ..Input::new(match kind {
            InputType::Tablet => domain_xml::InputType::Tablet,
            InputType::Keyboard => domain_xml::InputType::Keyboard,
        })
    }
}

fn graphics(host: &Host) -> Result<Graphics, ConvertError> {
    let socket = host.runtime_dir.join("vnc.sock");
    let path = || "spec.domain.devices.autoattachGraphicsDevice".to_owned();
    Ok(Graphics {
        listens: vec![Listen {
            socket: Some(utf8(&socket, path)?),
            ..Listen::new(ListenType::Socket)
        }],
        ..Graphics::new(GraphicsType::Vnc)
    })
}

/// Bochs' card under EFI: OVMF drives it, and no VGA ROM is run.
fn video(spec: &DomainSpec) -> Video {
    let asked = spec.devices.video.as_ref().and_then(|video| video.type_);
    let kind = match (asked, firmware::efi(spec)) {
        (Some(VideoType::Vga), _) | (None, None) => domain_xml::VideoType::Vga,
        (Some(VideoType::Bochs), _) | (None, Some(_)) => domain_xml::VideoType::Bochs,
        (Some(VideoType::Cirrus), _) => domain_xml::VideoType::Cirrus,
        (Some(VideoType::Virtio), _) => domain_xml::VideoType::Virtio,
        (Some(VideoType::Ramfb), _) => domain_xml::VideoType::Ramfb,
    };
    use domain_xml::VideoType::{Bochs, Cirrus, Vga};
    Video {
        model: Some(VideoModel {
            kind,
            vram: matches!(kind, Vga | Bochs | Cirrus).then_some(VIDEO_MEMORY),
            heads: Some(1),
            ..VideoModel::default()
        }),
        ..Video::default()
    }
}

fn watchdog(spec: &DomainSpec) -> Option<Watchdog> {
    let watchdog = spec.devices.watchdog.as_ref()?;
    let model = watchdog.i6300esb.as_ref()?;
    let action = match model.action {
        Some(crds::WatchdogAction::Reset) | None => WatchdogAction::Reset,
        Some(crds::WatchdogAction::Poweroff) => WatchdogAction::Poweroff,
        Some(crds::WatchdogAction::Shutdown) => WatchdogAction::Shutdown,
    };
    Some(Watchdog {
        action: Some(action),
        alias: alias(&watchdog.name),
        ..Watchdog::new(WatchdogModel::I6300Esb)
    })
}

/// The balloon, or none said out loud: libvirt would add one. Pages that the guest frees go
/// back to the host, unless they are huge ones, which were all taken on purpose.
fn balloon(spec: &DomainSpec) -> MemoryBalloon {
    if !spec.devices.autoattach_mem_balloon.unwrap_or(true) {
        return MemoryBalloon::new(BalloonModel::None);
    }
    MemoryBalloon {
        free_page_reporting: Some((!memory::has_hugepages(spec)).into()),
        stats: Some(BalloonStats {
            period: BALLOON_PERIOD,
        }),
        ..MemoryBalloon::new(BalloonModel::VirtioNonTransitional)
    }
}

fn random() -> Rng {
    let backend = RngBackend {
        model: RngModel::Random,
        path: Some("/dev/urandom".to_owned()),
    };
    Rng::new(VirtioModel::VirtioNonTransitional, backend)
}
