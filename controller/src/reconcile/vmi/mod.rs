//! VirtualMachineInstance to pod.
//!
//! ```text
//!            pod made          pod has a node       (handler)
//!  Pending ------------> Scheduling ------> Scheduled ------> Running <----> Unknown
//!                             |                 |               |     node is not ready
//!                             '-----------------+---------------'-----> Succeeded, Failed
//!                                       the pod is over, or gone
//! ```
//!
//! The handler writes Running, and Running again when a node that was lost is back. It hears of a
//! guest's end first; the controller writes the final phase where the handler has not.

mod outcome;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crds::{
    VirtualMachineInstance, VirtualMachineInstancePhase as Phase, VirtualMachineInstanceSpec,
    VirtualMachineInstanceStatus,
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::condition::{self, Condition, FALSE, POD_SCHEDULED, READY, SYNCHRONIZED};
use super::{Decision, Event, FAILED_CREATE, Failure, Launcher};
use crate::pod;

pub use status::NOT_READY_HANDLER;

/// The finalizer that keeps an instance until its pod is gone (KubeVirt's
/// `VirtualMachineInstanceFinalizer`).
pub const FINALIZER: &str = "foregroundDeleteVirtualMachine";

/// A claim that the instance names does not exist (KubeVirt's `FailedPvcNotFoundReason`).
pub(super) const PVC_NOT_FOUND: &str = "FailedPvcNotFound";

/// How far ahead of this clock another may be. What is further ahead is of a clock that was wrong, and
/// waiting for it could take for ever.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// How long a pod may outlive its machine: the guest's last output is still read, and the kubelet
/// has yet to tell.
const LINGER: Duration = Duration::from_secs(30);

/// A write about an instance.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Render its pod and make it.
    CreatePod,
    /// Delete its pod, if that still has this uid.
    DeletePod {
        /// The pod's name.
        name: String,
        /// The pod's uid.
        uid: String,
    },
    /// Have its guest told to power itself off within so many seconds, again where it was told
    /// before: that gives it no more time. The last of what is to be done.
    ShutDown {
        /// The seconds.
        seconds: u32,
    },
    /// Apply what of its status is the controller's.
    ApplyStatus(Box<VirtualMachineInstanceStatus>),
    /// Go on only if the API server, asked now, knows of no pod of it. What follows cannot be taken
    /// back, and a cache may be behind.
    ConfirmNoPod,
    /// Remove its finalizer.
    RemoveFinalizer,
    /// Tell what happened.
    Event(Event),
}

/// What is known of an instance.
#[derive(Clone, Debug, Default)]
pub struct VmiSnapshot {
    /// The instance.
    pub vmi: Arc<VirtualMachineInstance>,
    /// The pod that it controls.
    pub pod: Option<Arc<Launcher>>,
    /// The pod's node is heard from. Of no meaning while the pod has no node.
    pub node_ready: bool,
    /// What nodes offer, for the instance to say why it waits.
    pub offers: Offers,
    /// The claims that it names and that do not exist.
    pub missing_claims: Vec<String>,
    /// Why the pod could not be made, just now.
    pub failure: Option<Failure>,
}

/// What the cluster's nodes offer to launchers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// A node has a handler that is ready.
    pub handler: bool,
    /// A node has KVM.
    pub kvm: bool,
}

/// What to do about the instance.
pub fn decide(snapshot: &VmiSnapshot, now: Timestamp) -> Decision<Write> {
    let metadata = &snapshot.vmi.metadata;
    let deleting = metadata.deletion_timestamp.is_some();
    match &snapshot.pod {
        Some(pod) if deleting && !pod.deleting => match prolonged(&snapshot.vmi, pod, now) {
            None => delete(pod),
            Some(left) => {
                let seconds = pod::guest_grace_seconds(&snapshot.vmi.spec);
                let Decision {
                    mut writes,
                    requeue,
                } = apply(snapshot, now);
                writes.push(Write::ShutDown { seconds });
                Decision {
                    writes,
                    requeue: Some(requeue.map_or(left, |sooner| sooner.min(left))),
                }
            }
        },
        Some(pod) => match lingers(&snapshot.vmi, pod, now) {
            Some(Duration::ZERO) => delete(pod),
            Some(left) => Decision {
                requeue: Some(left),
                ..apply(snapshot, now)
            },
            None => apply(snapshot, now),
        },
        None if deleting => {
            let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
            if !finalizers.iter().any(|name| name == FINALIZER) {
                return Decision::write(Vec::new());
            }
            let mut writes = vec![Write::ConfirmNoPod, Write::RemoveFinalizer];
            // Who writes the final phase tells of the end. With this finalizer, removed from the
            // instance as it was seen, it is gone: nobody has written that, and nobody will.
            if finalizers.len() == 1 && ran(&snapshot.vmi) && !is_final(phase(&snapshot.vmi)) {
                writes.push(Write::Event(Event::normal(
                    "Stopped",
                    "The VirtualMachineInstance ended with its pod, as was asked.".to_owned(),
                )));
            }
            Decision::write(writes)
        }
        None if may_create(snapshot) => Decision::write(vec![
            Write::CreatePod,
            Write::Event(Event::normal(
                "SuccessfulCreate",
                format!("Created virtual machine pod {}", pod::name(&snapshot.vmi)),
            )),
        ]),
        None => apply(snapshot, now),
    }
}

