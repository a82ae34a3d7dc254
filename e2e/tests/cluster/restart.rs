//! A node's programs end and come back.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::api::{Api, eventually, on_the_node, ready_pod, sleeper};

pub(crate) async fn pods_outlive_the_kubelet_and_containerd(api: &Api) {
    let namespace = &api.namespace("restart").await;
    let nodes = api.nodes().await;
    let node = nodes.iter().min().expect("a cluster has a node");
    api.run_pod(namespace, on_the_node("node", node)).await;
    let before = api.run_pod(namespace, sleeper("before", Some(node))).await;

    for program in ["kubelet", "containerd"] {
        let pid = api
            .shell(namespace, "node", &format!("pidof {program}"))
            .await;
        // What the script itself runs through may be what it ends.
        let _ = api
            .try_shell(namespace, "node", &format!("kill -9 {pid}"))
            .await;
        eventually(&format!("{program} runs again"), async || {
            let now = api
                .try_shell(namespace, "node", &format!("pidof {program}"))
                .await;
            now.ok().filter(|now| *now != pid)
        })
        .await;
        let after = format!("after-{program}");
        api.run_pod(namespace, sleeper(&after, Some(node))).await;
    }

    let still = api.wait_pod(namespace, "before", "ready", ready_pod).await;
    assert_eq!(
        containers(&still),
        containers(&before),
        "the pod was not touched"
    );
}

/// Each container's id and how often it was started anew.
fn containers(pod: &Pod) -> Vec<(Option<String>, i32)> {
    let statuses = pod.status.iter();
    let statuses = statuses.flat_map(|status| status.container_statuses.iter().flatten());
    let identity = |status: &ContainerStatus| (status.container_id.clone(), status.restart_count);
    statuses.map(identity).collect()
}
