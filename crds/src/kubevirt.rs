//! `KubeVirt`: how the whole cluster is set up.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::PullPolicy;

/// The feature gate that allows volumes of kind `hostDisk`.
pub const HOST_DISK_GATE: &str = "HostDisk";

/// How the cluster's machines are run. The one object that counts is named `kubevirt` and lies in
/// the namespace of virt-controller; where there is none, everything has its default.
#[skip_serializing_none]
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "KubeVirt",
    plural = "kubevirts",
    doc = "How the cluster's virtual machines are run.",
    namespaced,
    status = "KubeVirtStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "kv",
    shortname = "kvs",
    category = "all",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#
)]
pub struct KubeVirtSpec {
    /// The settings.
    pub configuration: Option<KubeVirtConfiguration>,
}

/// Settings of the cluster. A change reaches the machines that start after it.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeVirtConfiguration {
    /// Settings that are not for every cluster.
    pub developer_configuration: Option<DeveloperConfiguration>,
    /// When the images of the launcher's pods are pulled. Defaults to IfNotPresent.
    pub image_pull_policy: Option<PullPolicy>,
    /// What every machine has or has not.
    pub virtual_machine_options: Option<VirtualMachineOptions>,
}

/// Settings that are not for every cluster.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeveloperConfiguration {
    /// What is allowed beyond the usual. Known is `HostDisk`: volumes of kind `hostDisk`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feature_gates: Vec<String>,
    /// Emulate processors in software, so that machines run on nodes without KVM. Defaults to
    /// false.
    pub use_emulation: Option<bool>,
}

/// What every machine has or has not.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualMachineOptions {
    /// Keep no log of serial consoles, but for machines that ask for one by
    /// `logSerialConsole: true`.
    pub disable_serial_console_log: Option<DisableSerialConsoleLog>,
}

/// Keep no log of serial consoles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DisableSerialConsoleLog {}

/// What is observed of the cluster's set-up.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeVirtStatus {
    /// Conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<KubeVirtCondition>,
    /// The generation of the spec that is followed.
    pub observed_generation: Option<i64>,
    /// The version of what runs the machines.
    pub observed_kube_virt_version: Option<String>,
    /// Where the set-up is in its life.
    pub phase: Option<KubeVirtPhase>,
}

/// Where a set-up is in its life (KubeVirt's `KubeVirtPhase`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KubeVirtPhase {
    /// Parts of it are not ready yet.
    Deploying,
    /// It runs machines.
    Deployed,
    /// It is being removed.
    Deleting,
    /// It is removed.
    Deleted,
    /// It cannot be followed; its conditions say why.
    Error,
}

/// A condition of the set-up.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeVirtCondition {
    /// When `status` last changed.
    pub last_transition_time: Option<Time>,
    /// What it means, for people.
    pub message: Option<String>,
    /// What it means, for programs.
    pub reason: Option<String>,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// What it is about, such as `Available`.
    #[serde(rename = "type")]
    pub type_: String,
}
