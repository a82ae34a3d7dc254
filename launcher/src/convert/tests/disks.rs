//! Disks, from the manifest's and the volume's side.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;

/// A machine with one disk `d` of these fields, on an empty volume.
fn with_disk(fields: &str) -> VirtualMachineInstance {
    instance(&format!(
        "domain: {{memory: {{guest: 64Mi}}, devices: {{autoattachPodInterface: false,
           disks: [{{name: d, {fields}}}]}}}},
         volumes: [{{name: d, hostDisk: {{path: /disks/d.img, type: Disk}}}}]"
    ))
}

/// Its host, with `volume` behind the disk.
fn on(vmi: &VirtualMachineInstance, volume: VolumeSource) -> Host {
    Host {
        volumes: [("d".to_owned(), volume)].into(),
        ..host(vmi)
    }
}

#[test]
fn manifests() {
    let usb = r#"<controller type="usb" index="0" model="qemu-xhci"/>"#;
    let no_usb = r#"<controller type="usb" index="0" model="none"/>"#;
    let scsi = r#"<controller type="scsi" index="0" model="virtio-non-transitional"/>"#;
    let no_scsi = r#"!<controller type="scsi""#;
    let cases: &[(&str, &[&str])] = &[
        (
            "",
            &[
                r#"<disk type="file" device="disk"><driver name="qemu" type="raw" cache="none" "#,
                r#"error_policy="stop" discard="unmap"/><source file="/disks/d.img"/>"#,
                r#"<backingStore/><target dev="sda" bus="sata"/><alias name="ua-d"/></disk>"#,
                no_usb,
                no_scsi,
            ],
        ),
        (
            "disk: {bus: virtio}",
            &[
                r#"<disk type="file" device="disk" model="virtio-non-transitional">"#,
                r#"<target dev="vda" bus="virtio"/>"#,
            ],
        ),
        (
            "disk: {bus: scsi}",
            &[
                r#"<target dev="sda" bus="scsi"/>"#,
                r#"<address type="drive" controller="0" bus="0" target="0" unit="0"/>"#,
                scsi,
            ],
        ),
        (
            "disk: {bus: usb}",
            &[r#"<target dev="sda" bus="usb"/>"#, usb],
        ),
        (
            "disk: {bus: virtio, readonly: true}",
            &["<readonly/>", r#"error_policy="stop"/>"#, "!discard"],
        ),
        (
            "disk: {bus: virtio, pciAddress: '0000:81:01.0'}",
            &[r#"<address type="pci" domain="0x0000" bus="0x81" slot="0x01" function="0x0"/>"#],
        ),
        (
            "cdrom: {}",
            &[
                r#"<disk type="file" device="cdrom">"#,
                r#"<target dev="sda" bus="sata" tray="closed"/><readonly/>"#,
            ],
        ),
        (
            "cdrom: {bus: scsi, tray: open}",
            &[
                r#"<target dev="sda" bus="scsi" tray="open"/><readonly/>"#,
                scsi,
            ],
        ),
        ("bootOrder: 3", &[r#"<boot order="3"/>"#, "!<boot dev"]),
        ("serial: A_b.+-1", &["<serial>A_b.+-1</serial>"]),
        ("cache: writethrough", &[r#"cache="writethrough""#]),
        ("cache: writeback", &[r#"cache="writeback""#]),
        (
            "cache: none, io: native",
            &[r#"cache="none" error_policy="stop" io="native""#],
        ),
        ("io: threads", &[r#"io="threads""#]),
        ("io: default", &["!io="]),
        ("errorPolicy: ignore", &[r#"error_policy="ignore""#]),
        ("errorPolicy: report", &[r#"error_policy="report""#]),
        ("errorPolicy: enospace", &[r#"error_policy="enospace""#]),
        (
            "blockSize: {custom: {logical: 512, physical: 4096}}",
            &[r#"<blockio logical_block_size="512" physical_block_size="4096"/>"#],
        ),
        (
            "disk: {bus: usb}, blockSize: {custom: {logical: 4096, physical: 4096}}",
            &[r#"<blockio logical_block_size="4096" physical_block_size="4096"/>"#],
        ),
        ("blockSize: {matchVolume: {enabled: false}}", &["!<blockio"]),
    ];
    for (fields, parts) in cases {
        let vmi = with_disk(fields);
        expect(&vmi, &host(&vmi), parts);
    }
}

#[test]
fn volumes() {
    let qcow2 = VolumeSource {
        format: DiskFormat::Qcow2,
        ..file("/disks/d.qcow2")
    };
    let base = VolumeSource {
        read_only: true,
        ..file("/images/base.img")
    };
    let device = VolumeSource {
        block: true,
        ..file("/dev/d")
    };
    let cases: Vec<(&str, VolumeSource, &[&str])> = vec![
        (
            "",
            VolumeSource {
                direct_io: false,
                ..qcow2.clone()
            },
            &[r#"type="qcow2" cache="writethrough""#, "!<backingStore"],
        ),
        (
            "",
            VolumeSource {
                backing: Some(Box::new(base.clone())),
                ..qcow2.clone()
            },
            &[
                concat!(
                    r#"<source file="/disks/d.qcow2"/><backingStore type="file">"#,
                    r#"<format type="raw"/><source file="/images/base.img"/><backingStore/>"#,
                    "</backingStore>"
                ),
                "!<readonly",
            ],
        ),
        (
            "",
            VolumeSource {
                backing: Some(Box::new(VolumeSource {
                    fd_group: Some("container-disk-d".to_owned()),
                    format: DiskFormat::Qcow2,
                    ..base.clone()
                })),
                ..qcow2.clone()
            },
            &[concat!(
                r#"<backingStore type="file"><format type="qcow2"/>"#,
                r#"<source file="/images/base.img" fdgroup="container-disk-d"/><backingStore/>"#,
                "</backingStore>"
            )],
        ),
        (
            "",
            VolumeSource {
                backing: Some(Box::new(VolumeSource {
                    read_only: true,
                    ..device.clone()
                })),
                ..qcow2.clone()
            },
            &[concat!(
                r#"<source file="/disks/d.qcow2"/><backingStore type="block">"#,
                r#"<format type="raw"/><source dev="/dev/d"/><backingStore/></backingStore>"#
            )],
        ),
        (
            "",
            device.clone(),
            &[
                r#"<disk type="block" device="disk">"#,
                r#"cache="none" error_policy="stop" io="native""#,
                r#"<source dev="/dev/d"/>"#,
            ],
        ),
        ("io: threads", device.clone(), &[r#"io="threads""#]),
        ("cache: writeback", device.clone(), &["!io="]),
        (
            "lun: {}",
            device.clone(),
            &[
                r#"<disk type="block" device="lun">"#,
                r#"<target dev="sda" bus="scsi"/>"#,
                r#"<address type="drive" controller="0" bus="0" target="0" unit="0"/>"#,
            ],
        ),
        ("lun: {readonly: true}", device, &["<readonly/>"]),
        (
            "disk: {bus: scsi}",
            VolumeSource {
                read_only: true,
                ..file("/disks/d.img")
            },
            &["<readonly/>"],
        ),
        (
            "blockSize: {matchVolume: {}}",
            VolumeSource {
                block_size: Some(BlockSize {
                    logical: 512,
                    physical: 4096,
                }),
                ..qcow2
            },
            &[r#"<blockio logical_block_size="512" physical_block_size="4096"/>"#],
        ),
    ];
    for (fields, volume, parts) in cases {
        let vmi = with_disk(fields);
        expect(&vmi, &on(&vmi, volume), parts);
    }
}

#[test]
fn refusals() {
    let plain = || file("/disks/d.img");
    let cached = || VolumeSource {
        direct_io: false,
        ..plain()
    };
    let cases: Vec<(&str, VolumeSource, &str)> = vec![
        (
            "lun: {}",
            plain(),
            "lun: \"/disks/d.img\" is no block device; use one, or disk",
        ),
        (
            "",
            VolumeSource {
                read_only: true,
                ..plain()
            },
            "disk.bus: no SATA disk is read-only; use",
        ),
        (
            "cache: none",
            cached(),
            "cache: \"/disks/d.img\" is on storage without direct I/O; use",
        ),
        (
            "io: native",
            cached(),
            "io: \"/disks/d.img\" is on storage without direct I/O; use",
        ),
        (
            "blockSize: {matchVolume: {}}",
            plain(),
            "blockSize.matchVolume: the block size of \"/disks/d.img\" is not known; write",
        ),
        (
            "blockSize: {custom: {logical: 4096, physical: 4096}}",
            plain(),
            "blockSize.custom.logical: a SATA disk has logical blocks of 512 bytes, not 4096; use",
        ),
        (
            "blockSize: {matchVolume: {}}",
            VolumeSource {
                block_size: Some(BlockSize {
                    logical: 4096,
                    physical: 4096,
                }),
                ..plain()
            },
            "blockSize.matchVolume: a SATA disk has logical blocks of 512 bytes, not 4096; use",
        ),
        (
            "",
            VolumeSource {
                path: OsStr::from_bytes(b"/\xff").into(),
                ..plain()
            },
            "name: the path \"/\\xFF\" is not UTF-8; rename it",
        ),
    ];
    for (fields, volume, expected) in cases {
        let vmi = with_disk(fields);
        let said = refused(&vmi, &on(&vmi, volume));
        let expected = format!("spec.domain.devices.disks[0].{expected}");
        assert!(said.starts_with(&expected), "{said}");
    }
    let vmi = with_disk("");
    let host = Host {
        volumes: Default::default(),
        ..host(&vmi)
    };
    assert_eq!(
        refused(&vmi, &host),
        "spec.domain.devices.disks[0].name: no volume is prepared for the disk \"d\"; add it to \
         spec.volumes"
    );
}

#[test]
fn names_and_places_follow_the_order_of_the_disks() {
    let vmi = instance(
        "domain: {memory: {guest: 64Mi}, cpu: {cores: 2}, devices: {autoattachPodInterface: false,
           blockMultiQueue: true,
           disks: [{name: a, disk: {bus: scsi}}, {name: b, disk: {bus: virtio}}, {name: c},
                   {name: d, disk: {bus: scsi}}, {name: e, disk: {bus: virtio}}]}},
         volumes: [{name: a, emptyDisk: {capacity: 1Mi}}, {name: b, emptyDisk: {capacity: 1Mi}},
                   {name: c, emptyDisk: {capacity: 1Mi}}, {name: d, emptyDisk: {capacity: 1Mi}},
                   {name: e, emptyDisk: {capacity: 1Mi}}, {name: f, emptyDisk: {capacity: 1Mi}}]",
    );
    expect(
        &vmi,
        &host(&vmi),
        &[
            concat!(
                r#"<target dev="sda" bus="scsi"/><alias name="ua-a"/>"#,
                r#"<address type="drive" controller="0" bus="0" target="0" unit="0"/>"#
            ),
            r#"<target dev="vda" bus="virtio"/><alias name="ua-b"/></disk>"#,
            r#"<target dev="sdb" bus="sata"/><alias name="ua-c"/></disk>"#,
            concat!(
                r#"<target dev="sdc" bus="scsi"/><alias name="ua-d"/>"#,
                r#"<address type="drive" controller="0" bus="0" target="0" unit="1"/>"#
            ),
            r#"<target dev="vdb" bus="virtio"/><alias name="ua-e"/></disk>"#,
            // A volume without a disk gets one.
            r#"<target dev="sdd" bus="sata"/><alias name="ua-f"/></disk>"#,
            r#"discard="unmap" queues="2"/>"#,
            r#"model="virtio-non-transitional"><driver queues="2"/></controller>"#,
        ],
    );
}
