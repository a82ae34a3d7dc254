//! What starting, stopping and starting again mean for a machine: pure (KubeVirt's virt-api,
//! `StartVMRequestHandler` and its kin, decides the same).
//!
//! | strategy       | start                      | stop                    | restart           |
//! | -------------- | -------------------------- | ----------------------- | ----------------- |
//! | Always         | refused                    | becomes Halted          | asks for both     |
//! | RerunOnFailure | asks, unless it failed     | asks                    | asks for both     |
//! | Manual         | asks                       | asks                    | asks for both     |
//! | Once           | refused                    | becomes Halted          | refused           |
//! | Halted         | becomes Always; paused, it asks | only sooner than it does | refused      |
//!
//! To ask is to write `status.stateChangeRequests`, which the controller answers.

use crds::{
    RunStrategy, StartStrategy, StateChangeRequestAction as Ask, VirtualMachine,
    VirtualMachineInstance, VirtualMachineInstancePhase as Phase, VirtualMachineStateChangeRequest,
};
use serde_json::{Value, json};

use crate::pod::guest_grace_seconds;
use crate::reconcile::vm::run_strategy;
use crate::reconcile::vmi::{is_final, phase};

/// What is asked of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Run.
    Start {
        /// Its vCPUs stand still until somebody unpauses them.
        paused: bool,
    },
    /// Do not run.
    Stop {
        /// Seconds until it is powered off; its own grace period where none are given.
        grace: Option<u32>,
    },
    /// End, and run again.
    Restart {
        /// Seconds until it is powered off; its own grace period where none are given.
        grace: Option<u32>,
    },
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// The one write.
    pub(super) patch: Patch,
    /// After it: the running guest is told to power itself off within so many seconds.
    pub(super) shutdown: Option<u32>,
}

/// A merge patch of the machine.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Patch {
    /// Of the machine itself.
    Whole(Value),
    /// Of its status.
    Status(Value),
}

/// What to do so that `verb` comes true for the machine, whose instance is `vmi`.
///
/// # Errors
/// Why that cannot be asked of the machine as it is.
pub(super) fn plan(
    verb: Verb,
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
) -> Result<Plan, String> {
    match verb {
        Verb::Start { paused } => start(paused, vm, vmi),
        Verb::Stop { grace } => stop(grace, vm, vmi),
        Verb::Restart { grace } => restart(grace, vm, vmi),
    }
}

/// What `terminationGracePeriodSeconds` the instance is to have before it is asked to stop, where its
/// guest is given more time than that says now. Its reconciler tells the guest, and deletes its pod
/// so much later.
///
/// # Errors
/// Why it cannot: the launcher of an instance that stops already does not wait longer.
pub(super) fn longer_grace(
    plan: &Plan,
    vmi: &VirtualMachineInstance,
) -> Result<Option<u32>, String> {
    let own = guest_grace_seconds(&vmi.spec);
    let longer = plan.shutdown.filter(|grace| *grace > own);
    if longer.is_some() && vmi.metadata.deletion_timestamp.is_some() {
        return Err(format!(
            "VMI stops already, within its terminationGracePeriodSeconds: give it {own} or less"
        ));
    }
    Ok(longer)
}

fn start(
    paused: bool,
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
) -> Result<Plan, String> {
    let ended = vmi
        .map(|vmi| (vmi, phase(vmi)))
        .filter(|(_, phase)| is_final(*phase));
    // What is lost with its node, or not begun, is not in the way: KubeVirt takes the request.
    let shown = vmi.and_then(|vmi| vmi.status.as_ref()?.phase);
    if shown.is_some_and(|phase| phase != Phase::Unknown && !is_final(phase)) {
        return Err("VM is already running".to_owned());
    }
    let strategy = run_strategy(vm);
    let patch = match (strategy, ended) {
        (RunStrategy::Always | RunStrategy::Once, _) => {
            return Err(format!(
                "{strategy:?} does not support manual start requests"
            ));
        }
        (RunStrategy::RerunOnFailure, Some((_, Phase::Failed))) => {
            return Err(format!(
                "{strategy:?} does not support starting VM from failed state"
            ));
        }
        // The template says so already, and a strategy outlives more than a request does.
        (RunStrategy::Halted, _) if !paused || starts_paused(vm) => run(vm, true),
        (RunStrategy::Manual | RunStrategy::RerunOnFailure, Some((vmi, _))) => {
            ask(vm, vec![request_stop(vmi), request_start(paused)])?
        }
        (RunStrategy::Halted | RunStrategy::Manual | RunStrategy::RerunOnFailure, _) => {
            ask(vm, vec![request_start(paused)])?
        }
    };
    Ok(Plan {
        patch,
        shutdown: None,
    })
}

