//! Each rule, by the one line that it says.
#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

use crds::manifest::{self, Manifest};
use serde_json::{Value, json};

/// A spec that has nothing wrong with it.
const SOUND: &str = "
domain:
  memory: {guest: 1Gi}
  devices:
    disks: [{name: root, disk: {bus: virtio}}]
    interfaces: [{name: default, bridge: {}}]
networks: [{name: default, pod: {}}]
volumes: [{name: root, containerDisk: {image: example.org/disk}}]
";

/// Puts `change` over `value`, objects field by field and everything else whole.
fn merge(value: &mut Value, change: Value) {
    match (value, change) {
        (Value::Object(value), Value::Object(change)) => {
            for (key, change) in change {
                merge(value.entry(key).or_insert(Value::Null), change);
            }
        }
        (value, change) => *value = change,
    }
}

fn instance(change: &str) -> Value {
    let mut spec: Value = serde_saphyr::from_str(SOUND).unwrap();
    merge(&mut spec, serde_saphyr::from_str(change).unwrap());
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "vm"},
        "spec": spec,
    })
}

/// What a manifest is told: by reading it, else by validating it.
fn told(value: Value) -> Vec<String> {
    match manifest::read(value) {
        Ok(manifest) => manifest
            .validate()
            .iter()
            .map(ToString::to_string)
            .collect(),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

/// Each change of the sound spec, and the line that it is answered with.
#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (change, line) in cases {
        let told = told(instance(change));
        assert_eq!(told, [*line], "{change}");
    }
}

#[test]
fn sound_specs_pass() {
    for change in [
        "{}",
        "domain: {cpu: {sockets: 2, cores: 4, threads: 2, model: Haswell-noTSX, features: [{name: vmx}]}}",
        "domain: {memory: {hugepages: {pageSize: 2Mi}}, machine: {type: pc-q35-7.2}}",
        "domain: {firmware: {bootloader: {efi: {}}}, features: {smm: {}}}",
        "domain: {firmware: {bootloader: {efi: {secureBoot: false}}}}",
        "domain: {features: {hyperv: {synictimer: {}, tlbflush: {}, evmcs: {}, spinlocks: {}}}}",
        "domain: {devices: {interfaces: [{name: default, macAddress: DE-AD-00-00-BE-AF, model: igb}]}}",
        "volumes: [{name: root, hostDisk: {path: /a, type: Disk}}, {name: more, emptyDisk: {capacity: 1}}]",
        r#"{volumes: [{name: root, cloudInitNoCloud: {userData: "\u001b\a\n"}}]}"#,
        "{terminationGracePeriodSeconds: 0, hostname: a, priorityClassName: high, dnsPolicy: Default}",
    ] {
        assert_eq!(told(instance(change)), [""; 0], "{change}");
    }
}

#[test]
fn names() {
    let mut value = instance("{}");
    value["metadata"] = json!({"name": "My VM", "namespace": "a.b"});
    assert_eq!(
        told(value.clone()),
        [
            r#"metadata.name: "My VM" is no name in DNS; use up to 253 of a-z 0-9 - and ., beginning and ending with a letter or digit"#,
            r#"metadata.namespace: "a.b" is no DNS label; use up to 63 of a-z 0-9 and -, beginning and ending with a letter or digit"#,
        ]
    );
    value["metadata"] = json!({});
    assert_eq!(told(value), ["metadata.name: required; name the machine"]);
    check(&[
        (
            "hostname: Host",
            r#"spec.hostname: "Host" is no DNS label; use up to 63 of a-z 0-9 and -, beginning and ending with a letter or digit"#,
        ),
        (
            "subdomain: a.b",
            r#"spec.subdomain: "a.b" is no DNS label; use up to 63 of a-z 0-9 and -, beginning and ending with a letter or digit"#,
        ),
    ]);
}

#[test]
fn the_pod() {
    check(&[
        (
            "terminationGracePeriodSeconds: -1",
            "spec.terminationGracePeriodSeconds: -1 is below zero; write how many seconds the guest has to shut down",
        ),
        (
            "architecture: arm64",
            r#"spec.architecture: "arm64" is not supported yet; use amd64"#,
        ),
        (
            "dnsPolicy: None",
            "spec.dnsConfig.nameservers: required with dnsPolicy None; name at least one server",
        ),
        (
            r#"{priorityClassName: "a\u0000b"}"#,
            r#"spec.priorityClassName: "a\0b" holds a control character; remove it"#,
        ),
    ]);
}

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

