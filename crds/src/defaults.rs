//! What is meant where a manifest says nothing: KubeVirt's defaults.

use uuid::Uuid;

use crate::*;

/// KubeVirt's namespace of firmware UUIDs: a machine brought over keeps the UUID that its guest
/// has seen, which licences are tied to.
const FIRMWARE_NAMESPACE: Uuid = Uuid::from_u128(0x6a1a24a1_4061_4607_8bf4_a3963d0c5895);

/// Seconds between the request to shut down and power off.
const GRACE_PERIOD_SECONDS: i64 = 30;

/// Fills in what the manifest leaves open. Doing it again changes nothing.
///
/// What is given is never changed, even where it is wrong: that is for
/// [`validate`](crate::validate()) to tell.
pub fn default(vmi: &mut VirtualMachineInstance) {
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let spec = &mut vmi.spec;
    spec.termination_grace_period_seconds
        .get_or_insert(GRACE_PERIOD_SECONDS);
    let probes = [&mut spec.liveness_probe, &mut spec.readiness_probe];
    probes.into_iter().flatten().for_each(probe);
    interfaces(spec);
    disks(spec);
    for volume in &mut spec.volumes {
        if let Some(source) = &mut volume.container_disk {
            pull_policy(&source.image, &mut source.image_pull_policy);
        }
    }
    let domain = &mut spec.domain;
    let machine = domain.machine.get_or_insert_default();
    machine.type_.get_or_insert_with(|| "q35".to_owned());
    cpu(domain);
    memory(domain);
    firmware(domain.firmware.get_or_insert_default(), name);
    features(domain.features.get_or_insert_default());
    let hyperv = domain
        .features
        .as_ref()
        .and_then(|features| features.hyperv.as_ref());
    if hyperv.is_some_and(has_synic_timer) {
        let timers = domain
            .clock
            .get_or_insert_default()
            .timer
            .get_or_insert_default();
        timers.hyperv.get_or_insert_default();
    }
    if let Some(timers) = domain.clock.as_mut().and_then(|clock| clock.timer.as_mut()) {
        timer(timers);
    }
    devices(&mut domain.devices);
}

/// The times that Kubernetes gives a pod's probes.
fn probe(probe: &mut Probe) {
    probe.initial_delay_seconds.get_or_insert(0);
    probe.timeout_seconds.get_or_insert(1);
    probe.period_seconds.get_or_insert(10);
    probe.success_threshold.get_or_insert(1);
    probe.failure_threshold.get_or_insert(3);
    if let Some(get) = &mut probe.http_get {
        get.path.get_or_insert_with(|| "/".to_owned());
        get.scheme.get_or_insert_with(|| "HTTP".to_owned());
    }
}

/// One interface, bridged to the pod's network, unless something else is said.
fn interfaces(spec: &mut VirtualMachineInstanceSpec) {
    let devices = &mut spec.domain.devices;
    let attach = devices.autoattach_pod_interface.unwrap_or(true);
    if attach && devices.interfaces.is_empty() && spec.networks.is_empty() {
        devices.interfaces.push(Interface {
            name: "default".to_owned(),
            ..Interface::default()
        });
        spec.networks.push(Network {
            name: "default".to_owned(),
            pod: Some(PodNetwork::default()),
            ..Network::default()
        });
    }
    for interface in &mut devices.interfaces {
        if interface.masquerade.is_none() {
            interface.bridge.get_or_insert_default();
        }
        for port in &mut interface.ports {
            port.protocol.get_or_insert(PortProtocol::Tcp);
        }
        interface.model.get_or_insert(InterfaceModel::Virtio);
    }
}

/// Every volume has a disk, and every disk is something, attached to a bus.
fn disks(spec: &mut VirtualMachineInstanceSpec) {
    let disks = &mut spec.domain.devices.disks;
    for volume in &spec.volumes {
        if !disks.iter().any(|disk| disk.name == volume.name) {
            disks.push(Disk {
                name: volume.name.clone(),
                ..Disk::default()
            });
        }
    }
    for disk in disks {
        if disk.cdrom.is_none() && disk.lun.is_none() {
            disk.disk.get_or_insert_default();
        }
        if let Some(target) = &mut disk.disk {
            target.bus.get_or_insert(DiskBus::Sata);
        }
        if let Some(target) = &mut disk.cdrom {
            target.bus.get_or_insert(DiskBus::Sata);
            target.readonly.get_or_insert(true);
            target.tray.get_or_insert(TrayState::Closed);
        }
        if let Some(target) = &mut disk.lun {
            // KubeVirt's default is sata, to which libvirt attaches no LUN.
            target.bus.get_or_insert(DiskBus::Scsi);
        }
        if let Some(match_volume) = disk
            .block_size
            .as_mut()
            .and_then(|b| b.match_volume.as_mut())
        {
            match_volume.enabled.get_or_insert(true);
        }
    }
}

/// `Always` for an image that is named by the tag `latest` or by no tag, else `IfNotPresent`.
fn pull_policy(image: &str, policy: &mut Option<PullPolicy>) {
    // A colon before the last slash belongs to the registry's port.
    let name = image.rsplit('/').next().unwrap_or(image);
    let moving = match name.split_once(':') {
        _ if name.contains('@') => false,
        Some((_, tag)) => tag == "latest",
        None => true,
    };
    policy.get_or_insert(if moving {
        PullPolicy::Always
    } else {
        PullPolicy::IfNotPresent
    });
}

