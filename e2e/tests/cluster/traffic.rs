//! Pods on two nodes, and the ways from one to another.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::api::{Api, PROBE, eventually, pod};

pub(crate) async fn pods_reach_each_other(api: &Api) {
    let namespace = &api.namespace("traffic").await;
    let nodes = api.nodes().await;
    let [first, second, ..] = nodes.as_slice() else {
        panic!("two nodes are wanted; ready are {nodes:?}");
    };
    let probe = |name, node| {
        let container = json!({"image": PROBE, "imagePullPolicy": "Always", "readinessProbe": {
            "httpGet": {"port": 8080}, "periodSeconds": 1,
        }});
        api.run_pod(namespace, pod(name, Some(node), container))
    };
    let (one, two) = tokio::join!(probe("one", first), probe("two", second));

    for (from, from_addresses, to, to_addresses) in [
        ("one", addresses(&one), "two", addresses(&two)),
        ("two", addresses(&two), "one", addresses(&one)),
    ] {
        for (own, other) in from_addresses.iter().zip(&to_addresses) {
            let url = format!("http://{}:8080/", in_url(other));
            let answer = fetch(api, namespace, from, &url).await;
            assert_eq!(answer, format!("{to} sees {own}\n"), "{from} to {url}");
        }
    }

    let service = api.apply(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "two", "namespace": namespace},
        "spec": {
            "selector": {"app": "two"}, "ipFamilyPolicy": "RequireDualStack",
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    }));
    let service = service.await;
    let virtual_addresses = service.data["spec"]["clusterIPs"].as_array();
    let virtual_addresses = virtual_addresses.expect("a Service has addresses");
    assert_eq!(virtual_addresses.len(), 2, "{virtual_addresses:?}");
    let names = virtual_addresses
        .iter()
        .filter_map(|address| address.as_str());
    for to in names.chain(["two", &format!("two.{namespace}.svc.cluster.local")]) {
        let url = format!("http://{}/", in_url(to));
        // kube-proxy and CoreDNS hear of a new Service a moment later.
        let answer = fetch(api, namespace, "one", &url).await;
        assert!(answer.starts_with("two sees "), "{url}: {answer}");
    }

    let logs = api.logs(namespace, "two").await;
    assert!(logs.contains("listening"), "{logs}");
}

/// What a pod is answered, once it is.
async fn fetch(api: &Api, namespace: &str, pod: &str, url: &str) -> String {
    let script = format!("timeout 10 wget -qO- {url}");
    eventually(url, async || {
        api.try_shell(namespace, pod, &script).await.ok()
    })
    .await
}

/// A pod's addresses, IPv4 before IPv6.
///
/// # Panics
/// Where it has not one of each.
fn addresses(pod: &Pod) -> [String; 2] {
    let addresses = pod
        .status
        .iter()
        .flat_map(|status| status.pod_ips.iter().flatten());
    let mut addresses: Vec<_> = addresses.map(|address| address.ip.clone()).collect();
    addresses.sort_by_key(|address| address.contains(':'));
    match addresses.as_slice() {
        [v4, v6] if !v4.contains(':') && v6.contains(':') => [v4.clone(), v6.clone()],
        other => panic!("a pod of a dual-stack cluster has two addresses: {other:?}"),
    }
}

fn in_url(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}