#[test]
fn disks() {
    check(&[
        (
            "domain: {devices: {disks: [{name: root}, {name: root}]}}",
            r#"spec.domain.devices.disks[1].name: "root" is used already by spec.domain.devices.disks[0].name; give each disk a name of its own"#,
        ),
        (
            "domain: {devices: {disks: [{name: other}]}}",
            r#"spec.domain.devices.disks[0].name: no volume is named "other"; add it to volumes, or remove the disk"#,
        ),
        (
            "domain: {devices: {disks: [{disk: {}}]}}",
            "spec.domain.devices.disks[0].name: required; add it",
        ),
        (
            "domain: {devices: {disks: [{name: root, disk: {}, cdrom: {}}]}}",
            "spec.domain.devices.disks[0]: is several things at once; leave one of disk, cdrom and lun",
        ),
        (
            "domain: {devices: {disks: [{name: root, disk: {bus: ide}}]}}",
            "spec.domain.devices.disks[0].disk.bus: unknown variant `ide`; write one of `virtio`, `sata`, `scsi`, `usb`",
        ),
        (
            "domain: {devices: {disks: [{name: root, cache: unsafe}]}}",
            "spec.domain.devices.disks[0].cache: unknown variant `unsafe`; write one of `none`, `writethrough`, `writeback`",
        ),
        (
            "domain: {devices: {disks: [{name: root, io: io_uring}]}}",
            "spec.domain.devices.disks[0].io: unknown variant `io_uring`; write one of `default`, `native`, `threads`",
        ),
        (
            "domain: {devices: {disks: [{name: root, io: native, cache: writeback}]}}",
            "spec.domain.devices.disks[0].io: native needs cache none; change one of the two",
        ),
        (
            "domain: {devices: {disks: [{name: root, errorPolicy: panic}]}}",
            "spec.domain.devices.disks[0].errorPolicy: unknown variant `panic`; write one of `stop`, `ignore`, `report`, `enospace`",
        ),
        (
            "domain: {devices: {disks: [{name: root, serial: 'a b'}]}}",
            r#"spec.domain.devices.disks[0].serial: "a b" is no serial number; use A-Z a-z 0-9 _ . + -"#,
        ),
        (
            "domain: {devices: {disks: [{name: root, disk: {bus: virtio, pciAddress: '0:1.0'}}]}}",
            r#"spec.domain.devices.disks[0].disk.pciAddress: "0:1.0" is no PCI address; write domain:bus:slot.function, such as 0000:81:01.0"#,
        ),
        (
            "domain: {devices: {disks: [{name: root, disk: {bus: sata, pciAddress: '0000:81:01.0'}}]}}",
            "spec.domain.devices.disks[0].disk.pciAddress: only virtio disks are on the PCI bus; use bus virtio, or remove it",
        ),
        (
            "domain: {devices: {disks: [{name: root, cdrom: {bus: virtio}}]}}",
            "spec.domain.devices.disks[0].cdrom.bus: no CD-ROM drive is on that bus; use sata or scsi",
        ),
        (
            "domain: {devices: {disks: [{name: root, cdrom: {readonly: false}}]}}",
            "spec.domain.devices.disks[0].cdrom.readonly: a CD-ROM cannot be written; remove it, or use disk",
        ),
        (
            "domain: {devices: {disks: [{name: root, lun: {}}]}}",
            r#"spec.domain.devices.disks[0].lun: volume "root" is no SCSI device; use a hostDisk whose path is one, or use disk"#,
        ),
        (
            "domain: {devices: {disks: [{name: root, blockSize: {}}]}}",
            "spec.domain.devices.disks[0].blockSize: says nothing; add custom or matchVolume",
        ),
        (
            "domain: {devices: {disks: [{name: root, blockSize: {custom: {logical: 4096, physical: 512}}}]}}",
            "spec.domain.devices.disks[0].blockSize.custom.logical: 4096 is more than physical, 512; make it at most that",
        ),
        (
            "domain: {devices: {disks: [{name: root, blockSize: {custom: {logical: 512, physical: 1000}}}]}}",
            "spec.domain.devices.disks[0].blockSize.custom.physical: 1000 is no size of a block; write a power of two from 512 to 2097152",
        ),
        (
            "domain: {devices: {disks: [{name: root, shareable: true}]}}",
            "spec.domain.devices.disks[0].shareable: not supported yet; remove it",
        ),
    ]);
}

