//! What a manifest cannot mean, or means but cannot have yet.
//!
//! Each check looks at values alone and says, in one line, which field is wrong and what to
//! write instead. Checks expect defaults to be filled in, and do not mind when they are not.

mod cluster;
mod credentials;
mod devices;
mod disks;
mod domain;
mod firmware;
mod interfaces;
mod networks;
mod probes;
mod text;
mod update;
mod volumes;

use crate::annotation;
use crate::field::Field;
pub use cluster::validate_kubevirt;
pub use update::validate_update;

use crate::{
    DnsPolicy, FieldError, VirtualMachineInstance, VirtualMachineInstanceSpec, VirtualMachineSpec,
};

/// Kubernetes takes 256 KiB of annotations of an object (`TotalAnnotationSizeLimitB`); what the
/// pod has besides the instance and its annotations fits into the rest. In bytes.
const INSTANCE_MOST: usize = (256 - 8) << 10;

/// Where kubectl keeps what was applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// All that is wrong with an instance, by paths that start at `spec.` or `metadata.`. Call
/// [`default`](crate::default()) first.
///
/// What passes is supported in full: nothing of it is dropped later.
pub fn validate(vmi: &VirtualMachineInstance) -> Vec<FieldError> {
    let mut errors = validate_vmi(vmi, &Field::root("spec"));
    let annotations = vmi.metadata.annotations.as_ref();
    annotation::check(annotations, &Field::root("metadata"), &mut errors);
    errors
}

/// As [`validate`], with the spec at `at`, and without the annotations.
pub(crate) fn validate_vmi(vmi: &VirtualMachineInstance, at: &Field) -> Vec<FieldError> {
    let mut errors = Vec::new();
    metadata(vmi, &mut errors);
    let spec = &vmi.spec;
    placement(spec, at, &mut errors);
    size(vmi, at, &mut errors);
    text::check(spec, at, &mut errors);
    let credentials = &spec.access_credentials;
    credentials::check(
        credentials,
        &spec.volumes,
        &at.at("accessCredentials"),
        &mut errors,
    );
    probes::check(spec, at, &mut errors);
    volumes::check(&spec.volumes, &at.at("volumes"), &mut errors);
    domain::check(&spec.domain, &at.at("domain"), &mut errors);
    disks::check(spec, at, &mut errors);
    interfaces::check(spec, at, &mut errors);
    networks::check(spec, &at.at("networks"), &mut errors);
    devices::check(&spec.domain.devices, &at.at("domain.devices"), &mut errors);
    errors
}

/// All that is wrong with a VirtualMachine besides its template.
pub(crate) fn validate_vm(spec: &VirtualMachineSpec) -> Vec<FieldError> {
    let at = Field::root("spec");
    let detail = match (spec.running, spec.run_strategy) {
        (Some(_), Some(_)) => "excludes runStrategy; leave one of the two",
        (None, None) => {
            let detail = "required; write Always, Halted, Manual, RerunOnFailure or Once";
            return vec![at.at("runStrategy").error(detail)];
        }
        _ => return Vec::new(),
    };
    vec![at.at("running").error(detail)]
}

fn metadata(vmi: &VirtualMachineInstance, errors: &mut Vec<FieldError>) {
    let at = Field::root("metadata");
    match vmi.metadata.name.as_deref() {
        None | Some("") => errors.push(at.at("name").error("required; name the machine")),
        Some(name) if !text::is_dns_subdomain(name) => errors.push(at.at("name").error(format!(
            "{name:?} is no name in DNS; use up to 253 of a-z 0-9 - and ., beginning and ending \
             with a letter or digit"
        ))),
        Some(_) => {}
    }
    if let Some(namespace) = &vmi.metadata.namespace {
        text::dns_label(namespace, &at.at("namespace"), errors);
    }
}

/// Fields about the pod rather than the machine.
fn placement(spec: &VirtualMachineInstanceSpec, at: &Field, errors: &mut Vec<FieldError>) {
    if let Some(hostname) = &spec.hostname {
        text::dns_label(hostname, &at.at("hostname"), errors);
    }
    if let Some(subdomain) = &spec.subdomain {
        text::dns_label(subdomain, &at.at("subdomain"), errors);
    }
    if let Some(architecture) = spec.architecture.as_deref()
        && architecture != "amd64"
    {
        errors.push(
            at.at("architecture")
                .error(format!("{architecture:?} is not supported yet; use amd64")),
        );
    }
    if let Some(seconds) = spec.termination_grace_period_seconds
        && seconds < 0
    {
        errors.push(at.at("terminationGracePeriodSeconds").error(format!(
            "{seconds} is below zero; write how many seconds the guest has to shut down"
        )));
    }
    if let Some(name) = &spec.service_account_name {
        let at = at.at("serviceAccountName");
        text::object_name("service account", name, &at, errors);
        let mut accounts = spec
            .volumes
            .iter()
            .filter_map(|v| v.service_account.as_ref());
        if let Some(other) = accounts.find(|account| account.service_account_name != *name) {
            errors.push(at.error(format!(
                "{name:?} excludes the volume of service account {:?}; a pod has one",
                other.service_account_name
            )));
        }
    }
    let servers = spec
        .dns_config
        .as_ref()
        .and_then(|dns| dns.nameservers.as_ref());
    if spec.dns_policy == Some(DnsPolicy::None) && servers.is_none_or(Vec::is_empty) {
        errors.push(
            at.at("dnsConfig.nameservers")
                .error("required with dnsPolicy None; name at least one server"),
        );
    }
}

/// The pod carries the instance, as JSON, in an annotation, beside the instance's own ones. Of the
/// metadata it carries what is the author's; what kubectl keeps there for itself is not counted.
fn size(vmi: &VirtualMachineInstance, at: &Field, errors: &mut Vec<FieldError>) {
    let metadata = &vmi.metadata;
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    let carried = (&vmi.spec, &metadata.labels, &annotations);
    // What was read from JSON can be written to it.
    let Ok(carried) = serde_json::to_string(&carried) else {
        return;
    };
    let own = annotations
        .iter()
        .map(|(key, value)| key.len() + value.len());
    let bytes = carried.len() + own.sum::<usize>();
    if bytes > INSTANCE_MOST {
        errors.push(at.error(format!(
            "the instance and its annotations have {bytes} bytes as JSON, and {INSTANCE_MOST} are \
             the most; put cloud-init data into secrets, and shorten annotations"
        )));
    }
}
