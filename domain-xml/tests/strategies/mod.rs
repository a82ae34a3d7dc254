//! Domains that libvirt's schema allows.

mod devices;

use domain_xml::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

/// Text as people write it: no blanks at its edges.
pub(crate) fn text() -> impl Strategy<Value = String> {
    "[^\\pC\\pZ]([^\\pC]{0,12}[^\\pC\\pZ])?"
}

/// A word of letters that every attribute takes.
pub(crate) fn word() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_-]{0,8}"
}

/// An absolute path, with the characters that XML must escape.
pub(crate) fn path() -> impl Strategy<Value = String> {
    "/[a-zA-Z0-9_.+&:%-]{1,16}"
}

/// A set of CPUs.
pub(crate) fn cpuset() -> impl Strategy<Value = String> {
    "[1-9](-[1-9][0-9])?(,\\^[1-9])?"
}

pub(crate) fn yes_no() -> impl Strategy<Value = YesNo> {
    any::<bool>().prop_map(YesNo::from)
}

pub(crate) fn on_off() -> impl Strategy<Value = OnOff> {
    any::<bool>().prop_map(OnOff::from)
}

fn uuid() -> impl Strategy<Value = String> {
    "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
}

fn scaled() -> impl Strategy<Value = Scaled> {
    (
        of(select(vec!["b", "KiB", "M", "GiB"])),
        1..u64::from(u32::MAX),
    )
        .prop_map(|(unit, value)| Scaled {
            unit: unit.map(str::to_owned),
            dump_core: None,
            value,
        })
}

fn switch() -> impl Strategy<Value = Option<Switch>> {
    of(on_off().prop_map(|state| Switch { state: Some(state) }))
}

fn empty() -> impl Strategy<Value = Option<Empty>> {
    of(Just(Empty {}))
}

fn memory_backing() -> impl Strategy<Value = MemoryBacking> {
    let page = (1..1_u64 << 40, of(Just("KiB".to_owned())), of(cpuset())).prop_map(
        |(size, unit, nodeset)| Page {
            size,
            unit,
            nodeset,
        },
    );
    (
        of(vec(page, 0..3).prop_map(|page| HugePages { page })),
        empty(),
        empty(),
        of(select(vec![
            MemorySourceType::File,
            MemorySourceType::Anonymous,
            MemorySourceType::Memfd,
        ])),
        of(select(vec![AccessMode::Shared, AccessMode::Private])),
        of((of(Just(AllocationMode::OnDemand)), of(1_u32..9))),
    )
        .prop_map(
            |(hugepages, locked, discard, source, access, allocation)| MemoryBacking {
                hugepages,
                nosharepages: discard,
                locked,
                source: source.map(|kind| MemorySource { kind }),
                access: access.map(|mode| MemoryAccess { mode }),
                allocation: allocation.map(|(mode, threads)| Allocation { mode, threads }),
                discard,
            },
        )
}

fn os() -> impl Strategy<Value = Os> {
    let loader = (
        of(yes_no()),
        of(yes_no()),
        of(Just(LoaderType::Pflash)),
        of(path()),
    )
        .prop_map(|(readonly, secure, kind, path)| Loader {
            readonly,
            secure,
            kind,
            path,
            ..Loader::default()
        });
    let nvram = (of(path()), of(path())).prop_map(|(template, path)| Nvram {
        template,
        kind: None,
        path,
    });
    (
        (of(word()), of(loader.boxed()), of(nvram.boxed())),
        (of(path()), of(path()), of(text())),
        vec(
            select(vec![BootDeviceKind::Hd, BootDeviceKind::Network]),
            0..3,
        ),
        of((yes_no(), of(any::<u16>()))),
        of(yes_no()),
    )
        .prop_map(
            |((machine, loader, nvram), (kernel, initrd, cmdline), boot, menu, serial)| Os {
                kind: OsType {
                    arch: Some("x86_64".to_owned()),
                    machine,
                    value: "hvm".to_owned(),
                },
                loader,
                nvram,
                kernel,
                initrd,
                cmdline,
                boot_devices: boot.into_iter().map(|dev| BootDevice { dev }).collect(),
                bootmenu: menu.map(|(enable, timeout)| BootMenu { enable, timeout }),
                smbios: Some(SmbiosMode {
                    mode: SmbiosSource::Sysinfo,
                }),
                bios: serial.map(|use_serial| Bios {
                    use_serial: Some(use_serial),
                    reboot_timeout: Some(-1),
                }),
                ..Os::default()
            },
        )
}

