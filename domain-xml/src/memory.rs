//! How the guest's memory is allocated.

use serde::{Deserialize, Serialize};

use crate::Empty;

/// How the guest's memory is allocated on the host (formatdomain.html, "Memory Backing").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryBacking {
    /// Use huge pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hugepages: Option<HugePages>,
    /// Keep same-page merging away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nosharepages: Option<Empty>,
    /// Keep it from being swapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked: Option<Empty>,
    /// What backs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<MemorySource>,
    /// Whether others map it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<MemoryAccess>,
    /// When pages are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocation: Option<Allocation>,
    /// Discard its content when the guest ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discard: Option<Empty>,
}

/// Huge pages; the host's default size where no page is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HugePages {
    /// The sizes to use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub page: Vec<Page>,
}

/// One size of huge page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// The size in `unit`.
    #[serde(rename = "@size")]
    pub size: u64,
    /// The unit; KiB where `None`.
    #[serde(rename = "@unit", skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Guest NUMA nodes it is for; all where `None`.
    #[serde(rename = "@nodeset", skip_serializing_if = "Option::is_none")]
    pub nodeset: Option<String>,
}

/// What backs the memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySource {
    /// Its kind.
    #[serde(rename = "@type")]
    pub kind: MemorySourceType,
}

/// Kinds of backing memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemorySourceType {
    /// A file on the host.
    #[serde(rename = "file")]
    File,
    /// Anonymous memory of QEMU.
    #[serde(rename = "anonymous")]
    Anonymous,
    /// An anonymous file, which other processes can be handed.
    #[serde(rename = "memfd")]
    Memfd,
}

/// Whether the mapping is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryAccess {
    /// Its mode.
    #[serde(rename = "@mode")]
    pub mode: AccessMode,
}

/// How the memory is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessMode {
    /// Others can map it: vhost-user, virtiofs.
    #[serde(rename = "shared")]
    Shared,
    /// Only QEMU.
    #[serde(rename = "private")]
    Private,
}

/// When pages are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocation {
    /// At start or when touched.
    #[serde(rename = "@mode", skip_serializing_if = "Option::is_none")]
    pub mode: Option<AllocationMode>,
    /// How many threads take them.
    #[serde(rename = "@threads", skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
}

/// When pages are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllocationMode {
    /// At start.
    #[serde(rename = "immediate")]
    Immediate,
    /// When the guest touches them.
    #[serde(rename = "ondemand")]
    OnDemand,
}
