//! What a machine's status should be.

use crds::{VirtualMachineInstance, VirtualMachineStartFailure, VirtualMachineStatus};
use k8s_openapi::jiff::Timestamp;

use super::{VmSnapshot, failure, instance, printable, run_strategy, strategy};
use crate::reconcile::FAILED_CREATE;
use crate::reconcile::condition::{
    Condition, FAILURE, FALSE, READY, RESTART_REQUIRED, SYNCHRONIZED, TRUE, find, is_true,
    of_instance, of_machine, settle, wanted as condition,
};
use crate::reconcile::vmi::{is_final, phase};

/// The status that the machine should have.
pub(super) fn wanted(
    snapshot: &VmSnapshot,
    current: &VirtualMachineStatus,
    now: Timestamp,
) -> VirtualMachineStatus {
    let vm = &snapshot.vm;
    let vmi = snapshot.own();
    let strategy = run_strategy(vm);
    let requests = strategy::requests(snapshot, &current.state_change_requests);
    let start_failure = failure::count(current.start_failure.as_ref(), strategy, vmi, now);
    // It says which strategy was followed last: a start that is due has not followed it yet.
    let due = vmi.is_none() && strategy::starts(snapshot, requests.first());
    let run_strategy = match current.run_strategy {
        None if vmi.is_none() => None,
        followed if due => followed,
        _ => Some(strategy),
    };
    let outdated = vmi.is_some_and(|vmi| instance::is_outdated(vm, vmi));
    let (desired_generation, observed_generation) = match vmi {
        None => (current.desired_generation, current.observed_generation),
        Some(vmi) => {
            let made = instance::generation(vmi).filter(|_| outdated);
            (vm.metadata.generation, made.or(vm.metadata.generation))
        }
    };
    let ready = vmi.is_some_and(|vmi| is_true(conditions(vmi), READY));
    let mut status = VirtualMachineStatus {
        conditions: Vec::new(),
        created: Some(vmi.is_some()),
        desired_generation,
        observed_generation,
        printable_status: None,
        ready: Some(ready),
        run_strategy,
        state_change_requests: requests,
        start_failure,
    };
    status.printable_status = Some(printable::printable(snapshot, &status));
    let before: Vec<_> = current.conditions.iter().map(of_instance).collect();
    let wanted = all(snapshot, &status, &before, outdated);
    let settled = settle(wanted, &before, now).into_iter();
    status.conditions = settled.map(of_machine).collect();
    status
}

/// Nothing has changed. The order of conditions means nothing.
pub(super) fn same(current: &VirtualMachineStatus, wanted: &VirtualMachineStatus) -> bool {
    let mut current = current.clone();
    current.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    current == *wanted
}

fn conditions(vmi: &VirtualMachineInstance) -> &[Condition] {
    vmi.status.as_ref().map_or(&[], |status| &status.conditions)
}

/// The instance's conditions, and the machine's own.
fn all(
    snapshot: &VmSnapshot,
    status: &VirtualMachineStatus,
    before: &[Condition],
    outdated: bool,
) -> Vec<Condition> {
    let vmi = snapshot.own();
    let shown = vmi.map_or(&[][..], conditions);
    let own = [READY, FAILURE, RESTART_REQUIRED];
    let shown = shown.iter().filter(|c| !own.contains(&c.type_.as_str()));
    let mut all: Vec<_> = shown.cloned().collect();
    all.push(ready(vmi));
    all.extend(failed(snapshot, status.start_failure.as_ref(), before));
    // An instance that has ended or is to end is made anew anyway.
    let lives =
        vmi.is_some_and(|vmi| vmi.metadata.deletion_timestamp.is_none() && !is_final(phase(vmi)));
    if outdated && lives {
        all.push(condition(
            RESTART_REQUIRED,
            TRUE,
            "TemplateChanged",
            "the template has changed since the machine was started; restart the machine for it \
             to take effect",
        ));
    }
    all
}

/// Ready, as the instance says it.
fn ready(vmi: Option<&VirtualMachineInstance>) -> Condition {
    let not = |reason, message| condition(READY, FALSE, reason, message);
    let Some(vmi) = vmi else {
        return not("VMINotExists", "VMI does not exist");
    };
    // One that has no status yet is about to have this one: so nothing needs to be written when it
    // does.
    find(conditions(vmi), READY)
        .cloned()
        .unwrap_or_else(|| not("GuestNotRunning", "Guest VM is not reported as running"))
}

/// Failure: why the instance cannot be made, or why the last one did not start.
fn failed(
    snapshot: &VmSnapshot,
    start_failure: Option<&VirtualMachineStartFailure>,
    before: &[Condition],
) -> Option<Condition> {
    let failure = |reason: &str, message: &str| Some(condition(FAILURE, TRUE, reason, message));
    if let Some(refused) = &snapshot.failure {
        return failure(FAILED_CREATE, &refused.message);
    }
    let vmi = snapshot.own();
    if snapshot.vmi.is_some() && vmi.is_none() {
        let message = "a VirtualMachineInstance of this name exists that this machine did not \
                       make; delete one of them";
        return failure(FAILED_CREATE, message);
    }
    start_failure?;
    match vmi.filter(|vmi| is_final(phase(vmi))) {
        // It is gone, or starts: the one before it is told of.
        None => find(before, FAILURE)
            .filter(|c| c.reason.as_deref() != Some(FAILED_CREATE))
            .cloned(),
        Some(vmi) => {
            let why = find(conditions(vmi), SYNCHRONIZED);
            let reason = why.and_then(|why| why.reason.as_deref());
            let status = vmi.status.as_ref();
            let reason = reason.or(status.and_then(|status| status.reason.as_deref()));
            let message = why.and_then(|why| why.message.as_deref());
            failure(
                reason.unwrap_or("StartFailed"),
                message.unwrap_or("the machine ended before it ran"),
            )
        }
    }
}
