//! Small devices: watchdog, balloon, random numbers, panic, vsock, TPM.

use serde::{Deserialize, Serialize};

use super::{Acpi, Address, Alias, VirtioDriver, VirtioModel};
use crate::{OnOff, YesNo};

/// A watchdog (formatdomain.html, "Watchdog devices").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// The device.
    #[serde(rename = "@model")]
    pub model: WatchdogModel,
    /// What follows when it is not fed.
    #[serde(rename = "@action", skip_serializing_if = "Option::is_none")]
    pub action: Option<WatchdogAction>,
    /// Its name in QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
    /// Its index for firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acpi: Option<Acpi>,
    /// Where it sits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

impl Watchdog {
    /// A watchdog of this model.
    #[must_use]
    pub fn new(model: WatchdogModel) -> Self {
        Self {
            model,
            action: None,
            alias: None,
            acpi: None,
            address: None,
        }
    }
}

/// Watchdogs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchdogModel {
    /// Intel's, on PCI.
    #[serde(rename = "i6300esb")]
    I6300Esb,
    /// On ISA.
    #[serde(rename = "ib700")]
    Ib700,
}

/// What follows when a watchdog is not fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchdogAction {
    /// The guest is reset.
    #[serde(rename = "reset")]
    Reset,
    /// The guest is asked to shut down.
    #[serde(rename = "shutdown")]
    Shutdown,
    /// The guest is powered off.
    #[serde(rename = "poweroff")]
    Poweroff,
    /// The guest is paused.
    #[serde(rename = "pause")]
    Pause,
    /// Nothing.
    #[serde(rename = "none")]
    None,
    /// The guest's memory is dumped.
    #[serde(rename = "dump")]
    Dump,
    /// The guest gets an NMI.
    #[serde(rename = "inject-nmi")]
    InjectNmi,
}

/// The memory balloon (formatdomain.html, "Memory balloon device").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryBalloon {
    /// Which virtio, or none.
    #[serde(rename = "@model")]
    pub model: BalloonModel,
    /// Give memory back before the guest runs out of it.
    #[serde(rename = "@autodeflate", skip_serializing_if = "Option::is_none")]
    pub autodeflate: Option<OnOff>,
    /// The guest reports free pages.
    #[serde(rename = "@freePageReporting", skip_serializing_if = "Option::is_none")]
    pub free_page_reporting: Option<OnOff>,
    /// Statistics of the guest's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<BalloonStats>,
    /// Options of a virtio device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<VirtioDriver>,
    /// Its name in QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
    /// Its index for firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acpi: Option<Acpi>,
    /// Where it sits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

impl MemoryBalloon {
    /// A balloon of this model.
    #[must_use]
    pub fn new(model: BalloonModel) -> Self {
        Self {
            model,
            autodeflate: None,
            free_page_reporting: None,
            stats: None,
            driver: None,
            alias: None,
            acpi: None,
            address: None,
        }
    }
}

/// Memory balloons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BalloonModel {
    /// Whatever fits its bus.
    #[serde(rename = "virtio")]
    Virtio,
    /// Both, on a conventional PCI bus.
    #[serde(rename = "virtio-transitional")]
    VirtioTransitional,
    /// 1.0 only.
    #[serde(rename = "virtio-non-transitional")]
    VirtioNonTransitional,
    /// None: keeps libvirt from adding one.
    #[serde(rename = "none")]
    None,
}

/// Statistics of the guest's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalloonStats {
    /// Seconds between two readings.
    #[serde(rename = "@period")]
    pub period: u32,
}

/// A source of random numbers (formatdomain.html, "Random number generator device").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rng {
    /// Which virtio.
    #[serde(rename = "@model")]
    pub model: VirtioModel,
    /// Limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RngRate>,
    /// Where they come from.
    pub backend: RngBackend,
    /// Options of a virtio device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<VirtioDriver>,
    /// Its name in QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
    /// Its index for firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acpi: Option<Acpi>,
    /// Where it sits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

impl Rng {
    /// A generator of this model, fed by `backend`.
    #[must_use]
    pub fn new(model: VirtioModel, backend: RngBackend) -> Self {
        Self {
            model,
            rate: None,
            backend,
            driver: None,
            alias: None,
            acpi: None,
            address: None,
        }
    }
}

/// Limit of random numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RngRate {
    /// Bytes a period.
    #[serde(rename = "@bytes")]
    pub bytes: u32,
    /// Milliseconds; 1000 where `None`.
    #[serde(rename = "@period", skip_serializing_if = "Option::is_none")]
    pub period: Option<u32>,
}

/// Where random numbers come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RngBackend {
    /// The kind.
    #[serde(rename = "@model")]
    pub model: RngModel,
    /// Path of the host's device.
    #[serde(rename = "$text", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Where random numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RngModel {
    /// A device of the host.
    #[serde(rename = "random")]
    Random,
    /// QEMU.
    #[serde(rename = "builtin")]
    BuiltIn,
}

/// The device by which a guest reports a panic (formatdomain.html, "panic device").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panic {
    /// The device.
    #[serde(rename = "@model", skip_serializing_if = "Option::is_none")]
    pub model: Option<PanicModel>,
    /// Its name in QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
    /// Where it sits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

/// Panic devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PanicModel {
    /// pvpanic.
    #[serde(rename = "isa")]
    Isa,
    /// Hyper-V's crash registers.
    #[serde(rename = "hyperv")]
    Hyperv,
}

/// A socket between guest and host (formatdomain.html, "Vsock").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    /// Which virtio.
    #[serde(rename = "@model", skip_serializing_if = "Option::is_none")]
    pub model: Option<VirtioModel>,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cid: Option<VsockCid>,
    /// Options of a virtio device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<VirtioDriver>,
    /// Its name in QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
    /// Its index for firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acpi: Option<Acpi>,
    /// Where it sits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

/// A vsock address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockCid {
    /// Whether libvirt chooses it.
    #[serde(rename = "@auto", skip_serializing_if = "Option::is_none")]
    pub auto: Option<YesNo>,
    /// The context id, from 3.
    #[serde(rename = "@address", skip_serializing_if = "Option::is_none")]
    pub address: Option<u32>,
}

/// A trusted platform module (formatdomain.html, "TPM device").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tpm {
    /// The device.
    #[serde(rename = "@model", skip_serializing_if = "Option::is_none")]
    pub model: Option<TpmModel>,
    /// Who plays it.
    pub backend: TpmBackend,
    /// Its name in QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<Alias>,
    /// Where it sits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

/// TPM devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TpmModel {
    /// TPM interface specification.
    #[serde(rename = "tpm-tis")]
    TpmTis,
    /// Command response buffer, 2.0 only.
    #[serde(rename = "tpm-crb")]
    TpmCrb,
}

/// Who plays a TPM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmBackend {
    /// The kind.
    #[serde(rename = "@type")]
    pub kind: TpmBackendType,
    /// The TPM's version.
    #[serde(rename = "@version", skip_serializing_if = "Option::is_none")]
    pub version: Option<TpmVersion>,
    /// Whether its state outlives a transient domain.
    #[serde(rename = "@persistent_state", skip_serializing_if = "Option::is_none")]
    pub persistent_state: Option<YesNo>,
}

/// Who plays a TPM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TpmBackendType {
    /// swtpm.
    #[default]
    #[serde(rename = "emulator")]
    Emulator,
}

/// TPM versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TpmVersion {
    /// 1.2.
    #[serde(rename = "1.2")]
    V1,
    /// 2.0.
    #[serde(rename = "2.0")]
    V2,
}
