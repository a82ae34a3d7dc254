//! What is observed of machines and instances: the `status` subresources.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::{Machine, Quantity, RunStrategy};

/// What is observed of a VirtualMachine.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineStatus {
    /// Conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<VirtualMachineCondition>,
    /// Its instance has been made.
    pub created: Option<bool>,
    /// The generation that the instance should have.
    pub desired_generation: Option<i64>,
    /// The generation that the instance has.
    pub observed_generation: Option<i64>,
    /// The state in one word, for people.
    pub printable_status: Option<VirtualMachinePrintableStatus>,
    /// Its instance is running and ready.
    pub ready: Option<bool>,
    /// The run strategy that is followed.
    pub run_strategy: Option<RunStrategy>,
    /// How often its instance failed in a row, and when it is tried again.
    pub start_failure: Option<VirtualMachineStartFailure>,
    /// Requests to start and to stop that are not done yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state_change_requests: Vec<VirtualMachineStateChangeRequest>,
}

/// The state of a VirtualMachine in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VirtualMachinePrintableStatus {
    /// It is not to run, and does not.
    Stopped,
    /// Its volumes are being made.
    Provisioning,
    /// Its instance is on the way to Running.
    Starting,
    /// It runs.
    Running,
    /// It is paused.
    Paused,
    /// It was asked to stop.
    Stopping,
    /// It is being deleted.
    Terminating,
    /// It keeps failing; the next try waits.
    CrashLoopBackOff,
    /// It is being migrated.
    Migrating,
    /// Nothing is known of it.
    Unknown,
    /// No node can take its pod.
    ErrorUnschedulable,
    /// An image could not be pulled.
    ErrImagePull,
    /// An image could not be pulled; the next try waits.
    ImagePullBackOff,
    /// A claim that it names does not exist.
    ErrorPvcNotFound,
    /// A DataVolume that it names failed.
    DataVolumeError,
    /// A claim that it names is not bound yet.
    WaitingForVolumeBinding,
    /// Something that should run it is not there yet.
    WaitingForReceiver,
}

/// A condition of a VirtualMachine.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineCondition {
    /// When `status` last changed.
    pub last_transition_time: Option<Time>,
    /// What it means, for people.
    pub message: Option<String>,
    /// What it means, for programs.
    pub reason: Option<String>,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// What it is about, such as `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
}

/// How often an instance failed in a row.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineStartFailure {
    /// How often.
    pub consecutive_fail_count: Option<i32>,
    /// The uid of the last instance that failed.
    #[serde(rename = "lastFailedVMIUID")]
    pub last_failed_vmi_uid: Option<String>,
    /// When it is tried again.
    pub retry_after_timestamp: Option<Time>,
}

/// A request to start or to stop.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualMachineStateChangeRequest {
    /// What is asked for.
    pub action: StateChangeRequestAction,
    /// Details, such as `paused`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// The instance that is meant, by its uid.
    pub uid: Option<String>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StateChangeRequestAction {
    /// Start.
    Start,
    /// Stop.
    Stop,
}

/// What is observed of a VirtualMachineInstance.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceStatus {
    /// Its pods, by uid, and the node of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub active_pods: BTreeMap<String, String>,
    /// Conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<VirtualMachineInstanceCondition>,
    /// The virtual CPUs that the machine has.
    #[serde(rename = "currentCPUTopology")]
    pub current_cpu_topology: Option<CPUTopology>,
    /// The guest's operating system, as its agent tells.
    #[serde(rename = "guestOSInfo")]
    pub guest_os_info: Option<VirtualMachineInstanceGuestOSInfo>,
    /// The network interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<VirtualMachineInstanceNetworkInterface>,
    /// The launcher's image.
    pub launcher_container_image_version: Option<String>,
    /// The machine type that runs.
    pub machine: Option<Machine>,
    /// The guest's memory.
    pub memory: Option<MemoryStatus>,
    /// The node that runs it.
    pub node_name: Option<String>,
    /// Where it is in its life.
    pub phase: Option<VirtualMachineInstancePhase>,
    /// When it came to each phase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phase_transition_timestamps: Vec<VirtualMachineInstancePhaseTransitionTimestamp>,
    /// The pod's quality of service: Guaranteed, Burstable or BestEffort.
    pub qos_class: Option<String>,
    /// Why it is as it is, in one word.
    pub reason: Option<String>,
    /// The volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_status: Vec<VolumeStatus>,
}

