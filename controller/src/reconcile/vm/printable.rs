//! The state of a machine in one word.

use crds::{
    VirtualMachineInstance, VirtualMachineInstancePhase as Phase,
    VirtualMachinePrintableStatus as Printable, VirtualMachineStatus,
};

use super::{VmSnapshot, strategy};
use crate::reconcile::condition::{FALSE, PAUSED, POD_SCHEDULED, SYNCHRONIZED, find, is_true};
use crate::reconcile::vmi::{NOT_READY_HANDLER, PVC_NOT_FOUND, is_final, phase};

/// The first that applies, in KubeVirt's order (`setPrintableStatus`).
pub(super) fn printable(snapshot: &VmSnapshot, status: &VirtualMachineStatus) -> Printable {
    let vmi = snapshot.own();
    if snapshot.vm.metadata.deletion_timestamp.is_some() {
        return Printable::Terminating;
    }
    let live = vmi.filter(|vmi| !is_final(phase(vmi)));
    if live.is_some_and(|vmi| vmi.metadata.deletion_timestamp.is_some()) {
        return Printable::Stopping;
    }
    if let Some(vmi) = live.filter(|vmi| phase(vmi) == Phase::Running) {
        let conditions = vmi.status.as_ref().map(|status| &status.conditions[..]);
        return match is_true(conditions.unwrap_or_default(), PAUSED) {
            true => Printable::Paused,
            false => Printable::Running,
        };
    }
    let because = |type_| live.and_then(|vmi| why_not(vmi, type_));
    let image = match because(SYNCHRONIZED) {
        Some(PVC_NOT_FOUND) => return Printable::ErrorPvcNotFound,
        Some("ImagePullBackOff") => Some(Printable::ImagePullBackOff),
        Some("ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError") => {
            Some(Printable::ErrImagePull)
        }
        _ => None,
    };
    if let Some("Unschedulable" | NOT_READY_HANDLER) = because(POD_SCHEDULED) {
        return Printable::ErrorUnschedulable;
    }
    let request = status.state_change_requests.first();
    let due = vmi.is_none() && strategy::starts(snapshot, request);
    if snapshot.unbound_claim && (live.is_some() || due) {
        return Printable::WaitingForVolumeBinding;
    }
    if let Some(image) = image {
        return image;
    }
    match live.map(phase) {
        Some(Phase::Pending | Phase::Scheduling | Phase::Scheduled) => Printable::Starting,
        Some(_) => Printable::Unknown,
        None if status.start_failure.is_some() => Printable::CrashLoopBackOff,
        None => Printable::Stopped,
    }
}

/// The reason of a condition that is False.
fn why_not<'a>(vmi: &'a VirtualMachineInstance, type_: &str) -> Option<&'a str> {
    let conditions = &vmi.status.as_ref()?.conditions;
    let condition = find(conditions, type_).filter(|condition| condition.status == FALSE)?;
    condition.reason.as_deref()
}
