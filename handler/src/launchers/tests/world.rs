//! Which pod is a VMI's.

use std::collections::BTreeSet;

use crds::VirtualMachineInstance;
use k8s_openapi::api::core::v1::Pod;
use kube_client::core::error_boundary::DeserializeGuard;
use kube_runtime::watcher::Event;
use serde_json::{Value, json};

use super::super::world::{World, facts, readable};
use crate::status::Disruption;

fn vmi(uid: &str, status: &Value) -> VirtualMachineInstance {
    let vmi = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "spec": {"domain": {"devices": {}}},
        "status": status,
    });
    serde_json::from_value(vmi).unwrap()
}

fn scheduled(uid: &str, pod: &str) -> VirtualMachineInstance {
    let status = json!({
        "phase": "Scheduled",
        "nodeName": "node1",
        "activePods": {pod: "node1"},
    });
    vmi(uid, &status)
}

fn pod(uid: &str, owner: &str) -> Pod {
    let pod = json!({
        "metadata": {
            "name": uid, "namespace": "default", "uid": uid,
            "ownerReferences": [{
                "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
                "name": owner, "uid": owner, "controller": true,
            }],
        },
        "status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
    });
    serde_json::from_value(pod).unwrap()
}

fn world(vmis: Vec<VirtualMachineInstance>, pods: Vec<Pod>) -> World {
    let mut world = World::new("node1");
    list(vmis, |event| world.vmi(event));
    assert!(world.followed().is_none(), "before the pods are known");
    list(pods, |event| world.pod(event));
    world
}

fn list<K>(objects: Vec<K>, mut take: impl FnMut(Event<K>)) {
    take(Event::Init);
    objects
        .into_iter()
        .for_each(|object| take(Event::InitApply(object)));
    take(Event::InitDone);
}

fn followed(world: &World) -> BTreeSet<(String, String)> {
    let followed = world.followed().unwrap();
    let pairs = followed
        .into_iter()
        .map(|(uid, seen)| (uid, seen.pod.uid.clone()));
    pairs.collect()
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeSet<(String, String)> {
    let pairs = pairs.map(|(vmi, pod)| (vmi.to_owned(), pod.to_owned()));
    BTreeSet::from(pairs)
}

#[test]
fn a_vmi_has_the_pod_that_both_sides_name() {
    let vmis = vec![
        scheduled("a", "pa"),
        // The pod that it names is another's.
        scheduled("b", "pa"),
        // The pod that claims to be its is not the one that virt-controller wrote.
        scheduled("c", "elsewhere"),
        vmi(
            "d",
            &json!({"phase": "Running", "nodeName": "node2", "activePods": {"pd": "node2"}}),
        ),
        vmi(
            "e",
            &json!({"phase": "Succeeded", "nodeName": "node1", "activePods": {"pe": "node1"}}),
        ),
        vmi(
            "f",
            &json!({"phase": "Scheduling", "nodeName": "node1", "activePods": {"pf": "node1"}}),
        ),
    ];
    let pods = [
        ("pa", "a"),
        ("pc", "c"),
        ("pd", "d"),
        ("pe", "e"),
        ("pf", "f"),
    ];
    let pods = pods.map(|(pod_uid, owner)| pod(pod_uid, owner)).to_vec();
    assert_eq!(followed(&world(vmis, pods)), pairs([("a", "pa")]));
}

#[test]
fn what_a_new_list_does_not_have_is_gone() {
    let vmis = vec![scheduled("a", "pa"), scheduled("b", "pb")];
    let mut world = world(vmis, vec![pod("pa", "a"), pod("pb", "b")]);
    assert_eq!(followed(&world), pairs([("a", "pa"), ("b", "pb")]));
    // A list that is not whole yet takes nothing away.
    world.vmi(Event::Init);
    world.vmi(Event::InitApply(scheduled("b", "pb")));
    assert_eq!(followed(&world), pairs([("a", "pa"), ("b", "pb")]));
    world.vmi(Event::InitDone);
    assert_eq!(followed(&world), pairs([("b", "pb")]));
    world.pod(Event::Delete(pod("pb", "b")));
    assert_eq!(followed(&world), pairs([]));
    world.pod(Event::Apply(pod("pb", "b")));
    assert_eq!(followed(&world), pairs([("b", "pb")]));
}

#[test]
fn a_pods_end_has_its_cause() {
    let cases = [
        (json!({}), json!({}), None),
        (
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
            json!({}),
            Some(Disruption::Deleted),
        ),
        (
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
            json!({"conditions": [{"type": "DisruptionTarget", "status": "True"}]}),
            Some(Disruption::Evicted),
        ),
        // The kubelet puts it out, as its node shuts down or has no memory left.
        (
            json!({}),
            json!({
                "phase": "Running",
                "conditions": [{
                    "type": "DisruptionTarget", "status": "True",
                    "reason": "TerminationByKubelet",
                }],
            }),
            Some(Disruption::Evicted),
        ),
        // An eviction that did not come to pass.
        (
            json!({}),
            json!({"conditions": [{"type": "DisruptionTarget", "status": "False"}]}),
            None,
        ),
    ];
    for (metadata, status, expected) in cases {
        let mut found = serde_json::to_value(pod("p", "a")).unwrap();
        found["metadata"]
            .as_object_mut()
            .unwrap()
            .extend(metadata.as_object().unwrap().clone());
        found["status"] = status.clone();
        let found = facts(&serde_json::from_value(found).unwrap()).unwrap();
        assert_eq!(found.disruption, expected, "{metadata} {status}");
    }
}

#[test]
fn a_pod_is_over_with_its_last_container() {
    let cases = [
        ("Pending", false),
        ("Running", false),
        ("Succeeded", true),
        ("Failed", true),
    ];
    for (phase, over) in cases {
        let mut found = pod("p", "a");
        found.status.as_mut().unwrap().phase = Some(phase.to_owned());
        assert_eq!(facts(&found).unwrap().over, over, "{phase}");
    }
}

#[test]
fn only_a_vmis_pod_is_a_launchers() {
    let mut strange = pod("p", "a");
    let owners = strange.metadata.owner_references.as_mut().unwrap();
    owners[0].kind = "ReplicaSet".into();
    assert_eq!(facts(&strange), None);
    assert!(
        facts(&pod("p", "a"))
            .unwrap()
            .ips
            .iter()
            .all(|ip| !ip.is_unspecified())
    );
}

#[test]
fn a_vmi_that_cannot_be_read_keeps_no_other_from_being_followed() {
    let good = serde_json::to_value(scheduled("one", "pod1")).unwrap();
    let mut bad = serde_json::to_value(scheduled("two", "pod2")).unwrap();
    bad["spec"]["domain"] = json!("of another version");
    let told: Vec<DeserializeGuard<VirtualMachineInstance>> =
        serde_json::from_value(json!([bad, good])).unwrap();
    let mut world = World::new("node1");
    list(told, |event| {
        if let Some(event) = readable(event) {
            world.vmi(event);
        }
    });
    list(vec![pod("pod1", "one"), pod("pod2", "two")], |event| {
        world.pod(event)
    });
    let followed = world.followed().unwrap();
    assert_eq!(followed.into_keys().collect::<Vec<_>>(), ["one"]);
}
