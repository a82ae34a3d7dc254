//! Rules about devices and volumes.

use crate::check;

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
            r#"spec.domain.devices.disks[0].disk.pciAddress: "0:1.0" is no PCI address; write domain:bus:slot.function, such as 0000:00:08.0"#,
        ),
        (
            "domain: {devices: {disks: [{name: root, disk: {bus: sata, pciAddress: '0000:00:08.0'}}]}}",
            "spec.domain.devices.disks[0].disk.pciAddress: only virtio disks are on the PCI bus; use bus virtio, or remove it",
        ),
        (
            "domain: {devices: {disks: [{name: root, disk: {readonly: true}}]}}",
            "spec.domain.devices.disks[0].disk.readonly: no SATA disk is read-only; use bus virtio or scsi, or cdrom instead of disk",
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
            r#"spec.domain.devices.disks[0].lun: volume "root" is no SCSI device; use a persistentVolumeClaim or a hostDisk that is one, or use disk"#,
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
            "spec.volumes[0]: has no source; add containerDisk, persistentVolumeClaim, ephemeral, emptyDisk, hostDisk, cloudInitNoCloud, cloudInitConfigDrive, configMap, secret, serviceAccount or downwardAPI",
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
            r#"spec.volumes[0].ephemeral.persistentVolumeClaim.claimName: "../etc" is no claim's name; write the name of one in the same namespace"#,
        ),
        (
            "volumes: [{name: root, persistentVolumeClaim: {}}]",
            r#"spec.volumes[0].persistentVolumeClaim.claimName: "" is no claim's name; write the name of one in the same namespace"#,
        ),
        (
            "volumes: [{name: root, persistentVolumeClaim: {claimName: A}}]",
            r#"spec.volumes[0].persistentVolumeClaim.claimName: "A" is no claim's name; write the name of one in the same namespace"#,
        ),
        (
            "volumes: [{name: root, persistentVolumeClaim: {claimName: c}}, {name: b, persistentVolumeClaim: {claimName: c}}]",
            r#"spec.volumes[1].persistentVolumeClaim.claimName: "c" is used already by spec.volumes[0].persistentVolumeClaim.claimName; a claim is one disk; remove this volume"#,
        ),
        (
            "volumes: [{name: root, persistentVolumeClaim: {claimName: c, hotpluggable: true}}]",
            "spec.volumes[0].persistentVolumeClaim.hotpluggable: not supported yet; a disk is attached at start",
        ),
        (
            "{domain: {devices: {disks: [{name: root, disk: {}}]}}, volumes: [{name: root, persistentVolumeClaim: {claimName: c, readOnly: true}}]}",
            r#"spec.domain.devices.disks[0].disk.bus: volume "root" is read-only, and no SATA disk is; use bus virtio or scsi, or cdrom instead of disk"#,
        ),
        (
            "volumes: [{name: root, dataVolume: {name: d}}]",
            "spec.volumes[0].dataVolume: not supported yet; use persistentVolumeClaim or containerDisk",
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
fn volumes_of_files() {
    check(&[
        (
            "volumes: [{name: root, configMap: {}}]",
            "spec.volumes[0].configMap.name: required; add it",
        ),
        (
            "volumes: [{name: root, configMap: {name: a/b}}]",
            r#"spec.volumes[0].configMap.name: "a/b" is no config map's name; write the name of one in the same namespace"#,
        ),
        (
            "volumes: [{name: root, configMap: {name: a, volumeLabel: 'a b'}}]",
            r#"spec.volumes[0].configMap.volumeLabel: "a b" is no volume label; use 1 to 32 of A-Z a-z 0-9 _ . -"#,
        ),
        (
            "volumes: [{name: root, secret: {secretName: ''}}]",
            r#"spec.volumes[0].secret.secretName: "" is no secret's name; write the name of one in the same namespace"#,
        ),
        (
            "volumes: [{name: root, secret: {secretName: a, volumeLabel: ''}}]",
            r#"spec.volumes[0].secret.volumeLabel: "" is no volume label; use 1 to 32 of A-Z a-z 0-9 _ . -"#,
        ),
        (
            "volumes: [{name: root, secret: {secretName: a, items: []}}]",
            "spec.volumes[0].secret.items: no such field in kubevirt.io/v1; check its spelling and its place",
        ),
        (
            "volumes: [{name: root, serviceAccount: {serviceAccountName: A}}]",
            r#"spec.volumes[0].serviceAccount.serviceAccountName: "A" is no service account's name; write the name of one in the same namespace"#,
        ),
        (
            "volumes: [{name: root, serviceAccount: {serviceAccountName: a}}, {name: b, serviceAccount: {serviceAccountName: a}}]",
            "spec.volumes[1].serviceAccount: a service account is used already by spec.volumes[0].serviceAccount; a pod has one service account; remove this volume",
        ),
        (
            "volumes: [{name: root, downwardAPI: {}}]",
            "spec.volumes[0].downwardAPI.fields: required; name at least one file and its fieldRef",
        ),
        (
            "volumes: [{name: root, downwardAPI: {fields: [{path: ../a, fieldRef: {fieldPath: metadata.name}}]}}]",
            r#"spec.volumes[0].downwardAPI.fields[0].path: "../a" is no relative path; write one such as labels, or pod/labels"#,
        ),
        (
            "volumes: [{name: root, downwardAPI: {fields: [{path: a}]}}]",
            "spec.volumes[0].downwardAPI.fields[0]: says nothing; add fieldRef or resourceFieldRef",
        ),
        (
            "volumes: [{name: root, downwardAPI: {fields: [{path: a, fieldRef: {fieldPath: metadata.name}, resourceFieldRef: {resource: limits.cpu}}]}}]",
            "spec.volumes[0].downwardAPI.fields[0].resourceFieldRef: excludes fieldRef; leave one of the two",
        ),
        (
            "volumes: [{name: root, downwardAPI: {fields: [{path: a, fieldRef: {fieldPath: metadata.name}}, {path: a, fieldRef: {fieldPath: metadata.uid}}]}}]",
            r#"spec.volumes[0].downwardAPI.fields[1].path: "a" is used already by spec.volumes[0].downwardAPI.fields[0].path; give each file a path of its own"#,
        ),
        (
            "volumes: [{name: root, sysprep: {configMap: {name: a}}}]",
            "spec.volumes[0].sysprep: not supported yet; use configMap with volumeLabel unattendCD, and a cdrom",
        ),
    ]);
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
