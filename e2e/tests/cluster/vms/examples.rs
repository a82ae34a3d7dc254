//! KubeVirt's own examples, applied as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{kubevirt_examples, repository};
use serde_json::json;

use super::guest::{Guest, echo};
use super::install::Installation;
use crate::api::{Api, eventually, on_the_node, sleeper};
use crate::volumes::claim;

/// A file of the examples, the machine or instance in it, and whether that is a machine.
const EXAMPLES: [(&str, &str, bool); 10] = [
    ("vm-cirros.yaml", "vm-cirros", true),
    ("vm-cirros-sata.yaml", "vm-cirros-sata", true),
    ("vm-priorityclass.yaml", "vm-non-preemtible", true),
    ("vmi-ephemeral.yaml", "vmi-ephemeral", false),
    ("vmi-host-disk.yaml", "vmi-host-disk", false),
    ("vmi-kernel-boot.yaml", "vmi-kernel-boot", false),
    ("vmi-masquerade.yaml", "vmi-masquerade", false),
    ("vmi-nocloud.yaml", "vmi-nocloud", false),
    ("vmi-pvc.yaml", "vmi-pvc", false),
    ("vmi-sata.yaml", "vmi-sata", false),
];

/// Every example runs, shows its address, answers a ping by it from another pod, and is found by a
/// Service with its labels.
pub(crate) async fn each_example_runs(ferrovirt: &Installation<'_>) {
    let Some(examples) = kubevirt_examples() else {
        println!("skipped: KubeVirt's examples are not here");
        return;
    };
    let files = fs::read_dir(&examples).expect("the examples can be listed");
    let files: Vec<_> = files.flatten().map(|file| file.file_name()).collect();
    for file in &files {
        let known = EXAMPLES.iter().any(|(known, _, _)| file == *known);
        assert!(known, "{file:?} is an example that this test does not run");
    }
    let api = ferrovirt.api;
    let namespace = &api.namespace("examples").await;
    let nodes = prepare(ferrovirt, namespace).await;
    api.run_pod(namespace, sleeper("peer", None)).await;
    // Two at a time: a guest boots on an emulated processor.
    for pair in EXAMPLES.chunks(2) {
        let runs = pair.iter().map(|(file, name, machine)| {
            runs(ferrovirt, namespace, examples.join(file), name, *machine)
        });
        futures::future::join_all(runs).await;
    }
    clean(api, namespace, &nodes).await;
}

async fn runs(
    ferrovirt: &Installation<'_>,
    namespace: &str,
    file: PathBuf,
    name: &str,
    machine: bool,
) {
    let api = ferrovirt.api;
    let path = file.display().to_string();
    ferrovirt.kubectl(&["apply", "-n", namespace, "-f", &path]);
    let guest = Guest {
        api,
        namespace,
        name,
    };
    if machine {
        guest.printable("Stopped").await;
        api.request_state(namespace, name, json!([{"action": "Start"}]))
            .await;
    }
    let vmi = guest.phase("Running").await;
    let address = guest
        .wait_vmi("addressed", |vmi| {
            let address = vmi["status"]["interfaces"][0]["ipAddress"].as_str()?;
            Some(address.to_owned())
        })
        .await;
    // What `kubectl get vmi` shows as its IP.
    let table = ferrovirt.kubectl(&["get", "vmi", "-n", namespace, name, "--no-headers"]);
    assert!(
        table.contains(&address) && table.contains("Running"),
        "{table}"
    );
    // A ping by the address itself. Behind masquerade, port 80 only is the guest's.
    let masquerade = name == "vmi-masquerade";
    if !masquerade {
        eventually(&format!("{name} answers at {address}"), async || {
            let script = format!("ping -c 1 -W 2 {address}");
            api.try_shell(namespace, "peer", &script).await.ok()
        })
        .await;
        eventually("its echo server", async || echo(&address).await).await;
    }
    let labels = &vmi["metadata"]["labels"];
    assert!(labels.is_object(), "{vmi:#}");
    let port = if masquerade { 80 } else { 7 };
    api.apply(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": labels, "ports": [{"port": 1000, "targetPort": port}]},
    }))
    .await;
    eventually(&format!("the Service leads to {name}"), async || {
        let script = if masquerade {
            // No package can be had here, so nobody listens: a refusal comes from the guest.
            format!("nc -w 2 {name} 1000 </dev/null 2>&1 | grep -q refused")
        } else {
            format!("echo hello | nc -w 2 {name} 1000 | grep -q hello")
        };
        api.try_shell(namespace, "peer", &script).await.ok()
    })
    .await;
    ferrovirt.kubectl(&["delete", "-n", namespace, "-f", &path, "--wait"]);
    assert_eq!(guest.vmi().await, None);
}

/// What the examples take for granted: a priority class, a claim and a file of the node's.
async fn prepare(ferrovirt: &Installation<'_>, namespace: &str) -> Vec<String> {
    let api = ferrovirt.api;
    ferrovirt
        .configure(json!({"developerConfiguration": {
            "useEmulation": true, "featureGates": ["HostDisk"],
        }}))
        .await;
    api.apply(json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": "non-preemtible"}, "value": 999_999_999, "preemptionPolicy": "Never",
    }))
    .await;
    let image = packed(&repository().join("e2e/out/mini-generic/disk.img"));
    let nodes = api.nodes().await;
    for node in &nodes {
        let name = on(node);
        api.run_pod(namespace, on_the_node(&name, node)).await;
        // As the owner of a machine's disk on a node would leave it.
        let script = format!(
            "mkdir -p /node/{namespace} /proc/1/root/var/data && cd /node/{namespace} &&
             gunzip >disk.img && cp disk.img /proc/1/root/var/data && chown -R 107:107 ."
        );
        api.feed(namespace, &name, &script, &image).await;
    }
    let path = format!("/var/lib/ferrovirt-e2e/{namespace}");
    claim(
        api,
        namespace,
        "disk-alpine",
        &nodes[0],
        "Filesystem",
        &path,
    )
    .await;
    nodes
}

async fn clean(api: &Api, namespace: &str, nodes: &[String]) {
    for node in nodes {
        let script = format!("rm -r /node/{namespace} /proc/1/root/var/data");
        api.shell(namespace, &on(node), &script).await;
    }
    api.delete(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        None,
        "non-preemtible",
    )
    .await;
    api.delete("v1", "PersistentVolume", None, namespace).await;
}

/// The pod that prepares a node.
fn on(node: &str) -> String {
    format!("on-{node}")
}

/// A file, as gzip packs it.
fn packed(file: &Path) -> Vec<u8> {
    let output = Command::new("gzip").arg("-1c").arg(file).output();
    let output = output.expect("gzip starts");
    assert!(output.status.success(), "{}", file.display());
    output.stdout
}
