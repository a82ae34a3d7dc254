//! `<cpu>` and `<cputune>`.

use serde::{Deserialize, Serialize};

use crate::{OnOff, YesNo};

/// The CPU that the guest sees (formatdomain.html, "CPU model and topology").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// How the model is chosen.
    #[serde(rename = "@mode", skip_serializing_if = "Option::is_none")]
    pub mode: Option<CpuMode>,
    /// How strictly the host must have it.
    #[serde(rename = "@match", skip_serializing_if = "Option::is_none")]
    pub matching: Option<CpuMatch>,
    /// How strictly libvirt compares it with the host before start.
    #[serde(rename = "@check", skip_serializing_if = "Option::is_none")]
    pub check: Option<CpuCheck>,
    /// Whether features that block migration are left out (host-passthrough, maximum).
    #[serde(rename = "@migratable", skip_serializing_if = "Option::is_none")]
    pub migratable: Option<OnOff>,
    /// The named model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<CpuModel>,
    /// The vendor that the host must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Sockets, cores and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
    /// What the guest sees of the cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CpuCache>,
    /// Changes to the model.
    #[serde(rename = "feature", default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<CpuFeature>,
    /// Guest NUMA cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa: Option<Numa>,
}

/// How the guest's CPU is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuMode {
    /// The named model.
    #[serde(rename = "custom")]
    Custom,
    /// The named model closest to the host's CPU; under TCG, to what QEMU can emulate.
    #[serde(rename = "host-model")]
    HostModel,
    /// The host's CPU as it is; KVM only.
    #[serde(rename = "host-passthrough")]
    HostPassthrough,
    /// All that the accelerator can do.
    #[serde(rename = "maximum")]
    Maximum,
}

/// How strictly the host must have the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuMatch {
    /// At least.
    #[serde(rename = "minimum")]
    Minimum,
    /// Exactly; more is hidden.
    #[serde(rename = "exact")]
    Exact,
    /// Exactly, and the host may not have more.
    #[serde(rename = "strict")]
    Strict,
}

/// When libvirt compares the CPU with the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuCheck {
    /// Never.
    #[serde(rename = "none")]
    None,
    /// Before start, by model.
    #[serde(rename = "partial")]
    Partial,
    /// Before and after start.
    #[serde(rename = "full")]
    Full,
}

/// A named CPU model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuModel {
    /// May libvirt choose a lesser one.
    #[serde(rename = "@fallback", skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// The 12 characters of CPUID's vendor string.
    #[serde(rename = "@vendor_id", skip_serializing_if = "Option::is_none")]
    pub vendor_id: Option<String>,
    /// The name, such as `Nehalem`.
    #[serde(rename = "$text", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// May libvirt choose a lesser model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fallback {
    /// It may.
    #[serde(rename = "allow")]
    Allow,
    /// It may not: an error instead.
    #[serde(rename = "forbid")]
    Forbid,
}

/// Sockets, cores and threads; their product is the vCPUs' maximum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Number of sockets.
    #[serde(rename = "@sockets")]
    pub sockets: u32,
    /// Dies in each socket.
    #[serde(rename = "@dies", skip_serializing_if = "Option::is_none")]
    pub dies: Option<u32>,
    /// Cores in each die.
    #[serde(rename = "@cores")]
    pub cores: u32,
    /// Threads in each core.
    #[serde(rename = "@threads")]
    pub threads: u32,
}

/// What the guest sees of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuCache {
    /// The level; all where `None`.
    #[serde(rename = "@level", skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// The kind.
    #[serde(rename = "@mode")]
    pub mode: CpuCacheMode,
}

/// What the guest sees of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuCacheMode {
    /// A made-up one.
    #[serde(rename = "emulate")]
    Emulate,
    /// The host's.
    #[serde(rename = "passthrough")]
    Passthrough,
    /// None.
    #[serde(rename = "disable")]
    Disable,
}

/// One CPU feature flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuFeature {
    /// What becomes of it.
    #[serde(rename = "@policy", skip_serializing_if = "Option::is_none")]
    pub policy: Option<FeaturePolicy>,
    /// Its name, such as `vmx`.
    #[serde(rename = "@name")]
    pub name: String,
}

/// What becomes of a CPU feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeaturePolicy {
    /// The guest has it, or does not start.
    #[default]
    #[serde(rename = "require")]
    Require,
    /// The guest has it even where the host has not.
    #[serde(rename = "force")]
    Force,
    /// The guest has it where the host has.
    #[serde(rename = "optional")]
    Optional,
    /// The guest has it not.
    #[serde(rename = "disable")]
    Disable,
    /// As `disable`, and the guest does not start on a host that has it.
    #[serde(rename = "forbid")]
    Forbid,
}

/// Guest NUMA topology (formatdomain.html, "Guest NUMA topology").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numa {
    /// The cells.
    #[serde(rename = "cell", default, skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<NumaCell>,
}

/// One guest NUMA cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaCell {
    /// Its number; its position where `None`.
    #[serde(rename = "@id", skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Its vCPUs, as `0-3`.
    #[serde(rename = "@cpus", skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// Its memory in `unit`.
    #[serde(rename = "@memory")]
    pub memory: u64,
    /// The unit; KiB where `None`.
    #[serde(rename = "@unit", skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Whether others map its memory too.
    #[serde(rename = "@memAccess", skip_serializing_if = "Option::is_none")]
    pub mem_access: Option<crate::AccessMode>,
    /// Discard its content when the guest ends.
    #[serde(rename = "@discard", skip_serializing_if = "Option::is_none")]
    pub discard: Option<YesNo>,
}

/// Pinning and bandwidth (formatdomain.html, "CPU Tuning").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuTune {
    /// Host CPUs of each vCPU.
    #[serde(rename = "vcpupin", default, skip_serializing_if = "Vec::is_empty")]
    pub vcpu_pins: Vec<VcpuPin>,
    /// Host CPUs of QEMU's other threads.
    #[serde(rename = "emulatorpin", skip_serializing_if = "Option::is_none")]
    pub emulator_pin: Option<EmulatorPin>,
    /// Host CPUs of each I/O thread.
    #[serde(rename = "iothreadpin", default, skip_serializing_if = "Vec::is_empty")]
    pub iothread_pins: Vec<IoThreadPin>,
    /// cgroup CPU shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Length of the bandwidth period, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// vCPU time a period, in microseconds; negative for no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// As `period`, for QEMU's other threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator_period: Option<u64>,
    /// As `quota`, for QEMU's other threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator_quota: Option<i64>,
}

/// Host CPUs of one vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VcpuPin {
    /// The vCPU, from 0.
    #[serde(rename = "@vcpu")]
    pub vcpu: u16,
    /// Host CPUs, as `0-3,^2`.
    #[serde(rename = "@cpuset")]
    pub cpuset: String,
}

/// Host CPUs of QEMU's own threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmulatorPin {
    /// Host CPUs, as `0-3,^2`.
    #[serde(rename = "@cpuset")]
    pub cpuset: String,
}

/// Host CPUs of one I/O thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoThreadPin {
    /// The I/O thread, from 1.
    #[serde(rename = "@iothread")]
    pub iothread: u32,
    /// Host CPUs, as `0-3,^2`.
    #[serde(rename = "@cpuset")]
    pub cpuset: String,
}
