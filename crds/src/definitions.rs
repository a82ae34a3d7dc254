//! The CustomResourceDefinitions, as a cluster's admin applies them.
//!
//! The schemas preserve unknown fields everywhere under `spec`: the API server prunes before it
//! calls webhooks, and a field that is pruned is dropped in silence, where a field that reaches
//! the webhook is refused with its path.
//!
//! No field is nullable, so that the API server drops what is null before it looks at anything:
//! to Kubernetes such a field is not there.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::{KubeVirt, VirtualMachine, VirtualMachineInstance};

/// Fields of Kubernetes' own, whose descriptions are left to Kubernetes' documentation: they
/// would be two thirds of the definitions.
const FOREIGN: [&str; 8] = [
    "affinity",
    "dnsConfig",
    "exec",
    "fields",
    "httpGet",
    "tcpSocket",
    "tolerations",
    "topologySpreadConstraints",
];

/// The definitions of KubeVirt, VirtualMachine and VirtualMachineInstance.
pub fn definitions() -> [CustomResourceDefinition; 3] {
    let definitions = [
        KubeVirt::crd(),
        VirtualMachine::crd(),
        VirtualMachineInstance::crd(),
    ];
    definitions.map(|mut definition| {
        for version in &mut definition.spec.versions {
            let schema = version.schema.as_mut();
            let Some(root) = schema.and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
                continue;
            };
            drop_nullable(root);
            let spec = root.properties.as_mut().and_then(|p| p.get_mut("spec"));
            spec.into_iter().for_each(preserve_unknown);
        }
        definition
    })
}

/// Preserves unknown fields of this object and of every object in it.
fn preserve_unknown(schema: &mut JSONSchemaProps) {
    // A map has no unknown fields.
    if schema.type_.as_deref() == Some("object") && schema.additional_properties.is_none() {
        schema.x_kubernetes_preserve_unknown_fields = Some(true);
    }
    for (name, property) in schema.properties.iter_mut().flatten() {
        if FOREIGN.contains(&name.as_str()) {
            below(property).for_each(drop_descriptions);
        }
    }
    below(schema).for_each(preserve_unknown);
}

fn drop_nullable(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    below(schema).for_each(drop_nullable);
}

fn drop_descriptions(schema: &mut JSONSchemaProps) {
    schema.description = None;
    below(schema).for_each(drop_descriptions);
}

/// The schemas right below this one: an object's fields, a list's items, a map's values.
fn below(schema: &mut JSONSchemaProps) -> impl Iterator<Item = &mut JSONSchemaProps> {
    let items = match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items.as_mut()),
        _ => None,
    };
    let values = match &mut schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => Some(values.as_mut()),
        _ => None,
    };
    let properties = schema.properties.iter_mut().flat_map(|p| p.values_mut());
    properties.chain(items).chain(values)
}

/// A definition's file name and YAML.
///
/// # Errors
/// When the definition cannot be written as YAML.
pub fn file(
    definition: &CustomResourceDefinition,
) -> Result<(String, String), serde_saphyr::SerializeError> {
    let name = format!("{}.yaml", definition.spec.names.plural);
    let yaml = serde_saphyr::to_string(definition)?;
    let text = format!(
        "# Written by `cargo run -p crds --features crdgen` from the types in crds/.\n{yaml}"
    );
    Ok((name, text))
}
