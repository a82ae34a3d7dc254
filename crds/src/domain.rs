//! `spec.domain`: the machine as the guest sees it, without its disks' contents.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::{CPU, Clock, Devices, Features, Firmware, Quantity};

/// The machine.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DomainSpec {
    /// SMBIOS chassis information.
    pub chassis: Option<Chassis>,
    /// The guest's clock and timers.
    pub clock: Option<Clock>,
    /// The virtual CPUs.
    pub cpu: Option<CPU>,
    /// Disks, interfaces and every other device.
    pub devices: Devices,
    /// Features of the hypervisor that the guest sees.
    pub features: Option<Features>,
    /// BIOS or EFI, and what it boots.
    pub firmware: Option<Firmware>,
    /// The machine type.
    pub machine: Option<Machine>,
    /// The guest's memory.
    pub memory: Option<Memory>,
    /// What the pod requests and may use.
    pub resources: Option<ResourceRequirements>,
}

/// SMBIOS chassis information (type 3).
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chassis {
    /// Asset tag.
    pub asset: Option<String>,
    /// Manufacturer.
    pub manufacturer: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// SKU number.
    pub sku: Option<String>,
    /// Version.
    pub version: Option<String>,
}

/// The machine type.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// QEMU's machine type, such as `q35`, the default, or `pc-q35-7.2`.
    #[serde(rename = "type")]
    pub type_: Option<String>,
}

/// The guest's memory.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// What the guest sees. Defaults to the memory that `resources.requests` names.
    pub guest: Option<Quantity>,
    /// Back the memory with huge pages.
    pub hugepages: Option<Hugepages>,
}

/// Huge pages behind the guest's memory.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hugepages {
    /// The size of a page: `2Mi` or `1Gi`.
    pub page_size: Option<String>,
}

/// What the pod requests and may use. The keys are `memory` and `cpu`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceRequirements {
    /// The most that may be used.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
    /// What the scheduler sets aside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
}
