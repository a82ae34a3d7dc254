//! The memory that a machine's pod takes beside its guest's: `docs/decisions/0015-pod-overhead.md`
//! has how each figure was measured.

use crds::{Quantity, VirtualMachineInstance};

use super::Context;

const MIB: u64 = 1 << 20;

/// Init and worker: the budget of a node's first VM, which pays for libvirt's libraries
/// (`docs/benchmarks.md`).
const LAUNCHER: u64 = 28 * MIB;

/// QEMU with a display, a serial console and a disk, before its first virtual CPU.
const QEMU: u64 = 60 * MIB;

/// Each virtual CPU: its thread, and what QEMU keeps for it.
const CPU: u64 = 2 * MIB;

/// The cache of translated code that emulation fills, at most: a part of the guest's memory up to
/// this.
const TRANSLATED_MOST: u64 = 128 * MIB;

/// Bytes of memory that eight bytes of page table map.
const PAGE_TABLE: u64 = 4096 / 8;

/// Bytes that the pod of a defaulted instance takes beside its guest's memory.
pub(super) fn bytes(vmi: &VirtualMachineInstance, context: &Context) -> u64 {
    let memory = vmi.spec.domain.memory.as_ref();
    let guest = memory.and_then(|memory| memory.guest);
    let guest = guest.as_ref().and_then(Quantity::bytes).unwrap_or(0);
    let mut bytes = LAUNCHER + QEMU;
    bytes = bytes.saturating_add(CPU.saturating_mul(cpus(vmi)));
    bytes = bytes.saturating_add(guest / PAGE_TABLE);
    let accelerator = if context.settings.use_emulation {
        TRANSLATED_MOST.min(guest)
    } else {
        guest / PAGE_TABLE
    };
    bytes.saturating_add(accelerator)
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
