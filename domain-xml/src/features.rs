//! `<features>`: ACPI, APIC, SMM, Hyper-V enlightenments, KVM hints.

use serde::{Deserialize, Serialize};

use crate::{Empty, OnOff, Scaled};

/// Hypervisor features (formatdomain.html, "Hypervisor features").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// ACPI tables; without them the guest cannot be shut down in an orderly way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acpi: Option<Empty>,
    /// The local APIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apic: Option<Apic>,
    /// Physical address extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pae: Option<Empty>,
    /// Hardware-assisted paging.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hap: Option<Switch>,
    /// Enlightenments for Windows guests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hyperv: Option<Hyperv>,
    /// What the guest learns of KVM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kvm: Option<KvmFeatures>,
    /// How QEMU translates an emulated processor's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcg: Option<Tcg>,
    /// Paravirtual spinlocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvspinlock: Option<Switch>,
    /// The performance monitoring unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pmu: Option<Switch>,
    /// VMware's I/O port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmport: Option<Switch>,
    /// System management mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smm: Option<Smm>,
    /// Who emulates the I/O APIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ioapic: Option<IoApic>,
    /// The device that shows a kernel's dump notes to QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmcoreinfo: Option<Switch>,
}

/// How QEMU translates an emulated processor's code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tcg {
    /// The most that the cache of translated code takes; QEMU's own choice is up to 1 GiB.
    #[serde(rename = "tb-cache", skip_serializing_if = "Option::is_none")]
    pub tb_cache: Option<Scaled>,
}

/// Who emulates the I/O APIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IoApicDriver {
    /// The kernel.
    #[default]
    #[serde(rename = "kvm")]
    Kvm,
    /// QEMU.
    #[serde(rename = "qemu")]
    Qemu,
}

/// The I/O APIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoApic {
    /// Who emulates it.
    #[serde(rename = "@driver")]
    pub driver: IoApicDriver,
}

/// The local APIC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apic {
    /// Paravirtual end of interrupt.
    #[serde(rename = "@eoi", skip_serializing_if = "Option::is_none")]
    pub eoi: Option<OnOff>,
}

/// A feature that is on or off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// On where `None`.
    #[serde(rename = "@state", skip_serializing_if = "Option::is_none")]
    pub state: Option<OnOff>,
}

/// System management mode; Secure Boot needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smm {
    /// On where `None`.
    #[serde(rename = "@state", skip_serializing_if = "Option::is_none")]
    pub state: Option<OnOff>,
    /// Size of its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tseg: Option<Scaled>,
}

/// Enlightenments for Windows guests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hyperv {
    /// Named here or the host's.
    #[serde(rename = "@mode", skip_serializing_if = "Option::is_none")]
    pub mode: Option<HypervMode>,
    /// Relax timer watchdogs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relaxed: Option<Switch>,
    /// Paravirtual APIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vapic: Option<Switch>,
    /// Notify the hypervisor of long waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spinlocks: Option<Spinlocks>,
    /// vCPU index register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpindex: Option<Switch>,
    /// vCPU run time register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Switch>,
    /// Synthetic interrupt controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synic: Option<Switch>,
    /// Synthetic timers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stimer: Option<Stimer>,
    /// Reset register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<Switch>,
    /// The hypervisor's vendor string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_id: Option<VendorId>,
    /// TSC and APIC frequency registers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequencies: Option<Switch>,
    /// Notice after migration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reenlightenment: Option<Switch>,
    /// Paravirtual TLB flush.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tlbflush: Option<Switch>,
    /// Paravirtual interrupts between vCPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipi: Option<Switch>,
    /// Enlightened VMCS, Intel only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evmcs: Option<Switch>,
}

/// Who chooses the enlightenments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HypervMode {
    /// Those named.
    #[serde(rename = "custom")]
    Custom,
    /// All that the host has.
    #[serde(rename = "passthrough")]
    Passthrough,
}

/// Notify the hypervisor of long waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spinlocks {
    /// Whether they are on.
    #[serde(rename = "@state")]
    pub state: OnOff,
    /// How often a guest spins before it does; at least 4095.
    #[serde(rename = "@retries", skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
}

/// Synthetic timers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stimer {
    /// Whether they are on.
    #[serde(rename = "@state")]
    pub state: OnOff,
    /// Expiry as an ordinary interrupt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct: Option<Switch>,
}

/// The hypervisor's vendor string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorId {
    /// Whether they are on.
    #[serde(rename = "@state")]
    pub state: OnOff,
    /// Up to 12 characters.
    #[serde(rename = "@value", skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What the guest learns of KVM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvmFeatures {
    /// Hide KVM's CPUID signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Switch>,
    /// vCPUs have host CPUs to themselves.
    #[serde(rename = "hint-dedicated", skip_serializing_if = "Option::is_none")]
    pub hint_dedicated: Option<Switch>,
    /// The guest may stop the host's polling.
    #[serde(rename = "poll-control", skip_serializing_if = "Option::is_none")]
    pub poll_control: Option<Switch>,
}
