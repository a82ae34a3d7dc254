//! What is refused, by its path, and what is not looked at.

use serde_json::json;

use super::*;

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
fn of_a_strategy_that_is_not_followed_there_is_a_warning() {
    for (object, at) in [(vm(), "/spec/template/spec"), (vmi(), "/spec")] {
        for (strategy, expected) in [
            (Value::Null, false),
            (json!("None"), false),
            (json!("LiveMigrateIfPossible"), false),
            (json!("LiveMigrate"), true),
            (json!("External"), true),
        ] {
            let pointer = format!("{at}/evictionStrategy");
            let object = with(object.clone(), &pointer, strategy);
            let response = Asked::create(Webhook::Validate, &object).answer();
            assert!(response.allowed);
            let path = pointer[1..].replace('/', ".");
            match response.warnings.as_deref() {
                None => assert!(!expected, "{object:#}"),
                Some([warning]) if expected => {
                    assert!(warning.starts_with(&format!("{path}: ")), "{warning}");
                    // What the API server keeps of one.
                    assert!(warning.len() <= 256, "{warning}");
                }
                Some(warnings) => panic!("{warnings:?}"),
            }
            // Who changes something else is not told again.
            let annotated = with(object.clone(), "/metadata/annotations", json!({"a": "b"}));
            let response = Asked::update(Webhook::Validate, &object, &annotated).answer();
            assert_eq!(response.warnings, None);
        }
    }
}
