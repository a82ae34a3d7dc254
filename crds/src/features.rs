//! `spec.domain.features`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// Features of the hypervisor that the guest sees.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Features {
    /// ACPI tables. On unless turned off.
    pub acpi: Option<FeatureState>,
    /// Interrupt controller.
    pub apic: Option<FeatureAPIC>,
    /// Hyper-V's interfaces, for Windows.
    pub hyperv: Option<FeatureHyperv>,
    /// How KVM shows itself.
    pub kvm: Option<FeatureKVM>,
    /// Paravirtual spin locks.
    pub pvspinlock: Option<FeatureState>,
    /// System management mode; SecureBoot needs it.
    pub smm: Option<FeatureState>,
}

/// A feature that is on or off.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureState {
    /// Whether it is on. Defaults to true.
    pub enabled: Option<bool>,
}

/// Interrupt controller.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureAPIC {
    /// Whether there is one. Defaults to true.
    pub enabled: Option<bool>,
    /// Tell the guest of the end of interrupts (libvirt's `eoi`). Defaults to false.
    pub end_of_interrupt: Option<bool>,
}

/// How KVM shows itself.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureKVM {
    /// Hide KVM from discovery by MSR. Defaults to false.
    pub hidden: Option<bool>,
}

/// Hyper-V's interfaces, as libvirt's `features/hyperv` describes them.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureHyperv {
    /// Enlightened VMCS, for nested virtualization.
    pub evmcs: Option<FeatureState>,
    /// MSRs that tell the frequencies of TSC and APIC.
    pub frequencies: Option<FeatureState>,
    /// Paravirtual interrupts between processors.
    pub ipi: Option<FeatureState>,
    /// Notice of a changed TSC frequency after migration.
    pub reenlightenment: Option<FeatureState>,
    /// Relaxed timing.
    pub relaxed: Option<FeatureState>,
    /// Reset of the machine by MSR.
    pub reset: Option<FeatureState>,
    /// A processor's run time.
    pub runtime: Option<FeatureState>,
    /// Retries of spin locks before the hypervisor is told.
    pub spinlocks: Option<FeatureSpinlocks>,
    /// Synthetic interrupt controller.
    pub synic: Option<FeatureState>,
    /// Synthetic timers.
    pub synictimer: Option<SyNICTimer>,
    /// Paravirtual TLB flush.
    pub tlbflush: Option<TLBFlush>,
    /// Paravirtual APIC.
    pub vapic: Option<FeatureState>,
    /// The hypervisor's vendor, as the guest sees it.
    pub vendorid: Option<FeatureVendorID>,
    /// Index of virtual processors.
    pub vpindex: Option<FeatureState>,
}

/// Retries of spin locks.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureSpinlocks {
    /// Whether it is on. Defaults to true.
    pub enabled: Option<bool>,
    /// Retries, at least 4096, the default.
    #[schemars(with = "Option<i64>")]
    pub spinlocks: Option<u32>,
}

/// Synthetic timers.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyNICTimer {
    /// Timers that interrupt directly.
    pub direct: Option<FeatureState>,
    /// Whether they are on. Defaults to true.
    pub enabled: Option<bool>,
}

/// Paravirtual TLB flush.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TLBFlush {
    /// Whether it is on. Defaults to true.
    pub enabled: Option<bool>,
}

/// The hypervisor's vendor.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureVendorID {
    /// Whether it is on. Defaults to true.
    pub enabled: Option<bool>,
    /// The vendor, up to twelve characters.
    pub vendorid: Option<String>,
}
