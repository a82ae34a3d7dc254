//! Fields of KubeVirt's that are not supported yet, so that a refusal can tell them from a
//! misspelling and say what to use instead.

/// A field's path with its list indices taken out, below the instance's spec, and what to use
/// instead; the latter may be empty.
const INSTANCE: &[(&str, &str)] = &[
    (
        "accessCredentials",
        "put the keys into cloud-init user data",
    ),
    ("domain.cpu.dedicatedCpuPlacement", ""),
    ("domain.cpu.isolateEmulatorThread", ""),
    ("domain.cpu.maxSockets", ""),
    ("domain.cpu.numa", ""),
    ("domain.cpu.realtime", ""),
    ("domain.devices.autoattachVSOCK", ""),
    ("domain.devices.clientPassthrough", ""),
    ("domain.devices.disableHotplug", ""),
    (
        "domain.devices.disks[].blockSize.custom.discardGranularity",
        "",
    ),
    ("domain.devices.disks[].changedBlockTracking", ""),
    ("domain.devices.disks[].dedicatedIOThread", ""),
    ("domain.devices.disks[].lun.reservation", ""),
    ("domain.devices.disks[].shareable", ""),
    ("domain.devices.disks[].tag", ""),
    ("domain.devices.downwardMetrics", ""),
    ("domain.devices.filesystems", "use a disk"),
    ("domain.devices.gpus", ""),
    ("domain.devices.hostDevices", ""),
    (
        "domain.devices.interfaces[].binding",
        "use bridge or masquerade",
    ),
    (
        "domain.devices.interfaces[].macvtap",
        "use bridge or masquerade",
    ),
    (
        "domain.devices.interfaces[].passt",
        "use bridge or masquerade",
    ),
    (
        "domain.devices.interfaces[].passtBinding",
        "use bridge or masquerade",
    ),
    (
        "domain.devices.interfaces[].portRanges",
        "name each port under ports, or none for all of them",
    ),
    (
        "domain.devices.interfaces[].slirp",
        "use bridge or masquerade",
    ),
    (
        "domain.devices.interfaces[].sriov",
        "use bridge or masquerade",
    ),
    ("domain.devices.interfaces[].state", ""),
    ("domain.devices.interfaces[].tag", ""),
    ("domain.devices.panicDevices", ""),
    ("domain.devices.sound", ""),
    ("domain.devices.tpm", ""),
    (
        "domain.devices.useVirtioTransitional",
        "use bus sata and model e1000 for old guests",
    ),
    ("domain.devices.watchdog.diag288", "use i6300esb"),
    ("domain.features.hyperv.tlbflush.direct", ""),
    ("domain.features.hyperv.tlbflush.extended", ""),
    (
        "domain.features.hypervPassthrough",
        "name the features under hyperv",
    ),
    ("domain.firmware.acpi", ""),
    ("domain.ioThreads", ""),
    ("domain.ioThreadsPolicy", ""),
    ("domain.launchSecurity", ""),
    ("domain.memory.maxGuest", ""),
    ("domain.memory.reservedOverhead", ""),
    ("domain.rebootPolicy", ""),
    ("domain.resources.overcommitGuestOverhead", ""),
    ("livenessProbe", ""),
    ("networks[].resourceClaim", "use pod or multus"),
    ("readinessProbe", ""),
    ("resourceClaims", ""),
    ("serviceAccountName", ""),
    ("startStrategy", ""),
    ("utilityVolumes", ""),
    ("volumes[].configMap", "use cloudInitNoCloud"),
    ("volumes[].containerPath", "use containerDisk"),
    ("volumes[].dataVolume", "use containerDisk or hostDisk"),
    ("volumes[].downwardAPI", "use cloudInitNoCloud"),
    ("volumes[].downwardMetrics", ""),
    ("volumes[].memoryDump", ""),
    (
        "volumes[].persistentVolumeClaim",
        "use containerDisk, hostDisk or ephemeral",
    ),
    ("volumes[].secret", "use cloudInitNoCloud with secretRef"),
    ("volumes[].serviceAccount", ""),
    ("volumes[].sysprep", ""),
];

/// The same for VirtualMachine, from its root.
const MACHINE: &[(&str, &str)] = &[
    ("spec.dataVolumeTemplates", "use containerDisk or hostDisk"),
    ("spec.instancetype", "write out cpu and memory"),
    ("spec.preference", "write out the devices"),
    ("spec.updateVolumesStrategy", ""),
];

/// Why the field at `path`, which our types do not have, is refused.
pub(crate) fn why_unknown(path: &str) -> String {
    let pattern = without_indices(path);
    let below = pattern
        .strip_prefix("spec.template.spec.")
        .or_else(|| pattern.strip_prefix("spec."));
    let known = INSTANCE
        .iter()
        .find(|(name, _)| Some(*name) == below)
        .or_else(|| MACHINE.iter().find(|(name, _)| *name == pattern));
    match known {
        Some((_, "")) => "not supported yet; remove it".to_owned(),
        Some((_, instead)) => format!("not supported yet; {instead}"),
        None => "no such field in kubevirt.io/v1; check its spelling and its place".to_owned(),
    }
}

/// Every path that is refused as not supported yet.
#[cfg(test)]
pub(crate) fn unsupported_paths() -> impl Iterator<Item = String> {
    let instance = INSTANCE.iter().map(|(path, _)| format!("spec.{path}"));
    let machine = MACHINE.iter().map(|(path, _)| (*path).to_owned());
    instance.chain(machine)
}

/// `disks[3].name` as `disks[].name`.
fn without_indices(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    let mut in_index = false;
    for c in path.chars() {
        in_index = in_index && c != ']';
        if !in_index {
            pattern.push(c);
        }
        in_index = in_index || c == '[';
    }
    pattern
}