fn sysinfo() -> impl Strategy<Value = Sysinfo> {
    let entry = (
        select(vec!["manufacturer", "version", "serial"]),
        of(text()),
    )
        .prop_map(|(name, value)| SysinfoEntry {
            name: name.to_owned(),
            value,
        })
        .boxed();
    let table = move || vec(entry.clone(), 1..4).prop_map(|entries| SysinfoTable { entries });
    (of(table()), of(table()), vec(table(), 0..3)).prop_map(|(system, chassis, base_board)| {
        Sysinfo {
            kind: SysinfoType::Smbios,
            bios: None,
            system,
            base_board,
            chassis,
            oem_strings: Some(OemStrings {
                entries: vec![OemString {
                    value: Some("a b".to_owned()),
                }],
            }),
        }
    })
}

fn features() -> impl Strategy<Value = Features> {
    let hyperv = (
        (switch(), switch(), switch(), switch(), switch()),
        of((on_off(), of(4095_u32..9000))),
        of((on_off(), switch())),
        of((on_off(), of("[^,\\pC\\pZ]{1,12}"))),
    )
        .prop_map(
            |((relaxed, vapic, runtime, ipi, evmcs), spinlocks, stimer, vendor)| Hyperv {
                mode: Some(HypervMode::Custom),
                relaxed,
                vapic,
                runtime,
                ipi,
                evmcs,
                spinlocks: spinlocks.map(|(state, retries)| Spinlocks { state, retries }),
                stimer: stimer.map(|(state, direct)| Stimer { state, direct }),
                vendor_id: vendor.map(|(state, value)| VendorId { state, value }),
                ..Hyperv::default()
            },
        );
    (
        empty(),
        of(of(on_off()).prop_map(|eoi| Apic { eoi })),
        of(hyperv.boxed()),
        of(switch()),
        switch(),
        of((on_off(), of(scaled().boxed()))),
    )
        .prop_map(|(acpi, apic, hyperv, kvm, pvspinlock, smm)| Features {
            acpi,
            apic,
            hyperv,
            kvm: kvm.map(|hidden| KvmFeatures {
                hidden,
                ..KvmFeatures::default()
            }),
            pvspinlock,
            smm: smm.map(|(state, tseg)| Smm {
                state: Some(state),
                tseg,
            }),
            ..Features::default()
        })
}

fn cpu() -> impl Strategy<Value = Cpu> {
    let topology =
        (1_u32..9, of(1_u32..3), 1_u32..9, 1_u32..3).prop_map(|(sockets, dies, cores, threads)| {
            Topology {
                sockets,
                dies,
                cores,
                threads,
            }
        });
    let feature = (
        "[a-z][a-z0-9._-]{0,8}",
        select(vec![FeaturePolicy::Require, FeaturePolicy::Forbid]),
    )
        .prop_map(|(name, policy)| CpuFeature {
            policy: Some(policy),
            name,
        });
    let cell = (of(cpuset()), any::<u32>()).prop_map(|(cpus, memory)| NumaCell {
        cpus,
        memory: memory.into(),
        unit: Some("KiB".to_owned()),
        ..NumaCell::default()
    });
    let model = (of(Just(Fallback::Forbid)), of(text())).prop_map(|(fallback, name)| CpuModel {
        fallback,
        vendor_id: None,
        name,
    });
    (
        select(vec![CpuMode::Custom, CpuMode::HostModel, CpuMode::Maximum]),
        of(Just(CpuMatch::Exact)),
        of(Just(CpuCheck::None)),
        of(model.boxed()),
        of(topology),
        vec(feature, 0..4),
        of(vec(cell, 1..3)),
    )
        .prop_map(
            |(mode, matching, check, model, topology, features, cells)| Cpu {
                mode: Some(mode),
                matching,
                check,
                model,
                topology,
                features,
                numa: cells.map(|cells| Numa { cells }),
                ..Cpu::default()
            },
        )
}

fn clock() -> impl Strategy<Value = Clock> {
    let policy = of(select(vec![
        TickPolicy::Delay,
        TickPolicy::CatchUp,
        TickPolicy::Discard,
    ]));
    let timer = (
        select(vec![TimerName::Rtc, TimerName::Pit, TimerName::KvmClock]),
        of(yes_no()),
        policy,
        of(select(vec![Track::Guest, Track::RealTime])),
    )
        .prop_map(|(name, present, tick_policy, track)| Timer {
            name,
            tick_policy: tick_policy.filter(|_| name != TimerName::KvmClock),
            track: track.filter(|_| name == TimerName::Rtc),
            frequency: None,
            mode: None,
            present,
        });
    let offset = prop_oneof![
        Just(Clock::default()),
        (any::<i32>()).prop_map(|seconds| Clock {
            offset: ClockOffset::Variable,
            adjustment: Some(seconds.to_string()),
            basis: Some(ClockBasis::Utc),
            ..Clock::default()
        }),
        "[A-Z][a-z]{1,8}/[A-Z][a-z]{1,8}".prop_map(|zone| Clock {
            offset: ClockOffset::Timezone,
            timezone: Some(zone),
            ..Clock::default()
        }),
    ];
    (offset, vec(timer, 0..4)).prop_map(|(clock, timers)| Clock { timers, ..clock })
}

