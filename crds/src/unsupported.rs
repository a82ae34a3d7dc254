//! Fields of KubeVirt's that are not supported yet, so that a refusal can tell them from a
//! misspelling and say what to use instead.

/// A field's path with its list indices taken out, below the instance's spec, and what to use
/// instead; the latter may be empty.
const INSTANCE: &[(&str, &str)] = &[
    (
        "accessCredentials[].sshPublicKey.propagationMethod.qemuGuestAgent",
        "use noCloud or configDrive",
    ),
    (
        "accessCredentials[].userPassword",
        "set the password in cloud-init user data",
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
    ("networks[].resourceClaim", "use pod or multus"),
    ("resourceClaims", ""),
    ("utilityVolumes", ""),
    ("volumes[].containerPath", "use containerDisk"),
    (
        "volumes[].dataVolume",
        "use persistentVolumeClaim or containerDisk",
    ),
    ("volumes[].downwardMetrics", ""),
    ("volumes[].memoryDump", ""),
    (
        "volumes[].persistentVolumeClaim.hotpluggable",
        "a disk is attached at start",
    ),
    (
        "volumes[].sysprep",
        "use configMap with volumeLabel unattendCD, and a cdrom",
    ),
];

/// The same for VirtualMachine, from its root.
const MACHINE: &[(&str, &str)] = &[
    (
        "spec.dataVolumeTemplates",
        "make the claim first, and use persistentVolumeClaim",
    ),
    ("spec.instancetype", "write out cpu and memory"),
    ("spec.preference", "write out the devices"),
    ("spec.updateVolumesStrategy", ""),
];

/// Fields of KubeVirt, the cluster's settings, below its spec.
const CLUSTER: &[&str] = &[
    "certificateRotateStrategy",
    "configuration.additionalGuestMemoryOverheadRatio",
    "configuration.apiConfiguration",
    "configuration.architectureConfiguration",
    "configuration.autoCPULimitNamespaceLabelSelector",
    "configuration.changedBlockTrackingLabelSelectors",
    "configuration.commonInstancetypesDeployment",
    "configuration.confidentialCompute",
    "configuration.controllerConfiguration",
    "configuration.cpuModel",
    "configuration.cpuRequest",
    "configuration.defaultRuntimeClass",
    "configuration.developerConfiguration.clusterProfiler",
    "configuration.developerConfiguration.cpuAllocationRatio",
    "configuration.developerConfiguration.disabledFeatureGates",
    "configuration.developerConfiguration.diskVerification",
    "configuration.developerConfiguration.logVerbosity",
    "configuration.developerConfiguration.memoryOvercommit",
    "configuration.developerConfiguration.minimumClusterTSCFrequency",
    "configuration.developerConfiguration.minimumReservePVCBytes",
    "configuration.developerConfiguration.nodeSelectors",
    "configuration.developerConfiguration.pvcTolerateLessSpaceUpToPercent",
    "configuration.emulatedMachines",
    "configuration.evictionStrategy",
    "configuration.handlerConfiguration",
    "configuration.hypervisors",
    "configuration.instancetype",
    "configuration.ksmConfiguration",
    "configuration.liveUpdateConfiguration",
    "configuration.machineType",
    "configuration.mediatedDevicesConfiguration",
    "configuration.memBalloonStatsPeriod",
    "configuration.migrations",
    "configuration.minCPUModel",
    "configuration.network",
    "configuration.obsoleteCPUModels",
    "configuration.ovmfPath",
    "configuration.permittedHostDevices",
    "configuration.persistentReservationConfiguration",
    "configuration.roleAggregationStrategy",
    "configuration.seccompConfiguration",
    "configuration.selinuxLauncherType",
    "configuration.smbios",
    "configuration.supportContainerResources",
    "configuration.supportedGuestAgentVersions",
    "configuration.tlsConfiguration",
    "configuration.virtTemplateDeployment",
    "configuration.virtualMachineInstancesPerNode",
    "configuration.virtualMachineOptions.disableFreePageReporting",
    "configuration.vmRolloutStrategy",
    "configuration.vmStateStorageClass",
    "configuration.webhookConfiguration",
    "customizeComponents",
    "imagePullPolicy",
    "imagePullSecrets",
    "imageRegistry",
    "imageTag",
    "infra",
    "monitorAccount",
    "monitorNamespace",
    "productComponent",
    "productName",
    "productVersion",
    "serviceMonitorNamespace",
    "synchronizationPort",
    "uninstallStrategy",
    "workloadUpdateStrategy",
    "workloads",
];

/// Why the field at `path`, which our types do not have, is refused.
pub(crate) fn why_unknown(path: &str) -> String {
    let pattern = without_indices(path);
    let spec = pattern.strip_prefix("spec.");
    let instance = pattern.strip_prefix("spec.template.spec.").or(spec);
    let known = INSTANCE
        .iter()
        .find(|(name, _)| Some(*name) == instance)
        .or_else(|| MACHINE.iter().find(|(name, _)| *name == pattern));
    let settings = CLUSTER.iter().any(|name| Some(*name) == spec);
    match known {
        Some((_, "")) => "not supported yet; remove it".to_owned(),
        Some((_, instead)) => format!("not supported yet; {instead}"),
        None if settings => "not supported yet; remove it".to_owned(),
        None => "no such field in kubevirt.io/v1; check its spelling and its place".to_owned(),
    }
}

/// Every path that is refused as not supported yet.
#[cfg(test)]
pub(crate) fn unsupported_paths() -> impl Iterator<Item = String> {
    let instance = INSTANCE.iter().map(|(path, _)| format!("spec.{path}"));
    let machine = MACHINE.iter().map(|(path, _)| (*path).to_owned());
    let cluster = CLUSTER.iter().map(|path| format!("spec.{path}"));
    instance.chain(machine).chain(cluster)
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
