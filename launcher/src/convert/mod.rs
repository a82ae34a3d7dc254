//! VMI to libvirt domain: pure, one module a concern.
//!
//! ```text
//! spec.domain.machine, firmware, chassis ─▶ firmware, smbios ─▶ <os>, <sysinfo>
//!             cpu, memory, clock, features ─▶ modules of these names
//!             devices.disks + Host.volumes ─▶ disks ─┐
//!    devices.interfaces + Host.interfaces ─▶ interfaces ─▶ <devices>
//!                 the rest of devices ─▶ devices ─┘
//! ```
//!
//! KubeVirt's converter is the yardstick: a guest that moves here finds the same hardware. What
//! differs says why where it does. All of it starts with libvirt 9.0 and QEMU 7.2.
//!
//! Under emulation, what only KVM can give is left out rather than refused: Hyper-V's
//! enlightenments, `kvm.hidden`, paravirtual spin locks and the paravirtual clocks. QEMU's TCG
//! shows a guest none of them; some it ignores, for some it or libvirt refuses to start
//! ("kernel doesn't allow setting HyperV VP_INDEX", "host doesn't support paravirtual
//! spinlocks"). A guest finds out at run time what there is, so it boots either way.

mod clock;
mod cpu;
mod devices;
mod disks;
mod error;
mod features;
mod firmware;
mod host;
mod interfaces;
mod memory;
mod smbios;
#[cfg(test)]
mod tests;

pub use error::{ConvertError, Problem};
pub use host::{
    Accelerator, BlockSize, BoundInterface, DiskFormat, Firmware, Host, KernelBoot, VolumeSource,
};
pub use interfaces::queue_pairs;

use std::path::Path;

use crds::VirtualMachineInstance;
use domain_xml::{Devices, Domain, DomainType};

/// What the guest is on this host, as libvirt is told.
///
/// `vmi` has its defaults ([`crds::default`]) and is valid ([`crds::validate`]).
///
/// # Errors
///
/// The first field that cannot be carried: what `vmi` asks of `host` and does not find there,
/// or what libvirt would refuse with an error that names no field.
pub fn convert(vmi: &VirtualMachineInstance, host: &Host) -> Result<Domain, ConvertError> {
    let spec = &vmi.spec.domain;
    let mut list = devices::controllers(spec);
    list.extend(disks::disks(spec, host)?);
    list.extend(interfaces::interfaces(spec, host)?);
    list.extend(devices::devices(spec, host)?);
    devices::make_aliases_unique(&mut list);
    Ok(Domain {
        kind: match host.accelerator {
            Accelerator::Kvm => DomainType::Kvm,
            Accelerator::Tcg => DomainType::Qemu,
        },
        name: domain_name(vmi),
        uuid: smbios::uuid(spec)?,
        memory: Some(memory::memory(spec)?),
        memory_backing: memory::backing(spec)?,
        vcpu: Some(cpu::vcpu(spec)),
        cpu: Some(cpu::cpu(spec, host.accelerator)),
        sysinfo: Some(smbios::sysinfo(spec)?),
        os: firmware::os(spec, host)?,
        features: Some(features::features(spec, host.accelerator)),
        clock: Some(clock::clock(spec, host.accelerator)),
        devices: Devices {
            emulator: host
                .emulator
                .as_deref()
                .map(|path| utf8(path, || "spec.domain".to_owned()))
                .transpose()?,
            list,
        },
        ..Domain::default()
    })
}

/// The domain's name: `namespace_name`, as KubeVirt has it.
#[must_use]
pub fn domain_name(vmi: &VirtualMachineInstance) -> String {
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or("default");
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    format!("{namespace}_{name}")
}

/// A path as XML carries it. `field` names what the path is for.
fn utf8(path: &Path, field: impl FnOnce() -> String) -> Result<String, ConvertError> {
    match path.to_str() {
        Some(path) => Ok(path.to_owned()),
        None => Err(Problem::Path(path.to_owned()).at(field())),
    }
}