#[test]
fn volumes() {
    let long = format!(
        "volumes: [{{name: root, cloudInitNoCloud: {{userData: {}}}}}]",
        "x".repeat(2049)
    );
    check(&[
        (
            "volumes: [{name: root, emptyDisk: {capacity: 1Gi}}, {name: root, emptyDisk: {capacity: 1Gi}}]",
            r#"spec.volumes[1].name: "root" is used already by spec.volumes[0].name; give each volume a name of its own"#,
        ),
        (
            "volumes: [{name: root}]",
            "spec.volumes[0]: has no source; add containerDisk, cloudInitNoCloud, cloudInitConfigDrive, emptyDisk, hostDisk or ephemeral",
        ),
        (
            "volumes: [{name: root, emptyDisk: {capacity: 1Gi}, containerDisk: {image: i}}]",
            "spec.volumes[0]: has 2 sources; leave one of containerDisk, emptyDisk",
        ),
        (
            "volumes: [{name: root, containerDisk: {image: ''}}]",
            r#"spec.volumes[0].containerDisk.image: "" is no image name; write one such as registry/name:tag"#,
        ),
        (
            "volumes: [{name: root, containerDisk: {image: i, path: disk.img}}]",
            r#"spec.volumes[0].containerDisk.path: "disk.img" is not an absolute path without ".."; begin it with /"#,
        ),
        (
            "volumes: [{name: root, containerDisk: {image: i, imagePullPolicy: Sometimes}}]",
            "spec.volumes[0].containerDisk.imagePullPolicy: unknown variant `Sometimes`; write one of `Always`, `IfNotPresent`, `Never`",
        ),
        (
            "volumes: [{name: root, emptyDisk: {capacity: 0}}]",
            "spec.volumes[0].emptyDisk.capacity: 0 is no size of a disk; write one such as 2Gi",
        ),
        (
            "volumes: [{name: root, hostDisk: {path: disk.img, type: Disk}}]",
            r#"spec.volumes[0].hostDisk.path: "disk.img" is not an absolute path without ".."; begin it with /"#,
        ),
        (
            "volumes: [{name: root, hostDisk: {path: /d, type: DiskOrCreate}}]",
            "spec.volumes[0].hostDisk.capacity: required with type DiskOrCreate; write the size of the disk to create",
        ),
        (
            "volumes: [{name: root, hostDisk: {path: /d, type: Disk, capacity: 1Gi}}]",
            "spec.volumes[0].hostDisk.capacity: only with type DiskOrCreate; remove it, or change the type",
        ),
        (
            "volumes: [{name: root, hostDisk: {path: /d, type: Create}}]",
            "spec.volumes[0].hostDisk.type: unknown variant `Create`; write `Disk` or `DiskOrCreate`",
        ),
        (
            "volumes: [{name: root, ephemeral: {}}]",
            "spec.volumes[0].ephemeral.persistentVolumeClaim: required; name a claim by claimName",
        ),
        (
            "volumes: [{name: root, ephemeral: {persistentVolumeClaim: {claimName: ../etc}}}]",
            r#"spec.volumes[0].ephemeral.persistentVolumeClaim.claimName: "../etc" is no claim's name"#,
        ),
        (
            "volumes: [{name: root, persistentVolumeClaim: {claimName: c}}]",
            "spec.volumes[0].persistentVolumeClaim: not supported yet; use containerDisk, hostDisk or ephemeral",
        ),
        (
            "volumes: [{name: root, cloudInitNoCloud: {}}]",
            "spec.volumes[0].cloudInitNoCloud: says nothing; add userData or networkData",
        ),
        (
            "volumes: [{name: root, cloudInitConfigDrive: {userData: a, userDataBase64: YQ==}}]",
            "spec.volumes[0].cloudInitConfigDrive.userDataBase64: excludes userData; leave one of the two",
        ),
        (
            "volumes: [{name: root, cloudInitNoCloud: {networkDataBase64: '***'}}]",
            "spec.volumes[0].cloudInitNoCloud.networkDataBase64: is not base64: Invalid symbol 42, offset 0.",
        ),
        (
            &long,
            "spec.volumes[0].cloudInitNoCloud.userData: has 2049 bytes, and 2048 are the most; put it into a secret and name that by secretRef",
        ),
    ]);
}

