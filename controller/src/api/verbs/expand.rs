//! Machines with their instance types written out. There are no instance types here, so a machine
//! that names none is written out as it is, and one that names one is refused, as KubeVirt refuses
//! one that it does not know.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use crds::manifest::{self, Manifest};
use kube_client::Api;
use kube_core::{ApiResource, DynamicObject};
use serde::Deserialize;
use serde_json::Value;

use super::Named;
use crate::api::{ApiContext, ApiError, Object};

/// The namespace that a path names.
#[derive(Debug, Deserialize)]
pub(super) struct In {
    namespace: String,
}

/// The machine of this name.
pub(super) async fn stored(
    State(context): State<ApiContext>,
    Path(Named { namespace, name }): Path<Named>,
) -> Result<Json<DynamicObject>, ApiError> {
    let resource = ApiResource::erase::<crds::VirtualMachine>(&());
    let vms: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &namespace, &resource);
    let vm = vms.get_opt(&name).await?;
    let vm = vm.ok_or_else(|| Object::vm(&name).not_found())?;
    names_no_type(&vm.data)?;
    Ok(Json(vm))
}

/// The machine in the body.
pub(super) async fn given(
    Path(In { namespace }): Path<In>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    expand(&namespace, &body).map(Json)
}

fn expand(namespace: &str, body: &[u8]) -> Result<Value, ApiError> {
    let wrong = |why: &dyn std::fmt::Display| {
        ApiError::bad_request(format!("Object is not a valid VirtualMachine: {why}"))
    };
    let machine: Value = serde_json::from_slice(body).map_err(|error| wrong(&error))?;
    names_no_type(&machine)?;
    let read = match manifest::read(machine.clone()) {
        Ok(Manifest::Vm(vm)) => Manifest::Vm(vm),
        Ok(Manifest::Vmi(_)) => return Err(wrong(&"it is a VirtualMachineInstance")),
        Err(error) => return Err(wrong(&error)),
    };
    let errors = read.validate();
    if !errors.is_empty() {
        return Err(wrong(&crds::FieldErrors(errors)));
    }
    match machine.pointer("/metadata/namespace") {
        Some(other) if other != namespace => Err(wrong(&format_args!(
            "metadata.namespace is {other}, and the path names {namespace:?}"
        ))),
        _ => Ok(machine),
    }
}

fn names_no_type(machine: &Value) -> Result<(), ApiError> {
    for field in ["instancetype", "preference"] {
        if machine
            .pointer(&format!("/spec/{field}"))
            .is_some_and(|named| !named.is_null())
        {
            return Err(ApiError::bad_request(format!(
                "spec.{field}: instance types are not supported; write what it stands for into \
                 spec.template.spec"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn machine() -> Value {
        json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": "one"},
            "spec": {
                "runStrategy": "Halted",
                "template": {"spec": {
                    "domain": {"devices": {}, "resources": {"requests": {"memory": "1Gi"}}},
                }},
            },
        })
    }

    #[test]
    fn a_machine_without_instance_type_is_expanded_to_itself() {
        let mut machine = machine();
        assert_eq!(
            expand("n", machine.to_string().as_bytes()).unwrap(),
            machine
        );
        machine["metadata"]["namespace"] = json!("n");
        assert_eq!(
            expand("n", machine.to_string().as_bytes()).unwrap(),
            machine
        );
    }

    #[test]
    fn what_is_no_machine_of_ours_is_refused_by_its_field() {
        let cases = [
            (
                "/metadata",
                "namespace",
                json!("other"),
                "metadata.namespace",
            ),
            (
                "/spec",
                "instancetype",
                json!({"name": "small"}),
                "spec.instancetype",
            ),
            (
                "/spec",
                "preference",
                json!({"name": "linux"}),
                "spec.preference",
            ),
            ("/spec", "runStrategy", json!("Sometimes"), "runStrategy"),
            (
                "/spec/template/spec/domain",
                "odd",
                json!(1),
                "spec.template.spec.domain.odd",
            ),
            (
                "",
                "kind",
                json!("VirtualMachineInstance"),
                "not a valid VirtualMachine",
            ),
            ("", "kind", json!("Pod"), "not a valid VirtualMachine"),
        ];
        for (place, field, value, named) in cases {
            let mut machine = machine();
            machine.pointer_mut(place).unwrap()[field] = value;
            let error = expand("n", machine.to_string().as_bytes()).unwrap_err();
            assert_eq!(error.code().as_u16(), 400, "{error}");
            assert!(error.to_string().contains(named), "{error}");
        }
        assert_eq!(expand("n", b"{").unwrap_err().code().as_u16(), 400);
    }
}
