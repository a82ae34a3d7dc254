//! The cluster's settings.

use crds::{FieldError, manifest};
use serde_json::Value;

use super::{Change, Cluster};

/// The name of the one object that counts.
const NAME: &str = "kubevirt";

/// Checks the settings, and that they are where they are read.
pub(super) fn validate(change: &Change, cluster: Cluster<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if change.is_creation() {
        for (field, expected) in [("name", NAME), ("namespace", cluster.namespace)] {
            let found = change.object.pointer(&format!("/metadata/{field}"));
            let found = found.and_then(Value::as_str).unwrap_or_default();
            if found != expected {
                errors.push(FieldError {
                    path: format!("metadata.{field}"),
                    detail: format!("{found:?} has no effect; write {expected}"),
                });
            }
        }
    }
    if change.touches("/spec") {
        match manifest::read_kubevirt(change.object.clone()) {
            Ok(kubevirt) => errors.extend(crds::validate_kubevirt(&kubevirt)),
            Err(unreadable) => errors.extend(unreadable.0),
        }
    }
    errors
}
