//! Reviews as the API server sends them, and their answers.

use proptest::prelude::*;
use serde_json::json;

use super::virtualmachineinstance::fill;
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

#[test]
fn good_objects_pass() {
    for object in [vm(), vmi(), kubevirt()] {
        assert_eq!(Asked::create(Webhook::Validate, &object).refused(), []);
    }
}

#[test]
fn every_refusal_names_its_field() {
    let template = "/spec/template/spec";
    let cases = [
        (
            with(vmi(), "/spec/domain/cpus", json!(2)),
            vec!["spec.domain.cpus"],
        ),
        (
            with(vm(), &format!("{template}/domain/devices/gpus"), json!([])),
            vec!["spec.template.spec.domain.devices.gpus"],
        ),
        (
            with(vm(), "/spec/instancetype", json!({ "name": "u1.small" })),
            vec!["spec.instancetype"],
        ),
        (
            with(
                vmi(),
                "/spec/volumes/1",
                json!({ "name": "seed", "emptyDisk": {} }),
            ),
            vec!["spec.volumes[1].emptyDisk.capacity"],
        ),
        (
            with(vmi(), "/spec/domain/memory/guest", json!("lots")),
            vec!["spec.domain.memory.guest"],
        ),
        (
            with(vm(), &format!("{template}/domain/memory"), Value::Null),
            vec!["spec.template.spec.domain.memory.guest"],
        ),
        (
            with(vm(), "/spec/running", json!(true)),
            vec!["spec.running"],
        ),
        (
            with(vm(), "/spec/runStrategy", Value::Null),
            vec!["spec.runStrategy"],
        ),
        (
            with(
                vmi(),
                "/metadata/annotations",
                json!({ "network.ferrovirt.io/anti-spoofing": "off" }),
            ),
            vec![r#"metadata.annotations["network.ferrovirt.io/anti-spoofing"]"#],
        ),
        (
            with(kubevirt(), "/spec/certificateRotateStrategy", json!({})),
            vec!["spec.certificateRotateStrategy"],
        ),
        (
            with(
                kubevirt(),
                "/spec/configuration/developerConfiguration/featureGates/0",
                json!("Sidecar"),
            ),
            vec!["spec.configuration.developerConfiguration.featureGates[0]"],
        ),
        (
            with(kubevirt(), "/metadata/name", json!("other")),
            vec!["metadata.name"],
        ),
        (
            with(kubevirt(), "/metadata/namespace", json!("default")),
            vec!["metadata.namespace"],
        ),
    ];
    for (object, expected) in cases {
        let paths = Asked::create(Webhook::Validate, &object).refused_paths();
        assert_eq!(paths, expected, "{object:#}");
    }
}

#[test]
fn a_refusal_reads_like_the_api_servers_own() {
    let mut object = vm();
    object["spec"]["template"]["spec"]["domain"]["cpus"] = json!(2);
    object["spec"]["dataVolumeTemplates"] = json!([]);
    let response = Asked::create(Webhook::Validate, &object).answer();
    assert!(!response.allowed);
    let result = serde_json::to_value(&response.result).unwrap();
    let cause = |field: &str, message: &str| json!({ "reason": "FieldValueInvalid", "field": field, "message": message });
    let causes = [
        cause(
            "spec.dataVolumeTemplates",
            "not supported yet; use containerDisk or hostDisk",
        ),
        cause(
            "spec.template.spec.domain.cpus",
            "no such field in kubevirt.io/v1; check its spelling and its place",
        ),
    ];
    let details = &result["details"];
    assert_eq!(details["kind"], "VirtualMachine");
    assert_eq!(details["group"], "kubevirt.io");
    assert_eq!(details["name"], "web");
    assert_eq!(details["causes"].as_array().unwrap().len(), causes.len());
    for cause in causes {
        let field = &cause["field"];
        let found = details["causes"].as_array().unwrap();
        let found = found.iter().find(|found| found["field"] == *field).unwrap();
        assert_eq!(found["reason"], cause["reason"]);
        assert!(result["message"].as_str().unwrap().contains(&format!(
            "{}: {}",
            field.as_str().unwrap(),
            found["message"].as_str().unwrap()
        )));
    }
    assert_eq!(result["code"], 422);
    assert_eq!(result["reason"], "Invalid");
    assert_eq!(result["status"], "Failure");
}

#[test]
fn files_of_the_node_are_behind_their_gate() {
    let volume =
        json!({ "name": "seed", "hostDisk": { "path": "/data/disk.img", "type": "Disk" } });
    let cases = [
        (
            with(vmi(), "/spec/volumes/1", volume.clone()),
            "spec.volumes[1].hostDisk",
        ),
        (
            with(vm(), "/spec/template/spec/volumes/1", volume),
            "spec.template.spec.volumes[1].hostDisk",
        ),
    ];
    for (object, path) in cases {
        let refused = Asked::create(Webhook::Validate, &object).refused();
        let [(field, message)] = refused.as_slice() else {
            panic!("{refused:?}");
        };
        assert_eq!(field, path);
        assert!(message.contains("HostDisk"), "{message}");
        let allowed = Asked {
            host_disk: true,
            ..Asked::create(Webhook::Validate, &object)
        };
        assert_eq!(allowed.refused(), []);
    }
}

#[test]
fn an_instance_keeps_its_spec() {
    let made = Asked::create(Webhook::Mutate, &vmi()).mutated();
    let ours = "system:serviceaccount:ferrovirt:virt-controller";
    let elsewhere = "system:serviceaccount:default:virt-controller";
    let handler = "system:serviceaccount:ferrovirt:virt-handler";
    let more = with(made.clone(), "/spec/domain/memory/guest", json!("2Gi"));
    let path = "spec.domain.memory.guest";
    // Labels are anybody's.
    let labelled = with(made.clone(), "/metadata/labels", json!({ "app": "web" }));
    // Written in another way, it is the same.
    let mut same = vmi();
    same["metadata"] = made["metadata"].clone();
    let wrong = with(made.clone(), "/spec/domain/memory/guest", json!("0"));
    let cases = [
        ("alice", &more, vec![path]),
        (elsewhere, &more, vec![path]),
        (handler, &more, vec![path]),
        (ours, &more, vec![]),
        (ours, &wrong, vec![path]),
        ("alice", &labelled, vec![]),
        ("alice", &same, vec![]),
    ];
    for (user, object, expected) in cases {
        let update = Asked {
            user,
            ..Asked::update(Webhook::Validate, &made, object)
        };
        assert_eq!(update.refused_paths(), expected, "{user}: {object:#}");
    }
}

#[test]
fn what_an_update_leaves_alone_is_not_looked_at() {
    // As if admitted by older rules.
    let mut vm = with(vm(), "/spec/old", json!(true));
    let mut vmi = with(vmi(), "/spec/old", json!(true));
    for object in [&mut vm, &mut vmi] {
        object["metadata"]["finalizers"] = json!(["a", "b"]);
        object["metadata"]["annotations"] = json!({ "network.ferrovirt.io/anti-spoofing": "off" });
    }
    for object in [vm, vmi] {
        let freed = with(object.clone(), "/metadata/finalizers", json!([]));
        assert_eq!(
            Asked::update(Webhook::Validate, &object, &freed).refused(),
            []
        );
        assert_eq!(
            Asked::update(Webhook::Mutate, &object, &freed).mutated(),
            freed
        );

        // Of the parts that it touches, everything.
        let annotated = with(object.clone(), "/metadata/annotations/more", json!("x"));
        let respecified = with(object.clone(), "/spec/more", json!("x"));
        let annotated = Asked::update(Webhook::Validate, &object, &annotated).refused_paths();
        assert!(
            annotated.iter().all(|path| path.starts_with("metadata")),
            "{annotated:?}"
        );
        let respecified = Asked::update(Webhook::Validate, &object, &respecified).refused_paths();
        assert!(
            respecified.contains(&"spec.old".to_owned()),
            "{respecified:?}"
        );
    }
    let bad = with(kubevirt(), "/spec/old", json!(true));
    let labelled = with(bad.clone(), "/metadata/labels", json!({ "a": "b" }));
    assert_eq!(
        Asked::update(Webhook::Validate, &bad, &labelled).refused(),
        []
    );
}

#[test]
fn a_bad_annotation_is_refused_whenever_it_comes() {
    for object in [vm(), vmi()] {
        let annotations = json!({ "network.ferrovirt.io/anti-spoofing": "off" });
        let annotated = with(object.clone(), "/metadata/annotations", annotations);
        let update = Asked::update(Webhook::Validate, &object, &annotated);
        let path = r#"metadata.annotations["network.ferrovirt.io/anti-spoofing"]"#;
        assert_eq!(update.refused_paths(), [path]);
    }
}

#[test]
fn deletion_is_always_allowed() {
    let broken = with(vm(), "/spec", json!("nothing that is read"));
    for object in [vm(), vmi(), kubevirt(), broken] {
        for webhook in [Webhook::Mutate, Webhook::Validate] {
            let response = Asked::update(webhook, &object, &Value::Null).answer();
            assert!(response.allowed);
            assert_eq!(response.patch, None);
        }
    }
}

#[test]
fn what_is_no_review_is_told_so() {
    let review = review("VirtualMachine", &vm(), &Value::Null, "alice");
    let pods = json!({ "group": "", "version": "v1", "kind": "Pod" });
    let deep = "[".repeat(100_000);
    let cases = [
        (String::new(), "the body is no AdmissionReview"),
        ("{}".to_owned(), "the body is no AdmissionReview"),
        ("null".to_owned(), "the body is no AdmissionReview"),
        (deep, "the body is no AdmissionReview"),
        (
            with(
                review.clone(),
                "/apiVersion",
                json!("admission.k8s.io/v1beta1"),
            )
            .to_string(),
            "the body is AdmissionReview of admission.k8s.io/v1beta1; send AdmissionReview of \
             admission.k8s.io/v1",
        ),
        (
            with(review.clone(), "/request", Value::Null).to_string(),
            "the AdmissionReview holds no request",
        ),
        (
            with(review.clone(), "/request/object", Value::Null).to_string(),
            "the request to Create holds no object",
        ),
        (
            with(review.clone(), "/request/operation", json!("UPDATE")).to_string(),
            "the request to Update holds no oldObject",
        ),
        (
            with(review.clone(), "/request/kind", pods).to_string(),
            "Pod is not admitted here; take it out of the webhook's rules",
        ),
        (
            with(review, "/request/operation", json!("FLY")).to_string(),
            "the body is no AdmissionReview",
        ),
    ];
    let settings = settings(false);
    let cluster = Cluster {
        namespace: NAMESPACE,
        settings: &settings,
    };
    for (body, expected) in cases {
        let error = Webhook::Validate
            .answer(body.as_bytes(), cluster)
            .unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn an_object_of_another_shape_is_refused_not_feared() {
    for spec in [json!(null), json!([]), json!("x"), json!({ "template": 7 })] {
        for mut object in [vm(), vmi(), kubevirt()] {
            object["spec"] = spec.clone();
            let made = Asked::create(Webhook::Mutate, &object).mutated();
            assert_eq!(made["spec"], spec);
            let refused = Asked::create(Webhook::Validate, &object).refused();
            assert!(!refused.is_empty(), "{object:#}");
        }
    }
}
