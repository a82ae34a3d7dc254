//! The memory that an instance's pod takes beside its guest's.
//!
//! ```text
//! overhead = launcher + QEMU + CPUs x CPU + disks x disk + display
//!          + page tables of the guest's memory, twice with KVM
//!          + translated code, only where processors are emulated
//! ```
//!
//! Each figure is one that was measured, or follows from what the kernel or QEMU does:
//! `docs/decisions/0015-pod-overhead.md`.

use crds::{Quantity, VirtualMachineInstance};

use super::Context;

const MIB: u64 = 1 << 20;

/// Init and worker: the budget of a node's first VM, which pays for libvirt's libraries. Measured:
/// 25.8 MiB of proportional set size (`docs/benchmarks.md`).
const LAUNCHER: u64 = 28 * MIB;

/// QEMU's program and libraries, and what it allocates for a machine with one of each device.
/// Measured with a Debian guest that has booted: 22.6 MiB and 28.3 MiB.
const QEMU: u64 = 52 * MIB;

/// A virtual CPU: its thread, and QEMU's model of it. Measured: 0.3 MiB before its first
/// instruction, 1.6 MiB in a guest that is busy.
const CPU: u64 = 2 * MIB;

/// A disk: qcow2's tables for the 32 GiB used last, at 8 bytes for each cluster of 64 KiB.
const DISK: u64 = 4 * MIB;

/// A display: 16 MiB of video memory, and VNC's copy of it.
const DISPLAY: u64 = 32 * MIB;

/// Bytes that one byte of page table maps: 4 KiB by an entry of 8.
const PAGE_TABLE: u64 = 4096 / 8;

/// Code that QEMU has translated for emulated processors: 128 MiB, with which a guest boots as fast
/// as with all that it would take, and an eighth of that for what QEMU knows of each piece. Measured.
/// QEMU takes up to 1 GiB where its domain does not say less.
const TRANSLATED: u64 = 144 * MIB;

/// Bytes that the pod of a defaulted instance takes beside its guest's memory.
pub(super) fn bytes(vmi: &VirtualMachineInstance, context: &Context) -> u64 {
    let devices = &vmi.spec.domain.devices;
    let display = match devices.autoattach_graphics_device {
        Some(false) => 0,
        _ => DISPLAY,
    };
    // The processor's own tables of a guest's memory (EPT, NPT) have the same shape as the kernel's.
    let (tables, translated) = if context.settings.use_emulation {
        (1, TRANSLATED)
    } else {
        (2, 0)
    };
    let disks = devices.disks.len() as u64;
    [
        LAUNCHER,
        QEMU,
        CPU.saturating_mul(cpus(vmi)),
        DISK.saturating_mul(disks),
        display,
        tables * (guest(vmi) / PAGE_TABLE),
        translated,
    ]
    .into_iter()
    .fold(0, u64::saturating_add)
}

/// The guest's memory, in bytes.
pub(super) fn guest(vmi: &VirtualMachineInstance) -> u64 {
    let memory = vmi.spec.domain.memory.as_ref();
    let guest = memory.and_then(|memory| memory.guest);
    guest.as_ref().and_then(Quantity::bytes).unwrap_or(0)
}

/// The number of virtual CPUs.
pub(super) fn cpus(vmi: &VirtualMachineInstance) -> u64 {
    let cpu = vmi.spec.domain.cpu.as_ref();
    let counts = cpu.map_or([None; 3], |cpu| [cpu.sockets, cpu.cores, cpu.threads]);
    counts
        .into_iter()
        .map(|count| u64::from(count.unwrap_or(1)))
        .fold(1, u64::saturating_mul)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::tests::{context, instance};

    #[test]
    fn the_overhead_follows_from_the_machine() {
        let disks = json!([{"name": "a"}, {"name": "b"}]);
        let volumes = json!([
            {"name": "a", "emptyDisk": {"capacity": "1Gi"}},
            {"name": "b", "emptyDisk": {"capacity": "1Gi"}},
        ]);
        let memory = json!({"guest": "1Gi"});
        // MiB with KVM, and emulated.
        let cases = [
            (json!({"domain": {"memory": memory}}), 118, 260),
            (
                json!({"domain": {
                    "memory": memory,
                    "devices": {"autoattachGraphicsDevice": false},
                }}),
                86,
                228,
            ),
            (
                json!({"domain": {"memory": memory, "cpu": {"cores": 2, "threads": 2}}}),
                124,
                266,
            ),
            (
                json!({
                    "domain": {"memory": memory, "devices": {"disks": disks}},
                    "volumes": volumes,
                }),
                126,
                268,
            ),
            (json!({"domain": {"memory": {"guest": "64Gi"}}}), 370, 386),
        ];
        for (spec, with_kvm, emulated) in cases {
            let vmi = instance(spec.clone());
            let mut context = context();
            assert_eq!(bytes(&vmi, &context), with_kvm * MIB, "{spec}");
            context.settings.use_emulation = true;
            assert_eq!(bytes(&vmi, &context), emulated * MIB, "{spec}");
        }
    }
}
