//! What is told of the machines and instances that are there.

use std::collections::BTreeMap;
use std::fmt;

use crds::{
    EvictionStrategy, VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceStatus,
    VirtualMachinePrintableStatus, VirtualMachineStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

/// Collects from the stores; nothing while another process leads.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) leading: Gauge,
    pub(super) vms: Store<VirtualMachine>,
    pub(super) vmis: Store<VirtualMachineInstance>,
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if self.leading.get() != 1 {
            return Ok(());
        }
        for family in instances(&self.vmis).into_iter().chain(machines(&self.vms)) {
            family.encode(&mut encoder)?;
        }
        Ok(())
    }
}

/// One metric, and its value for each set of labels.
struct Series {
    name: &'static str,
    help: &'static str,
    values: Vec<(Vec<(&'static str, String)>, i64)>,
}

impl Series {
    fn new(name: &'static str, help: &'static str) -> Self {
        let values = Vec::new();
        Self { name, help, values }
    }

    /// Labels that are empty are left out: to Prometheus there is no difference.
    fn push<const N: usize>(&mut self, labels: [(&'static str, String); N], value: i64) {
        let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
        self.values.push((labels.collect(), value));
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gauge = MetricType::Gauge;
        let mut family = encoder.encode_descriptor(self.name, self.help, None, gauge)?;
        for (labels, value) in &self.values {
            ConstGauge::new(*value).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

fn instances(store: &Store<VirtualMachineInstance>) -> [Series; 4] {
    let mut info = Series::new("kubevirt_vmi_info", "Instances");
    let mut counts = Series::new(
        "kubevirt_vmi_phase_count",
        "Instances of each phase and node",
    );
    let mut addresses = Series::new("kubevirt_vmi_status_addresses", "Instances' addresses");
    let mut non_evictable = Series::new(
        "kubevirt_vmi_non_evictable",
        "1 if an instance should be migrated when its node is drained, and cannot be",
    );
    let mut by_phase: BTreeMap<(String, String), i64> = BTreeMap::new();
    for vmi in store.state() {
        let none = VirtualMachineInstanceStatus::default();
        let status = vmi.status.as_ref().unwrap_or(&none);
        let (namespace, name) = identity(&vmi.metadata);
        let node = status.node_name.clone().unwrap_or_default();
        let phase = status
            .phase
            .map(|phase| format!("{phase:?}").to_lowercase());
        let phase = phase.unwrap_or_default();
        let migratable = status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "LiveMigratable" && condition.status == "True");
        let blocks = vmi.spec.eviction_strategy == Some(EvictionStrategy::LiveMigrate);
        let blocks = blocks && !migratable;
        let guest = status.guest_os_info.clone().unwrap_or_default();
        let machine = status
            .machine
            .as_ref()
            .and_then(|machine| machine.type_.clone());
        let [os, workload, flavor] = described(&vmi.metadata);
        info.push(
            [
                ("node", node.clone()),
                namespace.clone(),
                name.clone(),
                ("phase", phase.clone()),
                os,
                workload,
                flavor,
                (
                    "guest_os_kernel_release",
                    guest.kernel_release.unwrap_or_default(),
                ),
                ("guest_os_machine", machine.unwrap_or_default()),
                ("guest_os_arch", guest.machine.unwrap_or_default()),
                ("guest_os_name", guest.name.unwrap_or_default()),
                ("guest_os_version_id", guest.version_id.unwrap_or_default()),
                ("evictable", (!blocks).to_string()),
            ],
            1,
        );
        let labels = [("node", node.clone()), namespace.clone(), name.clone()];
        non_evictable.push(labels, blocks.into());
        for interface in &status.interfaces {
            let kind = match interface.ip_address {
                Some(_) => "ExternalInterface",
                None => "SystemInterface",
            };
            let labels = [
                ("node", node.clone()),
                namespace.clone(),
                name.clone(),
                ("vnic_name", interface.name.clone().unwrap_or_default()),
                (
                    "interface_name",
                    interface.interface_name.clone().unwrap_or_default(),
                ),
                ("address", interface.ip_address.clone().unwrap_or_default()),
                ("type", kind.to_owned()),
            ];
            addresses.push(labels, 1);
        }
        *by_phase.entry((node, phase)).or_default() += 1;
    }
    for ((node, phase), count) in by_phase {
        counts.push([("node", node), ("phase", phase)], count);
    }
    [info, counts, addresses, non_evictable]
}

fn machines(store: &Store<VirtualMachine>) -> [Series; 7] {
    let mut info = Series::new("kubevirt_vm_info", "Machines");
    let mut created = Series::new(
        "kubevirt_vm_create_date_timestamp_seconds",
        "When a machine was created",
    );
    let mut since = GROUPS.map(|(_, name, help)| Series::new(name, help));
    for vm in store.state() {
        let none = VirtualMachineStatus::default();
        let status = vm.status.as_ref().unwrap_or(&none);
        let (namespace, name) = identity(&vm.metadata);
        let [os, workload, flavor] = described(&vm.spec.template.metadata);
        let printable = status.printable_status;
        let group = group(printable.unwrap_or(VirtualMachinePrintableStatus::Unknown));
        let printable = printable.map(|status| format!("{status:?}").to_lowercase());
        let machine = vm.spec.template.spec.domain.machine.as_ref();
        let machine = machine.and_then(|machine| machine.type_.clone());
        info.push(
            [
                namespace.clone(),
                name.clone(),
                os,
                workload,
                flavor,
                ("machine_type", machine.unwrap_or_default()),
                ("status", printable.unwrap_or_default()),
                ("status_group", group.to_owned()),
            ],
            1,
        );
        if let Some(time) = &vm.metadata.creation_timestamp {
            created.push([name.clone(), namespace.clone()], time.0.as_second());
        }
        let conditions = status.conditions.iter();
        let conditions = conditions
            .filter(|condition| ["Ready", "Failure", "Paused"].contains(&condition.type_.as_str()));
        let times = conditions.filter_map(|condition| condition.last_transition_time.as_ref());
        let changed = times
            .map(|time| time.0.as_second())
            .max()
            .unwrap_or_default();
        for ((of_group, ..), series) in GROUPS.iter().zip(&mut since) {
            let value = if *of_group == group { changed } else { 0 };
            series.push([name.clone(), namespace.clone()], value);
        }
    }
    let [starting, running, migrating, non_running, error] = since;
    [
        info,
        created,
        starting,
        running,
        migrating,
        non_running,
        error,
    ]
}

/// Groups of printable statuses, and the metric that tells when a machine came to one.
const GROUPS: [(&str, &str, &str); 5] = [
    (
        "starting",
        "kubevirt_vm_starting_status_last_transition_timestamp_seconds",
        "When a machine began to start; 0 if it does not",
    ),
    (
        "running",
        "kubevirt_vm_running_status_last_transition_timestamp_seconds",
        "When a machine began to run; 0 if it does not",
    ),
    (
        "migrating",
        "kubevirt_vm_migrating_status_last_transition_timestamp_seconds",
        "When a machine began to migrate; 0 if it does not",
    ),
    (
        "non_running",
        "kubevirt_vm_non_running_status_last_transition_timestamp_seconds",
        "When a machine stopped or was paused; 0 if it is not",
    ),
    (
        "error",
        "kubevirt_vm_error_status_last_transition_timestamp_seconds",
        "When a machine failed; 0 if it has not",
    ),
];

fn group(status: VirtualMachinePrintableStatus) -> &'static str {
    use VirtualMachinePrintableStatus as Status;
    match status {
        Status::Provisioning
        | Status::Starting
        | Status::WaitingForVolumeBinding
        | Status::WaitingForReceiver => "starting",
        Status::Running => "running",
        Status::Migrating => "migrating",
        Status::Stopped | Status::Paused | Status::Stopping | Status::Terminating => "non_running",
        Status::CrashLoopBackOff
        | Status::Unknown
        | Status::ErrorUnschedulable
        | Status::ErrImagePull
        | Status::ImagePullBackOff
        | Status::ErrorPvcNotFound
        | Status::DataVolumeError => "error",
    }
}

type Label = (&'static str, String);

fn identity(metadata: &ObjectMeta) -> (Label, Label) {
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let name = metadata.name.clone().unwrap_or_default();
    (("namespace", namespace), ("name", name))
}

/// What the templates of KubeVirt's ecosystem say of a machine.
fn described(metadata: &ObjectMeta) -> [Label; 3] {
    ["os", "workload", "flavor"].map(|label| {
        let annotations = metadata.annotations.as_ref();
        let value = annotations.and_then(|all| all.get(&format!("vm.kubevirt.io/{label}")));
        (label, value.cloned().unwrap_or_default())
    })
}
