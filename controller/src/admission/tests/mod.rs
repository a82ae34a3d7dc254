//! Reviews as the API server sends them, and their answers.

mod mutate;
mod review;
mod validate;

use serde_json::json;

use super::*;

const NAMESPACE: &str = "ferrovirt";

fn settings(host_disk: bool) -> Settings {
    Settings {
        host_disk,
        ..Settings::default()
    }
}

/// A review of `object`, which was `old` before.
fn review(kind: &str, object: &Value, old: &Value, user: &str) -> Value {
    let operation = match (object.is_null(), old.is_null()) {
        (true, _) => "DELETE",
        (false, true) => "CREATE",
        (false, false) => "UPDATE",
    };
    let plural = format!("{}s", kind.to_lowercase());
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": { "group": "kubevirt.io", "version": "v1", "kind": kind },
            "resource": { "group": "kubevirt.io", "version": "v1", "resource": plural },
            "name": "web",
            "namespace": "default",
            "operation": operation,
            "userInfo": { "username": user, "groups": ["system:authenticated"] },
            "object": object,
            "oldObject": old,
            "dryRun": false,
            "options": null,
        },
    })
}

struct Asked<'a> {
    webhook: Webhook,
    object: &'a Value,
    old: &'a Value,
    user: &'a str,
    host_disk: bool,
}

impl<'a> Asked<'a> {
    fn create(webhook: Webhook, object: &'a Value) -> Self {
        Self::update(webhook, &Value::Null, object)
    }

    fn update(webhook: Webhook, old: &'a Value, object: &'a Value) -> Self {
        Self {
            webhook,
            object,
            old,
            user: "alice",
            host_disk: false,
        }
    }

    fn answer(self) -> AdmissionResponse {
        let named = [self.object, self.old].into_iter().find(|o| !o.is_null());
        let kind = named.unwrap()["kind"].as_str().unwrap();
        let body = review(kind, self.object, self.old, self.user).to_string();
        let settings = settings(self.host_disk);
        let cluster = Cluster {
            namespace: NAMESPACE,
            settings: &settings,
        };
        let review = self.webhook.answer(body.as_bytes(), cluster).unwrap();
        let response = review.response.unwrap();
        assert_eq!(response.uid, "705ab4f5-6393-11e8-b7cc-42010a800002");
        response
    }

    /// What the object is after the patch.
    fn mutated(self) -> Value {
        let mut object = self.object.clone();
        let response = self.answer();
        assert!(response.allowed);
        if let Some(patch) = response.patch {
            let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
            json_patch::patch(&mut object, &patch).unwrap();
        }
        object
    }

    /// What is wrong: paths and messages.
    fn refused(self) -> Vec<(String, String)> {
        let response = self.answer();
        let causes = response.result.details.map(|details| details.causes);
        let causes = causes.unwrap_or_default();
        assert_eq!(response.allowed, causes.is_empty());
        causes
            .into_iter()
            .map(|cause| (cause.field, cause.message))
            .collect()
    }

    fn refused_paths(self) -> Vec<String> {
        self.refused().into_iter().map(|(path, _)| path).collect()
    }
}

fn spec() -> Value {
    json!({
        "domain": {
            "devices": { "disks": [{ "name": "root", "disk": { "bus": "virtio" } }] },
            "memory": { "guest": "1Gi" },
        },
        "volumes": [
            { "name": "root", "containerDisk": { "image": "registry:5000/demo:v1" } },
            { "name": "seed", "cloudInitNoCloud": { "userData": "#cloud-config" } },
        ],
    })
}

fn vmi() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": spec(),
    })
}

fn vm() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": { "runStrategy": "Always", "template": { "spec": spec() } },
    })
}

fn kubevirt() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": { "name": "kubevirt", "namespace": NAMESPACE },
        "spec": { "configuration": { "developerConfiguration": { "featureGates": ["HostDisk"] } } },
    })
}

/// `object` with `value` at `pointer`; null takes it out.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        Value::Object(fields) if value.is_null() => drop(fields.remove(key)),
        fields => fields[key] = value,
    }
    object
}
