//! `spec.domain.cpu`: `<vcpu>` and `<cpu>`.

use crds::{CPU, CPUFeature, CPUFeaturePolicy, DomainSpec};
use domain_xml::{
    Cpu, CpuFeature, CpuMode, CpuModel, FeaturePolicy, Topology, Vcpu, VcpuPlacement,
};

use super::Accelerator;

/// The number of virtual CPUs: sockets x cores x threads.
pub(super) fn count(spec: &DomainSpec) -> u32 {
    let Topology {
        sockets,
        cores,
        threads,
        ..
    } = topology(spec.cpu.as_ref());
    sockets.saturating_mul(cores).saturating_mul(threads)
}

pub(super) fn vcpu(spec: &DomainSpec) -> Vcpu {
    Vcpu {
        placement: Some(VcpuPlacement::Fixed),
        cpuset: None,
        current: None,
        count: count(spec),
    }
}

pub(super) fn cpu(spec: &DomainSpec, accelerator: Accelerator) -> Cpu {
    let cpu = spec.cpu.as_ref();
    let (mode, model) = mode(cpu.and_then(|cpu| cpu.model.as_deref()), accelerator);
    Cpu {
        mode: Some(mode),
        model,
        topology: Some(topology(cpu)),
        features: cpu
            .map(|cpu| cpu.features.iter().map(feature).collect())
            .unwrap_or_default(),
        ..Cpu::default()
    }
}

/// How the model is chosen, and its name.
///
/// Under emulation there is no host CPU to pass through: `maximum`, all that QEMU can emulate,
/// is what comes closest ("CPU mode 'host-passthrough' … is not supported by hypervisor").
/// `host-model` does exist there: libvirt takes the named model nearest to what QEMU can
/// emulate, and leaves out what a newer QEMU would add.
fn mode(model: Option<&str>, accelerator: Accelerator) -> (CpuMode, Option<CpuModel>) {
    match (model.unwrap_or("host-model"), accelerator) {
        ("host-model", _) => (CpuMode::HostModel, None),
        ("host-passthrough", Accelerator::Kvm) => (CpuMode::HostPassthrough, None),
        ("host-passthrough", Accelerator::Tcg) => (CpuMode::Maximum, None),
        (name, _) => {
            let model = CpuModel {
                name: Some(name.to_owned()),
                ..CpuModel::default()
            };
            (CpuMode::Custom, Some(model))
        }
    }
}

fn topology(cpu: Option<&CPU>) -> Topology {
    let count = |field: fn(&CPU) -> Option<u32>| cpu.and_then(field).unwrap_or(1);
    Topology {
        sockets: count(|cpu| cpu.sockets),
        dies: None,
        cores: count(|cpu| cpu.cores),
        threads: count(|cpu| cpu.threads),
    }
}

fn feature(feature: &CPUFeature) -> CpuFeature {
    let policy = match feature.policy {
        Some(CPUFeaturePolicy::Require) | None => FeaturePolicy::Require,
        Some(CPUFeaturePolicy::Force) => FeaturePolicy::Force,
        Some(CPUFeaturePolicy::Optional) => FeaturePolicy::Optional,
        Some(CPUFeaturePolicy::Disable) => FeaturePolicy::Disable,
        Some(CPUFeaturePolicy::Forbid) => FeaturePolicy::Forbid,
    };
    CpuFeature {
        policy: Some(policy),
        name: feature.name.clone(),
    }
}
