//! Rules about the machine without its devices.

use crate::check;

#[test]
fn cpu() {
    check(&[
        (
            "domain: {cpu: {cores: 0}}",
            "spec.domain.cpu.cores: 0 makes no CPU; write at least 1",
        ),
        (
            "domain: {cpu: {cores: 64, sockets: 8}}",
            "spec.domain.cpu: sockets x cores x threads make 512 CPUs; 255 are the most",
        ),
        (
            "domain: {cpu: {cores: 4294967295, sockets: 4294967295, threads: 4294967295}}",
            "spec.domain.cpu: sockets x cores x threads make 18446744073709551615 CPUs; 255 are the most",
        ),
        (
            "domain: {cpu: {cores: -1}}",
            "spec.domain.cpu.cores: invalid value: integer `-1`; write a whole number from 0 to 4294967295",
        ),
        (
            "domain: {cpu: {cores: two}}",
            r#"spec.domain.cpu.cores: invalid type: string "two"; write a whole number from 0 to 4294967295"#,
        ),
        (
            "domain: {cpu: {model: <x>}}",
            r#"spec.domain.cpu.model: "<x>" is no CPU model; use host-model, host-passthrough or a model of libvirt's"#,
        ),
        (
            "domain: {cpu: {features: [{name: a b}]}}",
            r#"spec.domain.cpu.features[0].name: "a b" is no CPU feature; use a name of libvirt's, such as vmx"#,
        ),
        (
            "domain: {cpu: {features: [{name: vmx}, {name: vmx, policy: disable}]}}",
            r#"spec.domain.cpu.features[1].name: "vmx" is used already by spec.domain.cpu.features[0].name; leave one of the two"#,
        ),
        (
            "domain: {cpu: {features: [{name: vmx, policy: maybe}]}}",
            "spec.domain.cpu.features[0].policy: unknown variant `maybe`; write one of `force`, `require`, `optional`, `disable`, `forbid`",
        ),
    ]);
}

#[test]
fn memory_and_resources() {
    check(&[
        (
            "domain: {memory: {guest: null}}",
            "spec.domain.memory.guest: required; write how much memory the guest has, such as 1Gi",
        ),
        (
            "domain: {memory: {guest: 0}}",
            "spec.domain.memory.guest: 0 is no size of a memory; write at least 1Mi",
        ),
        (
            "domain: {memory: {guest: -1Gi}}",
            "spec.domain.memory.guest: -1Gi is no size of a memory; write at least 1Mi",
        ),
        (
            "domain: {memory: {guest: 128m}}",
            "spec.domain.memory.guest: 128m is no size of a memory; write at least 1Mi",
        ),
        (
            "domain: {memory: {guest: 99999E}}",
            "spec.domain.memory.guest: 99999E is no size of a memory; write at least 1Mi",
        ),
        (
            "domain: {memory: {guest: 128MB}}",
            r#"spec.domain.memory.guest: "128MB" ends in an unknown unit "MB"; use one of Ki Mi Gi Ti Pi Ei, n u m k M G T P E, or an exponent such as e6"#,
        ),
        (
            "domain: {resources: {limits: {memory: 512Mi}}}",
            "spec.domain.memory.guest: 1Gi is more than resources.limits.memory, 512Mi; make it at most that",
        ),
        (
            "domain: {resources: {requests: {memory: 2Gi}}}",
            "spec.domain.memory.guest: 1Gi is less than resources.requests.memory, 2Gi; make it at least that",
        ),
        (
            "domain: {resources: {requests: {cpu: 2}, limits: {cpu: 1500m}}}",
            "spec.domain.resources.requests.cpu: 2 is more than the limit, 1500m; make it at most that",
        ),
        (
            "domain: {resources: {requests: {cpu: -1}}}",
            "spec.domain.resources.requests.cpu: -1 is below zero; write what is needed",
        ),
        (
            "domain: {resources: {limits: {example.org/gpu: 1}}}",
            "spec.domain.resources.limits.example.org/gpu: not supported; only memory and cpu are",
        ),
        (
            "domain: {memory: {hugepages: {pageSize: 4Ki}}}",
            r#"spec.domain.memory.hugepages.pageSize: "4Ki" is no size of a huge page; write 2Mi or 1Gi"#,
        ),
        (
            "domain: {memory: {hugepages: {}}}",
            "spec.domain.memory.hugepages.pageSize: not given; write 2Mi or 1Gi",
        ),
        (
            "domain: {memory: {guest: 3Mi, hugepages: {pageSize: 2Mi}}}",
            "spec.domain.memory.guest: 3145728 bytes are not a multiple of the huge page, 2Mi; round it up",
        ),
    ]);
}

