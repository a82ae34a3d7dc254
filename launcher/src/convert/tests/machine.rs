//! CPU, memory, firmware, SMBIOS, clock and features.

use super::*;

/// Fields of `spec.domain`, whether the host has KVM, and what is in the XML.
type Case = (&'static str, Accelerator, &'static [&'static str]);

use Accelerator::{Kvm, Tcg};

fn check(cases: &[Case]) {
    for (fields, accelerator, parts) in cases {
        let vmi = machine(fields);
        let host = Host {
            accelerator: *accelerator,
            ..host(&vmi)
        };
        expect(&vmi, &host, parts);
    }
}

#[test]
fn cpu() {
    check(&[
        (
            "",
            Kvm,
            &[
                r#"<domain type="kvm">"#,
                r#"<vcpu placement="static">1</vcpu>"#,
                r#"<cpu mode="host-model"><topology sockets="1" cores="1" threads="1"/></cpu>"#,
            ],
        ),
        (
            "",
            Tcg,
            &[r#"<domain type="qemu">"#, r#"<cpu mode="host-model">"#],
        ),
        (
            "cpu: {sockets: 2, cores: 3, threads: 2}",
            Kvm,
            &[
                r#"<vcpu placement="static">12</vcpu>"#,
                r#"<topology sockets="2" cores="3" threads="2"/>"#,
            ],
        ),
        (
            "cpu: {model: host-passthrough}",
            Kvm,
            &[r#"<cpu mode="host-passthrough">"#],
        ),
        (
            "cpu: {model: host-passthrough}",
            Tcg,
            &[r#"<cpu mode="maximum">"#],
        ),
        (
            "cpu: {model: Nehalem}",
            Tcg,
            &[r#"<cpu mode="custom"><model>Nehalem</model>"#],
        ),
        (
            "cpu: {features: [{name: vmx}, {name: la57, policy: disable}, {name: a, policy: force},
              {name: b, policy: optional}, {name: c, policy: forbid}]}",
            Kvm,
            &[
                r#"<feature policy="require" name="vmx"/><feature policy="disable" name="la57"/>"#,
                r#"<feature policy="force" name="a"/><feature policy="optional" name="b"/>"#,
                r#"<feature policy="forbid" name="c"/>"#,
            ],
        ),
        (
            "resources: {requests: {cpu: 1500m}}",
            Kvm,
            &[r#"<topology sockets="2" cores="1" threads="1"/>"#],
        ),
    ]);
}

#[test]
fn memory() {
    for (memory, parts) in [
        (
            "guest: 64Mi",
            [
                r#"<memory unit="b">67108864</memory>"#,
                "!<memoryBacking>",
                r#"Reporting="on""#,
            ],
        ),
        (
            "guest: 4Mi, hugepages: {pageSize: 2Mi}",
            [
                r#"<hugepages><page size="2097152" unit="b"/></hugepages>"#,
                r#"<source type="memfd"/><allocation mode="immediate"/>"#,
                r#"<memballoon model="virtio-non-transitional" freePageReporting="off">"#,
            ],
        ),
        (
            "guest: 1Gi, hugepages: {pageSize: 1Gi}",
            [
                r#"<memory unit="b">1073741824</memory>"#,
                r#"<page size="1073741824" unit="b"/>"#,
                "!nodeset",
            ],
        ),
    ] {
        let vmi = instance(&format!(
            "domain: {{devices: {{autoattachPodInterface: false}}, memory: {{{memory}}}}}"
        ));
        expect(&vmi, &host(&vmi), &parts);
    }
}

#[test]
fn memory_is_what_is_requested_where_nothing_else_is_said() {
    for (resources, memory) in [
        ("requests: {memory: 64M}", "64000000"),
        ("limits: {memory: 1Gi}", "1073741824"),
        (
            "requests: {memory: 64Mi}, limits: {memory: 1Gi}",
            "67108864",
        ),
    ] {
        let vmi = instance(&format!(
            "domain: {{devices: {{autoattachPodInterface: false}}, resources: {{{resources}}}}}"
        ));
        let part = format!(r#"<memory unit="b">{memory}</memory>"#);
        expect(&vmi, &host(&vmi), &[&part]);
    }
}

#[test]
fn machine_types() {
    check(&[
        (
            "",
            Kvm,
            &[r#"<type arch="x86_64" machine="q35">hvm</type>"#],
        ),
        (
            "machine: {type: pc-q35-7.2}",
            Kvm,
            &[r#"<type arch="x86_64" machine="pc-q35-7.2">hvm</type>"#],
        ),
    ]);
    // What crds refuses, but libvirt would run.
    let mut vmi = machine("");
    for kind in ["pc", "pc-i440fx-7.2"] {
        set_machine(&mut vmi, kind);
        expect(&vmi, &host(&vmi), &[&format!(r#"machine="{kind}">hvm"#)]);
    }
    for kind in ["", "virt", "pc-q35-", "microvm", "q35-7.2"] {
        set_machine(&mut vmi, kind);
        let said = refused(&vmi, &host(&vmi));
        let expected = format!("spec.domain.machine.type: {kind:?} is not supported; use q35");
        assert!(said.starts_with(&expected), "{said}");
    }
}

fn set_machine(vmi: &mut VirtualMachineInstance, kind: &str) {
    vmi.spec.domain.machine = Some(crds::Machine {
        type_: Some(kind.to_owned()),
    });
}

#[test]
fn firmware() {
    check(&[
        (
            "",
            Kvm,
            &[
                "!<loader",
                "!<bios",
                r#"<boot dev="hd"/><boot dev="cdrom"/>"#,
            ],
        ),
        (
            "firmware: {bootloader: {bios: {useSerial: true}}}",
            Tcg,
            &[r#"<bios useserial="yes"/>"#],
        ),
        ("firmware: {bootloader: {bios: {}}}", Tcg, &["!<bios"]),
        (
            "firmware: {bootloader: {efi: {secureBoot: false}}}",
            Tcg,
            &[
                concat!(
                    r#"<loader readonly="yes" secure="no" type="pflash">"#,
                    "/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
                ),
                concat!(
                    r#"<nvram template="/usr/share/OVMF/OVMF_VARS_4M.fd">"#,
                    "/run/vm/nvram.fd</nvram>"
                ),
                r#"<model type="bochs" vram="16384" heads="1"/>"#,
                "!<smm",
            ],
        ),
        (
            "firmware: {bootloader: {efi: {}}}, features: {smm: {}}",
            Kvm,
            &[
                concat!(
                    r#"<loader readonly="yes" secure="yes" type="pflash">"#,
                    "/usr/share/OVMF/OVMF_CODE_4M.ms.fd</loader>"
                ),
                r#"<nvram template="/usr/share/OVMF/OVMF_VARS_4M.ms.fd">"#,
                r#"<smm state="on"/>"#,
            ],
        ),
        (
            "firmware: {kernelBoot: {kernelArgs: 'console=ttyS0 a<b',
              container: {image: a, kernelPath: /k, initrdPath: /i}}}",
            Kvm,
            &[
                "<kernel>/boot/vmlinuz</kernel><initrd>/boot/initrd</initrd>",
                "<cmdline>console=ttyS0 a&lt;b</cmdline>",
            ],
        ),
    ]);
}

#[test]
fn firmware_that_libvirt_would_not_start() {
    let mut vmi = machine("firmware: {bootloader: {efi: {}}}, features: {smm: {}}");
    set_machine(&mut vmi, "pc");
    assert_eq!(
        refused(&vmi, &host(&vmi)),
        "spec.domain.firmware.bootloader.efi: Secure Boot is on q35 machines only; use machine \
         type q35, or secureBoot: false"
    );
    let vmi = machine("firmware: {kernelBoot: {container: {image: a, kernelPath: /k}}}");
    let host = Host {
        kernel_boot: None,
        ..host(&vmi)
    };
    let said = refused(&vmi, &host);
    assert!(
        said.starts_with("spec.domain.firmware.kernelBoot.container: "),
        "{said}"
    );
}

#[test]
fn smbios() {
    check(&[
        (
            "",
            Kvm,
            &[
                // Derived from the name: see crds::default.
                "<uuid>",
                concat!(
                    r#"<system><entry name="manufacturer">KubeVirt</entry>"#,
                    r#"<entry name="product">None</entry><entry name="uuid">"#
                ),
                r#"<entry name="family">KubeVirt</entry></system></sysinfo>"#,
                r#"<smbios mode="sysinfo"/>"#,
            ],
        ),
        (
            "firmware: {uuid: 5D307CA9B3EF428C886106E72D69F223, serial: e4686d2c},
             chassis: {manufacturer: m, version: v, serial: s, asset: a, sku: 'k<'}",
            Kvm,
            &[
                "<uuid>5d307ca9-b3ef-428c-8861-06e72d69f223</uuid>",
                r#"<entry name="serial">e4686d2c</entry>"#,
                r#"<entry name="uuid">5d307ca9-b3ef-428c-8861-06e72d69f223</entry>"#,
                r#"<chassis><entry name="manufacturer">m</entry><entry name="version">v</entry>"#,
                r#"<entry name="asset">a</entry><entry name="sku">k&lt;</entry></chassis>"#,
            ],
        ),
    ]);
}

#[test]
fn clock() {
    check(&[
        ("", Kvm, &[r#"<clock offset="utc"/>"#]),
        (
            "clock: {utc: {}}",
            Kvm,
            &[r#"<clock offset="utc" adjustment="reset"/>"#],
        ),
        (
            "clock: {utc: {offsetSeconds: -3600}}",
            Kvm,
            &[r#"<clock offset="utc" adjustment="-3600"/>"#],
        ),
        (
            "clock: {timezone: Europe/Berlin}",
            Kvm,
            &[r#"<clock offset="timezone" timezone="Europe/Berlin"/>"#],
        ),
        (
            "clock: {timer: {hpet: {present: false}, pit: {tickPolicy: delay},
              rtc: {tickPolicy: catchup, track: guest}, kvm: {}, hyperv: {}}}",
            Kvm,
            &[
                r#"<timer name="rtc" tickpolicy="catchup" track="guest" present="yes"/>"#,
                r#"<timer name="pit" tickpolicy="delay" present="yes"/>"#,
                r#"<timer name="kvmclock" present="yes"/><timer name="hpet" present="no"/>"#,
                r#"<timer name="hypervclock" present="yes"/>"#,
            ],
        ),
        (
            "clock: {timer: {hpet: {tickPolicy: merge}, pit: {tickPolicy: discard},
              rtc: {tickPolicy: delay, track: wall}, kvm: {}, hyperv: {}}}",
            Tcg,
            &[
                r#"<timer name="rtc" tickpolicy="delay" track="wall" present="yes"/>"#,
                r#"<timer name="pit" tickpolicy="discard" present="yes"/>"#,
                r#"<timer name="hpet" tickpolicy="merge" present="yes"/></clock>"#,
                "!kvmclock",
                "!hypervclock",
            ],
        ),
    ]);
}

#[test]
fn features() {
    const HYPERV: &str = "features: {hyperv: {evmcs: {}, frequencies: {}, ipi: {},
        reenlightenment: {}, relaxed: {}, reset: {enabled: false}, runtime: {}, spinlocks: {},
        synic: {}, synictimer: {direct: {}}, tlbflush: {}, vapic: {}, vpindex: {},
        vendorid: {vendorid: GenuineNobod}}}";
    check(&[
        ("", Kvm, &["<features><acpi/></features>"]),
        ("features: {acpi: {enabled: false}}", Kvm, &["<features/>"]),
        (
            "features: {apic: {endOfInterrupt: true}, smm: {enabled: false},
              kvm: {hidden: true}, pvspinlock: {enabled: false}}",
            Kvm,
            &[
                r#"<apic eoi="on"/><kvm><hidden state="on"/></kvm><pvspinlock state="off"/>"#,
                r#"<smm state="off"/>"#,
            ],
        ),
        (
            "features: {apic: {endOfInterrupt: true}, smm: {},
              kvm: {hidden: true}, pvspinlock: {}}",
            Tcg,
            &[
                r#"<features><acpi/><apic/><tcg><tb-cache unit="b">134217728</tb-cache></tcg><smm state="on"/></features>"#,
            ],
        ),
        ("features: {apic: {enabled: false}}", Kvm, &["!<apic"]),
        (
            HYPERV,
            Kvm,
            &[
                r#"<hyperv mode="custom"><relaxed state="on"/><vapic state="on"/>"#,
                r#"<spinlocks state="on" retries="4096"/><vpindex state="on"/>"#,
                r#"<runtime state="on"/><synic state="on"/>"#,
                r#"<stimer state="on"><direct state="on"/></stimer><reset state="off"/>"#,
                r#"<vendor_id state="on" value="GenuineNobod"/><frequencies state="on"/>"#,
                r#"<reenlightenment state="on"/><tlbflush state="on"/><ipi state="on"/>"#,
                r#"<evmcs state="on"/></hyperv>"#,
            ],
        ),
        (HYPERV, Tcg, &["!hyperv"]),
    ]);
}
