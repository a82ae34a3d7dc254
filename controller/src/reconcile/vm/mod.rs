//! VirtualMachine to VirtualMachineInstance.
//!
//! ```text
//!  run strategy --+
//!  requests ------+--strategy::act--> start, stop, nothing yet
//!  instance ------+
//!  back-off ------'
//! ```
//!
//! What must outlive the instance (that it failed to start, that it is to run again) is written
//! before the instance is deleted; everything else is written after what was done, as it is seen.

mod failure;
mod instance;
mod printable;
mod status;
mod strategy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crds::{RunStrategy, VirtualMachine, VirtualMachineInstance, VirtualMachineStatus};
use k8s_openapi::jiff::Timestamp;
use kube_core::ResourceExt;

use self::strategy::Action;
use super::{Decision, Event, Failure};

/// The finalizer that keeps a machine until its instance is gone (KubeVirt's
/// `VirtualMachineControllerFinalizer`).
pub const FINALIZER: &str = "kubevirt.io/virtualMachineControllerFinalize";

/// The finalizer of a deletion that leaves dependents behind (Kubernetes'
/// `FinalizerOrphanDependents`).
const ORPHAN: &str = "orphan";

/// A write about a machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Make its instance.
    CreateVmi(Box<VirtualMachineInstance>),
    /// Delete its instance, if that still has this uid.
    DeleteVmi {
        /// The instance's uid.
        uid: String,
    },
    /// Set its run strategy to Always, in the field that says it now.
    SetAlways,
    /// Apply its status.
    ApplyStatus(Box<VirtualMachineStatus>),
    /// Remove its finalizer.
    RemoveFinalizer,
    /// Tell what happened.
    Event(Event),
}

/// What is known of a machine.
#[derive(Clone, Debug)]
pub struct VmSnapshot {
    /// The machine.
    pub vm: Arc<VirtualMachine>,
    /// The instance of its name, whoever owns it.
    pub vmi: Option<Arc<VirtualMachineInstance>>,
    /// A pod of an earlier instance is left.
    pub pod_left: bool,
    /// A claim of the template exists and is not bound.
    pub unbound_claim: bool,
    /// Why the instance could not be made, just now.
    pub failure: Option<Failure>,
}

impl VmSnapshot {
    /// The instance of its name, if it is the machine's.
    fn own(&self) -> Option<&VirtualMachineInstance> {
        self.vmi
            .as_deref()
            .filter(|vmi| owner(vmi) == self.vm.metadata.uid.as_deref())
    }
}

/// The uid of the machine that controls the instance.
pub fn owner(vmi: &VirtualMachineInstance) -> Option<&str> {
    let mut owners = vmi.metadata.owner_references.iter().flatten();
    let owner = owners.find(|o| o.controller == Some(true) && o.kind == "VirtualMachine")?;
    Some(&owner.uid)
}

/// The run strategy that the machine asks for, in either of its forms.
pub(crate) fn run_strategy(vm: &VirtualMachine) -> RunStrategy {
    vm.spec.run_strategy.unwrap_or(match vm.spec.running {
        Some(true) => RunStrategy::Always,
        _ => RunStrategy::Halted,
    })
}

/// What to do about the machine.
pub fn decide(snapshot: &VmSnapshot, now: Timestamp) -> Decision<Write> {
    let vm = &snapshot.vm;
    let current = vm.status.clone().unwrap_or_default();
    let wanted = status::wanted(snapshot, &current, now);
    if vm.metadata.deletion_timestamp.is_some() {
        return delete(snapshot, &current, wanted);
    }
    let foreign = snapshot.vmi.is_some() && snapshot.own().is_none();
    let action = match &snapshot.failure {
        None if !foreign => strategy::act(snapshot, &wanted, now),
        _ => Action::Nothing,
    };
    let outlives = current.start_failure != wanted.start_failure
        || wanted.state_change_requests.len() > current.state_change_requests.len();
    match action {
        Action::Stop { .. } if outlives => apply(&current, wanted),
        Action::Stop { uid } => Decision::write(vec![
            Write::DeleteVmi { uid: uid.clone() },
            Write::Event(Event::normal(
                "SuccessfulDelete",
                format!(
                    "Stopped the virtual machine by deleting the virtual machine instance {uid}"
                ),
            )),
        ]),
        Action::Start => Decision::write(vec![
            Write::CreateVmi(Box::new(instance::instance(vm, &wanted))),
            Write::Event(Event::normal(
                "SuccessfulCreate",
                format!(
                    "Started the virtual machine by creating the new virtual machine instance {}",
                    vm.name_any()
                ),
            )),
        ]),
        Action::SetAlways => Decision::write(vec![Write::SetAlways]),
        Action::Wait(left) => Decision {
            requeue: Some(left),
            ..apply(&current, wanted)
        },
        Action::Nothing => {
            let mut decision = apply(&current, wanted);
            if let Some(failure) = &snapshot.failure {
                let message = format!(
                    "Error creating virtual machine instance: {}",
                    failure.message
                );
                let event = Event::warning(super::FAILED_CREATE, message);
                decision.writes.push(Write::Event(event));
            }
            decision
        }
    }
}

/// The machine is being deleted: its instance goes first, unless it is to stay behind.
fn delete(
    snapshot: &VmSnapshot,
    current: &VirtualMachineStatus,
    wanted: VirtualMachineStatus,
) -> Decision<Write> {
    let metadata = &snapshot.vm.metadata;
    let has = |finalizer| metadata.finalizers.iter().flatten().any(|f| f == finalizer);
    let left = snapshot.own().filter(|_| !has(ORPHAN));
    match left {
        None if has(FINALIZER) => Decision::write(vec![Write::RemoveFinalizer]),
        None => Decision::write(Vec::new()),
        Some(vmi) if vmi.metadata.deletion_timestamp.is_none() => {
            let uid = vmi.metadata.uid.clone().unwrap_or_default();
            Decision::write(vec![Write::DeleteVmi { uid }])
        }
        Some(_) => apply(current, wanted),
    }
}

/// Writes down how things stand, where that has changed.
fn apply(current: &VirtualMachineStatus, wanted: VirtualMachineStatus) -> Decision<Write> {
    Decision::write(match status::same(current, &wanted) {
        true => Vec::new(),
        false => vec![Write::ApplyStatus(Box::new(wanted))],
    })
}
