//! How guests reboot and end, by their own will and against it.

use serde_json::{Value, json};

use super::guest::{Guest, TAKEN, VM, VMI, holds, mini};
use super::install::Installation;
use crate::api::{Api, on_the_node};

pub(crate) async fn each_end_is_told_as_it_was(ferrovirt: &Installation<'_>) {
    let namespace = &ferrovirt.api.namespace("ends").await;
    let api = ferrovirt.api;
    tokio::join!(
        a_reboot_is_none(api, namespace),
        a_killed_qemu_is_a_failure(api, namespace),
    );
    tokio::join!(
        a_deletion_during_the_start_leaves_nothing(api, namespace),
        an_eviction_is_a_failure_and_always_comes_back(api, namespace),
        a_new_template_waits_for_a_restart(api, namespace),
    );
    a_failing_machine_backs_off(api, namespace).await;
}

async fn a_reboot_is_none(api: &Api, namespace: &str) {
    let guest = Guest::instance(api, namespace, "reboots", mini()).await;
    let address = guest.answers().await;
    let is_ready = |vmi: &Value| holds(vmi, "Ready").then(|| vmi.clone());
    let before = guest.wait_vmi("ready", is_ready).await;
    guest.mark(&address).await;
    guest.shell(&address, "reboot -f").await;
    guest.rebooted(&address).await;
    let after = guest.vmi().await.expect("it runs");
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["status"]["phase"], "Running");
    assert_eq!(
        after["status"]["interfaces"],
        before["status"]["interfaces"]
    );
    assert!(holds(&after, "Ready"), "{after:#}");
    let told = guest.told(VMI, &["Normal Started"]).await;
    let ended = told.iter().any(|event| event.ends_with(" Stopped"));
    assert!(!ended, "{told:?}");
    guest.delete("VirtualMachineInstance").await;
}

async fn a_killed_qemu_is_a_failure(api: &Api, namespace: &str) {
    let guest = Guest::machine(api, namespace, "killed", "RerunOnFailure", mini()).await;
    let vmi = guest.phase("Running").await;
    let first = vmi["metadata"]["uid"].clone();
    let node = vmi["status"]["nodeName"].as_str().expect("it is on a node");
    api.run_pod(namespace, on_the_node("killer", node)).await;
    guest.kill_qemu("killer").await;
    // It failed, so it is run again.
    guest
        .wait_vmi("another one", |vmi| {
            let again = vmi["metadata"]["uid"] != first && vmi["status"]["phase"] == "Running";
            again.then_some(())
        })
        .await;
    guest.printable("Running").await;
    guest.told(VMI, &["Warning Stopped"]).await;
    let again = ["Normal SuccessfulCreate", "Normal SuccessfulDelete"];
    guest.told(VM, &again).await;
    guest.delete("VirtualMachine").await;
}

async fn a_deletion_during_the_start_leaves_nothing(api: &Api, namespace: &str) {
    let phases = ["Scheduling", "Scheduled", "Running"];
    for (at, phase) in phases.iter().enumerate() {
        let name = &format!("deleted-{}", phase.to_lowercase());
        let guest = Guest::instance(api, namespace, name, mini()).await;
        // A pod that is quick to its node leaves its instance no time to be told of as on the way.
        let reached = |entry: &Value| phases[at..].iter().any(|phase| entry["phase"] == *phase);
        guest
            .wait_vmi(phase, |vmi| {
                let told = vmi["status"]["phaseTransitionTimestamps"].as_array()?;
                told.iter().any(reached).then_some(())
            })
            .await;
        guest.delete("VirtualMachineInstance").await;
        guest.no_pod().await;
        let whole = ["Normal SuccessfulCreate", "Normal SuccessfulDelete"];
        guest.told(VMI, &whole).await;
    }
}

async fn an_eviction_is_a_failure_and_always_comes_back(api: &Api, namespace: &str) {
    let guest = Guest::machine(api, namespace, "evicted", "RerunOnFailure", mini()).await;
    let vmi = guest.phase("Running").await;
    let pods = guest.pods().await;
    api.evict(namespace, &pods[0]).await;
    guest
        .wait_vmi("another one", |next| {
            let again = next["metadata"]["uid"] != vmi["metadata"]["uid"];
            (again && next["status"]["phase"] == "Running").then_some(())
        })
        .await;
    assert_eq!(guest.pods().await.len(), 1);
    guest.printable("Running").await;
    guest.told(VMI, &TAKEN).await;
    let again = ["Normal SuccessfulCreate", "Normal SuccessfulDelete"];
    guest.told(VM, &again).await;
    guest.delete("VirtualMachine").await;
}

async fn a_new_template_waits_for_a_restart(api: &Api, namespace: &str) {
    let guest = Guest::machine(api, namespace, "changed", "Always", mini()).await;
    guest.printable("Running").await;
    let mut more = mini();
    more["domain"]["memory"]["guest"] = json!("160Mi");
    guest.apply_machine("Always", more.clone()).await;
    guest
        .wait_vm("marked", |vm| holds(vm, "RestartRequired").then_some(()))
        .await;
    let vmi = guest.vmi().await.expect("it runs");
    assert_eq!(vmi["spec"]["domain"]["memory"]["guest"], "128Mi");
    let uid = vmi["metadata"]["uid"].clone();
    let restart = json!([{"action": "Stop", "uid": uid}, {"action": "Start"}]);
    api.request_state(namespace, "changed", restart).await;
    guest
        .wait_vmi("restarted", |vmi| {
            let new = vmi["spec"]["domain"]["memory"]["guest"] == "160Mi";
            (new && vmi["status"]["phase"] == "Running").then_some(())
        })
        .await;
    guest
        .wait_vm("not marked", |vm| {
            (!holds(vm, "RestartRequired")).then_some(())
        })
        .await;
    let again = ["Normal SuccessfulCreate", "Normal SuccessfulDelete"];
    guest.told(VM, &again).await;
    guest.delete("VirtualMachine").await;
}

async fn a_failing_machine_backs_off(api: &Api, namespace: &str) {
    let mut spec = mini();
    // Not a disk image: the launcher refuses it before the guest starts.
    spec["volumes"][0]["containerDisk"]["path"] = json!("/no/such/disk.img");
    let guest = Guest::machine(api, namespace, "failing", "Always", spec).await;
    guest.printable("CrashLoopBackOff").await;
    let failure = guest
        .wait_vm("counting", |vm| {
            let failure = &vm["status"]["startFailure"];
            (failure["consecutiveFailCount"].as_u64()? >= 2).then(|| failure.clone())
        })
        .await;
    assert!(failure["retryAfterTimestamp"].is_string(), "{failure:#}");
    // Who hears of it first, the handler or the controller, tells of it.
    let failed = [
        "Normal SuccessfulCreate",
        "Warning SyncFailed|Warning Stopped",
    ];
    guest.told(VMI, &failed).await;
    let again = ["Normal SuccessfulCreate", "Normal SuccessfulDelete"];
    guest.told(VM, &again).await;
    guest.delete("VirtualMachine").await;
}
