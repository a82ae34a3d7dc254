//! The CustomResourceDefinitions, as a cluster's admin applies them.
//!
//! The schemas preserve unknown fields everywhere under `spec`: the API server prunes before it
//! calls webhooks, and a field that is pruned is dropped in silence, where a field that reaches
//! the webhook is refused with its path.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

use crate::{VirtualMachine, VirtualMachineInstance};

/// Fields of Kubernetes' own, whose descriptions are left to Kubernetes' documentation: they
/// would be two thirds of the definitions.
const FOREIGN: [&str; 4] = [
    "affinity",
    "dnsConfig",
    "tolerations",
    "topologySpreadConstraints",
];

/// The definitions of VirtualMachine and VirtualMachineInstance.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [VirtualMachine::crd(), VirtualMachineInstance::crd()].map(|mut definition| {
        for version in &mut definition.spec.versions {
            let schema = version.schema.as_mut();
            let schema = schema.and_then(|schema| schema.open_api_v3_schema.as_mut());
            let properties = schema.and_then(|schema| schema.properties.as_mut());
            if let Some(spec) = properties.and_then(|properties| properties.get_mut("spec")) {
                preserve_unknown(spec);
            }
        }
        definition
    })
}

/// Preserves unknown fields of this object and of every object in it.
fn preserve_unknown(schema: &mut JSONSchemaProps) {
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        preserve_unknown(items);
    }
    // A map has no unknown fields.
    if schema.type_.as_deref() == Some("object") && schema.additional_properties.is_none() {
        schema.x_kubernetes_preserve_unknown_fields = Some(true);
    }
    for (name, property) in schema.properties.iter_mut().flatten() {
        preserve_unknown(property);
        if FOREIGN.contains(&name.as_str()) {
            drop_descriptions(property);
        }
    }
}

/// Takes out the descriptions of everything below this field.
fn drop_descriptions(schema: &mut JSONSchemaProps) {
    let properties = schema.properties.iter_mut().flat_map(|p| p.values_mut());
    let items = match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items.as_mut()),
        _ => None,
    };
    for below in properties.chain(items) {
        below.description = None;
        drop_descriptions(below);
    }
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
