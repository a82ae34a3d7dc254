//! What a manifest cannot mean, or means but cannot have yet.
//!
//! Each check looks at values alone and says, in one line, which field is wrong and what to
//! write instead. Checks expect defaults to be filled in, and do not mind when they are not.

mod devices;
mod disks;
mod domain;
mod firmware;
mod interfaces;
mod networks;
mod text;
mod volumes;

use crate::annotation;
use crate::field::Field;
use crate::{
    DnsPolicy, FieldError, VirtualMachineInstance, VirtualMachineInstanceSpec, VirtualMachineSpec,
};

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
    text::check(spec, at, &mut errors);
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
