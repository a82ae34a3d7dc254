//! Manifests in, domain XML out. Every document that is written here is one that libvirt's
//! schema allows, and reads back as itself.

mod devices;
mod disks;
mod examples;
mod machine;

use std::io::Write;
use std::process::Command;

use domain_xml::Domain;

use super::*;

/// An instance with this spec in YAML, defaulted and valid.
fn instance(spec: &str) -> VirtualMachineInstance {
    let text = format!(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstance\nmetadata: {{name: vm}}\n\
         spec: {{{spec}}}"
    );
    let mut vmi = crds::manifest::parse(&text).expect(&text).into_vmi();
    crds::default(&mut vmi);
    let errors = crds::validate(&vmi);
    assert!(errors.is_empty(), "{errors:?}\n{text}");
    vmi
}

/// A machine without disks and interfaces, with these fields of `spec.domain`.
fn machine(fields: &str) -> VirtualMachineInstance {
    instance(&format!(
        "domain: {{devices: {{autoattachPodInterface: false}}, memory: {{guest: 64Mi}}, {fields}}}"
    ))
}

/// A machine with these fields of `spec.domain.devices`.
fn with_devices(fields: &str) -> VirtualMachineInstance {
    instance(&format!(
        "domain: {{devices: {{autoattachPodInterface: false, {fields}}}, memory: {{guest: 64Mi}}}}"
    ))
}

/// A host with a qcow2 file for each volume of `vmi` and a tap for each interface.
fn host(vmi: &VirtualMachineInstance) -> Host {
    let volumes = vmi.spec.volumes.iter();
    let interfaces = vmi.spec.domain.devices.interfaces.iter().enumerate();
    let firmware = |file: &str| format!("/usr/share/OVMF/{file}").into();
    Host {
        accelerator: Accelerator::Kvm,
        emulator: Some("/usr/bin/qemu-system-x86_64".into()),
        firmware: Firmware {
            code: firmware("OVMF_CODE_4M.fd"),
            vars: firmware("OVMF_VARS_4M.fd"),
            secure_code: firmware("OVMF_CODE_4M.ms.fd"),
            secure_vars: firmware("OVMF_VARS_4M.ms.fd"),
        },
        runtime_dir: "/run/vm".into(),
        volumes: volumes
            .map(|volume| {
                (
                    volume.name.clone(),
                    file(&format!("/disks/{}.img", volume.name)),
                )
            })
            .collect(),
        kernel_boot: Some(KernelBoot {
            kernel: Some("/boot/vmlinuz".into()),
            initrd: Some("/boot/initrd".into()),
        }),
        interfaces: interfaces
            .map(|(index, interface)| {
                let bound = BoundInterface {
                    tap: format!("tap{index}"),
                    mac: interface.mac_address.clone(),
                    mtu: Some(1480),
                };
                (interface.name.clone(), bound)
            })
            .collect(),
    }
}

/// A raw file without anything remarkable.
fn file(path: &str) -> VolumeSource {
    VolumeSource {
        path: path.into(),
        fd_group: None,
        format: DiskFormat::Raw,
        block: false,
        read_only: false,
        direct_io: true,
        block_size: None,
        backing: None,
    }
}

/// The XML of `vmi` on `host`, once libvirt's schema has allowed it and it has read back.
fn xml(vmi: &VirtualMachineInstance, host: &Host) -> String {
    let domain = convert(vmi, host).expect("the instance converts");
    let xml = domain.to_xml().expect("the domain is XML");
    assert_eq!(Domain::from_xml(&xml).expect("the XML reads back"), domain);
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(xml.as_bytes()).expect("a file");
    let output = Command::new("virt-xml-validate")
        .arg(file.path())
        .arg("domain")
        .output();
    let output = output.expect("virt-xml-validate (Debian: libvirt-clients) must be installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{xml}");
    xml
}

/// Without indentation, so that an element is one string.
fn flat(xml: &str) -> String {
    xml.lines().map(str::trim).collect()
}

/// Checks what is and, after a `!`, what is not in the XML.
fn expect(vmi: &VirtualMachineInstance, host: &Host, parts: &[&str]) {
    let xml = xml(vmi, host);
    let text = flat(&xml);
    for part in parts {
        match part.strip_prefix('!') {
            Some(part) => assert!(!text.contains(part), "{part} is in\n{xml}"),
            None => assert!(text.contains(part), "{part} is not in\n{xml}"),
        }
    }
}

/// The error, as a person sees it.
fn refused(vmi: &VirtualMachineInstance, host: &Host) -> String {
    match convert(vmi, host) {
        Ok(domain) => panic!("{domain:?}"),
        Err(error) => error.to_string(),
    }
}
