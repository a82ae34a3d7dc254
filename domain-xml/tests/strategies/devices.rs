//! Devices that libvirt's schema allows.

use domain_xml::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::{on_off, path, word, yes_no};

fn alias() -> impl Strategy<Value = Option<Alias>> {
    of("ua-[a-z0-9_.-]{1,8}".prop_map(|name| Alias { name }))
}

fn pci() -> impl Strategy<Value = Option<Address>> {
    let address = (
        0_u64..0x10000,
        0_u64..256,
        0_u64..32,
        0_u64..8,
        of(on_off()),
    )
        .prop_map(|(domain, bus, slot, function, multifunction)| Address {
            kind: AddressType::Pci,
            domain: Some(Hex(domain)),
            controller: None,
            bus: Some(format!("0x{bus:02x}")),
            slot: Some(Hex(slot)),
            function: Some(Hex(function)),
            multifunction,
            target: None,
            unit: None,
            port: None,
            iobase: None,
            irq: None,
            base: None,
            uuid: None,
        });
    of(address)
}

fn boot() -> impl Strategy<Value = Option<Boot>> {
    of((1_u32..99).prop_map(|order| Boot { order }))
}

fn virtio() -> impl Strategy<Value = VirtioModel> {
    select(vec![
        VirtioModel::Virtio,
        VirtioModel::VirtioTransitional,
        VirtioModel::VirtioNonTransitional,
    ])
}

fn source() -> impl Strategy<Value = DiskSource> {
    (path(), of(word()), of(1_u32..9)).prop_map(|(file, fdgroup, index)| DiskSource {
        file: Some(file),
        fdgroup,
        index,
        ..DiskSource::default()
    })
}

/// Chains that end, and chains that libvirt would have to probe.
fn backing() -> impl Strategy<Value = BackingStore> {
    Just(BackingStore::default()).prop_recursive(3, 8, 1, |below| {
        (of(1_u32..9), source(), of(below)).prop_map(|(index, source, below)| BackingStore {
            kind: Some(FileType::File),
            index,
            format: Some(BackingFormat {
                kind: DiskFormat::Qcow2,
            }),
            source: Some(source),
            backing_store: below.map(Box::new),
        })
    })
}

fn disk() -> impl Strategy<Value = Device> {
    let driver = (
        of(select(vec![DiskFormat::Raw, DiskFormat::Qcow2])),
        of(select(vec![
            Cache::None,
            Cache::WriteThrough,
            Cache::DirectSync,
        ])),
        of(select(vec![ErrorPolicy::Stop, ErrorPolicy::NoSpace])),
        of(select(vec![IoMode::Native, IoMode::IoUring])),
        of(Just(Discard::Unmap)),
        of(1_u32..9),
    )
        .prop_map(
            |(kind, cache, error_policy, io, discard, queues)| DiskDriver {
                name: Some("qemu".to_owned()),
                kind,
                cache,
                error_policy,
                io,
                discard,
                queues,
                ..DiskDriver::default()
            },
        );
    let target = (
        "(vd|sd)[a-z]{1,2}",
        of(select(vec![
            DiskBus::Virtio,
            DiskBus::Scsi,
            DiskBus::Sata,
            DiskBus::Usb,
        ])),
        of(select(vec![Tray::Open, Tray::Closed])),
    )
        .prop_map(|(dev, bus, tray)| DiskTarget {
            dev,
            bus,
            tray,
            ..DiskTarget::default()
        });
    let size = of(
        (of(512_u32..4097), of(512_u32..4097)).prop_map(|(logical, physical)| BlockIo {
            logical_block_size: logical,
            physical_block_size: physical,
        }),
    );
    (
        (
            of(driver.boxed()),
            of(source().boxed()),
            of(backing().boxed()),
            target.boxed(),
        ),
        of(select(vec![DiskDevice::Disk, DiskDevice::Cdrom])),
        (of(Just(Empty {})), of("[A-Za-z0-9_.+-]{1,8}"), size),
        (boot(), alias(), pci()),
    )
        .prop_map(
            |((driver, source, backing_store, target), device, rest, place)| {
                Device::Disk(Box::new(Disk {
                    kind: FileType::File,
                    device,
                    driver,
                    source,
                    backing_store,
                    target,
                    readonly: rest.0,
                    shareable: rest.0,
                    serial: rest.1,
                    blockio: rest.2,
                    boot: place.0,
                    alias: place.1,
                    address: place.2,
                    ..Disk::default()
                }))
            },
        )
}

