//! From a VirtualMachineInstance to its pod. Pure: the same instance and context make the same pod.
//!
//! ```text
//! VMI ─┐        ┌─ metadata     name, labels, owner; the annotation that carries the VMI
//!      ├─▶ render ─ networks    what multus is asked for
//! Context       ├─ dns          host name, DNS
//!               ├─ scheduling   node selector, affinity, tolerations, spread
//!               ├─ security     users, capabilities
//!               ├─ volumes      what is mounted into `compute`
//!               └─ containers ─┬─ resources ── overhead
//!                              └─ probes
//! ```
//!
//! ```text
//! compute            virt-launcher: init, worker, QEMU
//! volumeVOLUME       a container disk's image: hands a descriptor to init
//! kernel-boot        the same for a kernel and its initrd
//! guest-console-log  prints what the guest prints
//! ```
//!
//! The pod is not privileged and holds no credential of the cluster's, except on a disk that the
//! manifest asks for.

mod claims;
mod containers;
mod dns;
mod metadata;
mod networks;
mod overhead;
mod probes;
mod resources;
mod scheduling;
mod security;
#[cfg(test)]
mod tests;
mod volumes;

use std::collections::HashSet;

use crds::{VirtualMachineInstance, VirtualMachineInstanceSpec};
use k8s_openapi::api::core::v1::{LocalObjectReference, PersistentVolumeClaim, Pod, PodSpec};

use crate::config::Settings;

pub use containers::COMPUTE;
pub use metadata::{APP, CREATED_BY, DOMAIN, LAUNCHER, NAME, VMI, name};
pub use scheduling::{CPU_FEATURE, CPU_MODEL, SCHEDULABLE};

/// Seconds that the kubelet gives a launcher beyond what the guest has to shut down: to power it
/// off, and to tell of it.
const LAUNCHER_GRACE_SECONDS: u32 = 30;

/// What a guest has to shut down where nothing says so, in seconds.
const GUEST_GRACE_SECONDS: u32 = 30;

/// The longest name of a container or a volume (a DNS label).
const LABEL_MOST: usize = 63;

/// What besides the instance makes a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Context {
    /// The image of virt-launcher.
    pub launcher_image: String,
    /// The cluster's settings.
    pub settings: Settings,
    /// The claims of the instance's namespace that its volumes name, as many of them as exist.
    pub claims: Vec<PersistentVolumeClaim>,
}

/// Why an instance has no pod.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// It does not come from the API server.
    #[error(
        "metadata.{field} is missing; only an instance that the API server has stored gets a pod"
    )]
    Unstored {
        /// The field.
        field: &'static str,
    },
    /// It is longer than a pod's annotations may be.
    #[error(
        "the instance takes {bytes} bytes of its pod's annotations, of which there may be {most}; \
         shorten its annotations, or move cloud-init's data into a secret (secretRef)"
    )]
    TooLarge {
        /// What the annotations would have, names and values together.
        bytes: usize,
        /// What they may have.
        most: usize,
    },
    /// It cannot be written as JSON.
    #[error("the instance cannot be written as JSON")]
    Json(#[source] serde_json::Error),
    /// A claim that a volume names does not exist.
    #[error("spec.volumes[{volume:?}]: the claim {claim:?} does not exist; create it")]
    NoClaim {
        /// The volume.
        volume: String,
        /// The claim.
        claim: String,
    },
    /// A volume is a file of the node, and the cluster does not allow that.
    #[error(
        "spec.volumes[{volume:?}].hostDisk: needs the feature gate HostDisk; use a \
         persistentVolumeClaim, or add the gate to configuration.developerConfiguration.featureGates \
         of the KubeVirt object"
    )]
    HostDisk {
        /// The volume.
        volume: String,
    },
}

/// What an instance's pod has to end, in seconds.
pub(crate) fn grace_seconds(spec: &VirtualMachineInstanceSpec) -> i64 {
    i64::from(guest_grace_seconds(spec)) + i64::from(LAUNCHER_GRACE_SECONDS)
}

/// What an instance's guest has to shut down, in seconds.
pub(crate) fn guest_grace_seconds(spec: &VirtualMachineInstanceSpec) -> u32 {
    let said = spec.termination_grace_period_seconds;
    said.map_or(GUEST_GRACE_SECONDS, |said| {
        // Less than none is refused by admission.
        said.max(0).try_into().unwrap_or(u32::MAX)
    })
}

/// The pod of an instance that the API server has stored.
///
/// # Errors
/// When the instance is too large for its pod, names a claim that does not exist, or asks for what
/// the cluster does not allow.
pub fn render(vmi: &VirtualMachineInstance, context: &Context) -> Result<Pod, RenderError> {
    // The webhook has done so, where it was there when the instance was made.
    let mut vmi = vmi.clone();
    crds::default(&mut vmi);
    vmi.status = claims::status(&vmi.spec, &context.claims);
    let vmi = &vmi;

    let mut volumes = volumes::volumes(vmi, context)?;
    let mut spec = PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: pull_secrets(vmi),
        restart_policy: Some("Never".to_owned()),
        security_context: Some(security::pod()),
        service_account_name: service_account(vmi),
        termination_grace_period_seconds: Some(grace_seconds(&vmi.spec)),
        volumes: Some(std::mem::take(&mut volumes.volumes)),
        containers: containers::containers(vmi, context, volumes),
        ..PodSpec::default()
    };
    dns::name(vmi, &mut spec);
    scheduling::place(vmi, context, &mut spec);
    Ok(Pod {
        metadata: metadata::metadata(vmi)?,
        spec: Some(spec),
        status: None,
    })
}

/// The secrets of the images that the instance names, each once.
fn pull_secrets(vmi: &VirtualMachineInstance) -> Option<Vec<LocalObjectReference>> {
    let disks = vmi.spec.volumes.iter();
    let disks =
        disks.filter_map(|volume| volume.container_disk.as_ref()?.image_pull_secret.as_ref());
    let boot = containers::boot_image(vmi);
    let boot = boot.and_then(|container| container.image_pull_secret.as_ref());
    let mut seen = HashSet::new();
    let secrets: Vec<_> = disks
        .chain(boot)
        .filter(|name| seen.insert(name.as_str()))
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    (!secrets.is_empty()).then_some(secrets)
}

/// The service account that the pod runs as: that of the volume, whose token is its own.
fn service_account(vmi: &VirtualMachineInstance) -> Option<String> {
    let mut volumes = vmi.spec.volumes.iter();
    let volume = volumes.find_map(|volume| volume.service_account.as_ref());
    let volume = volume.map(|source| &source.service_account_name);
    volume.or(vmi.spec.service_account_name.as_ref()).cloned()
}

/// `prefix` and `name`, as a DNS label: what is too long for one ends in digits that stand for all
/// of it.
fn fit(prefix: &str, name: &str) -> String {
    let whole = format!("{prefix}{name}");
    if whole.len() <= LABEL_MOST {
        return whole;
    }
    let digits = metadata::digits(&whole);
    let start: String = whole.chars().take(LABEL_MOST - 1 - digits.len()).collect();
    format!("{start}-{digits}")
}
