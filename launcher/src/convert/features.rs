//! `spec.domain.features`: `<features>`.

use crds::{DomainSpec, FeatureAPIC, FeatureHyperv, FeatureState};
use domain_xml::{
    Apic, Empty, Features, Hyperv, HypervMode, KvmFeatures, OnOff, Scaled, Smm, Spinlocks, Stimer,
    Switch, Tcg, VendorId,
};

use super::{Accelerator, firmware};

/// Bytes of translated code that QEMU keeps: a guest boots with it as fast as with more, and QEMU
/// would take up to 1 GiB, which no pod's memory has set aside (docs/decisions/0015-pod-overhead.md).
const TRANSLATED_MOST: u64 = 128 << 20;

/// ACPI unless it is turned off; the rest where it is named. Secure Boot brings system
/// management mode with it.
pub(super) fn features(spec: &DomainSpec, accelerator: Accelerator) -> Features {
    let features = spec.features.clone().unwrap_or_default();
    let acpi = features.acpi.as_ref().is_none_or(is_on);
    let smm = match &features.smm {
        Some(smm) => Some(is_on(smm)),
        None => firmware::is_secure(spec).then_some(true),
    };
    let common = Features {
        acpi: acpi.then_some(Empty {}),
        apic: features
            .apic
            .as_ref()
            .and_then(|state| apic(state, accelerator)),
        smm: smm.map(|smm| Smm {
            state: Some(smm.into()),
            tseg: None,
        }),
        ..Features::default()
    };
    if accelerator == Accelerator::Tcg {
        return Features {
            tcg: Some(Tcg {
                tb_cache: Some(Scaled::bytes(TRANSLATED_MOST)),
            }),
            ..common
        };
    }
    Features {
        hyperv: features.hyperv.as_ref().map(hyperv),
        kvm: features.kvm.as_ref().map(|kvm| KvmFeatures {
            hidden: Some(switch_of(kvm.hidden.unwrap_or(false))),
            ..KvmFeatures::default()
        }),
        pvspinlock: switch(&features.pvspinlock),
        ..common
    }
}

fn apic(state: &FeatureAPIC, accelerator: Accelerator) -> Option<Apic> {
    // The end of interrupts is told through KVM's shared memory.
    let eoi = match accelerator {
        Accelerator::Kvm => state.end_of_interrupt.map(OnOff::from),
        Accelerator::Tcg => None,
    };
    state.enabled.unwrap_or(true).then_some(Apic { eoi })
}

fn hyperv(hyperv: &FeatureHyperv) -> Hyperv {
    Hyperv {
        mode: Some(HypervMode::Custom),
        relaxed: switch(&hyperv.relaxed),
        vapic: switch(&hyperv.vapic),
        spinlocks: hyperv.spinlocks.as_ref().map(|spinlocks| Spinlocks {
            state: spinlocks.enabled.unwrap_or(true).into(),
            retries: Some(spinlocks.spinlocks.unwrap_or(4096)),
        }),
        vpindex: switch(&hyperv.vpindex),
        runtime: switch(&hyperv.runtime),
        synic: switch(&hyperv.synic),
        stimer: hyperv.synictimer.as_ref().map(|timer| Stimer {
            state: timer.enabled.unwrap_or(true).into(),
            direct: switch(&timer.direct),
        }),
        reset: switch(&hyperv.reset),
        vendor_id: hyperv.vendorid.as_ref().map(|vendor| VendorId {
            state: vendor.enabled.unwrap_or(true).into(),
            value: vendor.vendorid.clone(),
        }),
        frequencies: switch(&hyperv.frequencies),
        reenlightenment: switch(&hyperv.reenlightenment),
        tlbflush: hyperv
            .tlbflush
            .as_ref()
            .map(|flush| switch_of(flush.enabled.unwrap_or(true))),
        ipi: switch(&hyperv.ipi),
        evmcs: switch(&hyperv.evmcs),
    }
}

/// A feature that is named is on unless it says otherwise.
fn is_on(state: &FeatureState) -> bool {
    state.enabled.unwrap_or(true)
}

fn switch(state: &Option<FeatureState>) -> Option<Switch> {
    state.as_ref().map(|state| switch_of(is_on(state)))
}

fn switch_of(on: bool) -> Switch {
    Switch {
        state: Some(on.into()),
    }
}
