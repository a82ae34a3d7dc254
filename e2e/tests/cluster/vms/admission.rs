//! What is refused, and by which words.

use kube_client::api::ValidationDirective;
use serde_json::{Value, json};

use super::guest::mini;
use crate::api::Api;

/// A change to a sound machine, and what the refusal has to say.
fn faults() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "/spec/template/spec/domain/devices/dsiks",
            json!([]),
            "spec.template.spec.domain.devices.dsiks",
        ),
        (
            "/spec/template/spec/domain/devices/gpus",
            json!([{"name": "a", "deviceName": "b"}]),
            "spec.template.spec.domain.devices.gpus",
        ),
        (
            "/spec/template/spec/domain/memory/guest",
            json!("lots"),
            "spec.template.spec.domain.memory.guest",
        ),
        (
            "/spec/template/spec/volumes/0/containerDisk/image",
            json!(""),
            "spec.template.spec.volumes[0].containerDisk.image",
        ),
        (
            "/spec/template/spec/domain/devices/disks/0/name",
            json!("other"),
            "spec.template.spec.domain.devices.disks[0]",
        ),
        ("/spec/runStrategy", json!("Sometimes"), "spec.runStrategy"),
        ("/spec/running", json!(true), "running"),
        (
            "/spec/template/spec/terminationGracePeriodSeconds",
            json!(-1),
            "spec.template.spec.terminationGracePeriodSeconds",
        ),
        (
            "/spec/template/spec/domain/cpu",
            json!({"cores": 0, "sockets": 0, "threads": 100_000}),
            "spec.template.spec.domain.cpu",
        ),
    ]
}

pub(crate) async fn a_faulty_manifest_is_refused_by_its_field(api: &Api) {
    let namespace = &api.namespace("faulty").await;
    let sound = |name: &str| {
        json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"runStrategy": "Halted", "template": {"spec": mini()}},
        })
    };
    api.apply(sound("sound")).await;
    for (index, (pointer, value, words)) in faults().into_iter().enumerate() {
        let name = format!("faulty-{index}");
        let mut object = sound(&name);
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer has a parent");
        let parent = object.pointer_mut(parent).expect("the parent is there");
        parent[field] = value;
        // With the API server's own look at unknown fields, and without.
        for unknown in [ValidationDirective::Strict, ValidationDirective::Ignore] {
            let refused = api.apply_with(object.clone(), unknown).await;
            let error = refused.expect_err(pointer).to_string();
            assert!(error.contains(words), "{pointer}: {error}");
        }
        let left = api
            .get("kubevirt.io/v1", "VirtualMachine", Some(namespace), &name)
            .await;
        assert!(left.is_err(), "{pointer}");
    }
    // An instance's specification is what runs.
    let instance = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "fixed", "namespace": namespace},
        "spec": {"nodeSelector": {"no": "where"}, "domain": mini()["domain"], "volumes": mini()["volumes"]},
    });
    api.apply(instance.clone()).await;
    let mut changed = instance;
    changed["spec"]["domain"]["memory"]["guest"] = json!("256Mi");
    let refused = api
        .try_apply(changed)
        .await
        .expect_err("it is fixed")
        .to_string();
    assert!(refused.contains("spec"), "{refused}");
    api.delete(
        "kubevirt.io/v1",
        "VirtualMachineInstance",
        Some(namespace),
        "fixed",
    )
    .await;
    api.delete("kubevirt.io/v1", "VirtualMachine", Some(namespace), "sound")
        .await;
}
