//! Rules about changes.

use serde_json::Value;

use crate::field::Field;
use crate::{FieldError, VirtualMachineInstance, default};

/// What follows each path that changed.
const REMEDY: &str = "cannot change while the instance exists; change the VirtualMachine's \
                      template and restart it, or delete the instance and make it again";

/// All that a user may not do by replacing `old` with `new`: an instance's spec stays as it was
/// made, whoever's defaults it has. Its labels and annotations may change.
///
/// Paths are those of the smallest fields that differ, such as `spec.domain.cpu.cores`; a list of
/// another length is told as a whole.
pub fn validate_update(
    old: &VirtualMachineInstance,
    new: &VirtualMachineInstance,
) -> Vec<FieldError> {
    let [old, new] = [old, new].map(|vmi| {
        let mut vmi = vmi.clone();
        default(&mut vmi);
        // What was read from JSON can be written to it.
        serde_json::to_value(vmi.spec).unwrap_or_default()
    });
    let mut errors = Vec::new();
    differences(&old, &new, &Field::root("spec"), &mut errors);
    errors
}

fn differences(old: &Value, new: &Value, at: &Field, errors: &mut Vec<FieldError>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            for key in new.keys().chain(gone) {
                let absent = &Value::Null;
                let (old, new) = (old.get(key), new.get(key));
                let (old, new) = (old.unwrap_or(absent), new.unwrap_or(absent));
                differences(old, new, &at.at(key), errors);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                differences(old, new, &at.index(index), errors);
            }
        }
        (old, new) if old != new => errors.push(at.error(REMEDY)),
        _ => {}
    }
}
