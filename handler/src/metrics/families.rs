//! KubeVirt's names for what libvirt counts, with their labels and units: pure.
//! <https://github.com/kubevirt/monitoring/blob/main/docs/metrics.md>

use crds::VirtualMachineInstance;
use launcher_api::{BlockStats, InterfaceStats, MemoryStats, Stats, VcpuStats};

use Kind::{Counter, Gauge};

/// The most virtual CPUs that are shown; more than QEMU gives.
const VCPUS: usize = 1024;

/// One family of series.
pub(super) struct Family {
    /// Its name; of a counter without `_total`, which the text format adds.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) of: Of,
}

/// What a value may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Go up and down.
    Gauge,
    /// Go up.
    Counter,
}

/// What a family's series are of; times are in nanoseconds and become seconds by [`Of::Seconds`]'s
/// kin.
pub(super) enum Of {
    Machine(fn(&Stats) -> f64),
    Memory(fn(&MemoryStats) -> Option<u64>),
    /// Labels `id` and `state`.
    VcpuInState(fn(&VcpuStats) -> f64),
    /// Label `id`.
    Vcpu(fn(&VcpuStats) -> f64),
    /// Labels `interface` and `network`.
    Interface(fn(&InterfaceStats) -> u64),
    /// Label `drive`.
    Block(fn(&BlockStats) -> f64),
}

/// A label's name and value.
pub(super) type Label = (&'static str, String);

impl Of {
    /// The values of one machine, each with its labels. The labels are the VMI's own words and
    /// numbers of ours: a launcher's would let it spoil the whole node's text.
    pub(super) fn samples(
        &self,
        vmi: &VirtualMachineInstance,
        stats: &Stats,
    ) -> Vec<(Vec<Label>, f64)> {
        let spec = &vmi.spec;
        let vcpus = stats.vcpus.iter().take(VCPUS).enumerate();
        match self {
            Self::Machine(value) => vec![(vec![], value(stats))],
            Self::Memory(value) => {
                let told = stats.memory.as_ref().and_then(value);
                told.map(|value| (vec![], float(value)))
                    .into_iter()
                    .collect()
            }
            Self::VcpuInState(value) => vcpus
                .map(|(id, vcpu)| {
                    let state = ("state", state(&vcpu.state).to_owned());
                    (vec![("id", id.to_string()), state], value(vcpu))
                })
                .collect(),
            Self::Vcpu(value) => vcpus
                .map(|(id, vcpu)| (vec![("id", id.to_string())], value(vcpu)))
                .collect(),
            Self::Interface(value) => {
                let interfaces = spec.domain.devices.interfaces.iter();
                let found = interfaces.filter_map(|interface| {
                    let name = &interface.name;
                    let stats = stats.interfaces.iter().find(|told| told.name == *name)?;
                    let labels = vec![("interface", name.clone()), ("network", name.clone())];
                    Some((labels, float(value(stats))))
                });
                found.collect()
            }
            Self::Block(value) => {
                let volumes = spec.volumes.iter().filter_map(|volume| {
                    let stats = stats.blocks.iter().find(|told| told.name == volume.name)?;
                    Some((vec![("drive", volume.name.clone())], value(stats)))
                });
                volumes.collect()
            }
        }
    }
}

fn state(told: &str) -> &'static str {
    match told {
        "running" => "running",
        "blocked" => "blocked",
        "offline" => "offline",
        _ => "unknown",
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus has nothing but floats"
)]
fn float(value: u64) -> f64 {
    value as f64
}

fn seconds(nanoseconds: u64) -> f64 {
    float(nanoseconds) / 1e9
}

const fn family(name: &'static str, kind: Kind, help: &'static str, of: Of) -> Family {
    Family {
        name,
        help,
        kind,
        of,
    }
}

