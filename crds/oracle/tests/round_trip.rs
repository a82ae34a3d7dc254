//! A manifest with every field of ours goes through our types, through types that others
//! generated from KubeVirt's CRDs, and comes back as it was.

#![allow(clippy::unwrap_used, reason = "a test's helper fails the test")]

use std::collections::BTreeSet;

use k8s_crds_kube_virt::{kubevirts, virtualmachineinstances, virtualmachines};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

const EVERYTHING: &str = include_str!("data/everything.yaml");
const INSTANCE_STATUS: &str = include_str!("data/instance-status.yaml");
const KUBEVIRT: &str = include_str!("data/kubevirt.yaml");

/// A VirtualMachine with everything.
fn machine() -> Value {
    serde_saphyr::from_str(EVERYTHING).unwrap()
}

/// A VirtualMachineInstance with everything.
fn instance() -> Value {
    let template = machine()["spec"]["template"].take();
    let status: Value = serde_saphyr::from_str(INSTANCE_STATUS).unwrap();
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": template["metadata"],
        "spec": template["spec"],
        "status": status,
    })
}

/// The cluster's settings, with everything.
fn kubevirt() -> Value {
    serde_saphyr::from_str(KUBEVIRT).unwrap()
}

/// `value` without what KubeVirt has only since the oracle was generated.
fn as_of_the_oracle(value: &Value) -> Value {
    let mut value = value.clone();
    for spec in ["/spec", "/spec/template/spec"] {
        let spec = value.pointer_mut(spec).and_then(Value::as_object_mut);
        spec.and_then(|spec| spec.remove("serviceAccountName"));
    }
    value
}

/// `value` as a `T` writes it.
fn through<T: DeserializeOwned + Serialize>(value: &Value) -> Value {
    let typed: T = serde_json::from_value(value.clone()).unwrap();
    serde_json::to_value(typed).unwrap()
}

#[test]
fn a_machine_comes_back_whole() {
    let given = machine();
    let ours = through::<crds::VirtualMachine>(&given);
    assert_same(&ours, &given, "ours");
    let known = as_of_the_oracle(&ours);
    let theirs = through::<virtualmachines::VirtualMachine>(&known);
    assert_same(&theirs, &known, "theirs");
    assert_same(
        &through::<crds::VirtualMachine>(&theirs),
        &known,
        "ours again",
    );
}

#[test]
fn an_instance_comes_back_whole() {
    let given = instance();
    let ours = through::<crds::VirtualMachineInstance>(&given);
    assert_same(&ours, &given, "ours");
    let known = as_of_the_oracle(&ours);
    let theirs = through::<virtualmachineinstances::VirtualMachineInstance>(&known);
    assert_same(&theirs, &known, "theirs");
    assert_same(
        &through::<crds::VirtualMachineInstance>(&theirs),
        &known,
        "ours again",
    );
}

#[test]
fn settings_come_back_whole() {
    let given = kubevirt();
    let ours = through::<crds::KubeVirt>(&given);
    assert_same(&ours, &given, "ours");
    let theirs = through::<kubevirts::KubeVirt>(&ours);
    assert_same(&theirs, &ours, "theirs");
    assert_same(&through::<crds::KubeVirt>(&theirs), &given, "ours again");
}

/// The manifests above are only as good as what they name.
#[test]
fn everything_is_everything() {
    for definition in crds::definitions::definitions() {
        let value = match definition.spec.names.kind.as_str() {
            "KubeVirt" => kubevirt(),
            "VirtualMachine" => machine(),
            _ => instance(),
        };
        let version = definition.spec.versions.into_iter().next().unwrap();
        let schema = version.schema.unwrap().open_api_v3_schema.unwrap();
        let mut missing = BTreeSet::new();
        find_missing(&schema, &[&value], "", &mut missing);
        assert!(missing.is_empty(), "in no manifest: {missing:#?}");
    }
}

/// Types of Kubernetes' own, whose every field is not for us to prove.
const FOREIGN: [&str; 9] = [
    "affinity",
    "dnsConfig",
    "exec",
    "fields",
    "httpGet",
    "metadata",
    "tcpSocket",
    "tolerations",
    "topologySpreadConstraints",
];

/// Collects the fields of `schema` that none of `values`, the places it describes, has.
fn find_missing(
    schema: &JSONSchemaProps,
    values: &[&Value],
    path: &str,
    missing: &mut BTreeSet<String>,
) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        let below: Vec<_> = values.iter().filter_map(|value| value.get(name)).collect();
        if below.is_empty() {
            missing.insert(path);
        } else if !FOREIGN.contains(&name.as_str()) {
            find_missing(property, &below, &path, missing);
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        let below: Vec<_> = values
            .iter()
            .filter_map(|v| v.as_array())
            .flatten()
            .collect();
        find_missing(items, &below, &format!("{path}[]"), missing);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(each)) = &schema.additional_properties {
        let below: Vec<_> = values
            .iter()
            .filter_map(|v| v.as_object())
            .flat_map(|o| o.values())
            .collect();
        find_missing(each, &below, &format!("{path}.*"), missing);
    }
}

/// Compares leaf by leaf, so that a failure names the field rather than printing two manifests.
fn assert_same(found: &Value, expected: &Value, who: &str) {
    let (found, expected) = (leaves(found, ""), leaves(expected, ""));
    let lost: Vec<_> = expected.difference(&found).collect();
    let gained: Vec<_> = found.difference(&expected).collect();
    assert!(
        lost.is_empty() && gained.is_empty(),
        "{who}: lost {lost:#?}, gained {gained:#?}"
    );
}

/// Each leaf of a value with its path.
fn leaves(value: &Value, path: &str) -> BTreeSet<String> {
    match value {
        Value::Object(object) if !object.is_empty() => object
            .iter()
            .flat_map(|(key, value)| leaves(value, &format!("{path}.{key}")))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, value)| leaves(value, &format!("{path}[{index}]")))
            .collect(),
        leaf => BTreeSet::from([format!("{path}: {leaf}")]),
    }
}
