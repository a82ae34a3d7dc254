//! What keeps a machine from running, and what its status says of it.

use serde_json::json;

use super::guest::{Guest, VMI, condition, holds, mini};
use crate::api::Api;

pub(crate) async fn what_hinders_a_start_is_told(api: &Api) {
    let namespace = &api.namespace("hindrances").await;
    tokio::join!(
        no_node_fits(api, namespace),
        an_image_is_not_to_be_had(api, namespace),
        a_claim_is_missing(api, namespace),
    );
}

async fn no_node_fits(api: &Api, namespace: &str) {
    let mut spec = mini();
    spec["nodeSelector"] = json!({"nowhere": "to-be-found"});
    let guest = Guest::machine(api, namespace, "nowhere", "Always", spec).await;
    guest.printable("ErrorUnschedulable").await;
    let vmi = guest.phase("Scheduling").await;
    let scheduled = condition(&vmi, "PodScheduled").expect("it is told of");
    assert_eq!(scheduled["status"], "False", "{vmi:#}");
    assert_eq!(scheduled["reason"], "Unschedulable", "{vmi:#}");
    assert!(!holds(&vmi, "Ready"), "{vmi:#}");
    let waits = ["Normal SuccessfulCreate", "Warning Unschedulable"];
    guest.told(VMI, &waits).await;
    // Deleted before it has started: nothing is left.
    guest.apply_machine("Halted", mini()).await;
    guest.printable("Stopped").await;
    guest.no_pod().await;
}

async fn an_image_is_not_to_be_had(api: &Api, namespace: &str) {
    let mut spec = mini();
    spec["volumes"][0]["containerDisk"]["image"] = json!("localhost/ferrovirt/no-such-image:devel");
    let guest = Guest::machine(api, namespace, "imageless", "Always", spec).await;
    guest
        .wait_vm("short of an image", |vm| {
            let status = vm["status"]["printableStatus"].as_str()?;
            ["ErrImagePull", "ImagePullBackOff"]
                .contains(&status)
                .then_some(())
        })
        .await;
    let waits = [
        "Normal SuccessfulCreate",
        "Warning ErrImagePull|Warning ImagePullBackOff",
    ];
    guest.told(VMI, &waits).await;
    guest
        .wait_vmi("told why", |vmi| {
            let synchronized = condition(vmi, "Synchronized")?;
            (synchronized["status"] == "False").then_some(())
        })
        .await;
    guest.apply_machine("Halted", mini()).await;
    guest.printable("Stopped").await;
}

async fn a_claim_is_missing(api: &Api, namespace: &str) {
    let mut spec = mini();
    spec["volumes"][0] = json!({
        "name": "root", "persistentVolumeClaim": {"claimName": "no-such-claim"},
    });
    let guest = Guest::machine(api, namespace, "claimless", "Always", spec).await;
    guest.printable("ErrorPvcNotFound").await;
    assert_eq!(guest.pods().await, [] as [String; 0]);
    let vmi = guest.phase("Pending").await;
    let synchronized = condition(&vmi, "Synchronized").expect("it is told of");
    assert_eq!(synchronized["status"], "False", "{vmi:#}");
    guest.told(VMI, &["Warning FailedPvcNotFound"]).await;
    guest.apply_machine("Halted", mini()).await;
    guest.printable("Stopped").await;
}
