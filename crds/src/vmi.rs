//! `VirtualMachineInstance`: one run of a machine.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, PodDNSConfig, Toleration, TopologySpreadConstraint};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::{AccessCredential, DomainSpec, Network, Probe, VirtualMachineInstanceStatus, Volume};

/// What a VirtualMachineInstance is: the machine itself, its disks' contents, its networks,
/// and where its pod may run.
#[skip_serializing_none]
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachineInstance",
    doc = "A virtual machine that runs, or is about to, or has run.",
    namespaced,
    status = "VirtualMachineInstanceStatus",
    selectable = ".status.nodeName",
    selectable = ".status.phase",
    derive = "PartialEq",
    derive = "Default",
    shortname = "vmi",
    shortname = "vmis",
    category = "all",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"IP","type":"string","jsonPath":".status.interfaces[0].ipAddress"}"#,
    printcolumn = r#"{"name":"NodeName","type":"string","jsonPath":".status.nodeName"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Live-Migratable","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type=='LiveMigratable')].status"}"#,
    printcolumn = r#"{"name":"Paused","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type=='Paused')].status"}"#
)]
pub struct VirtualMachineInstanceSpec {
    /// Who may enter the guest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_credentials: Vec<AccessCredential>,
    /// Where the pod may run, by labels of nodes and of other pods.
    pub affinity: Option<Affinity>,
    /// The guest's architecture; only `amd64` is supported.
    pub architecture: Option<String>,
    /// DNS parameters of the pod, merged into those that `dnsPolicy` gives. They reach the guest
    /// by DHCP.
    pub dns_config: Option<PodDNSConfig>,
    /// How the pod's DNS is set up. Defaults to ClusterFirst.
    pub dns_policy: Option<DnsPolicy>,
    /// The machine: CPU, memory, firmware, devices.
    pub domain: DomainSpec,
    /// What is asked for when the pod's node is drained. Nothing migrates: the machine is shut down.
    pub eviction_strategy: Option<EvictionStrategy>,
    /// The guest's hostname, as DHCP and cloud-init tell it. Defaults to the instance's name.
    pub hostname: Option<String>,
    /// A question that the guest must go on answering: where it fails, the instance ends.
    pub liveness_probe: Option<Probe>,
    /// The networks that `domain.devices.interfaces` refer to by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// Labels that the node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// The pod's priority class.
    pub priority_class_name: Option<String>,
    /// A question whose answer makes the instance ready: only then do Services lead to it.
    pub readiness_probe: Option<Probe>,
    /// The scheduler that places the pod.
    pub scheduler_name: Option<String>,
    /// The service account that the pod runs as. The guest gets its token only by a volume.
    pub service_account_name: Option<String>,
    /// How the machine is started. Defaults to running.
    pub start_strategy: Option<StartStrategy>,
    /// With it, the guest's name is `hostname.subdomain.namespace.svc.<cluster domain>`.
    pub subdomain: Option<String>,
    /// Seconds between the request to shut down and power off. Defaults to 30.
    pub termination_grace_period_seconds: Option<i64>,
    /// Taints of nodes that the pod tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// How pods are spread over nodes, zones and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// The contents of the disks, which refer to them by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
}

/// How a machine is started (KubeVirt's `StartStrategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StartStrategy {
    /// It is paused before its first instruction, until it is unpaused.
    Paused,
}

/// How a pod's DNS is set up (Kubernetes' `DNSPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DnsPolicy {
    /// As ClusterFirst, for pods in the host's network.
    ClusterFirstWithHostNet,
    /// The cluster's DNS, which forwards other names upstream.
    ClusterFirst,
    /// The node's own resolv.conf.
    Default,
    /// Only what `dnsConfig` says.
    None,
}

/// What is asked for when an instance's node is drained (KubeVirt's `EvictionStrategy`). Nothing
/// migrates: whatever is asked for, the instance is shut down, and the machine's run strategy says
/// what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EvictionStrategy {
    /// That it is shut down.
    None,
    /// That it is migrated. It is shut down.
    LiveMigrate,
    /// That it is migrated if it can be, else shut down.
    LiveMigrateIfPossible,
    /// That an outside controller acts on it. It is shut down.
    External,
}
