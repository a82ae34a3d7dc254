//! Each rule of what becomes of a machine.

mod back_off;
mod statuses;
mod strategies;

use std::time::Duration;

use crds::{
    StateChangeRequestAction as Ask, VirtualMachinePrintableStatus as Printable,
    VirtualMachineStateChangeRequest,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::reconcile::EventType;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn machine(spec: Value, status: Value) -> VirtualMachine {
    let mut whole = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {
            "name": "vm", "namespace": "default", "uid": "vm-uid", "generation": 3,
            "finalizers": [FINALIZER],
        },
        "spec": {"template": {
            "metadata": {"labels": {"app": "db"}, "annotations": {"note": "kept"}},
            "spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}},
        }},
        "status": status,
    });
    for (name, value) in spec.as_object().unwrap() {
        whole["spec"][name] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

/// The instance of the machine, with this status.
fn made(status: Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": "vm", "namespace": "default", "uid": "vmi-uid",
            "annotations": {"kubevirt.io/vm-generation": "3"},
            "ownerReferences": [{
                "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "vm",
                "uid": "vm-uid", "controller": true,
            }],
        },
        "spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}},
        "status": status,
    }))
    .unwrap()
}

fn in_phase(phase: &str) -> VirtualMachineInstance {
    made(json!({"phase": phase, "phaseTransitionTimestamps": [{"phase": "Running"}]}))
}

fn deleting(mut vmi: VirtualMachineInstance) -> VirtualMachineInstance {
    vmi.metadata.deletion_timestamp = Some(Time(at(1)));
    vmi
}

fn snapshot(vm: VirtualMachine, vmi: Option<VirtualMachineInstance>) -> VmSnapshot {
    VmSnapshot {
        vm: Arc::new(vm),
        vmi: vmi.map(Arc::new),
        pod_left: false,
        unbound_claim: false,
        failure: None,
    }
}

/// What is decided, in words.
fn words(decision: &Decision<Write>) -> String {
    let words = decision.writes.iter().filter_map(|write| match write {
        Write::CreateVmi(_) => Some("create"),
        Write::DeleteVmi { .. } => Some("delete"),
        Write::SetAlways => Some("always"),
        Write::RemoveFinalizer => Some("let go"),
        Write::ApplyStatus(_) => Some("status"),
        Write::Event(_) => None,
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The status that is there in the end: statuses are written until nothing else is decided.
fn settled(mut snapshot: VmSnapshot) -> VirtualMachineStatus {
    for _ in 0..3 {
        let decision = decide(&snapshot, at(1000));
        let status = decision.writes.into_iter().find_map(|write| match write {
            Write::ApplyStatus(status) => Some(*status),
            _ => None,
        });
        let Some(status) = status else {
            return snapshot.vm.status.clone().unwrap_or_default();
        };
        Arc::make_mut(&mut snapshot.vm).status = Some(status);
    }
    panic!("a status is written again and again");
}

fn printed(snapshot: VmSnapshot) -> Printable {
    settled(snapshot).printable_status.unwrap()
}

fn reason(status: &VirtualMachineStatus, type_: &str) -> Option<String> {
    let mut conditions = status.conditions.iter();
    let condition = conditions.find(|condition| condition.type_ == type_)?;
    Some(format!(
        "{} {}",
        condition.status,
        condition.reason.as_deref().unwrap_or_default()
    ))
}
