//! What VMs keep their disks on.

use serde_json::{Value, json};

use crate::api::{Api, BUSYBOX, on_the_node, pod};

pub(crate) async fn a_local_claim_keeps_files(api: &Api) {
    let namespace = &api.namespace("files").await;
    let node = &first_node(api).await;
    api.run_pod(namespace, on_the_node("node", node)).await;
    api.shell(namespace, "node", &format!("mkdir -p /node/{namespace}"))
        .await;
    let path = format!("/var/lib/ferrovirt-e2e/{namespace}");
    claim(api, namespace, "disk", node, "Filesystem", &path).await;

    let mounts = json!({"volumeMounts": [{"name": "disk", "mountPath": "/disk"}]});
    api.run_pod(namespace, with_claim("writer", &mounts)).await;
    api.shell(namespace, "writer", "echo kept >/disk/file")
        .await;
    api.remove_pod(namespace, "writer").await;
    api.run_pod(namespace, with_claim("reader", &mounts)).await;
    assert_eq!(
        api.shell(namespace, "reader", "cat /disk/file").await,
        "kept\n"
    );

    api.remove_pod(namespace, "reader").await;
    api.shell(namespace, "node", &format!("rm -r /node/{namespace}"))
        .await;
    api.delete("v1", "PersistentVolume", None, namespace).await;
}

pub(crate) async fn a_local_claim_is_a_device(api: &Api) {
    let namespace = &api.namespace("block").await;
    let device = use_device(api, namespace).await;

    let script = "test -b /dev/disk && echo kept | dd of=/dev/disk conv=fsync 2>&-";
    api.shell(namespace, "guest", script).await;
    api.remove_pod(namespace, "guest").await;
    let kept = api
        .shell(namespace, "node", &format!("head -c 5 /node/{namespace}"))
        .await;
    assert_eq!(kept, "kept\n");

    api.delete("v1", "PersistentVolume", None, namespace).await;
    let detach = format!("losetup -d {device} && rm /node/{namespace}");
    api.shell(namespace, "node", &detach).await;
}

/// Makes a loop device on a node, and a pod `guest` that has it as `/dev/disk`; returns its path.
pub(crate) async fn use_device(api: &Api, namespace: &str) -> String {
    let node = &first_node(api).await;
    api.run_pod(namespace, on_the_node("node", node)).await;
    // `losetup -f FILE` does not say which device it took, and between asking and taking another may.
    let attach = format!(
        "truncate -s 8M /node/{namespace}
         for attempt in 1 2 3 4 5 6 7 8 9; do
             device=$(losetup -f) && losetup $device /node/{namespace} && echo -n $device && exit
         done
         exit 1"
    );
    let device = api.shell(namespace, "node", &attach).await;
    claim(api, namespace, "disk", node, "Block", &device).await;
    let devices = json!({"volumeDevices": [{"name": "disk", "devicePath": "/dev/disk"}]});
    api.run_pod(namespace, with_claim("guest", &devices)).await;
    device
}

pub(crate) async fn a_config_map_is_a_directory(api: &Api) {
    let namespace = &api.namespace("config").await;
    api.apply(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config", "namespace": namespace},
        "data": {"user-data": "#cloud-config\n"},
    }))
    .await;
    let container = json!({
        "image": BUSYBOX, "command": ["sleep", "infinity"],
        "volumeMounts": [{"name": "config", "mountPath": "/config"}],
    });
    let mut reader = pod("reader", None, container);
    reader["spec"]["volumes"] = json!([{"name": "config", "configMap": {"name": "config"}}]);
    api.run_pod(namespace, reader).await;
    let data = api
        .shell(namespace, "reader", "cat /config/user-data")
        .await;
    assert_eq!(data, "#cloud-config\n");
}

async fn first_node(api: &Api) -> String {
    let nodes = api.nodes().await.into_iter();
    nodes.min().expect("a cluster has a node")
}

/// A PersistentVolume on a path of the node, named as the namespace, and the claim that takes it.
pub(crate) async fn claim(
    api: &Api,
    namespace: &str,
    name: &str,
    node: &str,
    mode: &str,
    path: &str,
) {
    let size = json!({"storage": "64Mi"});
    api.apply(json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": namespace},
        "spec": {
            "capacity": size, "volumeMode": mode, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "local": {"path": path}, "claimRef": {"name": name, "namespace": namespace},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
            ]}]}},
        },
    }))
    .await;
    api.apply(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "volumeMode": mode, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "volumeName": namespace, "resources": {"requests": size},
        },
    }))
    .await;
}

fn with_claim(name: &str, uses: &Value) -> Value {
    let mut container = uses.clone();
    container["image"] = json!(BUSYBOX);
    container["command"] = json!(["sleep", "infinity"]);
    let mut pod = pod(name, None, container);
    pod["spec"]["volumes"] =
        json!([{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}]);
    pod
}
