//! The cluster's settings: the object `kubevirt` in the controller's namespace.

use std::convert::Infallible;
use std::pin::pin;

use crds::KubeVirt;
use futures::{StreamExt, future};
use kube_client::{Api, Client};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::watch_object;
use tokio::sync::watch::Sender;
use tracing::{info, warn};

use super::watch::Waits;
use crate::config::Settings;
use crate::error::Chain;
use crate::metrics::Metrics;

/// The one object that counts.
pub(super) const NAME: &str = "kubevirt";

/// Follows the settings, for ever. `to` gets them whenever they change; `known` is told when they
/// are known for the first time.
pub async fn follow_settings(
    client: Client,
    namespace: &str,
    to: &Sender<Settings>,
    known: &Sender<bool>,
    metrics: &Metrics,
) -> Infallible {
    let api: Api<KubeVirt> = Api::namespaced(client, namespace);
    let mut objects = pin!(watch_object(api, NAME).backoff(Waits::default()));
    while let Some(object) = objects.next().await {
        let settings = match object {
            Ok(object) => object.as_ref().map(Settings::from).unwrap_or_default(),
            Err(error) => {
                warn!("watching KubeVirt {NAME}: {}", Chain(&error));
                continue;
            }
        };
        metrics.set_emulation(settings.use_emulation);
        let changed = to.send_if_modified(|before| {
            let changed = *before != settings;
            before.clone_from(&settings);
            changed
        });
        if changed {
            info!(?settings, "settings");
        }
        known.send_replace(true);
    }
    // A watch does not end.
    future::pending().await
}
