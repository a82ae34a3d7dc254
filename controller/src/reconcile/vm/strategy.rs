//! What a run strategy asks for (KubeVirt's user guide, "Run Strategies").
//!
//! | strategy       | no instance          | it failed      | it shut down | asked to stop |
//! | -------------- | -------------------- | -------------- | ------------ | ------------- |
//! | Always         | start                | start again    | start again  | start again   |
//! | RerunOnFailure | start, the first time or when asked | start again | delete | delete |
//! | Manual         | start when asked     | keep           | keep         | delete        |
//! | Once           | start                | keep           | keep         | keep          |
//! | Halted         | nothing; asked to start, it becomes Always | delete | delete | delete |
//!
//! Starting again is deleting the instance, and starting when it is gone. What was asked for before a
//! machine became Halted no longer counts.

use std::time::Duration;

use crds::{
    RunStrategy, StateChangeRequestAction as Ask, VirtualMachineInstance,
    VirtualMachineInstancePhase as Phase, VirtualMachineStateChangeRequest, VirtualMachineStatus,
};
use k8s_openapi::jiff::Timestamp;

use super::{VmSnapshot, failure, run_strategy};
use crate::reconcile::vmi::{is_final, phase};

/// What a machine needs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing, until something changes.
    Nothing,
    /// Its instance is made when this much time has passed.
    Wait(Duration),
    /// Its instance is made.
    Start,
    /// Its instance is deleted.
    Stop {
        /// The instance's uid.
        uid: String,
    },
    /// It is asked to start, and its strategy is Halted: its strategy becomes Always.
    SetAlways,
}

/// What the machine needs, where `wanted` holds the requests and failures as they now count.
pub(super) fn act(snapshot: &VmSnapshot, wanted: &VirtualMachineStatus, now: Timestamp) -> Action {
    let strategy = run_strategy(&snapshot.vm);
    let request = wanted.state_change_requests.first();
    let asked = |ask| request.is_some_and(|request| request.action == ask);
    match snapshot.own() {
        Some(vmi) if stops(strategy, vmi, request) => Action::Stop {
            uid: vmi.metadata.uid.clone().unwrap_or_default(),
        },
        Some(_) => Action::Nothing,
        None if strategy == RunStrategy::Halted && asked(Ask::Start) => Action::SetAlways,
        None if !starts(snapshot, request) || snapshot.pod_left => Action::Nothing,
        None => match failure::left(wanted, now) {
            Some(left) => Action::Wait(left),
            None => Action::Start,
        },
    }
}

/// The instance is to be deleted.
fn stops(
    strategy: RunStrategy,
    vmi: &VirtualMachineInstance,
    request: Option<&VirtualMachineStateChangeRequest>,
) -> bool {
    if vmi.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let ended = is_final(phase(vmi));
    let stop = request.is_some_and(|request| is_stop_of(request, vmi));
    let start = request.is_some_and(|request| request.action == Ask::Start);
    match strategy {
        RunStrategy::Always | RunStrategy::RerunOnFailure => stop || ended,
        // KubeVirt's API asks to stop what has ended before it asks to start; who asks only to
        // start means the same.
        RunStrategy::Manual => stop || (start && ended),
        RunStrategy::Once => false,
        RunStrategy::Halted => true,
    }
}

/// There is no instance, and there is to be one.
pub(super) fn starts(
    snapshot: &VmSnapshot,
    request: Option<&VirtualMachineStateChangeRequest>,
) -> bool {
    let asked = request.is_some_and(|request| request.action == Ask::Start);
    match run_strategy(&snapshot.vm) {
        RunStrategy::Always | RunStrategy::Once => true,
        RunStrategy::Manual => asked,
        // The first time, and when the strategy has just become this one.
        RunStrategy::RerunOnFailure => {
            let status = snapshot.vm.status.as_ref();
            let followed = status.and_then(|status| status.run_strategy);
            asked || followed != Some(RunStrategy::RerunOnFailure)
        }
        RunStrategy::Halted => false,
    }
}

/// The requests that are left to do, and the request to run again what failed.
pub(super) fn requests(
    snapshot: &VmSnapshot,
    requests: &[VirtualMachineStateChangeRequest],
) -> Vec<VirtualMachineStateChangeRequest> {
    let strategy = run_strategy(&snapshot.vm);
    let status = snapshot.vm.status.as_ref();
    let followed = status.and_then(|status| status.run_strategy);
    let halts = strategy == RunStrategy::Halted && followed.is_some_and(|it| it != strategy);
    if halts {
        // They were meant for the strategy before it. A start, left alone, would undo it.
        return Vec::new();
    }
    let vmi = snapshot.own();
    let left = requests.iter().skip_while(|request| is_done(request, vmi));
    let mut left: Vec<_> = left.cloned().collect();
    let rerun = vmi.is_some_and(|vmi| {
        vmi.metadata.deletion_timestamp.is_none() && phase(vmi) == Phase::Failed
    });
    if rerun && left.is_empty() && strategy == RunStrategy::RerunOnFailure {
        left.push(VirtualMachineStateChangeRequest {
            action: Ask::Start,
            data: Default::default(),
            uid: None,
        });
    }
    left
}

/// The request is done, or can never be.
fn is_done(
    request: &VirtualMachineStateChangeRequest,
    vmi: Option<&VirtualMachineInstance>,
) -> bool {
    match request.action {
        Ask::Stop => !vmi.is_some_and(|vmi| is_stop_of(request, vmi)),
        // Whether one that is lost with its node runs is known when the node is back, or its pod
        // gone: until then the request waits, and nothing is done about the instance.
        Ask::Start => vmi.is_some_and(|vmi| {
            let phase = phase(vmi);
            vmi.metadata.deletion_timestamp.is_none() && !is_final(phase) && phase != Phase::Unknown
        }),
    }
}

/// The request is to stop this instance, and not one before it.
fn is_stop_of(request: &VirtualMachineStateChangeRequest, vmi: &VirtualMachineInstance) -> bool {
    request.action == Ask::Stop && request.uid.is_some() && request.uid == vmi.metadata.uid
}
