//! Telling the API server whom to trust: `caBundle` of whatever has it call this server.

use std::convert::Infallible;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube_client::api::{Patch, PatchParams};
use kube_client::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use super::attend::{CHECK_EVERY, RETRY_AFTER, attend};
use super::{Identity, WEBHOOKS};
use crate::api;
use crate::error::Chain;

/// Keeps `caBundle` in the configurations of the webhooks and in the APIServices, for ever;
/// `trusted` becomes true when both configurations have it, or are not there, so that no API
/// server asks before it can trust the answer. (Of an APIService it finds out by itself.)
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
    let (client, identity) = (&client, &identity);
    let services = api::service_names()
        .map(|name| async move { inject_into::<APIService>(client, &name, identity, None).await });
    let (never, _, _, ()) = futures::join!(
        inject_into::<MutatingWebhookConfiguration>(
            client,
            WEBHOOKS,
            identity,
            Some(mutating_done)
        ),
        inject_into::<ValidatingWebhookConfiguration>(
            client,
            WEBHOOKS,
            identity,
            Some(validating_done)
        ),
        futures::future::join_all(services),
        both,
    );
    never
}

async fn inject_into<K: Caller>(
    client: &Client,
    name: &str,
    identity: &watch::Receiver<Option<Identity>>,
    mut done: Option<oneshot::Sender<()>>,
) -> Infallible {
    let api: Api<K> = Api::all(client.clone());
    attend(
        api.clone(),
        name,
        identity.clone(),
        async |object, identity| {
            // Until it is known whom to trust, there is nothing to compare.
            let Some(identity) = identity else {
                return CHECK_EVERY;
            };
            match object.and_then(|object| injection(object, &identity.trusted)) {
                Some(patch) => write(&api, name, &patch).await,
                None => {
                    if let Some(done) = done.take() {
                        // Who is not waiting need not know.
                        let _ = done.send(());
                    }
                    CHECK_EVERY
                }
            }
        },
    )
    .await
}

async fn write<K: Caller>(api: &Api<K>, name: &str, patch: &Value) -> Duration {
    let kind = K::kind(&());
    let params = PatchParams::apply("virt-controller").force();
    match api.patch(name, &params, &Patch::Apply(patch)).await {
        Ok(_) => {
            info!("{kind} {name} trusts the present authorities");
            CHECK_EVERY
        }
        Err(error) => {
            warn!("writing {kind} {name}: {}", Chain(&error));
            RETRY_AFTER
        }
    }
}

/// What to apply so that each call of `object`'s trusts `trusted`; none if each does.
pub(super) fn injection<K: Caller>(object: &K, trusted: &str) -> Option<Value> {
    let bundle = ByteString(trusted.as_bytes().to_vec());
    let mut patch = object.with_bundle(&bundle)?;
    patch["apiVersion"] = K::api_version(&()).into();
    patch["kind"] = K::kind(&()).into();
    Some(patch)
}

/// An object that has the API server call this server.
pub(super) trait Caller:
    Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + 'static
{
    /// What to apply so that the server is known by `bundle`; none if it is.
    fn with_bundle(&self, bundle: &ByteString) -> Option<Value>;
}

impl Caller for MutatingWebhookConfiguration {
    fn with_bundle(&self, bundle: &ByteString) -> Option<Value> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks_with(
            webhooks.map(|webhook| (webhook.name.as_str(), &webhook.client_config)),
            bundle,
        )
    }
}

impl Caller for ValidatingWebhookConfiguration {
    fn with_bundle(&self, bundle: &ByteString) -> Option<Value> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks_with(
            webhooks.map(|webhook| (webhook.name.as_str(), &webhook.client_config)),
            bundle,
        )
    }
}

impl Caller for APIService {
    fn with_bundle(&self, bundle: &ByteString) -> Option<Value> {
        let spec = self.spec.as_ref()?;
        // One with no service is the API server's own.
        if spec.service.is_none() || spec.ca_bundle.as_ref() == Some(bundle) {
            return None;
        }
        Some(json!({ "spec": { "caBundle": bundle } }))
    }
}

/// Each webhook has a name, and how it is reached.
fn webhooks_with<'a>(
    webhooks: impl Iterator<Item = (&'a str, &'a WebhookClientConfig)> + Clone,
    bundle: &ByteString,
) -> Option<Value> {
    let mut clients = webhooks.clone();
    if clients.all(|(_, client)| client.ca_bundle.as_ref() == Some(bundle)) {
        return None;
    }
    let webhooks =
        webhooks.map(|(name, _)| json!({ "name": name, "clientConfig": { "caBundle": bundle } }));
    Some(json!({ "webhooks": webhooks.collect::<Vec<_>>() }))
}
