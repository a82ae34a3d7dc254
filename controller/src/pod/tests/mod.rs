//! Instances in, pods out.

mod containers;
mod resources;
mod volumes;
mod whole;

use crds::VirtualMachineInstance;
use serde_json::{Value, json};

use super::*;

/// A stored instance with these fields of `spec`, defaulted.
pub(crate) fn instance(spec: Value) -> VirtualMachineInstance {
    let mut object = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": "vm",
            "namespace": "default",
            "uid": "0f9e6a4f-57a2-4f4b-a9d7-1d6c58ec1d1a",
        },
        "spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}},
    });
    merge(&mut object["spec"], spec);
    let mut vmi = serde_json::from_value(object).unwrap();
    crds::default(&mut vmi);
    vmi
}

/// A cluster without settings and claims.
pub(crate) fn context() -> Context {
    Context {
        launcher_image: "ferrovirt/virt-launcher:v0.1.0".to_owned(),
        ..Context::default()
    }
}

/// A claim of that name, with a file system or a block device.
fn claim(name: &str, mode: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"volumeMode": mode}}))
        .unwrap()
}

/// Puts the fields of one object into another.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
