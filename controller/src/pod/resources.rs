//! What the pod's containers request and may use.
//!
//! | `compute` | request | limit |
//! | --- | --- | --- |
//! | memory | what the instance requests, else its limit, else the guest's memory; and the [overhead] | the instance's, and the overhead |
//! | cpu | what the instance requests, else its limit, else a tenth of the guest's CPUs | the instance's |
//! | hugepages | the guest's memory, which the memory above is then without | the same |
//! | devices | | one of each kind |
//!
//! Where all that `compute` requests is its limit, so it is with the other containers, and the pod
//! is in the class Guaranteed.

use std::collections::BTreeMap;

use crds::{InterfaceModel, Quantity, VirtualMachineInstance};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource;

use super::{Context, overhead};

/// How many virtual CPUs share one that is requested, where the instance does not say: KubeVirt's
/// `cpuAllocationRatio`.
const CPUS_PER_REQUEST: u64 = 10;

/// Prefix of the resources that virt-handler's device plugins serve.
const DEVICES: &str = "devices.kubevirt.io/";

/// What `compute` requests and may use, before the form that Kubernetes gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Compute {
    requests: BTreeMap<String, Quantity>,
    limits: BTreeMap<String, Quantity>,
}

/// Milli-CPU that a helper requests: it sleeps.
const HELPER_CPU: u64 = 5;

/// Milli-CPU that a helper may use where it has to have a limit. Its start takes 25 ms of a CPU,
/// the container runtime's share of it included, which a limit of 10m made half a second (measured).
const HELPER_CPU_MOST: u64 = 100;

/// Memory that a helper requests: what its start takes at most, measured with another program of
/// 1 MiB.
const HELPER_MEMORY: u64 = 4 << 20;

/// Memory that a helper may use. Container runtimes refuse limits below 12 MiB (CRI-O), or copy
/// themselves into the container while it starts (older runc).
const HELPER_MEMORY_MOST: u64 = 16 << 20;

impl Compute {
    /// Of the pod of a defaulted instance.
    pub(super) fn new(vmi: &VirtualMachineInstance, context: &Context) -> Self {
        let mut compute = Self::default();
        compute.memory(vmi, context);
        compute.cpu(vmi);
        for device in devices(vmi, context) {
            let one = Quantity::from_bytes(1);
            compute.limits.insert(format!("{DEVICES}{device}"), one);
        }
        compute
    }

    fn memory(&mut self, vmi: &VirtualMachineInstance, context: &Context) {
        let domain = &vmi.spec.domain;
        let memory = domain.memory.as_ref();
        let guest = overhead::guest(vmi);
        let resources = domain.resources.as_ref();
        let given = |list: fn(&crds::ResourceRequirements) -> &BTreeMap<String, Quantity>| {
            resources.and_then(|resources| list(resources).get("memory")?.bytes())
        };
        let limit = given(|resources| &resources.limits);
        let request = given(|resources| &resources.requests);
        let request = request.or(limit).unwrap_or(guest);

        let hugepages = memory.and_then(|memory| memory.hugepages.as_ref());
        let elsewhere = match hugepages.and_then(|hugepages| hugepages.page_size.as_deref()) {
            Some(size) => {
                let name = format!("hugepages-{size}");
                let pages = Quantity::from_bytes(guest);
                self.requests.insert(name.clone(), pages);
                self.limits.insert(name, pages);
                guest
            }
            None => 0,
        };
        let overhead = overhead::bytes(vmi, context);
        let memory = |given: u64, overhead: u64| {
            let ordinary = given.saturating_sub(elsewhere);
            Quantity::from_bytes(ordinary.saturating_add(overhead))
        };
        let request = memory(request, overhead);
        self.requests.insert("memory".to_owned(), request);
        if let Some(limit) = limit {
            let limit = memory(limit, overhead);
            self.limits.insert("memory".to_owned(), limit);
        }
    }

    fn cpu(&mut self, vmi: &VirtualMachineInstance) {
        let resources = vmi.spec.domain.resources.as_ref();
        let limit = resources.and_then(|resources| resources.limits.get("cpu"));
        let request = resources.and_then(|resources| resources.requests.get("cpu"));
        let share = || milli(overhead::cpus(vmi).saturating_mul(1000) / CPUS_PER_REQUEST);
        let request = request.or(limit).copied().unwrap_or_else(share);
        self.requests.insert("cpu".to_owned(), request);
        if let Some(limit) = limit {
            self.limits.insert("cpu".to_owned(), *limit);
        }
    }

    /// Whether all of it is set aside: the pod is Guaranteed if its other containers are, too.
    fn is_guaranteed(&self) -> bool {
        ["cpu", "memory"].into_iter().all(|name| {
            self.limits.contains_key(name) && self.requests.get(name) == self.limits.get(name)
        })
    }

    /// In Kubernetes' form.
    pub(super) fn requirements(&self) -> ResourceRequirements {
        requirements(&self.requests, &self.limits)
    }

    /// What a helper requests and may use, a container beside `compute`, with the device that it
    /// needs. It has a limit of CPU where `compute` has one: a namespace's quota may ask for that of
    /// every container.
    pub(super) fn helper(&self, device: Option<&str>) -> ResourceRequirements {
        let mut requests = BTreeMap::from([
            ("cpu".to_owned(), milli(HELPER_CPU)),
            ("memory".to_owned(), Quantity::from_bytes(HELPER_MEMORY)),
        ]);
        let most = Quantity::from_bytes(HELPER_MEMORY_MOST);
        let mut limits = BTreeMap::from([("memory".to_owned(), most)]);
        if self.limits.contains_key("cpu") {
            limits.insert("cpu".to_owned(), milli(HELPER_CPU_MOST));
        }
        if self.is_guaranteed() {
            requests.clone_from(&limits);
        }
        if let Some(device) = device {
            limits.insert(format!("{DEVICES}{device}"), Quantity::from_bytes(1));
        }
        requirements(&requests, &limits)
    }
}

/// The device plugins' resources that `compute` needs.
fn devices(vmi: &VirtualMachineInstance, context: &Context) -> impl Iterator<Item = &'static str> {
    let kvm = !context.settings.use_emulation;
    let mut interfaces = vmi.spec.domain.devices.interfaces.iter();
    let virtio =
        interfaces.any(|interface| matches!(interface.model, None | Some(InterfaceModel::Virtio)));
    // libvirt takes vhost-net for virtio interfaces of a guest on KVM alone. "tun" is for every
    // pod: with it comes the node's capability cache.
    let devices = [(true, "tun"), (kvm && virtio, "vhost-net"), (kvm, "kvm")];
    devices
        .into_iter()
        .filter_map(|(needed, device)| needed.then_some(device))
}

/// So many thousandths of a CPU.
fn milli(milli: u64) -> Quantity {
    // A number and "m" are a quantity.
    format!("{milli}m").parse().unwrap_or_default()
}

fn requirements(
    requests: &BTreeMap<String, Quantity>,
    limits: &BTreeMap<String, Quantity>,
) -> ResourceRequirements {
    let list = |list: &BTreeMap<String, Quantity>| {
        let list = list.iter();
        list.map(|(name, quantity)| (name.clone(), resource::Quantity(quantity.to_string())))
            .collect()
    };
    ResourceRequirements {
        limits: Some(list(limits)),
        requests: Some(list(requests)),
        ..ResourceRequirements::default()
    }
}
