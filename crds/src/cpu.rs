//! `spec.domain.cpu`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// The virtual CPUs: sockets x cores x threads of them, each 1 unless said otherwise.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CPU {
    /// Cores in each socket, at least 1.
    #[schemars(with = "Option<i64>")]
    pub cores: Option<u32>,
    /// Features to add to the model, or to take from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<CPUFeature>,
    /// A model of libvirt's, `host-model` (the default) or `host-passthrough`.
    pub model: Option<String>,
    /// Sockets, at least 1.
    #[schemars(with = "Option<i64>")]
    pub sockets: Option<u32>,
    /// Threads in each core, at least 1.
    #[schemars(with = "Option<i64>")]
    pub threads: Option<u32>,
}

/// One CPU feature, by libvirt's name.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CPUFeature {
    /// Its name, such as `vmx`.
    pub name: String,
    /// What becomes of it. Defaults to `require`.
    pub policy: Option<CPUFeaturePolicy>,
}

/// What becomes of a CPU feature (libvirt's `cpu/feature/@policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CPUFeaturePolicy {
    /// The guest sees it even if the host lacks it.
    Force,
    /// The guest does not start where it cannot be had.
    Require,
    /// The guest sees it where the host has it.
    Optional,
    /// The guest does not see it.
    Disable,
    /// The guest does not start where the host has it.
    Forbid,
}
