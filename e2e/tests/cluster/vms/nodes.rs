//! Nodes that are drained, and nodes that die.

use super::guest::{Guest, TAKEN, VM, VMI, condition, mini};
use super::install::Installation;
use crate::api::eventually;

/// Drains the node of an Always machine: it runs on the other one, and never on both.
pub(crate) async fn a_drained_node_is_left(ferrovirt: &Installation<'_>) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("drained").await;
    let guest = Guest::machine(api, namespace, "moving", "Always", mini()).await;
    let before = guest.phase("Running").await;
    let node = before["status"]["nodeName"]
        .as_str()
        .expect("it is on a node");
    ferrovirt.kubectl(&["cordon", node]);
    for pod in guest.pods().await {
        api.evict(namespace, &pod).await;
    }
    let after = guest
        .wait_vmi("on the other node", |vmi| {
            let moved = vmi["status"]["phase"] == "Running" && vmi["status"]["nodeName"] != node;
            moved.then(|| vmi.clone())
        })
        .await;
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(guest.pods().await.len(), 1);
    guest.told(VMI, &TAKEN).await;
    let again = ["Normal SuccessfulCreate", "Normal SuccessfulDelete"];
    guest.told(VM, &again).await;
    ferrovirt.kubectl(&["uncordon", node]);
    guest.delete("VirtualMachine").await;
}

/// A power cut: the machine is Unknown while nobody can tell, and starts elsewhere only when its pod
/// is surely gone.
pub(crate) async fn a_dead_nodes_machine_waits_for_certainty(ferrovirt: &Installation<'_>) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("dead").await;
    let guest = Guest::machine(api, namespace, "orphan", "Always", mini()).await;
    let before = guest.phase("Running").await;
    let node = before["status"]["nodeName"]
        .as_str()
        .expect("it is on a node")
        .to_owned();
    if !ferrovirt.cluster.node("kill", &node) {
        println!("skipped: another's nodes are not killed");
        guest.delete("VirtualMachine").await;
        return;
    }
    let vmi = guest.phase("Unknown").await;
    let ready = condition(&vmi, "Ready").expect("it is told");
    assert_eq!(ready["status"], "False", "{vmi:#}");
    guest.printable("Unknown").await;
    guest.told(VMI, &["Warning NodeNotReady"]).await;
    let pods = guest.pods().await;
    assert_eq!(pods.len(), 1, "nobody knows that it ended: {pods:?}");
    // Whoever knows that the node is off says so as Kubernetes has it.
    let taint = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute";
    ferrovirt.kubectl(&["taint", "node", &node, taint]);
    ferrovirt.kubectl(&[
        "delete",
        "pod",
        "-n",
        namespace,
        &pods[0],
        "--force",
        "--grace-period=0",
        // The taint may have taken it away already.
        "--ignore-not-found",
    ]);
    guest
        .wait_vmi("on the other node", |vmi| {
            let moved = vmi["status"]["phase"] == "Running" && vmi["status"]["nodeName"] != node;
            moved.then_some(())
        })
        .await;
    ferrovirt.kubectl(&["taint", "node", &node, &format!("{taint}-")]);
    assert!(ferrovirt.cluster.node("start", &node));
    eventually("the node is back", async || {
        api.nodes().await.contains(&node).then_some(())
    })
    .await;
    ferrovirt.ready().await;
    assert_eq!(guest.pods().await.len(), 1);
    guest.delete("VirtualMachine").await;
}
