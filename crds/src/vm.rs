//! `VirtualMachine`: a machine that can be started and stopped, and the template of what runs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::{VirtualMachineInstanceSpec, VirtualMachineStatus};

/// What a VirtualMachine should be: when it runs, and what runs then.
#[skip_serializing_none]
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "kubevirt.io",
    version = "v1",
    kind = "VirtualMachine",
    doc = "A virtual machine that can be started and stopped.",
    namespaced,
    status = "VirtualMachineStatus",
    derive = "PartialEq",
    shortname = "vm",
    shortname = "vms",
    category = "all",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Status","type":"string","description":"Human Readable Status","jsonPath":".status.printableStatus"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#
)]
// As the webhook says it; the API server says it without one.
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!(has(self.running) && has(self.runStrategy))",
        "message": "excludes runStrategy; leave one of the two",
        "fieldPath": ".running",
    },
    {
        "rule": "has(self.running) || has(self.runStrategy)",
        "message": "write Always, Halted, Manual, RerunOnFailure or Once",
        "fieldPath": ".runStrategy",
        "reason": "FieldValueRequired",
    },
]))]
pub struct VirtualMachineSpec {
    /// When the machine runs. Excludes `running`.
    pub run_strategy: Option<RunStrategy>,
    /// The older form of `runStrategy`: true is Always, false is Halted.
    pub running: Option<bool>,
    /// The VirtualMachineInstance that is made when the machine starts.
    pub template: VirtualMachineInstanceTemplateSpec,
}

/// When a VirtualMachine runs (KubeVirt's `VirtualMachineRunStrategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunStrategy {
    /// It always runs; it is started again whenever it ends.
    Always,
    /// It does not run.
    Halted,
    /// It is started and stopped by hand only.
    Manual,
    /// It is started again after a failure, and not after it shut itself down.
    RerunOnFailure,
    /// It runs once and keeps its final phase.
    Once,
}

/// The VirtualMachineInstance that a VirtualMachine makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualMachineInstanceTemplateSpec {
    /// Labels and annotations of the instance.
    #[serde(default)]
    #[schemars(schema_with = "crate::vm::any_object")]
    pub metadata: ObjectMeta,
    /// What the instance is.
    pub spec: VirtualMachineInstanceSpec,
}

/// The schema of an object whose fields the API server leaves alone. An embedded ObjectMeta is
/// described so in Kubernetes' own CRDs.
pub(crate) fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}