fn interface() -> impl Strategy<Value = Device> {
    (
        "[0-9a-f][02468ace](:[0-9a-f]{2}){5}",
        (word(), of(yes_no())),
        of(1_u32..9),
        of(68_u32..65536),
        of(yes_no()),
        (boot(), alias(), pci(), of(1_u32..9)),
    )
        .prop_map(|(address, (dev, managed), queues, mtu, rom, place)| {
            Device::Interface(Box::new(Interface {
                kind: InterfaceType::Ethernet,
                managed: None,
                mac: Some(Mac {
                    address,
                    kind: None,
                }),
                source: None,
                target: Some(InterfaceTarget { dev, managed }),
                model: Some(InterfaceModel {
                    kind: "virtio-non-transitional".to_owned(),
                }),
                driver: queues.map(|queues| InterfaceDriver {
                    name: Some(InterfaceBackend::Vhost),
                    queues: Some(queues),
                    ..InterfaceDriver::default()
                }),
                link: None,
                mtu: mtu.map(|size| Mtu { size }),
                coalesce: None,
                boot: place.0,
                rom: rom.map(|enabled| Rom {
                    enabled: Some(enabled),
                    ..Rom::default()
                }),
                alias: place.1,
                acpi: place.3.map(|index| Acpi { index: Some(index) }),
                address: place.2,
            }))
        })
}

fn unix() -> impl Strategy<Value = CharDevice> {
    (path(), of((path(), of(on_off()))), alias()).prop_map(|(path, log, alias)| CharDevice {
        kind: CharType::Unix,
        source: vec![CharSource {
            mode: Some(SocketMode::Bind),
            path: Some(path),
            ..CharSource::default()
        }],
        log: log.map(|(file, append)| Log { file, append }),
        alias,
        ..CharDevice::default()
    })
}

fn character() -> impl Strategy<Value = Device> {
    prop_oneof![
        (unix(), 0_u32..4).prop_map(|(device, port)| Device::Serial(CharDevice {
            target: Some(CharTarget {
                kind: Some("isa-serial".to_owned()),
                port: Some(port),
                model: Some(CharModel {
                    name: "isa-serial".to_owned()
                }),
                ..CharTarget::default()
            }),
            ..device
        })),
        (unix(), 0_u32..4).prop_map(|(device, port)| Device::Console(CharDevice {
            target: Some(CharTarget {
                kind: Some("serial".to_owned()),
                port: Some(port),
                ..CharTarget::default()
            }),
            ..device
        })),
        (unix(), "[a-z.0-9]{1,20}").prop_map(|(device, name)| Device::Channel(CharDevice {
            target: Some(CharTarget {
                kind: Some("virtio".to_owned()),
                name: Some(name),
                ..CharTarget::default()
            }),
            ..device
        })),
    ]
}

fn controller() -> impl Strategy<Value = Device> {
    (
        select(vec![
            (ControllerType::Scsi, Some("virtio-scsi")),
            (ControllerType::Usb, Some("qemu-xhci")),
            (ControllerType::Usb, Some("none")),
            (ControllerType::Sata, None),
            (ControllerType::VirtioSerial, Some("virtio")),
            (ControllerType::Pci, Some("pcie-root-port")),
        ]),
        of(0_u32..99),
        (alias(), pci()),
    )
        .prop_map(|((kind, model), index, (alias, address))| {
            Device::Controller(Controller {
                kind,
                index,
                model: model.map(str::to_owned),
                ports: None,
                vectors: None,
                pci_model: None,
                target: None,
                pcihole64: None,
                master: None,
                driver: None,
                alias,
                acpi: None,
                address,
            })
        })
}

