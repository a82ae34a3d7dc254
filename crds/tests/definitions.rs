//! `deploy/crds` is what the types say.

use std::path::Path;

use crds::definitions::{definitions, file};

#[test]
fn the_files_are_fresh() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    for definition in definitions() {
        let (name, text) = file(&definition).unwrap();
        let written = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(
            written == text,
            "deploy/crds/{name} is stale; run `cargo run -p crds --features crdgen`"
        );
    }
}

#[test]
fn conditions_are_lists_by_type() {
    for definition in definitions() {
        let definition = serde_json::to_value(definition).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let conditions = &schema["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map");
        assert_eq!(conditions["x-kubernetes-list-map-keys"][0], "type");
    }
}

/// The API server leaves unknown fields under `spec` for the webhook to refuse.
#[test]
fn unknown_fields_reach_the_webhook() {
    fn check(schema: &serde_json::Value, path: &str) {
        let values = schema.get("additionalProperties");
        if schema["type"] == "object" && values.is_none() {
            assert_eq!(
                schema["x-kubernetes-preserve-unknown-fields"], true,
                "{path}"
            );
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            check(property, &format!("{path}.{name}"));
        }
        for below in schema.get("items").into_iter().chain(values) {
            check(below, &format!("{path}[]"));
        }
    }
    for definition in definitions() {
        let definition = serde_json::to_value(definition).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        check(&schema["properties"]["spec"], "spec");
    }
}

/// As Kubernetes: a field that is null is not there.
#[test]
fn nothing_is_nullable() {
    for definition in definitions() {
        let (name, text) = file(&definition).unwrap();
        assert!(!text.contains("nullable"), "{name}");
    }
}

/// virt-handler watches the instances of its node alone.
#[test]
fn instances_are_selected_by_node_and_phase() {
    let definitions = definitions();
    let instances = definitions
        .iter()
        .find(|definition| definition.spec.names.kind == "VirtualMachineInstance");
    let fields = instances.unwrap().spec.versions[0]
        .selectable_fields
        .as_ref();
    let paths: Vec<_> = fields
        .unwrap()
        .iter()
        .map(|field| &field.json_path)
        .collect();
    assert_eq!(paths, [".status.nodeName", ".status.phase"]);
}