/// Every family.
pub(super) const FAMILIES: &[Family] = &[
    family(
        "kubevirt_vmi_cpu_usage_seconds",
        Counter,
        "CPU time spent in all modes, by the vCPUs and the hypervisor",
        Of::Machine(|stats| seconds(stats.cpu_time_ns)),
    ),
    family(
        "kubevirt_vmi_cpu_user_usage_seconds",
        Counter,
        "CPU time spent in user mode",
        Of::Machine(|stats| seconds(stats.cpu_user_ns)),
    ),
    family(
        "kubevirt_vmi_cpu_system_usage_seconds",
        Counter,
        "CPU time spent in system mode",
        Of::Machine(|stats| seconds(stats.cpu_system_ns)),
    ),
    family(
        "kubevirt_vmi_vcpu_seconds",
        Counter,
        "CPU time of each vCPU; state is what it does now: running, blocked, offline",
        Of::VcpuInState(|vcpu| seconds(vcpu.time_ns)),
    ),
    family(
        "kubevirt_vmi_vcpu_wait_seconds",
        Counter,
        "Time that each vCPU waited for I/O",
        Of::Vcpu(|vcpu| seconds(vcpu.wait_ns)),
    ),
    family(
        "kubevirt_vmi_memory_domain_bytes",
        Gauge,
        "Memory that the machine has",
        Of::Memory(|memory| Some(memory.domain_bytes)),
    ),
    family(
        "kubevirt_vmi_memory_resident_bytes",
        Gauge,
        "Resident memory of the process that runs the machine",
        Of::Memory(|memory| memory.resident_bytes),
    ),
    family(
        "kubevirt_vmi_memory_available_bytes",
        Gauge,
        "Memory that the guest has to use, as it sees it",
        Of::Memory(|memory| memory.available_bytes),
    ),
    family(
        "kubevirt_vmi_memory_unused_bytes",
        Gauge,
        "Memory that the guest uses for nothing, not even caches",
        Of::Memory(|memory| memory.unused_bytes),
    ),
    family(
        "kubevirt_vmi_memory_usable_bytes",
        Gauge,
        "Memory that the balloon could take without making the guest swap",
        Of::Memory(|memory| memory.usable_bytes),
    ),
    family(
        "kubevirt_vmi_memory_cached_bytes",
        Gauge,
        "Memory that the guest uses to cache I/O and could give back",
        Of::Memory(|memory| memory.cached_bytes),
    ),
    family(
        "kubevirt_vmi_memory_swap_in_traffic_bytes",
        Gauge,
        "What the guest has read from its swap space",
        Of::Memory(|memory| memory.swap_in_bytes),
    ),
    family(
        "kubevirt_vmi_memory_swap_out_traffic_bytes",
        Gauge,
        "What the guest has written to its swap space",
        Of::Memory(|memory| memory.swap_out_bytes),
    ),
    family(
        "kubevirt_vmi_memory_pgmajfault",
        Counter,
        "Page faults in the guest that took disk I/O",
        Of::Memory(|memory| memory.major_faults),
    ),
    family(
        "kubevirt_vmi_memory_pgminfault",
        Counter,
        "Page faults in the guest that took no disk I/O",
        Of::Memory(|memory| memory.minor_faults),
    ),
    family(
        "kubevirt_vmi_network_receive_bytes",
        Counter,
        "What the guest has received",
        Of::Interface(|interface| interface.receive_bytes),
    ),
    family(
        "kubevirt_vmi_network_receive_packets",
        Counter,
        "Packets that the guest has received",
        Of::Interface(|interface| interface.receive_packets),
    ),
    family(
        "kubevirt_vmi_network_receive_errors",
        Counter,
        "Packets to the guest with errors",
        Of::Interface(|interface| interface.receive_errors),
    ),
    family(
        "kubevirt_vmi_network_receive_packets_dropped",
        Counter,
        "Packets to the guest that were dropped",
        Of::Interface(|interface| interface.receive_drops),
    ),
    family(
        "kubevirt_vmi_network_transmit_bytes",
        Counter,
        "What the guest has sent",
        Of::Interface(|interface| interface.transmit_bytes),
    ),
    family(
        "kubevirt_vmi_network_transmit_packets",
        Counter,
        "Packets that the guest has sent",
        Of::Interface(|interface| interface.transmit_packets),
    ),
    family(
        "kubevirt_vmi_network_transmit_errors",
        Counter,
        "Packets from the guest with errors",
        Of::Interface(|interface| interface.transmit_errors),
    ),
    family(
        "kubevirt_vmi_network_transmit_packets_dropped",
        Counter,
        "Packets from the guest that were dropped",
        Of::Interface(|interface| interface.transmit_drops),
    ),
    family(
        "kubevirt_vmi_storage_iops_read",
        Counter,
        "Read requests",
        Of::Block(|block| float(block.read_requests)),
    ),
    family(
        "kubevirt_vmi_storage_iops_write",
        Counter,
        "Write requests",
        Of::Block(|block| float(block.write_requests)),
    ),
    family(
        "kubevirt_vmi_storage_read_traffic_bytes",
        Counter,
        "What the guest has read",
        Of::Block(|block| float(block.read_bytes)),
    ),
    family(
        "kubevirt_vmi_storage_write_traffic_bytes",
        Counter,
        "What the guest has written",
        Of::Block(|block| float(block.write_bytes)),
    ),
    family(
        "kubevirt_vmi_storage_read_times_seconds",
        Counter,
        "Time spent on read requests",
        Of::Block(|block| seconds(block.read_time_ns)),
    ),
    family(
        "kubevirt_vmi_storage_write_times_seconds",
        Counter,
        "Time spent on write requests",
        Of::Block(|block| seconds(block.write_time_ns)),
    ),
    family(
        "kubevirt_vmi_storage_flush_requests",
        Counter,
        "Flush requests",
        Of::Block(|block| float(block.flush_requests)),
    ),
    family(
        "kubevirt_vmi_storage_flush_times_seconds",
        Counter,
        "Time spent on flush requests",
        Of::Block(|block| seconds(block.flush_time_ns)),
    ),
];
