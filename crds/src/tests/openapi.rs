//! Every field of ours is in KubeVirt's OpenAPI document with the same type, and every field of
//! KubeVirt's that is not ours is known as such.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use crate::definitions::definitions;
use crate::unsupported::{unsupported_paths, why_unknown};

/// KubeVirt's OpenAPI document, where it is present beside the workspace.
fn openapi() -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/kubevirt/openapi.json");
    if !path.exists() {
        println!("skipped: needs ../shared/kubevirt/openapi.json beside the workspace");
        return None;
    }
    Some(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

/// Fields that Kubernetes gave types of its own after KubeVirt's document was written.
const NEWER: [&str; 2] = [".httpGet.protocol", ".downwardAPI.fields[].user"];

/// What the walk finds.
#[derive(Default)]
struct Found {
    fields: usize,
    wrong: Vec<String>,
    /// KubeVirt's fields under `spec` that are not ours.
    not_ours: BTreeSet<String>,
}

/// Walks every kind.
fn found() -> Option<Found> {
    let openapi = openapi()?;
    let mut found = Found::default();
    for definition in definitions() {
        let definition = serde_json::to_value(definition).unwrap();
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        let ours = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let theirs = &openapi["definitions"][format!("v1.{kind}")];
        walk(ours, theirs, "", &openapi, &mut found);
    }
    Some(found)
}

#[test]
fn every_field_is_kubevirts() {
    let Some(found) = found() else { return };
    assert!(found.fields > 500, "only {} fields", found.fields);
    assert_eq!(found.wrong, [""; 0]);
}

#[test]
fn every_field_of_kubevirts_that_is_not_ours_is_told_from_a_misspelling() {
    let Some(found) = found() else { return };
    for path in &found.not_ours {
        let why = why_unknown(path);
        assert!(why.starts_with("not supported yet"), "{path}: {why}");
    }
    let stale: Vec<_> = unsupported_paths()
        .filter(|path| !found.not_ours.contains(path))
        .collect();
    assert_eq!(stale, [""; 0], "listed, and not KubeVirt's, or ours by now");
}

fn walk(ours: &Value, theirs: &Value, path: &str, openapi: &Value, found: &mut Found) {
    let theirs = resolve(theirs, openapi);
    if let Some(items) = ours.get("items") {
        return walk(
            items,
            &theirs["items"],
            &format!("{path}[]"),
            openapi,
            found,
        );
    }
    if let Some(each) = ours.get("additionalProperties") {
        let theirs = &theirs["additionalProperties"];
        compare(each, theirs, &format!("{path}.*"), openapi, found);
        return walk(each, theirs, &format!("{path}.*"), openapi, found);
    }
    if ours["type"] != "object" || path.ends_with("metadata") {
        return;
    }
    let none = Map::new();
    let properties = ours["properties"].as_object().unwrap_or(&none);
    for (name, property) in properties {
        let path = format!("{path}.{name}");
        let path = path.trim_start_matches('.');
        found.fields += 1;
        match theirs["properties"].get(name) {
            Some(theirs) => {
                compare(property, theirs, path, openapi, found);
                walk(property, theirs, path, openapi, found);
            }
            None if NEWER.iter().any(|newer| path.ends_with(newer)) => {}
            None => found.wrong.push(format!("{path}: not in KubeVirt")),
        }
    }
    for name in theirs["properties"]
        .as_object()
        .into_iter()
        .flat_map(|p| p.keys())
    {
        if path.starts_with("spec") && !properties.contains_key(name) {
            found.not_ours.insert(format!("{path}.{name}"));
        }
    }
    for name in theirs["required"].as_array().into_iter().flatten() {
        let required = ours["required"]
            .as_array()
            .is_some_and(|ours| ours.contains(name));
        if !required {
            found
                .wrong
                .push(format!("{path}.{name}: KubeVirt requires it"));
        }
    }
}

fn compare(ours: &Value, theirs: &Value, path: &str, openapi: &Value, found: &mut Found) {
    let (ours, theirs) = (type_of(ours), type_of(resolve(theirs, openapi)));
    if ours != theirs {
        found
            .wrong
            .push(format!("{path}: {ours}, in KubeVirt {theirs}"));
    }
}

/// What a reference points to.
fn resolve<'a>(schema: &'a Value, openapi: &'a Value) -> &'a Value {
    let reference = schema["allOf"][0].get("$ref").or(schema.get("$ref"));
    match reference.and_then(Value::as_str) {
        Some(reference) => &openapi["definitions"][reference.trim_start_matches("#/definitions/")],
        None => schema,
    }
}

fn type_of(schema: &Value) -> String {
    // KubeVirt's document describes a quantity as a string and tells of more in words.
    let quantity = schema["description"]
        .as_str()
        .is_some_and(|d| d.starts_with("Quantity is"));
    if quantity || schema.get("x-kubernetes-int-or-string").is_some() {
        return "quantity".to_owned();
    }
    match &schema["type"] {
        // So is a port, which has a number or a name.
        Value::Array(types) if types.contains(&"number".into()) => return "quantity".to_owned(),
        Value::Array(types) => types
            .iter()
            .filter_map(Value::as_str)
            .find(|t| *t != "null"),
        one => one.as_str(),
    }
    .unwrap_or("unknown")
    .to_owned()
}
