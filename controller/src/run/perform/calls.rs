//! Single calls of the API server, under the controller's name. What is made, changed or left is
//! answered as caches have it.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube_client::Api;
use kube_client::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube_core::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::MANAGER;
use super::error::{PerformError, TIMEOUT};
use crate::run::watch::strip;

/// Waits for the API server's answer.
pub(super) async fn call<T>(
    what: &'static str,
    answer: impl Future<Output = kube_client::Result<T>>,
) -> Result<T, PerformError> {
    match timeout(TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|source| PerformError::Api { what, source }),
        Err(_elapsed) => Err(PerformError::Late { what }),
    }
}

/// Makes the object. None where one of its name exists.
pub(super) async fn create<K>(
    api: &Api<K>,
    object: &K,
    what: &'static str,
) -> Result<Option<K>, PerformError>
where
    K: Resource + Clone + Serialize + DeserializeOwned + Debug,
{
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    match call(what, api.create(&params, object)).await {
        Ok(mut made) => {
            strip(&mut made);
            Ok(Some(made))
        }
        Err(error) if error.is_stale() && !is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes the object, if it still has this uid. None where it is gone, at once or already.
pub(super) async fn delete<K>(
    api: &Api<K>,
    name: &str,
    uid: String,
    what: &'static str,
) -> Result<Option<K>, PerformError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let preconditions = Preconditions {
        uid: Some(uid),
        resource_version: None,
    };
    let params = DeleteParams::background().preconditions(preconditions);
    match call(what, api.delete(name, &params)).await {
        Ok(answer) => Ok(answer.left().map(|mut object| {
            strip(&mut object);
            object
        })),
        Err(error) if error.is_stale() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn merge<K>(
    api: &Api<K>,
    name: &str,
    patch: &Value,
    what: &'static str,
) -> Result<K, PerformError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let mut object = call(what, api.patch(name, &params, &Patch::Merge(patch))).await?;
    strip(&mut object);
    Ok(object)
}

/// Applies the status to the object as it was when that was decided.
pub(super) async fn apply_status<K>(
    api: &Api<K>,
    object: &K,
    status: Value,
    what: &'static str,
) -> Result<K, PerformError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let name = object.name_any();
    let mut metadata = version(object);
    metadata["name"] = json!(name);
    let applied = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": metadata,
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    let applied = Patch::Apply(&applied);
    let mut object = call(what, api.patch_status(&name, &params, &applied)).await?;
    strip(&mut object);
    Ok(object)
}

/// What makes a patch fail where the object has changed since.
pub(super) fn version(object: &impl ResourceExt) -> Value {
    json!({"resourceVersion": object.resource_version()})
}

fn is_missing(error: &PerformError) -> bool {
    matches!(error, PerformError::Api { source: kube_client::Error::Api(status), .. } if status.code == 404)
}