fn cpu_tune() -> impl Strategy<Value = CpuTune> {
    (
        vec((any::<u16>(), cpuset()), 0..3),
        of(cpuset()),
        of(1000_u64..1_000_000),
    )
        .prop_map(|(pins, emulator, period)| CpuTune {
            vcpu_pins: pins
                .into_iter()
                .map(|(vcpu, cpuset)| VcpuPin { vcpu, cpuset })
                .collect(),
            emulator_pin: emulator.map(|cpuset| EmulatorPin { cpuset }),
            period,
            ..CpuTune::default()
        })
}

fn qemu() -> impl Strategy<Value = QemuCommandline> {
    (vec(text(), 0..3), vec(("[A-Z]{1,5}", of(text())), 0..3)).prop_map(|(args, env)| {
        QemuCommandline {
            args: args.into_iter().map(|value| QemuArg { value }).collect(),
            env: env
                .into_iter()
                .map(|(name, value)| QemuEnv { name, value })
                .collect(),
            ..QemuCommandline::default()
        }
    })
}

fn qemu_override() -> impl Strategy<Value = QemuOverride> {
    let property = (word(), text()).prop_map(|(name, value)| QemuProperty {
        name,
        kind: QemuPropertyType::String,
        value: Some(value),
    });
    let device = (word(), vec(property, 1..3)).prop_map(|(alias, properties)| QemuDevice {
        alias,
        frontend: QemuFrontend { properties },
    });
    vec(device, 0..3).prop_map(|devices| QemuOverride {
        devices,
        ..QemuOverride::default()
    })
}

/// A domain with any of the parts that this crate knows.
pub(crate) fn domain() -> impl Strategy<Value = Domain> {
    let head = (
        select(vec![DomainType::Kvm, DomainType::Qemu]),
        "[a-zA-Z0-9_.-]{1,12}",
        of(uuid()),
        of(text()),
        of(text().prop_filter_map("metadata", |text| {
            let text = text.replace(['<', '&'], "");
            Metadata::new(&format!("<a xmlns='urn:a'>{text}</a>")).ok()
        })),
    );
    let machine = (
        of(os().boxed()),
        of(sysinfo().boxed()),
        of(features().boxed()),
        of(cpu().boxed()),
        of(clock().boxed()),
    );
    let memory = (
        of(scaled().boxed()),
        of(memory_backing().boxed()),
        of((1_u32..9, of(cpuset()))),
        of(cpu_tune().boxed()),
    );
    let qemu = (of(qemu().boxed()), of(qemu_override().boxed()));
    (
        head,
        machine,
        memory,
        devices::devices(),
        qemu,
        of(yes_no()),
    )
        .prop_map(|(head, machine, memory, devices, qemu, sleep)| Domain {
            kind: head.0,
            name: head.1,
            uuid: head.2,
            title: head.3.clone(),
            description: head.3,
            metadata: head.4,
            os: machine.0.unwrap_or_else(|| Os {
                kind: OsType {
                    value: "hvm".to_owned(),
                    ..OsType::default()
                },
                ..Os::default()
            }),
            sysinfo: machine.1,
            features: machine.2,
            cpu: machine.3,
            clock: machine.4,
            memory: memory.0.clone(),
            current_memory: memory.0,
            memory_backing: memory.1,
            vcpu: memory.2.map(|(count, cpuset)| Vcpu {
                placement: Some(VcpuPlacement::Fixed),
                cpuset,
                current: None,
                count,
            }),
            cputune: memory.3,
            on_crash: Some(LifecycleAction::CoredumpDestroy),
            pm: sleep.map(|enabled| PowerManagement {
                suspend_to_mem: Some(SleepState {
                    enabled: Some(enabled),
                }),
                suspend_to_disk: None,
            }),
            devices,
            qemu_commandline: qemu.0,
            qemu_override: qemu.1,
            ..Domain::default()
        })
}