fn delete(pod: &Launcher) -> Decision<Write> {
    Decision::write(vec![
        Write::DeletePod {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
        },
        Write::Event(Event::normal(
            "SuccessfulDelete",
            format!("Deleted virtual machine pod {}", pod.name),
        )),
    ])
}

/// How much is left now of `whole`, which began at `since`.
fn left(whole: Duration, since: Timestamp, now: Timestamp) -> Duration {
    let passed = now.duration_since(since);
    match Duration::try_from(passed) {
        Ok(passed) => whole.saturating_sub(passed),
        Err(_) if passed >= -SKEW => whole,
        Err(_) => Duration::ZERO,
    }
}

/// What a time in metadata, which has whole seconds, may be too early.
const ROUNDED: Duration = Duration::from_secs(1);

/// How much later than the instance its pod is deleted, so that a guest that was given more time than
/// its pod was made with has it: from then on the launcher and the kubelet leave it no more than that.
/// Until then it is told to shut down at every look: nobody remembers whether it was.
fn prolonged(vmi: &VirtualMachineInstance, pod: &Launcher, now: Timestamp) -> Option<Duration> {
    if phase(vmi) != Phase::Running || pod.ended.is_some() || pod.over.is_some() {
        return None;
    }
    let more = pod::grace_seconds(&vmi.spec).saturating_sub(pod.grace_seconds?);
    let more = Duration::from_secs(more.try_into().ok().filter(|more| *more > 0)?) + ROUNDED;
    let deleted = vmi.metadata.deletion_timestamp.as_ref()?;
    Some(left(more, deleted.0, now)).filter(|left| !left.is_zero())
}

/// How long the pod may yet take to end, where its machine has. Some of its containers may wait for
/// others that are no more; one that ends by itself is kept, for its logs.
fn lingers(vmi: &VirtualMachineInstance, pod: &Launcher, now: Timestamp) -> Option<Duration> {
    let phase = phase(vmi);
    if !is_final(phase) || pod.deleting || pod.over.is_some() {
        return None;
    }
    let mut transitions = vmi
        .status
        .iter()
        .flat_map(|status| &status.phase_transition_timestamps);
    let ended = transitions.find(|transition| transition.phase == Some(phase))?;
    let ended = ended.phase_transition_timestamp.as_ref()?;
    Some(left(LINGER, ended.0, now))
}

/// The instance never had a pod, and nothing is in the way of one. A pod is made once: when it is
/// gone, so is the machine that ran in it.
fn may_create(snapshot: &VmiSnapshot) -> bool {
    phase(&snapshot.vmi) == Phase::Pending
        && snapshot.missing_claims.is_empty()
        && snapshot.failure.is_none()
}

/// How long a pod may take to be Ready once its machine runs: the kubelet looks at it once a second,
/// or later where it has much to do.
const SETTLE: Duration = Duration::from_secs(4);

/// How much longer the pod may take to be Ready. What changes until then is why it is not: not worth
/// a write of its own.
fn settles(
    current: &VirtualMachineInstanceStatus,
    wanted: &VirtualMachineInstanceStatus,
    now: Timestamp,
) -> Option<Duration> {
    let runs = Some(Phase::Running);
    if current.phase != runs
        || wanted.phase != runs
        || condition::is_true(&wanted.conditions, READY)
    {
        return None;
    }
    let mut transitions = current.phase_transition_timestamps.iter();
    let since = transitions.find(|transition| transition.phase == runs)?;
    let since = since.phase_transition_timestamp.as_ref()?;
    Some(left(SETTLE, since.0, now)).filter(|left| !left.is_zero())
}

