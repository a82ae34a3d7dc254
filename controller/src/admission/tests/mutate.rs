//! What is added to objects, and that nothing else happens to them.

use proptest::prelude::*;
use serde_json::json;

use super::super::virtualmachineinstance::fill;
use super::*;

#[test]
fn a_new_instance_gets_its_finalizer_and_defaults_and_keeps_what_it_has() {
    let made = Asked::create(Webhook::Mutate, &vmi()).mutated();
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["foregroundDeleteVirtualMachine"])
    );
    let spec = &made["spec"];
    assert_eq!(spec["domain"]["machine"]["type"], "q35");
    assert_eq!(spec["domain"]["cpu"]["model"], "host-model");
    assert_eq!(spec["terminationGracePeriodSeconds"], 30);
    let disks = &spec["domain"]["devices"]["disks"];
    assert_eq!(
        disks[0],
        json!({ "name": "root", "disk": { "bus": "virtio" } })
    );
    assert_eq!(
        disks[1],
        json!({ "name": "seed", "disk": { "bus": "sata" } })
    );
    assert_eq!(spec["networks"], json!([{ "name": "default", "pod": {} }]));
    // Everything that was written is there, in its place.
    assert_eq!(spec["domain"]["memory"]["guest"], "1Gi");
    assert_eq!(spec["volumes"][1], vmi()["spec"]["volumes"][1]);
    // And the whole passes.
    assert_eq!(Asked::create(Webhook::Validate, &made).refused(), []);
}

/// Whether all of `part` is in `whole`, in its place.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part))),
        (Value::Array(whole), Value::Array(part)) => {
            let mut both = whole.iter().zip(part);
            whole.len() >= part.len() && both.all(|(whole, part)| contains(whole, part))
        }
        (_, Value::Null) => true,
        (whole, part) => whole == part,
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3).prop_map(Value::from),
        "[ab]".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn defaults_only_ever_add(written in any_json(), defaulted in any_json()) {
        let mut filled = written.clone();
        fill(&mut filled, defaulted.clone());
        prop_assert!(contains(&filled, &written), "{filled}");
        let mut again = filled.clone();
        fill(&mut again, defaulted);
        prop_assert_eq!(again, filled);
    }
}

#[test]
fn every_example_is_admitted() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let kinds = ["VirtualMachine", "VirtualMachineInstance", "KubeVirt"];
    let mut admitted = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let Ok(mut object) = serde_saphyr::from_str::<Value>(&text) else {
            continue;
        };
        if !kinds.iter().any(|kind| object["kind"] == *kind) {
            continue;
        }
        // As kubectl does.
        object["metadata"]["namespace"] = match object["kind"] == "KubeVirt" {
            true => NAMESPACE.into(),
            false => "default".into(),
        };
        let made = Asked::create(Webhook::Mutate, &object).mutated();
        let name = path.display();
        assert!(contains(&made, &object), "{name}: {made:#}");
        assert_eq!(
            Asked::create(Webhook::Validate, &made).refused(),
            [],
            "{name}"
        );
        assert_eq!(
            Asked::update(Webhook::Mutate, &made, &made).mutated(),
            made,
            "{name}"
        );
        admitted += 1;
    }
    assert_ne!(admitted, 0, "no examples were found");
}

#[test]
fn nothing_is_taken_away_or_changed() {
    let written = [
        ("/spec/domain/memory/guest", json!("1024M")),
        (
            "/spec/domain/cpu",
            json!({ "cores": 2, "model": "Haswell", "features": [] }),
        ),
        ("/spec/nodeSelector", json!({})),
        ("/metadata/finalizers", json!(["example.com/mine"])),
        ("/metadata/generateName", json!("web-")),
    ];
    for (pointer, value) in written {
        let object = with(vmi(), pointer, value);
        let made = Asked::create(Webhook::Mutate, &object).mutated();
        assert!(contains(&made, &object), "{pointer}: {made:#}");
    }
}

#[test]
fn a_null_is_as_good_as_nothing() {
    let mut object = vmi();
    object["spec"]["domain"]["machine"] = Value::Null;
    let made = Asked::create(Webhook::Mutate, &object).mutated();
    assert_eq!(made["spec"]["domain"]["machine"]["type"], "q35");
}

#[test]
fn an_instance_without_a_name_yet_gets_defaults() {
    let object = with(vmi(), "/metadata/name", Value::Null);
    let made = Asked::create(Webhook::Mutate, &object).mutated();
    assert_eq!(made["spec"]["domain"]["machine"]["type"], "q35");
}

#[test]
fn a_machine_gets_its_finalizer_and_stays_as_written() {
    let made = Asked::create(Webhook::Mutate, &vm()).mutated();
    let finalizers = json!(["kubevirt.io/virtualMachineControllerFinalize"]);
    assert_eq!(made, with(vm(), "/metadata/finalizers", finalizers));
    // Once is enough.
    assert_eq!(Asked::create(Webhook::Mutate, &made).mutated(), made);
}

#[test]
fn a_finalizer_that_is_gone_stays_gone() {
    for object in [vm(), vmi()] {
        let update = Asked::update(Webhook::Mutate, &object, &object);
        assert_eq!(update.mutated(), object);
    }
}

#[test]
fn a_manifest_can_be_applied_twice() {
    let made = Asked::create(Webhook::Mutate, &vmi()).mutated();
    // kubectl replaces lists and leaves the fields that it does not know.
    let devices = vmi()["spec"]["domain"]["devices"].clone();
    let applied = with(
        made.clone(),
        "/spec/domain/devices/disks",
        devices["disks"].clone(),
    );
    let update = Asked::update(Webhook::Mutate, &made, &applied);
    assert_eq!(update.mutated(), made);
}

#[test]
fn what_cannot_be_read_is_left_to_better_words() {
    let object = with(vmi(), "/spec/domain/memory", json!("1Gi"));
    let made = Asked::create(Webhook::Mutate, &object).mutated();
    assert_eq!(made["spec"], object["spec"]);
}
