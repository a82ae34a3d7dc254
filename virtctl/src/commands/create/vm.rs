//! The VirtualMachine of the flags: pure.

use anyhow::bail;
use crds::{
    CPU, ContainerDiskSource, Devices, Disk, DiskBus, DiskTarget, DomainSpec, Memory,
    VirtualMachine, VirtualMachineInstanceSpec, VirtualMachineInstanceTemplateSpec,
    VirtualMachineSpec, Volume,
};
use k8s_openapi::api::core::v1::PersistentVolumeClaimVolumeSource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::volume::Source;
use super::{Vm, cloud_init};

/// The machine `name` of `flags`.
pub(super) fn make(
    flags: &Vm,
    name: String,
    namespace: Option<String>,
    password: Option<&str>,
) -> anyhow::Result<VirtualMachine> {
    let (mut disks, mut volumes) = (vec![], vec![]);
    let given = |source: &Source, default: String| source.name.clone().unwrap_or(default);
    for (index, source) in flags.volume_containerdisk.iter().enumerate() {
        let name = given(source, format!("{name}-containerdisk-{index}"));
        disks.push(disk(&name, source.boot_order));
        volumes.push(Volume {
            name,
            container_disk: Some(ContainerDiskSource {
                image: source.src.clone(),
                ..ContainerDiskSource::default()
            }),
            ..Volume::default()
        });
    }
    for source in &flags.volume_pvc {
        if source.src.contains('/') {
            bail!(
                "--volume-pvc src:{}: a machine uses claims of its own namespace only; write the \
                 claim's name alone",
                source.src
            );
        }
        let name = given(source, source.src.clone());
        disks.push(disk(&name, source.boot_order));
        volumes.push(Volume {
            name,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: source.src.clone(),
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    if let Some(volume) = cloud_init::volume(flags, password)? {
        disks.push(disk(&volume.name, None));
        volumes.push(volume);
    }
    let cpu = flags.cores.map(|cores| CPU {
        cores: Some(cores),
        ..CPU::default()
    });
    Ok(VirtualMachine {
        metadata: ObjectMeta {
            name: Some(name),
            namespace,
            ..ObjectMeta::default()
        },
        spec: VirtualMachineSpec {
            run_strategy: Some(flags.run_strategy.into()),
            running: None,
            template: VirtualMachineInstanceTemplateSpec {
                metadata: ObjectMeta::default(),
                spec: VirtualMachineInstanceSpec {
                    domain: DomainSpec {
                        cpu,
                        devices: Devices {
                            disks,
                            ..Devices::default()
                        },
                        memory: Some(Memory {
                            guest: Some(flags.memory),
                            hugepages: None,
                        }),
                        ..DomainSpec::default()
                    },
                    termination_grace_period_seconds: Some(flags.termination_grace_period.into()),
                    volumes,
                    ..VirtualMachineInstanceSpec::default()
                },
            },
        },
        status: None,
    })
}

/// A virtio disk: every cloud image has its driver.
fn disk(name: &str, boot_order: Option<u32>) -> Disk {
    Disk {
        name: name.to_owned(),
        boot_order,
        disk: Some(DiskTarget {
            bus: Some(DiskBus::Virtio),
            ..DiskTarget::default()
        }),
        ..Disk::default()
    }
}
