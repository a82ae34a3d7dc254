//! Annotations that Ferrovirt reads where KubeVirt has no field.

use std::collections::BTreeMap;

use crate::field::Field;
use crate::{FieldError, VirtualMachine, VirtualMachineInstance};

/// `enabled`, the default, or `disabled`: whether what the guest sends from a MAC or IP address
/// other than its own is dropped. Disabled, a guest with bridge binding may route or bridge for
/// others. On a VirtualMachineInstance, on a VirtualMachine, or on its template, which counts
/// where both say something.
pub const ANTI_SPOOFING: &str = "network.ferrovirt.io/anti-spoofing";

/// Whether [`ANTI_SPOOFING`] is on for an instance.
pub fn anti_spoofing(vmi: &VirtualMachineInstance) -> bool {
    let annotations = vmi.metadata.annotations.as_ref();
    let value = annotations.and_then(|annotations| annotations.get(ANTI_SPOOFING));
    value.map(String::as_str) != Some("disabled")
}

/// The annotations of the instance that a machine makes: its template's, and of its own those that
/// Ferrovirt reads and the template does not have.
pub fn instance_annotations(vm: &VirtualMachine) -> BTreeMap<String, String> {
    let own = vm.metadata.annotations.iter().flatten();
    let own = own.filter(|(key, _)| *key == ANTI_SPOOFING);
    let template = vm.spec.template.metadata.annotations.iter().flatten();
    // Of two with the same key, the later stays.
    let all = own.chain(template);
    all.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// All that is wrong with an object's annotations, where `metadata` is their parent.
pub(crate) fn check(
    annotations: Option<&BTreeMap<String, String>>,
    metadata: &Field,
    errors: &mut Vec<FieldError>,
) {
    let value = annotations.and_then(|annotations| annotations.get(ANTI_SPOOFING));
    if let Some(value) = value
        && !["enabled", "disabled"].contains(&value.as_str())
    {
        let at = metadata.at("annotations").key(ANTI_SPOOFING);
        errors.push(at.error(format!("{value:?} is no state; write enabled or disabled")));
    }
}
