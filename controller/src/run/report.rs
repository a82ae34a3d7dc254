//! Saying in the object `kubevirt` whether machines can be run.

use std::convert::Infallible;
use std::time::Duration;

use crds::{KubeVirt, KubeVirtStatus};
use k8s_openapi::jiff::Timestamp;
use kube_client::api::{Patch, PatchParams};
use kube_client::{Api, Client};
use kube_core::Resource;
use serde_json::json;
use tokio::sync::watch::Receiver;
use tracing::{info, warn};

use super::settings::NAME;
use super::whole_seconds;
use crate::certificates::attend::{CHECK_EVERY, RETRY_AFTER, attend};
use crate::error::Chain;
use crate::reconcile::kubevirt;

/// Keeps the status of the object `kubevirt`, for ever; the leader's to do. Nothing is said until
/// API servers have been told to trust this server, and the leader whether a node has a handler.
pub async fn report(
    client: Client,
    namespace: &str,
    mut trusted: Receiver<bool>,
    handler: Receiver<Option<bool>>,
) -> Infallible {
    // No sender ends before the process does.
    let _ = trusted.wait_for(|trusted| *trusted).await;
    let api: Api<KubeVirt> = Api::namespaced(client, namespace);
    attend(api.clone(), NAME, handler, async |object, handler| {
        let now = whole_seconds(Timestamp::now());
        let known = object.zip(*handler);
        match known.and_then(|(object, handler)| kubevirt::decide(object, handler, now)) {
            Some(status) => write(&api, &status).await,
            None => CHECK_EVERY,
        }
    })
    .await
}

async fn write(api: &Api<KubeVirt>, status: &KubeVirtStatus) -> Duration {
    let applied = json!({
        "apiVersion": KubeVirt::api_version(&()),
        "kind": KubeVirt::kind(&()),
        "metadata": {"name": NAME},
        "status": status,
    });
    let params = PatchParams::apply("virt-controller").force();
    match api
        .patch_status(NAME, &params, &Patch::Apply(applied))
        .await
    {
        Ok(_) => {
            info!(
                phase = status.phase.map(tracing::field::debug),
                "KubeVirt {NAME}"
            );
            CHECK_EVERY
        }
        Err(error) => {
            warn!("writing KubeVirt {NAME}: {}", Chain(&error));
            RETRY_AFTER
        }
    }
}