#[test]
fn machine_clock_and_features() {
    check(&[
        (
            "domain: {machine: {type: pc}}",
            r#"spec.domain.machine.type: "pc" is not supported; use q35, or one of its versions such as pc-q35-7.2"#,
        ),
        (
            "domain: {clock: {utc: {}, timezone: Europe/Berlin}}",
            "spec.domain.clock.timezone: excludes utc; leave one of the two",
        ),
        (
            "domain: {clock: {timezone: my zone}}",
            r#"spec.domain.clock.timezone: "my zone" is no time zone; write one such as Europe/Berlin"#,
        ),
        (
            "domain: {features: {hyperv: {spinlocks: {spinlocks: 7}}}}",
            "spec.domain.features.hyperv.spinlocks.spinlocks: 7 are too few retries; write at least 4096",
        ),
        (
            "domain: {features: {hyperv: {vendorid: {vendorid: more than twelve}}}}",
            r#"spec.domain.features.hyperv.vendorid.vendorid: "more than twelve" is no vendor; write 1 to 12 ASCII characters without a comma"#,
        ),
        (
            "domain: {features: {hyperv: {synictimer: {}}}, clock: {timer: {hyperv: {present: false}}}}",
            "spec.domain.clock.timer.hyperv: features.hyperv.synictimer needs it; add it, or remove synictimer",
        ),
        (
            "domain: {features: {hyperv: {ipi: {}, vpindex: {enabled: false}}}}",
            "spec.domain.features.hyperv.vpindex: ipi needs it; enable it, or remove ipi",
        ),
    ]);
}

#[test]
fn firmware() {
    check(&[
        (
            "domain: {firmware: {uuid: mine}}",
            r#"spec.domain.firmware.uuid: "mine" is no UUID; write one such as 5d307ca9-b3ef-428c-8861-06e72d69f223"#,
        ),
        (
            "domain: {firmware: {serial: a&b}}",
            r#"spec.domain.firmware.serial: "a&b" is no serial number; use A-Z a-z 0-9 _ . + -"#,
        ),
        (
            "domain: {firmware: {bootloader: {bios: {}, efi: {secureBoot: false}}}}",
            "spec.domain.firmware.bootloader.efi: excludes bios; leave one of the two",
        ),
        (
            "domain: {firmware: {bootloader: {efi: {secureBoot: false}}}, features: {acpi: {enabled: false}}}",
            "spec.domain.firmware.bootloader.efi: needs ACPI; remove it, or features.acpi.enabled: false",
        ),
        (
            "domain: {firmware: {bootloader: {efi: {}}}}",
            "spec.domain.firmware.bootloader.efi.secureBoot: needs system management mode; add features.smm: {}, or write secureBoot: false",
        ),
        (
            "domain: {firmware: {bootloader: {efi: {persistent: true, secureBoot: false}}}}",
            "spec.domain.firmware.bootloader.efi.persistent: not supported yet; remove it",
        ),
        (
            "domain: {firmware: {bootloader: {bios: {useSerial: true}}}, devices: {autoattachSerialConsole: false}}",
            "spec.domain.firmware.bootloader.bios.useSerial: needs a serial console; remove it, or autoattachSerialConsole: false",
        ),
        (
            "domain: {firmware: {kernelBoot: {kernelArgs: quiet}}}",
            "spec.domain.firmware.kernelBoot.container: required; name the image that holds the kernel",
        ),
        (
            "domain: {firmware: {kernelBoot: {container: {image: i, initrdPath: /i}}}}",
            "spec.domain.firmware.kernelBoot.container.kernelPath: required; write the kernel's path in the image",
        ),
        (
            "domain: {firmware: {kernelBoot: {container: {image: i, kernelPath: boot/k}}}}",
            r#"spec.domain.firmware.kernelBoot.container.kernelPath: "boot/k" is not an absolute path without ".."; begin it with /"#,
        ),
        (
            "domain: {firmware: {kernelBoot: {container: {image: i, kernelPath: /k, initrdPath: /a/../../i}}}}",
            r#"spec.domain.firmware.kernelBoot.container.initrdPath: "/a/../../i" is not an absolute path without ".."; begin it with /"#,
        ),
    ]);
}