/// Writes down how things stand, where that has changed.
fn apply(snapshot: &VmiSnapshot, now: Timestamp) -> Decision<Write> {
    let current = status::owned(&snapshot.vmi);
    let wanted = status::wanted(snapshot, now);
    if wanted == current {
        return Decision::write(Vec::new());
    }
    if let Some(left) = settles(&current, &wanted, now) {
        return Decision {
            writes: Vec::new(),
            requeue: Some(left),
        };
    }
    let mut writes = Vec::new();
    let ends = |phase| matches!(phase, Some(Phase::Succeeded | Phase::Failed));
    let ended = ends(wanted.phase) && !ends(current.phase);
    if ended && snapshot.pod.is_none() {
        writes.push(Write::ConfirmNoPod);
    }
    let told = match ended {
        true => vec![stopped(&wanted)],
        false => waits(&current.conditions, &wanted.conditions),
    };
    let lost = (wanted.phase == Some(Phase::Unknown) && current.phase != wanted.phase)
        .then(|| Event::warning("NodeNotReady", "The node is not heard from".to_owned()));
    writes.push(Write::ApplyStatus(Box::new(wanted)));
    writes.extend(told.into_iter().chain(lost).map(Write::Event));
    Decision::write(writes)
}

/// Tells why the instance waits, once.
fn waits(current: &[Condition], wanted: &[Condition]) -> Vec<Event> {
    let is_false = |conditions: &[Condition], type_| {
        condition::find(conditions, type_)
            .filter(|condition| condition.status == FALSE)
            .cloned()
    };
    [POD_SCHEDULED, SYNCHRONIZED]
        .into_iter()
        .filter(|type_| is_false(current, type_).is_none())
        .filter_map(|type_| is_false(wanted, type_))
        .map(|condition| {
            let reason = condition.reason.unwrap_or_default();
            Event::warning(&reason, condition.message.unwrap_or_default())
        })
        .collect()
}

/// Tells that the machine has ended, as KubeVirt's handler does.
fn stopped(status: &VirtualMachineInstanceStatus) -> Event {
    let said = condition::find(&status.conditions, SYNCHRONIZED);
    let said = said.and_then(|condition| condition.message.as_deref());
    match status.phase {
        Some(Phase::Succeeded) => Event::normal(
            "Stopped",
            "The VirtualMachineInstance was shut down.".to_owned(),
        ),
        _ => Event::warning(
            "Stopped",
            format!(
                "The VirtualMachineInstance failed: {}",
                said.unwrap_or("its pod is gone")
            ),
        ),
    }
}

/// The phase that the instance is in. One without a status has not been looked at.
pub(crate) fn phase(vmi: &VirtualMachineInstance) -> Phase {
    let status = vmi.status.as_ref();
    status
        .and_then(|status| status.phase)
        .unwrap_or(Phase::Pending)
}

/// Nothing follows this phase.
pub(crate) fn is_final(phase: Phase) -> bool {
    matches!(phase, Phase::Succeeded | Phase::Failed)
}

/// The instance ran, whatever became of it: it was seen to, or it ended well, which what never ran
/// does only by request. The handler may have been away meanwhile.
pub(super) fn ran(vmi: &VirtualMachineInstance) -> bool {
    let runs = matches!(
        phase(vmi),
        Phase::Running | Phase::Unknown | Phase::Succeeded
    );
    let status = vmi.status.as_ref();
    runs || status.is_some_and(|status| {
        let mut transitions = status.phase_transition_timestamps.iter();
        transitions.any(|transition| transition.phase == Some(Phase::Running))
    })
}

/// The names of the claims that the instance's volumes are on.
pub fn claims(spec: &VirtualMachineInstanceSpec) -> impl Iterator<Item = &str> {
    spec.volumes.iter().filter_map(|volume| {
        let own = volume.persistent_volume_claim.as_ref();
        let beneath = volume.ephemeral.as_ref();
        own.map(|claim| claim.claim_name.as_str())
            .or(beneath.and_then(|e| Some(e.persistent_volume_claim.as_ref()?.claim_name.as_str())))
    })
}