fn screen() -> impl Strategy<Value = Device> {
    prop_oneof![
        path().prop_map(|socket| Device::Graphics(Graphics {
            kind: GraphicsType::Vnc,
            port: None,
            tls_port: None,
            autoport: None,
            websocket: None,
            listen: None,
            socket: Some(socket.clone()),
            keymap: None,
            share_policy: None,
            listens: vec![Listen {
                kind: ListenType::Socket,
                address: None,
                network: None,
                socket: Some(socket),
                from_config: None,
            }],
            audio: Some(GraphicsAudio { id: 1 }),
        })),
        (
            select(vec![VideoType::Vga, VideoType::Virtio, VideoType::None]),
            of(1_u32..5)
        )
            .prop_map(|(kind, heads)| Device::Video(Video {
                model: Some(VideoModel {
                    kind,
                    heads,
                    ..VideoModel::default()
                }),
                ..Video::default()
            })),
        (
            select(vec![InputType::Tablet, InputType::Keyboard]),
            select(vec![InputBus::Usb, InputBus::Virtio]),
            of(virtio())
        )
            .prop_map(|(kind, bus, model)| Device::Input(Input {
                kind,
                bus: Some(bus),
                model,
                driver: None,
                alias: None,
                acpi: None,
                address: None,
            })),
    ]
}

fn small() -> impl Strategy<Value = Device> {
    prop_oneof![
        (alias(), pci()).prop_map(|(alias, address)| Device::Watchdog(Watchdog {
            model: WatchdogModel::I6300Esb,
            action: Some(WatchdogAction::InjectNmi),
            alias,
            acpi: None,
            address,
        })),
        (
            select(vec![
                BalloonModel::VirtioNonTransitional,
                BalloonModel::None
            ]),
            of(1_u32..99),
            of(on_off())
        )
            .prop_map(|(model, period, free_page_reporting)| {
                Device::Memballoon(MemoryBalloon {
                    model,
                    autodeflate: None,
                    free_page_reporting,
                    stats: period.map(|period| BalloonStats { period }),
                    driver: None,
                    alias: None,
                    acpi: None,
                    address: None,
                })
            }),
        (virtio(), of(path()), of((1_u32..99, of(1_u32..99)))).prop_map(|(model, path, rate)| {
            Device::Rng(domain_xml::Rng {
                model,
                rate: rate.map(|(bytes, period)| RngRate { bytes, period }),
                backend: RngBackend {
                    model: RngModel::Random,
                    path,
                },
                driver: Some(VirtioDriver {
                    iommu: Some(OnOff::On),
                    ..VirtioDriver::default()
                }),
                alias: None,
                acpi: None,
                address: None,
            })
        }),
        of(virtio()).prop_map(|model| Device::Vsock(Vsock {
            model,
            cid: Some(VsockCid {
                auto: Some(YesNo::No),
                address: Some(3)
            }),
            ..Vsock::default()
        })),
        Just(Device::Panic(Panic {
            model: Some(PanicModel::Hyperv),
            ..Panic::default()
        })),
        Just(Device::Tpm(Tpm {
            model: Some(TpmModel::TpmCrb),
            backend: TpmBackend {
                kind: TpmBackendType::Emulator,
                version: Some(TpmVersion::V2),
                persistent_state: None,
            },
            ..Tpm::default()
        })),
    ]
}

/// A domain has one at most.
fn is_single(device: &Device) -> bool {
    matches!(
        device,
        Device::Watchdog(_) | Device::Memballoon(_) | Device::Vsock(_) | Device::Tpm(_)
    )
}

/// Devices of every kind, in any order and number.
pub(crate) fn devices() -> impl Strategy<Value = Devices> {
    let device = prop_oneof![
        3 => disk().boxed(),
        2 => interface().boxed(),
        2 => character().boxed(),
        2 => controller().boxed(),
        2 => screen().boxed(),
        2 => small().boxed(),
    ];
    (of(path()), vec(device, 0..8)).prop_map(|(emulator, mut list)| {
        let mut seen = Vec::new();
        list.retain(|device| {
            let kind = std::mem::discriminant(device);
            let again = seen.contains(&kind);
            seen.push(kind);
            !(again && is_single(device))
        });
        Devices { emulator, list }
    })
}
