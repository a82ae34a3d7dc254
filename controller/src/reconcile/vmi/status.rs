//! What of an instance's status is the controller's, and what it should be.

use std::collections::BTreeMap;

use crds::{
    VirtualMachineInstance, VirtualMachineInstancePhase as Phase,
    VirtualMachineInstancePhaseTransitionTimestamp as Transition, VirtualMachineInstanceStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::outcome::{Outcome, outcome};
use super::{FAILED_CREATE, PVC_NOT_FOUND, VmiSnapshot, is_final, phase, ran};
use crate::reconcile::condition::{
    Condition, FALSE, LIVE_MIGRATABLE, PAUSED, POD_SCHEDULED, READY, SYNCHRONIZED, find, is_true,
    settle, wanted as condition,
};
use crate::reconcile::{Launcher, PodCondition};

/// The conditions that the controller writes. The others are the handler's.
const OWNED: [&str; 4] = [LIVE_MIGRATABLE, POD_SCHEDULED, READY, SYNCHRONIZED];

/// The reason of PodScheduled while no node has a handler.
pub const NOT_READY_HANDLER: &str = "VirtHandlerNotReady";

const NODE_NOT_READY: &str = "NodeNotReady";

/// What of the instance's status is the controller's. The phase and its history have two writers:
/// whoever writes last writes them whole. A reason is the controller's with a final phase.
pub(super) fn owned(vmi: &VirtualMachineInstance) -> VirtualMachineInstanceStatus {
    let Some(status) = &vmi.status else {
        return VirtualMachineInstanceStatus::default();
    };
    let conditions = status.conditions.iter();
    let mut conditions: Vec<_> = conditions
        .filter(|condition| OWNED.contains(&condition.type_.as_str()))
        .cloned()
        .collect();
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    VirtualMachineInstanceStatus {
        active_pods: status.active_pods.clone(),
        conditions,
        launcher_container_image_version: status.launcher_container_image_version.clone(),
        node_name: status.node_name.clone(),
        phase: status.phase,
        phase_transition_timestamps: status.phase_transition_timestamps.clone(),
        qos_class: status.qos_class.clone(),
        reason: status.reason.clone().filter(|_| is_final(phase(vmi))),
        ..VirtualMachineInstanceStatus::default()
    }
}

/// What of the instance's status the controller wants to be there.
pub(super) fn wanted(snapshot: &VmiSnapshot, now: Timestamp) -> VirtualMachineInstanceStatus {
    let current = owned(&snapshot.vmi);
    let before = phase(&snapshot.vmi);
    let ended = ended(snapshot);
    let after = match &ended {
        _ if is_final(before) => before,
        Some(outcome) => outcome.phase,
        None => next(before, snapshot, &current.conditions),
    };
    let conditions = [
        Some(ready(snapshot, after)),
        pod_scheduled(snapshot, after),
        synchronized(snapshot, after, ended.as_ref(), &current.conditions),
        live_migratable(after, &current.conditions),
    ];
    let conditions = conditions.into_iter().flatten().collect();
    let mut status = VirtualMachineInstanceStatus {
        conditions: settle(conditions, &current.conditions, now),
        phase: Some(after),
        ..current
    };
    let known = |transition: &Transition| transition.phase == Some(after);
    if !status.phase_transition_timestamps.iter().any(known) {
        status.phase_transition_timestamps.push(Transition {
            phase: Some(after),
            phase_transition_timestamp: Some(Time(now)),
        });
    }
    if let Some(outcome) = ended
        && !is_final(before)
    {
        status.reason = (!outcome.reason.is_empty()).then_some(outcome.reason);
    }
    if let Some(pod) = &snapshot.pod {
        let node = pod.node.clone();
        status.active_pods = BTreeMap::from([(pod.uid.clone(), node.clone().unwrap_or_default())]);
        if node.is_some() {
            status.launcher_container_image_version = pod.image.clone();
            status.node_name = node;
            status.qos_class = pod.qos_class.clone();
        }
    }
    status
}

/// How the machine ended, if it did.
fn ended(snapshot: &VmiSnapshot) -> Option<Outcome> {
    let asked = snapshot.vmi.metadata.deletion_timestamp.is_some();
    let phase = phase(&snapshot.vmi);
    match &snapshot.pod {
        Some(pod) => outcome(pod, asked, ran(&snapshot.vmi)),
        // Beyond Pending there was a pod.
        None if phase == Phase::Pending || is_final(phase) => None,
        None => Some(Outcome::gone()),
    }
}

/// The phase of a machine that has not ended.
fn next(before: Phase, snapshot: &VmiSnapshot, conditions: &[Condition]) -> Phase {
    let Some(pod) = &snapshot.pod else {
        return before;
    };
    match (before, &pod.node) {
        (Phase::Pending, None) => Phase::Scheduling,
        (Phase::Pending | Phase::Scheduling, Some(_)) => Phase::Scheduled,
        // Once for each time that the node is lost: a handler that still is there, beside a kubelet
        // that is not, knows better, and may say Running again.
        (Phase::Running, _) if lost(snapshot, pod) && !says_lost(conditions) => Phase::Unknown,
        _ => before,
    }
}

/// The pod's node is not heard from.
fn lost(snapshot: &VmiSnapshot, pod: &Launcher) -> bool {
    pod.node.is_some() && !snapshot.node_ready
}

fn says_lost(conditions: &[Condition]) -> bool {
    let ready = find(conditions, READY);
    ready.is_some_and(|ready| ready.reason.as_deref() == Some(NODE_NOT_READY))
}

/// Ready, with KubeVirt's reasons and messages.
fn ready(snapshot: &VmiSnapshot, phase: Phase) -> Condition {
    let not = |reason, message| condition(READY, FALSE, reason, message);
    if is_final(phase) {
        return not("GuestNotRunning", "Guest VM is not running any more");
    }
    let Some(pod) = &snapshot.pod else {
        return not(
            "PodNotExists",
            "virt-launcher pod has not yet been scheduled",
        );
    };
    if pod.deleting || snapshot.vmi.metadata.deletion_timestamp.is_some() {
        return not("PodTerminating", "virt-launcher pod is terminating");
    }
    if lost(snapshot, pod) {
        return not(
            NODE_NOT_READY,
            "the node of the virt-launcher pod is not heard from",
        );
    }
    if phase != Phase::Running {
        return not("GuestNotRunning", "Guest VM is not reported as running");
    }
    let status = snapshot.vmi.status.as_ref();
    if status.is_some_and(|status| is_true(&status.conditions, PAUSED)) {
        return not("Paused", "Guest VM is paused");
    }
    match &pod.ready {
        Some(ready) => of_pod(READY, ready),
        None => not(
            "PodConditionMissing",
            "virt-launcher pod is missing the Ready condition",
        ),
    }
}

fn of_pod(type_: &str, of: &PodCondition) -> Condition {
    Condition {
        last_transition_time: of.since.clone(),
        ..condition(type_, &of.status, &of.reason, &of.message)
    }
}

/// PodScheduled, as long as it is False.
fn pod_scheduled(snapshot: &VmiSnapshot, phase: Phase) -> Option<Condition> {
    let scheduled = snapshot.pod.as_ref()?.scheduled.as_ref()?;
    if is_final(phase) || scheduled.status != FALSE {
        return None;
    }
    let mut condition = of_pod(POD_SCHEDULED, scheduled);
    if let Some((reason, why)) = unoffered(snapshot, &scheduled.message) {
        condition.reason = Some(reason.to_owned());
        condition.message = Some(format!("{why} ({})", scheduled.message));
    }
    Some(condition)
}

/// What no node offers, where that is why the scheduler finds none.
fn unoffered(snapshot: &VmiSnapshot, message: &str) -> Option<(&'static str, &'static str)> {
    let offers = snapshot.offers;
    if !offers.handler {
        let why = "virt-handler is not ready on any node; the machine starts when it is";
        return Some((NOT_READY_HANDLER, why));
    }
    let kvm = message.contains("Insufficient devices.kubevirt.io/kvm");
    (kvm && !offers.kvm).then_some((
        "Unschedulable",
        "no node has KVM; useEmulation in the KubeVirt object lets machines run without",
    ))
}

/// Synchronized, as long as it is False.
fn synchronized(
    snapshot: &VmiSnapshot,
    phase: Phase,
    ended: Option<&Outcome>,
    current: &[Condition],
) -> Option<Condition> {
    let not = |reason: &str, message: &str| Some(condition(SYNCHRONIZED, FALSE, reason, message));
    if is_final(phase) {
        // The handler hears of the end first; the pod says why.
        let why = ended.filter(|ended| phase == Phase::Failed && ended.phase == phase);
        let said = find(current, SYNCHRONIZED).filter(|_| is_final(super::phase(&snapshot.vmi)));
        return said
            .cloned()
            .or_else(|| why.and_then(|why| not(&why.reason, &why.message)));
    }
    if let Some(failure) = &snapshot.failure {
        return not(FAILED_CREATE, &failure.message);
    }
    if snapshot.pod.is_none() && !snapshot.missing_claims.is_empty() {
        let names = snapshot.missing_claims.join(", ");
        let message = format!(
            "PersistentVolumeClaim not found: {names}; the machine starts when it is there"
        );
        return not(PVC_NOT_FOUND, &message);
    }
    let waiting = snapshot.pod.as_ref()?.waiting.as_ref()?;
    not(&waiting.reason, &waiting.message)
}

/// LiveMigratable, from Running on.
fn live_migratable(phase: Phase, current: &[Condition]) -> Option<Condition> {
    let there = find(current, LIVE_MIGRATABLE).is_some();
    (there || phase == Phase::Running).then(|| {
        condition(
            LIVE_MIGRATABLE,
            FALSE,
            "NotImplemented",
            "machines cannot be migrated yet",
        )
    })
}