fn stop(
    grace: Option<u32>,
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
) -> Result<Plan, String> {
    let strategy = run_strategy(vm);
    let lives = vmi.filter(|vmi| !is_final(phase(vmi)));
    let patch = match (strategy, lives) {
        (RunStrategy::Always | RunStrategy::Once, _) => run(vm, false),
        (_, None) => return Err("VM is not running".to_owned()),
        (RunStrategy::Halted, Some(vmi)) => {
            // It stops anyway.
            if grace.is_none_or(|grace| grace >= guest_grace_seconds(&vmi.spec)) {
                return Err(format!(
                    "{strategy:?} only supports manual stop requests with a shorter graceperiod"
                ));
            }
            ask(vm, vec![request_stop(vmi)])?
        }
        (RunStrategy::Manual | RunStrategy::RerunOnFailure, Some(vmi)) => {
            ask(vm, vec![request_stop(vmi)])?
        }
    };
    Ok(Plan {
        patch,
        shutdown: grace.filter(|_| lives.is_some_and(runs)),
    })
}

fn restart(
    grace: Option<u32>,
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
) -> Result<Plan, String> {
    let strategy = run_strategy(vm);
    if matches!(strategy, RunStrategy::Halted | RunStrategy::Once) {
        return Err(format!(
            "{strategy:?} does not support manual restart requests"
        ));
    }
    let vmi = vmi.ok_or("VM is not running")?;
    let requests = vec![request_stop(vmi), request_start(false)];
    let shutdown = grace.filter(|_| runs(vmi));
    // Who asks for the same again is to have the guest told, which may not have been done.
    let again = shutdown.is_some() && pending(vm) == requests;
    let patch = match again {
        true => asked(requests),
        false => ask(vm, requests)?,
    };
    Ok(Plan { patch, shutdown })
}

/// There is a guest that can be told.
fn runs(vmi: &VirtualMachineInstance) -> bool {
    phase(vmi) == Phase::Running
}

fn starts_paused(vm: &VirtualMachine) -> bool {
    vm.spec.template.spec.start_strategy == Some(StartStrategy::Paused)
}

/// Sets the strategy to Always or to Halted, in the field that says it now.
fn run(vm: &VirtualMachine, run: bool) -> Patch {
    Patch::Whole(match (vm.spec.run_strategy, run) {
        (None, run) => json!({"spec": {"running": run}}),
        (Some(_), true) => json!({"spec": {"runStrategy": RunStrategy::Always}}),
        (Some(_), false) => json!({"spec": {"runStrategy": RunStrategy::Halted}}),
    })
}

fn request_start(paused: bool) -> VirtualMachineStateChangeRequest {
    let data = paused.then(|| ("paused".to_owned(), "true".to_owned()));
    VirtualMachineStateChangeRequest {
        action: Ask::Start,
        data: data.into_iter().collect(),
        uid: None,
    }
}

fn request_stop(vmi: &VirtualMachineInstance) -> VirtualMachineStateChangeRequest {
    VirtualMachineStateChangeRequest {
        action: Ask::Stop,
        data: Default::default(),
        uid: vmi.metadata.uid.clone(),
    }
}

/// Asks the controller for these, in this order. To stop is asked in place of whatever was asked
/// for before it. Failures to start are forgotten: whoever asks does not want to wait for them.
fn ask(
    vm: &VirtualMachine,
    requests: Vec<VirtualMachineStateChangeRequest>,
) -> Result<Patch, String> {
    let busy = !pending(vm).is_empty();
    let stops = matches!(requests.as_slice(), [only] if only.action == Ask::Stop);
    if busy && !stops {
        return Err("unable to complete request: stop/start already underway".to_owned());
    }
    Ok(asked(requests))
}

fn asked(requests: Vec<VirtualMachineStateChangeRequest>) -> Patch {
    Patch::Status(json!({
        "status": {"stateChangeRequests": requests, "startFailure": null},
    }))
}

/// What was asked for and is not done yet.
fn pending(vm: &VirtualMachine) -> &[VirtualMachineStateChangeRequest] {
    let status = vm.status.as_ref();
    status.map_or(&[], |status| &status.state_change_requests)
}
