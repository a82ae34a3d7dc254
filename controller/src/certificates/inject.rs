//! Telling the API server whom to trust: `caBundle` of the webhook configurations.

use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube_client::api::{Patch, PatchParams};
use kube_client::{Api, Client, Resource};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::watch_object;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Identity, WEBHOOKS};
use crate::error::Chain;

/// How soon a write that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long to wait where there is nothing to do: for ever, as far as anybody will notice.
const NOTHING_TO_DO: Duration = Duration::from_secs(24 * 60 * 60);

/// Keeps `caBundle` in both configurations, for ever; `trusted` becomes true when both have it, or
/// are not there, so that no API server asks before it can trust the answer.
///
/// Any replica may run this, and several may: what they write is the same.
pub async fn inject(
    client: Client,
    identity: watch::Receiver<Option<Identity>>,
    trusted: &watch::Sender<bool>,
) -> Infallible {
    let (mutating_done, mutating) = oneshot::channel();
    let (validating_done, validating) = oneshot::channel();
    let both = async {
        if let (Ok(()), Ok(())) = futures::join!(mutating, validating) {
            trusted.send_replace(true);
        }
    };
    let (never, _, ()) = futures::join!(
        inject_into::<MutatingWebhookConfiguration>(
            client.clone(),
            identity.clone(),
            mutating_done
        ),
        inject_into::<ValidatingWebhookConfiguration>(client, identity, validating_done),
        both,
    );
    never
}

async fn inject_into<K: Webhooks>(
    client: Client,
    mut identity: watch::Receiver<Option<Identity>>,
    done: oneshot::Sender<()>,
) -> Infallible {
    let mut done = Some(done);
    let api: Api<K> = Api::all(client);
    let mut objects = pin!(watch_object(api.clone(), WEBHOOKS).default_backoff());
    let mut seen = None;
    let mut wait = NOTHING_TO_DO;
    loop {
        let event = async {
            tokio::select! {
                object = objects.next() => object,
                Ok(()) = identity.changed() => None,
            }
        };
        match timeout(wait, event).await {
            Ok(Some(Ok(object))) => seen = Some(object),
            Ok(Some(Err(error))) => {
                let kind = K::kind(&());
                warn!("watching {kind} {WEBHOOKS}: {}", Chain(&error));
                continue;
            }
            Ok(None) | Err(_) => {}
        }
        let trusted = identity.borrow_and_update();
        let trusted = trusted.as_ref().map(|identity| identity.trusted.clone());
        // Until both are known, there is nothing to compare.
        let (Some(object), Some(trusted)) = (&seen, trusted) else {
            continue;
        };
        let patch = object.as_ref();
        let patch = patch.and_then(|object| injection(object, &trusted));
        wait = match patch {
            Some(patch) => write(&api, &patch).await,
            None => {
                if let Some(done) = done.take() {
                    // Who is not waiting need not know.
                    let _ = done.send(());
                }
                NOTHING_TO_DO
            }
        };
    }
}

async fn write<K: Webhooks>(api: &Api<K>, patch: &Value) -> Duration {
    let kind = K::kind(&());
    let params = PatchParams::apply("virt-controller").force();
    match api.patch(WEBHOOKS, &params, &Patch::Apply(patch)).await {
        Ok(_) => {
            info!("{kind} {WEBHOOKS} trusts the present authorities");
            NOTHING_TO_DO
        }
        Err(error) => {
            warn!("writing {kind} {WEBHOOKS}: {}", Chain(&error));
            RETRY_AFTER
        }
    }
}

/// What to apply so that each webhook trusts `trusted`; none if each does.
pub(super) fn injection<K: Webhooks>(object: &K, trusted: &str) -> Option<Value> {
    let trusts = |client: &WebhookClientConfig| {
        client
            .ca_bundle
            .as_ref()
            .is_some_and(|bundle| bundle.0 == trusted.as_bytes())
    };
    let clients = object.clients();
    if clients.iter().all(|(_, client)| trusts(client)) {
        return None;
    }
    let bundle = ByteString(trusted.as_bytes().to_vec());
    let webhooks = clients
        .iter()
        .map(|(name, _)| json!({ "name": name, "clientConfig": { "caBundle": bundle } }));
    Some(json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "webhooks": webhooks.collect::<Vec<_>>(),
    }))
}

/// A configuration of webhooks.
pub(super) trait Webhooks:
    Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + 'static
{
    /// Each webhook's name, and how it is reached.
    fn clients(&self) -> Vec<(&str, &WebhookClientConfig)>;
}

impl Webhooks for MutatingWebhookConfiguration {
    fn clients(&self) -> Vec<(&str, &WebhookClientConfig)> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks
            .map(|webhook| (webhook.name.as_str(), &webhook.client_config))
            .collect()
    }
}

impl Webhooks for ValidatingWebhookConfiguration {
    fn clients(&self) -> Vec<(&str, &WebhookClientConfig)> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks
            .map(|webhook| (webhook.name.as_str(), &webhook.client_config))
            .collect()
    }
}