/// Where a VirtualMachineInstance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VirtualMachineInstancePhase {
    /// It has no pod yet.
    Pending,
    /// Its pod has no node yet.
    Scheduling,
    /// Its pod is on a node.
    Scheduled,
    /// It runs.
    Running,
    /// It shut down.
    Succeeded,
    /// It ended in another way.
    Failed,
    /// Its node is not heard from.
    Unknown,
}

/// A condition of a VirtualMachineInstance.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceCondition {
    /// When `status` last changed.
    pub last_transition_time: Option<Time>,
    /// What it means, for people.
    pub message: Option<String>,
    /// What it means, for programs.
    pub reason: Option<String>,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// What it is about, such as `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
}

/// When an instance came to a phase.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstancePhaseTransitionTimestamp {
    /// The phase.
    pub phase: Option<VirtualMachineInstancePhase>,
    /// When it came to it.
    pub phase_transition_timestamp: Option<Time>,
}

/// The guest's operating system, as its agent tells.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceGuestOSInfo {
    /// Its short name, such as `debian`.
    pub id: Option<String>,
    /// The kernel's release.
    pub kernel_release: Option<String>,
    /// The kernel's version.
    pub kernel_version: Option<String>,
    /// The machine's architecture.
    pub machine: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its name and version.
    pub pretty_name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Its version's short name.
    pub version_id: Option<String>,
}

/// A network interface, as the pod's network and the guest's agent tell.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineInstanceNetworkInterface {
    /// Who told, such as `domain, guest-agent`.
    pub info_source: Option<String>,
    /// Its name in the guest.
    pub interface_name: Option<String>,
    /// Its first IP address.
    pub ip_address: Option<String>,
    /// All its IP addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<String>,
    /// `up` or `down`.
    pub link_state: Option<String>,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Its name in the spec.
    pub name: Option<String>,
    /// The pod's interface behind it.
    pub pod_interface_name: Option<String>,
    /// How many pairs of queues it has.
    pub queue_count: Option<i32>,
}

/// The virtual CPUs that a machine has.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CPUTopology {
    /// Cores in a socket.
    #[schemars(with = "Option<i64>")]
    pub cores: Option<u32>,
    /// Sockets.
    #[schemars(with = "Option<i64>")]
    pub sockets: Option<u32>,
    /// Threads in a core.
    #[schemars(with = "Option<i64>")]
    pub threads: Option<u32>,
}

/// The guest's memory.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStatus {
    /// What it booted with.
    pub guest_at_boot: Option<Quantity>,
    /// What it has.
    pub guest_current: Option<Quantity>,
    /// What it should have.
    pub guest_requested: Option<Quantity>,
}

/// A volume, as it was found.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// What is the matter, for people.
    pub message: Option<String>,
    /// Its name.
    pub name: String,
    /// The claim behind it, where there is one.
    pub persistent_volume_claim_info: Option<PersistentVolumeClaimInfo>,
    /// What is the matter, for programs.
    pub reason: Option<String>,
    /// Its size in bytes.
    pub size: Option<i64>,
    /// The guest's device, such as `vda`.
    pub target: String,
}

/// The claim behind a volume.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolumeClaimInfo {
    /// How many nodes and pods may use it, and how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
    /// What it has, under `storage`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, Quantity>,
    /// Its name.
    pub claim_name: Option<String>,
    /// What it asked for, under `storage`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
    /// `Block` or `Filesystem`.
    pub volume_mode: Option<String>,
}
