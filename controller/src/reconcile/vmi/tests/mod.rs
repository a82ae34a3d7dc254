//! Each rule of what becomes of an instance.

mod ends;
mod follows;
mod waits;

use crds::{VirtualMachineInstanceCondition, VirtualMachineInstanceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::reconcile::{Ended, EventType, PodCondition, PodOver, Waiting};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn instance(status: Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": "vm", "namespace": "default", "uid": "vmi-uid", "finalizers": [FINALIZER],
        },
        "spec": {"domain": {"devices": {}}},
        "status": status,
    }))
    .unwrap()
}

fn in_phase(phase: &str) -> VirtualMachineInstance {
    instance(json!({"phase": phase}))
}

fn deleting(mut vmi: VirtualMachineInstance) -> VirtualMachineInstance {
    vmi.metadata.deletion_timestamp = Some(Time(at(1)));
    vmi
}

fn unbound() -> Launcher {
    Launcher {
        name: "virt-launcher-vm-abcde".to_owned(),
        uid: "pod-uid".to_owned(),
        vmi_name: "vm".to_owned(),
        vmi_uid: "vmi-uid".to_owned(),
        image: Some("launcher".to_owned()),
        qos_class: Some("Burstable".to_owned()),
        ..Launcher::default()
    }
}

fn bound() -> Launcher {
    Launcher {
        node: Some("node1".to_owned()),
        ..unbound()
    }
}

fn condition(status: &str, reason: &str, message: &str) -> Option<PodCondition> {
    Some(PodCondition {
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        since: Some(Time(at(7))),
    })
}

fn ended(status: i32, reason: &str, message: &str) -> Option<Ended> {
    Some(Ended {
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    })
}

fn over(succeeded: bool, reason: &str) -> Option<PodOver> {
    Some(PodOver {
        succeeded,
        reason: reason.to_owned(),
        message: "the kubelet's words".to_owned(),
    })
}

fn snapshot(vmi: VirtualMachineInstance, pod: Option<Launcher>) -> VmiSnapshot {
    VmiSnapshot {
        vmi: Arc::new(vmi),
        pod: pod.map(Arc::new),
        node_ready: true,
        offers: Offers {
            handler: true,
            kvm: true,
        },
        missing_claims: Vec::new(),
        failure: None,
    }
}

/// What is decided, in words; events by their reason.
fn words(decision: &Decision<Write>) -> String {
    let words = decision.writes.iter().map(|write| match write {
        Write::CreatePod => "create".to_owned(),
        Write::DeletePod { .. } => "delete".to_owned(),
        Write::ShutDown { seconds } => format!("shut down in {seconds} s"),
        Write::ApplyStatus(_) => "status".to_owned(),
        Write::ConfirmNoPod => "confirm".to_owned(),
        Write::RemoveFinalizer => "let go".to_owned(),
        Write::Event(event) => format!("({})", event.reason),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn status(decision: &Decision<Write>) -> Option<&VirtualMachineInstanceStatus> {
    decision.writes.iter().find_map(|write| match write {
        Write::ApplyStatus(status) => Some(&**status),
        _ => None,
    })
}

/// Takes the status over, as the API server does: what is the handler's stays.
fn write(snapshot: &mut VmiSnapshot, applied: &VirtualMachineInstanceStatus) {
    let vmi = Arc::make_mut(&mut snapshot.vmi);
    let before = vmi.status.take().unwrap_or_default();
    let owned = ["LiveMigratable", "PodScheduled", "Ready", "Synchronized"];
    let kept = before.conditions.into_iter();
    let kept = kept.filter(|c| !owned.contains(&c.type_.as_str()));
    let mut status = applied.clone();
    status.conditions.extend(kept);
    status.interfaces = before.interfaces;
    vmi.status = Some(status);
}

/// The status after all that is decided has been written; it is written once.
fn settled(mut snapshot: VmiSnapshot) -> VirtualMachineInstanceStatus {
    let decision = decide(&snapshot, at(1000));
    if let Some(applied) = status(&decision) {
        write(&mut snapshot, applied);
        let again = decide(&snapshot, at(1001)).writes;
        assert_eq!(again, [], "after {applied:?}");
    }
    snapshot.vmi.status.clone().unwrap_or_default()
}

fn reason(status: &VirtualMachineInstanceStatus, type_: &str) -> Option<String> {
    let condition = find(&status.conditions, type_)?;
    Some(format!(
        "{} {}",
        condition.status,
        condition.reason.as_deref().unwrap_or_default()
    ))
}

fn find<'a>(
    conditions: &'a [VirtualMachineInstanceCondition],
    type_: &str,
) -> Option<&'a VirtualMachineInstanceCondition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn message<'a>(status: &'a VirtualMachineInstanceStatus, type_: &str) -> &'a str {
    find(&status.conditions, type_)
        .unwrap()
        .message
        .as_deref()
        .unwrap()
}
