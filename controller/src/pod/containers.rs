//! The pod's containers. All of them are ordinary ones: an init container, or a sidecar, would
//! cost up to a second before `compute` starts (`docs/decisions/0014-disks-by-ordinary-containers.md`).

use crds::{KernelBootContainer, PullPolicy, VirtualMachineInstance};
use k8s_openapi::api::core::v1::{Container, ContainerPort, EnvVar, EnvVarSource};

use super::resources::Compute;
use super::volumes::{self, Volumes};
use super::{Context, fit, probes, security};

/// The container that the VM runs in.
pub const COMPUTE: &str = "compute";

/// The container that hands over the files of `kernelBoot`.
const KERNEL_BOOT: &str = "kernel-boot";

/// The container whose log is what the guest prints.
const CONSOLE_LOG: &str = "guest-console-log";

/// Where virt-handler's device plugin mounts the program of a container disk.
const SIDECAR: &str = "/ferrovirt/virt-sidecar";

/// All of them, `compute` first.
pub(super) fn containers(
    vmi: &VirtualMachineInstance,
    context: &Context,
    volumes: Volumes,
) -> Vec<Container> {
    let resources = Compute::new(vmi, context);
    let mut containers = vec![compute(vmi, context, volumes, &resources)];
    containers.extend(disks(vmi, &resources));
    containers.extend(kernel_boot(vmi, &resources));
    if has_console_log(vmi, context) {
        containers.push(console_log(context, &resources));
    }
    containers
}

fn compute(
    vmi: &VirtualMachineInstance,
    context: &Context,
    volumes: Volumes,
    resources: &Compute,
) -> Container {
    let accelerator = if context.settings.use_emulation {
        "tcg"
    } else {
        "kvm"
    };
    let mut command: Vec<_> = [
        "virt-launcher",
        "init",
        "--accelerator",
        accelerator,
        "--vmi",
        "/etc/podinfo/vmi",
        "--expect",
        "eth0=$(POD_IPS)",
    ]
    .map(str::to_owned)
    .to_vec();
    for volume in &vmi.spec.volumes {
        if volume.container_disk.is_some() {
            command.extend(["--container-disk".to_owned(), volume.name.clone()]);
        }
    }
    if boot_image(vmi).is_some() {
        command.push("--kernel-boot".to_owned());
    }
    Container {
        command: Some(command),
        env: Some(vec![EnvVar {
            name: "POD_IPS".to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(volumes::field("status.podIPs")),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }]),
        image: Some(context.launcher_image.clone()),
        image_pull_policy: context.settings.image_pull_policy.map(pull_policy),
        liveness_probe: vmi.spec.liveness_probe.as_ref().map(probes::probe),
        name: COMPUTE.to_owned(),
        ports: ports(vmi),
        readiness_probe: vmi.spec.readiness_probe.as_ref().map(probes::probe),
        resources: Some(resources.requirements()),
        security_context: Some(security::compute()),
        volume_devices: (!volumes.devices.is_empty()).then_some(volumes.devices),
        volume_mounts: Some(volumes.mounts),
        ..Container::default()
    }
}

/// Ports that the guest serves: a Service or a probe may refer to one by its name.
fn ports(vmi: &VirtualMachineInstance) -> Option<Vec<ContainerPort>> {
    let interfaces = vmi.spec.domain.devices.interfaces.iter();
    let ports = interfaces.flat_map(|interface| &interface.ports);
    let ports: Vec<_> = ports
        .map(|port| ContainerPort {
            container_port: port.port,
            name: port.name.clone(),
            protocol: port.protocol.map(|protocol| {
                let protocol = match protocol {
                    crds::PortProtocol::Tcp => "TCP",
                    crds::PortProtocol::Udp => "UDP",
                };
                protocol.to_owned()
            }),
            ..ContainerPort::default()
        })
        .collect();
    (!ports.is_empty()).then_some(ports)
}

/// One container for each container disk: its image, with a program that hands over the disk.
fn disks<'a>(
    vmi: &'a VirtualMachineInstance,
    resources: &'a Compute,
) -> impl Iterator<Item = Container> + 'a {
    vmi.spec.volumes.iter().filter_map(|volume| {
        let source = volume.container_disk.as_ref()?;
        let path = source.path.as_deref();
        let socket = format!("volume-{}", volume.name);
        Some(Container {
            image: Some(source.image.clone()),
            image_pull_policy: source.image_pull_policy.map(pull_policy),
            name: fit("volume", &volume.name),
            ..handing_over(&socket, &[("--image", path)], resources)
        })
    })
}

fn kernel_boot(vmi: &VirtualMachineInstance, resources: &Compute) -> Option<Container> {
    let source = boot_image(vmi)?;
    let files = [
        ("--kernel", source.kernel_path.as_deref()),
        ("--initrd", source.initrd_path.as_deref()),
    ];
    Some(Container {
        image: Some(source.image.clone()),
        image_pull_policy: source.image_pull_policy.map(pull_policy),
        name: KERNEL_BOOT.to_owned(),
        ..handing_over(KERNEL_BOOT, &files, resources)
    })
}

/// The image that holds the kernel.
pub(super) fn boot_image(vmi: &VirtualMachineInstance) -> Option<&KernelBootContainer> {
    let firmware = vmi.spec.domain.firmware.as_ref()?;
    firmware.kernel_boot.as_ref()?.container.as_ref()
}

/// A container that hands `files` of its image to init over the socket `name`. The image may hold
/// nothing else: the program comes from the node.
///
/// A volume's name is the user's choice, so its socket has a prefix: that of a volume named
/// `kernel-boot` or `init` is neither the kernel's nor init's lock.
fn handing_over(name: &str, files: &[(&str, Option<&str>)], resources: &Compute) -> Container {
    let socket = format!("/run/container-disks/{name}.sock");
    let mut command = [SIDECAR, "container-disk", "--socket", &socket]
        .map(str::to_owned)
        .to_vec();
    for (option, path) in files {
        if let Some(path) = path {
            command.extend([(*option).to_owned(), (*path).to_owned()]);
        }
    }
    Container {
        command: Some(command),
        resources: Some(resources.helper(Some("sidecar"))),
        security_context: Some(security::helper()),
        volume_mounts: Some(vec![volumes::container_disks()]),
        ..Container::default()
    }
}

/// An instance's own word counts more than the cluster's.
fn has_console_log(vmi: &VirtualMachineInstance, context: &Context) -> bool {
    let devices = &vmi.spec.domain.devices;
    let wanted = devices.log_serial_console;
    devices.autoattach_serial_console != Some(false)
        && wanted.unwrap_or(!context.settings.serial_console_log_disabled)
}

fn console_log(context: &Context, resources: &Compute) -> Container {
    let command = [
        "virt-sidecar",
        "console-log",
        "--file",
        "/run/virt-launcher/serial0.log",
        "--lock",
        "/run/virt-launcher/init.lock",
    ];
    Container {
        command: Some(command.map(str::to_owned).to_vec()),
        image: Some(context.launcher_image.clone()),
        image_pull_policy: context.settings.image_pull_policy.map(pull_policy),
        name: CONSOLE_LOG.to_owned(),
        resources: Some(resources.helper(None)),
        security_context: Some(security::helper()),
        volume_mounts: Some(vec![volumes::runtime_read_only()]),
        ..Container::default()
    }
}

fn pull_policy(policy: PullPolicy) -> String {
    let policy = match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    };
    policy.to_owned()
}
