//! The node's labels and the handler's heartbeat: one write a minute, and one when something changes.

use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube_client::api::{Patch, PatchParams};
use kube_client::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Facts;
use super::labels::{HEARTBEAT, labels};

/// Whose the labels are (server-side apply's field manager).
const MANAGER: &str = "virt-handler";

/// How often the heartbeat is written, as KubeVirt's.
const PERIOD: Duration = Duration::from_secs(60);

/// How long a kubelet that does not know the resources may take until the node is said to have none:
/// handlers and kubelets start again, and that is not news.
const SETTLE: Duration = Duration::from_secs(10);

/// The first pause after a write that failed; the longest is [`PERIOD`].
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the node's labels true, for as long as the handler lives. `offered` tells whether the
/// kubelet knows the node's resources: a node whose kubelet does not gets no virtual machine.
///
/// The labels stay when the handler ends: the kubelet stops giving out its resources at once, so new
/// pods wait in any case, and an update of the handler writes nothing twice.
pub async fn keep_labels(
    client: Client,
    node: &str,
    facts: &Facts,
    mut offered: watch::Receiver<bool>,
) -> Infallible {
    let nodes: Api<Node> = Api::all(client);
    let params = PatchParams::apply(MANAGER).force();
    let mut pause = PAUSE;
    loop {
        let known = timeout(SETTLE, offered.wait_for(|known| *known)).await;
        let schedulable = known.is_ok_and(|known| known.is_ok());
        let patch = Patch::Apply(metadata(node, facts, schedulable, Timestamp::now()));
        let wait = match nodes.patch_metadata(node, &params, &patch).await {
            Ok(_) => {
                pause = PAUSE;
                PERIOD
            }
            Err(error) => {
                tracing::warn!("cannot label the node {node}: {error}");
                pause = (pause * 2).min(PERIOD);
                pause
            }
        };
        // The handler ends with the one who tells of changes.
        let _ = timeout(wait, offered.changed()).await;
    }
}

/// All that the handler says about the node.
fn metadata(node: &str, facts: &Facts, schedulable: bool, now: Timestamp) -> Value {
    // Whole seconds, as every other time of the API.
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node,
            "labels": labels(facts, schedulable),
            "annotations": { HEARTBEAT: now },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::labels::SCHEDULABLE;

    #[test]
    fn nothing_but_metadata_is_applied() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let applied = metadata("node1", &Facts::default(), true, now);
        assert_eq!(applied["metadata"]["name"], "node1");
        assert_eq!(applied["metadata"]["labels"][SCHEDULABLE], "true");
        let heartbeat = &applied["metadata"]["annotations"][HEARTBEAT];
        assert_eq!(heartbeat, "2023-11-14T22:13:20Z");
        assert_eq!(applied.as_object().unwrap().len(), 3);
    }
}