#[test]
fn interfaces_and_networks() {
    check(&[
        (
            "domain: {devices: {interfaces: [{name: default}, {name: default}]}}",
            r#"spec.domain.devices.interfaces[1].name: "default" is used already by spec.domain.devices.interfaces[0].name; give each interface a name of its own"#,
        ),
        (
            "networks: [{name: default}]",
            "spec.networks[0]: says nothing but its name; add pod: {}",
        ),
        (
            "networks: [{name: default, multus: {networkName: a}}]",
            "spec.networks[0].multus: not supported yet; use pod: {}",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, masquerade: {}}]}}",
            "spec.domain.devices.interfaces[0].masquerade: not supported yet; use bridge",
        ),
        (
            "{domain: {devices: {interfaces: [{name: a}, {name: b}]}}, networks: [{name: a, pod: {}}, {name: b, pod: {}}]}",
            "spec.networks[1].pod: the pod's network is used already by spec.networks[0].pod; a pod has one network; remove this one and its interface",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, model: e100}]}}",
            "spec.domain.devices.interfaces[0].model: unknown variant `e100`; write one of `e1000`, `e1000e`, `igb`, `ne2k_pci`, `pcnet`, `rtl8139`, `virtio`",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, macAddress: 02:00:00:00:00}]}}",
            r#"spec.domain.devices.interfaces[0].macAddress: "02:00:00:00:00" is no MAC address; write one such as 02:00:00:12:34:56"#,
        ),
        (
            "domain: {devices: {interfaces: [{name: default, macAddress: 03:00:00:00:00:01}]}}",
            r#"spec.domain.devices.interfaces[0].macAddress: "03:00:00:00:00:01" is the address of a group; make the second digit even"#,
        ),
        (
            "domain: {devices: {interfaces: [{name: default, acpiIndex: 16384}]}}",
            "spec.domain.devices.interfaces[0].acpiIndex: 16384 is out of range; use 1 to 16383",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, pciAddress: '0000:81:ff.0'}]}}",
            r#"spec.domain.devices.interfaces[0].pciAddress: "0000:81:ff.0" is no PCI address; write domain:bus:slot.function, such as 0000:81:01.0"#,
        ),
        (
            "domain: {devices: {interfaces: [{name: default, ports: [{port: 70000}]}]}}",
            "spec.domain.devices.interfaces[0].ports[0].port: 70000 is no port; use 1 to 65535",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, ports: [{port: 1, name: UP}]}]}}",
            r#"spec.domain.devices.interfaces[0].ports[0].name: "UP" is no name of a port; use up to 15 of a-z 0-9 and -, at least one of them a letter"#,
        ),
        (
            "domain: {devices: {interfaces: [{name: default, dhcpOptions: {ntpServers: ['::1']}}]}}",
            r#"spec.domain.devices.interfaces[0].dhcpOptions.ntpServers[0]: "::1" is no IPv4 address; option 42 holds nothing else"#,
        ),
        (
            "domain: {devices: {interfaces: [{name: default, dhcpOptions: {privateOptions: [{option: 223, value: a}]}}]}}",
            "spec.domain.devices.interfaces[0].dhcpOptions.privateOptions[0].option: 223 is not for private use; use 224 to 254",
        ),
        (
            "domain: {devices: {interfaces: [{name: default, dhcpOptions: {privateOptions: [{option: 230, value: ''}]}}]}}",
            "spec.domain.devices.interfaces[0].dhcpOptions.privateOptions[0].value: has 0 bytes; an option of DHCP holds 1 to 255",
        ),
    ]);
    assert_eq!(
        told(instance("domain: {devices: {interfaces: [{name: a}]}}")),
        [
            r#"spec.domain.devices.interfaces[0].name: no network is named "a"; add it to networks, or remove the interface"#,
            r#"spec.networks[0].name: no interface is named "default"; add it to domain.devices.interfaces, or remove the network"#,
        ]
    );
}

