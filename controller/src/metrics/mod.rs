//! Metrics, under KubeVirt's names, for what we have the data of.
//!
//! What can be told from the objects is collected on scrape, and by the leader alone, so that a
//! sum over the replicas is right. What happened is counted as it happens.

mod objects;
#[cfg(test)]
mod tests;

use crds::{VirtualMachine, VirtualMachineInstance, VirtualMachineInstancePhase};
use k8s_openapi::jiff::Timestamp;
use kube_runtime::reflector::Store;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use objects::Objects;

/// The seconds that KubeVirt sorts phase transitions by.
const TRANSITION_SECONDS: [f64; 16] = [
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0,
    1800.0,
];
/// The seconds that queues' waits and works are sorted by.
const QUEUE_SECONDS: [f64; 10] = [
    0.000_01, 0.000_1, 0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0,
];

type Labels<const N: usize> = [(&'static str, String); N];

/// The process's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    leading: Gauge,
    ready: Gauge,
    emulation: Gauge,
    from_creation: Family<Labels<1>, Histogram, fn() -> Histogram>,
    from_deletion: Family<Labels<1>, Histogram, fn() -> Histogram>,
    transition: Family<Labels<2>, Histogram, fn() -> Histogram>,
    queues: Queues,
}

/// The work queues' metrics, as Kubernetes' own controllers have them.
#[derive(Clone, Debug)]
struct Queues {
    adds: Family<Labels<1>, Counter>,
    depth: Family<Labels<1>, Gauge>,
    retries: Family<Labels<1>, Counter>,
    waited: Family<Labels<1>, Histogram, fn() -> Histogram>,
    worked: Family<Labels<1>, Histogram, fn() -> Histogram>,
}

/// One work queue's metrics.
#[derive(Clone, Debug)]
pub struct QueueMetrics {
    /// Items that were added.
    pub adds: Counter,
    /// Items that wait.
    pub depth: Gauge,
    /// Items that were added again after a failure.
    pub retries: Counter,
    /// Seconds that items waited.
    pub waited: Histogram,
    /// Seconds that items took.
    pub worked: Histogram,
}

impl Metrics {
    /// What `/metrics` is written in.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Metrics of these machines and instances.
    pub fn new(vms: Store<VirtualMachine>, vmis: Store<VirtualMachineInstance>) -> Self {
        let transitions: fn() -> Histogram = || Histogram::new(TRANSITION_SECONDS);
        let queue_times: fn() -> Histogram = || Histogram::new(QUEUE_SECONDS);
        let leading = Gauge::default();
        let metrics = Self {
            registry: Registry::default(),
            leading: leading.clone(),
            ready: Gauge::default(),
            emulation: Gauge::default(),
            from_creation: Family::new_with_constructor(transitions),
            from_deletion: Family::new_with_constructor(transitions),
            transition: Family::new_with_constructor(transitions),
            queues: Queues {
                adds: Family::default(),
                depth: Family::default(),
                retries: Family::default(),
                waited: Family::new_with_constructor(queue_times),
                worked: Family::new_with_constructor(queue_times),
            },
        };
        metrics.registered(Objects { leading, vms, vmis })
    }

    fn registered(mut self, objects: Objects) -> Self {
        let registry = &mut self.registry;
        let version = [("kubeversion", concat!("v", env!("CARGO_PKG_VERSION")))];
        registry.register("kubevirt", "Version information", Info::new(version));
        registry.register(
            "kubevirt_virt_controller_leading_status",
            "1 if this virt-controller leads",
            self.leading.clone(),
        );
        registry.register(
            "kubevirt_virt_controller_ready_status",
            "1 if this virt-controller is ready to lead",
            self.ready.clone(),
        );
        registry.register(
            "kubevirt_configuration_emulation_enabled",
            "1 if processors are emulated in software",
            self.emulation.clone(),
        );
        registry.register(
            "kubevirt_vmi_phase_transition_time_from_creation_seconds",
            "Seconds from an instance's creation to each phase",
            self.from_creation.clone(),
        );
        registry.register(
            "kubevirt_vmi_phase_transition_time_from_deletion_seconds",
            "Seconds from an instance's deletion to its final phase",
            self.from_deletion.clone(),
        );
        registry.register(
            "kubevirt_vmi_phase_transition_time_seconds",
            "Seconds from one phase of an instance to the next",
            self.transition.clone(),
        );
        let queues = registry.sub_registry_with_prefix("kubevirt_workqueue");
        queues.register("adds", "Items added", self.queues.adds.clone());
        queues.register("depth", "Items that wait", self.queues.depth.clone());
        queues.register("retries", "Items added again", self.queues.retries.clone());
        queues.register(
            "queue_duration_seconds",
            "Seconds that items waited",
            self.queues.waited.clone(),
        );
        queues.register(
            "work_duration_seconds",
            "Seconds that items took",
            self.queues.worked.clone(),
        );
        registry.register_collector(Box::new(objects));
        self
    }

    /// All of them, as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    /// This process leads, or does not.
    pub fn set_leading(&self, leading: bool) {
        self.leading.set(leading.into());
    }

    /// This process could lead, or could not.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }

    /// Processors are emulated in software, or are not.
    pub fn set_emulation(&self, emulation: bool) {
        self.emulation.set(emulation.into());
    }

    /// The metrics of the work queue `name`, such as `virt-controller-vmi`.
    pub fn queue(&self, name: &str) -> QueueMetrics {
        let labels = [("name", name.to_owned())];
        QueueMetrics {
            adds: self.queues.adds.get_or_create_owned(&labels),
            depth: self.queues.depth.get_or_create_owned(&labels),
            retries: self.queues.retries.get_or_create_owned(&labels),
            waited: self.queues.waited.get_or_create_owned(&labels),
            worked: self.queues.worked.get_or_create_owned(&labels),
        }
    }

    /// Notes that an instance which was `old` is `new`. Nothing is noted unless its phase changed.
    pub fn observe(&self, old: &VirtualMachineInstance, new: &VirtualMachineInstance) {
        let Some((phase, reached)) = phase_of(new) else {
            return;
        };
        let last = phase_of(old);
        if last.is_some_and(|(last, _)| last == phase) {
            return;
        }
        let label = || ("phase", format!("{phase:?}"));
        let created = new.metadata.creation_timestamp.as_ref().map(|time| time.0);
        if let Some(created) = created {
            let family = self.from_creation.get_or_create(&[label()]);
            family.observe(seconds_between(created, reached));
        }
        if let Some((last, since)) = last {
            let labels = [label(), ("last_phase", format!("{last:?}"))];
            let family = self.transition.get_or_create(&labels);
            family.observe(seconds_between(since, reached));
        }
        let is_final = matches!(
            phase,
            VirtualMachineInstancePhase::Succeeded | VirtualMachineInstancePhase::Failed
        );
        if let (Some(deleted), true) = (&new.metadata.deletion_timestamp, is_final) {
            let family = self.from_deletion.get_or_create(&[label()]);
            family.observe(seconds_between(deleted.0, reached));
        }
    }
}

/// An instance's phase, and when it came to it.
fn phase_of(vmi: &VirtualMachineInstance) -> Option<(VirtualMachineInstancePhase, Timestamp)> {
    let status = vmi.status.as_ref()?;
    let phase = status.phase?;
    let mut reached = status.phase_transition_timestamps.iter().rev();
    let reached = reached.find(|reached| reached.phase == Some(phase))?;
    Some((phase, reached.phase_transition_timestamp.as_ref()?.0))
}

/// Never less than none: the two may be different machines' clocks.
fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    from.duration_until(to).as_secs_f64().max(0.0)
}
