//! `<domain>` itself and what stands beside its devices.

use serde::{Deserialize, Serialize};

use crate::{
    Clock, Cpu, CpuTune, Devices, Features, MemoryBacking, Metadata, Os, QemuCommandline,
    QemuOverride, Scaled, Sysinfo, YesNo,
};

/// What executes the guest (formatdomain.html, "Element and attribute overview").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DomainType {
    /// Hardware virtualisation through `/dev/kvm`.
    #[default]
    #[serde(rename = "kvm")]
    Kvm,
    /// QEMU's own emulation, TCG.
    #[serde(rename = "qemu")]
    Qemu,
}

/// What libvirt does after a guest stopped or crashed (formatdomain.html, "Events configuration").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LifecycleAction {
    /// End the domain.
    #[serde(rename = "destroy")]
    Destroy,
    /// Start it again with the same definition.
    #[serde(rename = "restart")]
    Restart,
    /// Keep its resources for a look at it.
    #[serde(rename = "preserve")]
    Preserve,
    /// Keep it under another name and start a fresh one.
    #[serde(rename = "rename-restart")]
    RenameRestart,
    /// Dump the guest's memory, then end it (crash only).
    #[serde(rename = "coredump-destroy")]
    CoredumpDestroy,
    /// Dump the guest's memory, then start it again (crash only).
    #[serde(rename = "coredump-restart")]
    CoredumpRestart,
}

/// A libvirt domain: one virtual machine.
///
/// [`Domain::from_xml`] and [`Domain::to_xml`] are each other's inverse for every document
/// they accept; what this type cannot carry is refused by name.
/// (formatdomain.html, "General metadata")
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// What executes the guest.
    #[serde(rename = "@type")]
    pub kind: DomainType,
    /// The number of the running domain; libvirt writes it, input does not carry it.
    #[serde(rename = "@id", skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The name, unique on its connection.
    pub name: String,
    /// The identity that libvirt and SMBIOS show, as `8-4-4-4-12` hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The generation id that tells a guest it was rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub genid: Option<String>,
    /// A short text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A long text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// XML of applications, carried as it is.
    #[serde(skip)]
    pub metadata: Option<Metadata>,
    /// The bound of memory hotplug.
    #[serde(rename = "maxMemory", skip_serializing_if = "Option::is_none")]
    pub max_memory: Option<MaxMemory>,
    /// What the guest boots with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Scaled>,
    /// What the balloon leaves it.
    #[serde(rename = "currentMemory", skip_serializing_if = "Option::is_none")]
    pub current_memory: Option<Scaled>,
    /// How the memory is allocated on the host.
    #[serde(rename = "memoryBacking", skip_serializing_if = "Option::is_none")]
    pub memory_backing: Option<MemoryBacking>,
    /// How many virtual CPUs it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpu: Option<Vcpu>,
    /// Number of I/O threads that disks can name, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iothreads: Option<u32>,
    /// Pinning and bandwidth of the CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cputune: Option<CpuTune>,
    /// Where in the host's cgroups it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// What the guest reads from SMBIOS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysinfo: Option<Sysinfo>,
    /// Firmware, machine and boot.
    pub os: Os,
    /// Hypervisor features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// The CPU that the guest sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// The guest's clock and timers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    /// After the guest powered itself off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_poweroff: Option<LifecycleAction>,
    /// After the guest rebooted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_reboot: Option<LifecycleAction>,
    /// After the guest crashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_crash: Option<LifecycleAction>,
    /// Sleep states that the firmware offers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pm: Option<PowerManagement>,
    /// Everything attached to it.
    pub devices: Devices,
    /// How security drivers confine it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seclabel: Vec<Seclabel>,
    /// Arguments handed to QEMU past libvirt.
    #[serde(
        rename(serialize = "qemu:commandline", deserialize = "commandline"),
        skip_serializing_if = "Option::is_none"
    )]
    pub qemu_commandline: Option<QemuCommandline>,
    /// Changes to what libvirt tells QEMU of devices.
    #[serde(
        rename(serialize = "qemu:override", deserialize = "override"),
        skip_serializing_if = "Option::is_none"
    )]
    pub qemu_override: Option<QemuOverride>,
}

/// The bound of memory hotplug (formatdomain.html, "Memory Allocation").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxMemory {
    /// Number of slots for DIMMs.
    #[serde(rename = "@slots")]
    pub slots: u32,
    /// The unit of `value`; KiB where `None`.
    #[serde(rename = "@unit", skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The bound.
    #[serde(rename = "$text")]
    pub value: u64,
}

/// Who chooses the host CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VcpuPlacement {
    /// The `cpuset`, else all.
    #[serde(rename = "static")]
    Fixed,
    /// numad.
    #[serde(rename = "auto")]
    Auto,
}

/// The number of virtual CPUs (formatdomain.html, "CPU Allocation").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vcpu {
    /// Who chooses the host CPUs.
    #[serde(rename = "@placement", skip_serializing_if = "Option::is_none")]
    pub placement: Option<VcpuPlacement>,
    /// Host CPUs that they may run on, as `0-3,^2`.
    #[serde(rename = "@cpuset", skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<String>,
    /// How many of them are online at boot.
    #[serde(rename = "@current", skip_serializing_if = "Option::is_none")]
    pub current: Option<u32>,
    /// The maximum.
    #[serde(rename = "$text")]
    pub count: u32,
}

/// A place in the host's cgroups (formatdomain.html, "Resource partitioning").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Path of the partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
}

/// Sleep states in the guest's firmware (formatdomain.html, "Power Management").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerManagement {
    /// S3.
    #[serde(rename = "suspend-to-mem", skip_serializing_if = "Option::is_none")]
    pub suspend_to_mem: Option<SleepState>,
    /// S4.
    #[serde(rename = "suspend-to-disk", skip_serializing_if = "Option::is_none")]
    pub suspend_to_disk: Option<SleepState>,
}

/// Whether a sleep state is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SleepState {
    /// Offered or not; the hypervisor's choice where `None`.
    #[serde(rename = "@enabled", skip_serializing_if = "Option::is_none")]
    pub enabled: Option<YesNo>,
}

/// Confinement by one security driver (formatdomain.html, "Security label").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seclabel {
    /// `dynamic`, `static` or `none`.
    #[serde(rename = "@type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The driver: `dac`, `selinux`, `apparmor`.
    #[serde(rename = "@model", skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether files of the domain are given the label.
    #[serde(rename = "@relabel", skip_serializing_if = "Option::is_none")]
    pub relabel: Option<YesNo>,
    /// The label of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What a dynamic label starts from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baselabel: Option<String>,
    /// The label of its files; libvirt writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imagelabel: Option<String>,
}
