//! Run strategies, and starting and stopping in every way.

use serde_json::json;

use super::guest::{Guest, VM, VMI, condition, holds, mini};
use crate::api::Api;

pub(crate) async fn each_run_strategy_does_what_it_says(api: &Api) {
    let namespace = &api.namespace("strategies").await;
    tokio::join!(
        always_comes_back(api, namespace),
        halted_stays_so_until_it_is_started(api, namespace),
        rerun_on_failure_stays_down_after_a_shutdown(api, namespace),
        once_keeps_its_final_phase(api, namespace),
        manual_follows_requests(api, namespace),
    );
}

async fn always_comes_back(api: &Api, namespace: &str) {
    let guest = Guest::machine(api, namespace, "always", "Always", mini()).await;
    let address = guest.answers().await;
    let vm = guest
        .wait_vm("ready", |vm| {
            (vm["status"]["ready"] == true).then(|| vm.clone())
        })
        .await;
    assert_eq!(vm["status"]["printableStatus"], "Running");
    assert_eq!(vm["status"]["created"], true);
    assert!(holds(&vm, "Ready"), "{vm:#}");
    let first = guest.vmi().await.expect("it runs")["metadata"]["uid"].clone();
    guest.shell(&address, "poweroff -f").await;
    guest
        .wait_vmi("another one", |vmi| {
            let again = vmi["metadata"]["uid"] != first && vmi["status"]["phase"] == "Running";
            again.then_some(())
        })
        .await;
    guest.printable("Running").await;
    let again = ["Normal SuccessfulCreate", "Normal SuccessfulDelete"];
    guest.told(VM, &again).await;
    let life = [
        "Normal SuccessfulCreate",
        "Normal Started",
        "Normal Stopped",
    ];
    guest.told(VMI, &life).await;
    guest.delete("VirtualMachine").await;
}

async fn halted_stays_so_until_it_is_started(api: &Api, namespace: &str) {
    let guest = Guest::machine(api, namespace, "halted", "Halted", mini()).await;
    guest.printable("Stopped").await;
    assert_eq!(guest.vmi().await, None);
    assert_eq!(guest.told(VM, &[]).await, [] as [String; 0]);
    guest.apply_machine("Always", mini()).await;
    guest.printable("Running").await;
    guest.apply_machine("Halted", mini()).await;
    guest.printable("Stopped").await;
    guest.no_pod().await;
    guest.gone("VirtualMachineInstance").await;
    let whole = ["Normal SuccessfulCreate", "Normal SuccessfulDelete"];
    guest.told(VM, &whole).await;
    guest.told(VMI, &whole).await;
    // Its guest was still booting, so it took a while.
    let end = ["Normal Started", "Normal ShuttingDown", "Normal Stopped"];
    guest.told(VMI, &end).await;
}

async fn rerun_on_failure_stays_down_after_a_shutdown(api: &Api, namespace: &str) {
    let guest = Guest::machine(api, namespace, "rerun", "RerunOnFailure", mini()).await;
    let address = guest.answers().await;
    guest.shell(&address, "poweroff -f").await;
    guest.printable("Stopped").await;
    guest.no_pod().await;
    guest.printable("Stopped").await;
    let whole = ["Normal SuccessfulCreate", "Normal SuccessfulDelete"];
    guest.told(VM, &whole).await;
    guest.told(VMI, &["Normal Started", "Normal Stopped"]).await;
}

async fn once_keeps_its_final_phase(api: &Api, namespace: &str) {
    let guest = Guest::machine(api, namespace, "once", "Once", mini()).await;
    let address = guest.answers().await;
    guest.shell(&address, "poweroff -f").await;
    guest.phase("Succeeded").await;
    // The handler tells of the end, and the controller of what follows from it.
    guest
        .wait_vmi("not ready", |vmi| {
            let ready = condition(vmi, "Ready")?;
            (ready["status"] == "False").then_some(())
        })
        .await;
    guest.printable("Stopped").await;
    let told = guest.told(VM, &["Normal SuccessfulCreate"]).await;
    assert_eq!(told, ["Normal SuccessfulCreate"]);
    guest.told(VMI, &["Normal Started", "Normal Stopped"]).await;
}

async fn manual_follows_requests(api: &Api, namespace: &str) {
    let guest = Guest::machine(api, namespace, "manual", "Manual", mini()).await;
    guest.printable("Stopped").await;
    api.request_state(namespace, "manual", json!([{"action": "Start"}]))
        .await;
    guest.answers().await;
    guest.printable("Running").await;
    let uid = guest.vmi().await.expect("it runs")["metadata"]["uid"].clone();
    api.request_state(namespace, "manual", json!([{"action": "Stop", "uid": uid}]))
        .await;
    guest.printable("Stopped").await;
    guest
        .wait_vm("asked no more", |vm| {
            let requests = vm["status"]["stateChangeRequests"].as_array();
            requests
                .is_none_or(|requests| requests.is_empty())
                .then_some(())
        })
        .await;
    let asked = ["Normal SuccessfulCreate", "Normal SuccessfulDelete"];
    guest.told(VM, &asked).await;
    guest.told(VMI, &["Normal Started", "Normal Stopped"]).await;
}
