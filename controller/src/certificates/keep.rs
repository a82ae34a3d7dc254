//! Keeping the Secrets as their plans want them, and handing on what they hold.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube_client::api::PostParams;
use kube_client::{Api, Client};
use tokio::sync::watch;
use tracing::{info, warn};

use super::attend::{CHECK_EVERY, RETRY_AFTER, attend};
use super::{
    Bundle, Flaw, HANDLER_SECRET, HandlerStep, Identity, IssueError, SECRET, Step, plan,
    plan_handler, server_names,
};
use crate::error::Chain;

/// A Secret could not be brought up to date.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("making a certificate")]
    Issue(#[from] IssueError),
    #[error("writing Secret {name}")]
    Write {
        name: &'static str,
        source: kube_client::Error,
    },
}

/// Keeps the certificates of the server in `namespace`, for ever; `identity` gets them at once
/// and whenever they change. `authority` gets the whole when nothing is to be done about it: what
/// others can be made from.
pub async fn keep(
    client: Client,
    namespace: &str,
    identity: &watch::Sender<Option<Identity>>,
    authority: &watch::Sender<Option<Arc<Bundle>>>,
) -> Infallible {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let names = server_names(namespace);
    // It is made from nothing but the time.
    let (_, nothing) = watch::channel(());
    attend(api.clone(), SECRET, nothing, async |secret, ()| {
        let tended = tend(&api, secret, &names, identity, authority).await;
        next_look(tended)
    })
    .await
}

/// Keeps the certificates of the handlers in `namespace`, which mount them, for ever.
pub async fn keep_handlers(
    client: Client,
    namespace: &str,
    authority: watch::Receiver<Option<Arc<Bundle>>>,
) -> Infallible {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    attend(
        api.clone(),
        HANDLER_SECRET,
        authority,
        async |secret, authority| match authority {
            Some(authority) => next_look(tend_handlers(&api, secret, authority).await),
            None => CHECK_EVERY,
        },
    )
    .await
}

fn next_look(tended: Result<(), KeepError>) -> Duration {
    match tended {
        Ok(()) => CHECK_EVERY,
        Err(error) => {
            warn!("{}", Chain(&error));
            RETRY_AFTER
        }
    }
}

/// Hands on what the Secret holds, and does what there is to do about it.
async fn tend(
    api: &Api<Secret>,
    secret: Option<&Secret>,
    names: &[String],
    identity: &watch::Sender<Option<Identity>>,
    authority: &watch::Sender<Option<Arc<Bundle>>>,
) -> Result<(), KeepError> {
    let now = Timestamp::now();
    let found = secret.map_or(Err(Flaw::Missing), |secret| Bundle::read(&data(secret)));
    if let Ok(served) = found.as_ref().map_err(Clone::clone).and_then(Identity::of) {
        identity.send_replace(Some(served));
    }
    match plan(&found, names, now) {
        Step::Keep => {
            authority.send_replace(found.ok().map(Arc::new));
            Ok(())
        }
        step => {
            info!("making {step}");
            let data = step.perform(found, names, now)?.write();
            write(api, SECRET, secret, data).await
        }
    }
}

/// Does what there is to do about the handlers' Secret.
async fn tend_handlers(
    api: &Api<Secret>,
    secret: Option<&Secret>,
    authority: &Bundle,
) -> Result<(), KeepError> {
    let now = Timestamp::now();
    let found = secret.map(data).unwrap_or_default();
    match plan_handler(&found, authority, now) {
        HandlerStep::Keep => Ok(()),
        step => {
            info!("for virt-handler, making {step}");
            let data = step.perform(found, authority, now)?;
            write(api, HANDLER_SECRET, secret, data).await
        }
    }
}

fn data(secret: &Secret) -> BTreeMap<String, ByteString> {
    secret.data.clone().unwrap_or_default()
}

async fn write(
    api: &Api<Secret>,
    name: &'static str,
    seen: Option<&Secret>,
    data: BTreeMap<String, ByteString>,
) -> Result<(), KeepError> {
    let written = match seen {
        Some(seen) => {
            let secret = Secret {
                data: Some(data),
                ..seen.clone()
            };
            api.replace(name, &PostParams::default(), &secret).await
        }
        None => {
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
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
        written => written
            .map(drop)
            .map_err(|source| KeepError::Write { name, source }),
    }
}