/// As many sockets as CPUs are requested, where no topology is given.
fn cpu(domain: &mut DomainSpec) {
    let asked = domain.resources.as_ref().and_then(|resources| {
        let cpus = resources
            .limits
            .get("cpu")
            .or(resources.requests.get("cpu"))?;
        u32::try_from(cpus.bytes()?).ok()
    });
    let cpu = domain.cpu.get_or_insert_default();
    let sockets = match (cpu.cores, cpu.threads) {
        (None, None) => asked.unwrap_or(1).max(1),
        _ => 1,
    };
    cpu.sockets.get_or_insert(sockets);
    cpu.cores.get_or_insert(1);
    cpu.threads.get_or_insert(1);
    cpu.model.get_or_insert_with(|| "host-model".to_owned());
    for feature in &mut cpu.features {
        feature.policy.get_or_insert(CPUFeaturePolicy::Require);
    }
}

/// The guest sees what is requested, else what is the limit.
fn memory(domain: &mut DomainSpec) {
    let asked = domain.resources.as_ref().and_then(|resources| {
        let requested = resources.requests.get("memory");
        requested.or(resources.limits.get("memory")).copied()
    });
    let memory = domain.memory.get_or_insert_default();
    memory.guest = memory.guest.or(asked);
}

fn firmware(firmware: &mut Firmware, name: &str) {
    if firmware.uuid.is_none() && !name.is_empty() {
        let uuid = Uuid::new_v5(&FIRMWARE_NAMESPACE, name.as_bytes());
        firmware.uuid = Some(uuid.to_string());
    }
    if let Some(efi) = firmware.bootloader.as_mut().and_then(|b| b.efi.as_mut()) {
        efi.secure_boot.get_or_insert(true);
    }
    if let Some(container) = firmware
        .kernel_boot
        .as_mut()
        .and_then(|k| k.container.as_mut())
    {
        pull_policy(&container.image, &mut container.image_pull_policy);
    }
}

fn features(features: &mut Features) {
    features.acpi.get_or_insert_default();
    let states = [
        &mut features.acpi,
        &mut features.pvspinlock,
        &mut features.smm,
    ];
    states.into_iter().flatten().for_each(on);
    if let Some(apic) = &mut features.apic {
        apic.enabled.get_or_insert(true);
    }
    if let Some(enlightenments) = &mut features.hyperv {
        hyperv(enlightenments);
    }
}

/// Each feature of Hyper-V's that is named is on, and brings those that it depends on (QEMU's
/// documentation, "Hyper-V Enlightenments").
fn hyperv(hyperv: &mut FeatureHyperv) {
    if let Some(timer) = &mut hyperv.synictimer {
        let enabled = *timer.enabled.get_or_insert(true);
        timer.direct.iter_mut().for_each(on);
        if enabled {
            hyperv.synic.get_or_insert_default();
        }
    }
    let tlbflush = hyperv.tlbflush.as_mut();
    let tlbflush = tlbflush.is_some_and(|flush| *flush.enabled.get_or_insert(true));
    let needs_index = [&hyperv.synic, &hyperv.ipi];
    if tlbflush || needs_index.into_iter().any(is_on) {
        hyperv.vpindex.get_or_insert_default();
    }
    if is_on(&hyperv.evmcs) {
        hyperv.vapic.get_or_insert_default();
    }
    let states = [
        &mut hyperv.evmcs,
        &mut hyperv.frequencies,
        &mut hyperv.ipi,
        &mut hyperv.reenlightenment,
        &mut hyperv.relaxed,
        &mut hyperv.reset,
        &mut hyperv.runtime,
        &mut hyperv.synic,
        &mut hyperv.vapic,
        &mut hyperv.vpindex,
    ];
    states.into_iter().flatten().for_each(on);
    if let Some(spinlocks) = &mut hyperv.spinlocks {
        spinlocks.enabled.get_or_insert(true);
        spinlocks.spinlocks.get_or_insert(4096);
    }
    if let Some(vendor) = &mut hyperv.vendorid {
        vendor.enabled.get_or_insert(true);
    }
}

/// Hyper-V's synthetic timers are on; they need its reference clock.
pub(crate) fn has_synic_timer(hyperv: &FeatureHyperv) -> bool {
    let timer = hyperv.synictimer.as_ref();
    timer.is_some_and(|timer| timer.enabled.unwrap_or(true))
}

fn on(state: &mut FeatureState) {
    state.enabled.get_or_insert(true);
}

/// A feature that is named is on unless it says otherwise.
pub(crate) fn is_on(state: &Option<FeatureState>) -> bool {
    state
        .as_ref()
        .is_some_and(|state| state.enabled.unwrap_or(true))
}

/// Each timer that is named is there.
fn timer(timer: &mut Timer) {
    let present = [
        timer.hpet.as_mut().map(|timer| &mut timer.present),
        timer.hyperv.as_mut().map(|timer| &mut timer.present),
        timer.kvm.as_mut().map(|timer| &mut timer.present),
        timer.pit.as_mut().map(|timer| &mut timer.present),
        timer.rtc.as_mut().map(|timer| &mut timer.present),
    ];
    for present in present.into_iter().flatten() {
        present.get_or_insert(true);
    }
}

fn devices(devices: &mut Devices) {
    devices.autoattach_graphics_device.get_or_insert(true);
    devices.autoattach_mem_balloon.get_or_insert(true);
    devices.autoattach_serial_console.get_or_insert(true);
    for input in &mut devices.inputs {
        input.bus.get_or_insert(InputBus::Usb);
    }
    let watchdog = devices.watchdog.as_mut();
    if let Some(watchdog) = watchdog.and_then(|watchdog| watchdog.i6300esb.as_mut()) {
        watchdog.action.get_or_insert(WatchdogAction::Reset);
    }
}