#[test]
fn devices() {
    check(&[
        (
            "domain: {devices: {disks: [{name: root, bootOrder: 0}]}}",
            "spec.domain.devices.disks[0].bootOrder: 0 is no place; begin with 1",
        ),
        (
            "domain: {devices: {disks: [{name: root, bootOrder: 1}], interfaces: [{name: default, bootOrder: 1}]}}",
            "spec.domain.devices.interfaces[0].bootOrder: 1 is used already by spec.domain.devices.disks[0].bootOrder; give each device a place of its own",
        ),
        (
            "domain: {devices: {disks: [{name: root, disk: {bus: virtio, pciAddress: '0000:0A:01.0'}}], interfaces: [{name: default, pciAddress: '0000:0a:01.0'}]}}",
            "spec.domain.devices.interfaces[0].pciAddress: 0000:0a:01.0 is used already by spec.domain.devices.disks[0].disk.pciAddress; give each device an address of its own",
        ),
        (
            "domain: {devices: {inputs: [{name: a, type: tablet}, {name: a, type: tablet}]}}",
            r#"spec.domain.devices.inputs[1].name: "a" is used already by spec.domain.devices.inputs[0].name; give each input a name of its own"#,
        ),
        (
            "domain: {devices: {inputs: [{name: a, type: mouse}]}}",
            "spec.domain.devices.inputs[0].type: unknown variant `mouse`; write `tablet` or `keyboard`",
        ),
        (
            "domain: {devices: {watchdog: {name: dog}}}",
            "spec.domain.devices.watchdog: has no model; add i6300esb: {}",
        ),
        (
            "domain: {devices: {watchdog: {name: dog, diag288: {}}}}",
            "spec.domain.devices.watchdog.diag288: not supported yet; use i6300esb",
        ),
        (
            "domain: {devices: {autoattachGraphicsDevice: false, video: {type: vga}}}",
            "spec.domain.devices.video: needs graphics; remove it, or autoattachGraphicsDevice: false",
        ),
    ]);
}

#[test]
fn a_machine_is_told_by_its_own_paths() {
    let template = instance("domain: {cpu: {cores: 0}}");
    let machine = |own: Value| {
        let mut value = json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": "vm"},
            "spec": {"template": {"spec": template["spec"]}},
        });
        merge(&mut value["spec"], own);
        told(value)
    };
    let cores = "spec.template.spec.domain.cpu.cores: 0 makes no CPU; write at least 1";
    assert_eq!(machine(json!({"running": false})), [cores]);
    assert_eq!(
        machine(json!({})),
        [
            "spec.runStrategy: required; write Always, Halted, Manual, RerunOnFailure or Once",
            cores
        ]
    );
    assert_eq!(
        machine(json!({"running": true, "runStrategy": "Always"})),
        [
            "spec.running: excludes runStrategy; leave one of the two",
            cores
        ]
    );
    assert_eq!(
        machine(json!({"runStrategy": "Sometimes"})),
        [
            "spec.runStrategy: unknown variant `Sometimes`; write one of `Always`, `Halted`, `Manual`, `RerunOnFailure`, `Once`"
        ]
    );
    assert_eq!(
        machine(json!({"running": true, "dataVolumeTemplates": [], "tempate": {}})),
        [
            "spec.dataVolumeTemplates: not supported yet; use containerDisk or hostDisk",
            "spec.tempate: no such field in kubevirt.io/v1; check its spelling and its place",
        ]
    );
}

/// Whatever can be read can be validated, without defaults as well as with them.
#[test]
fn nothing_needs_defaults() {
    let Manifest::Vmi(vmi) = manifest::read(instance("{}")).unwrap() else {
        panic!("not an instance");
    };
    assert_eq!(crds::validate(&vmi), []);
    assert_ne!(crds::validate(&crds::VirtualMachineInstance::default()), []);
}
