//! Keeping the Secret as [`plan`] wants it, and handing on what it holds.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube_client::api::PostParams;
use kube_client::{Api, Client};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::watch_object;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Bundle, Flaw, Identity, IssueError, SECRET, Step, plan, server_names};
use crate::error::Chain;

/// How often the time is looked at. It is the wall clock that counts, which may be set.
const CHECK_EVERY: Duration = Duration::from_secs(15 * 60);
/// How soon a write that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The Secret could not be brought up to date.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("making a certificate")]
    Issue(#[from] IssueError),
    #[error("writing Secret {SECRET}")]
    Write(#[source] kube_client::Error),
}

/// Keeps the certificates of the server in `namespace`, for ever; `identity` gets them at once
/// and whenever they change.
pub async fn keep(
    client: Client,
    namespace: &str,
    identity: &watch::Sender<Option<Identity>>,
) -> Infallible {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let names = server_names(namespace);
    let mut secrets = pin!(watch_object(api.clone(), SECRET).default_backoff());
    let mut seen = None;
    let mut wait = CHECK_EVERY;
    loop {
        match timeout(wait, secrets.next()).await {
            Ok(Some(Ok(secret))) => seen = Some(secret),
            Ok(Some(Err(error))) => {
                warn!("watching Secret {SECRET}: {}", Chain(&error));
                continue;
            }
            Ok(None) => std::future::pending().await,
            Err(_elapsed) => {}
        }
        let Some(secret) = &seen else { continue };
        wait = match tend(&api, secret.as_ref(), &names, identity).await {
            Ok(()) => CHECK_EVERY,
            Err(error) => {
                warn!("{}", Chain(&error));
                RETRY_AFTER
            }
        };
    }
}

/// Hands on what the Secret holds, and does what there is to do about it.
async fn tend(
    api: &Api<Secret>,
    secret: Option<&Secret>,
    names: &[String],
    identity: &watch::Sender<Option<Identity>>,
) -> Result<(), KeepError> {
    let now = Timestamp::now();
    let found = secret.map_or(Err(Flaw::Missing), |secret| {
        Bundle::read(secret.data.as_ref().unwrap_or(&BTreeMap::new()))
    });
    if let Ok(served) = found.as_ref().map_err(Clone::clone).and_then(Identity::of) {
        identity.send_replace(Some(served));
    }
    let step = plan(&found, names, now);
    if step == Step::Keep {
        return Ok(());
    }
    info!("making {step}");
    let data = step.perform(found, names, now)?.write();
    let written = match secret {
        Some(secret) => {
            let secret = Secret {
                data: Some(data),
                ..secret.clone()
            };
            api.replace(SECRET, &PostParams::default(), &secret).await
        }
        None => {
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(SECRET.to_owned()),
                    ..ObjectMeta::default()
                },
                data: Some(data),
                type_: Some("kubernetes.io/tls".to_owned()),
                ..Secret::default()
            };
            api.create(&PostParams::default(), &secret).await
        }
    };
    match written {
        // Another replica was first; its Secret is on its way here.
        Err(kube_client::Error::Api(status)) if status.code == 409 => Ok(()),
        written => written.map(drop).map_err(KeepError::Write),
    }
}
