//! What to do about a VirtualMachine and about a VirtualMachineInstance, decided from what is known
//! of them: pure, and the same for the same snapshot.
//!
//! ```text
//!  VirtualMachine --vm::decide--> make, delete its instance        +--> status of the machine
//!        ^                              |                          |
//!        '---------- watched -----------+                          |
//!                                       v                          |
//!  VirtualMachineInstance --vmi::decide--> make, delete its pod ---+--> status of the instance
//!        ^                                        |
//!        '------------- watched ------------------'
//! ```
//!
//! A decision is either to act or to write down how things stand: what was done is seen in the next
//! snapshot, and the status is written from that. Where nothing changed, nothing is decided.

mod condition;
mod launcher;
#[cfg(test)]
mod tests;
pub mod vm;
pub mod vmi;

use std::time::Duration;

use crds::{VirtualMachineInstance, VirtualMachineInstanceStatus, VirtualMachineStatus};

pub use launcher::{Ended, Launcher, PodCondition, PodOver, Waiting};

/// What is to be done about one object, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The writes. The first that fails ends it.
    pub writes: Vec<Write>,
    /// When to look again, whatever is heard until then. None where a change will be heard of.
    pub requeue: Option<Duration>,
}

/// The reason where something could not be made (KubeVirt's `FailedCreatePodReason`).
const FAILED_CREATE: &str = "FailedCreate";

impl Decision {
    fn write(writes: Vec<Write>) -> Self {
        let requeue = None;
        Self { writes, requeue }
    }
}

/// A write about the object that was decided on.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Make the machine's instance.
    CreateVmi(Box<VirtualMachineInstance>),
    /// Delete the machine's instance, if it still has this uid.
    DeleteVmi {
        /// The instance's uid.
        uid: String,
    },
    /// Set the machine's run strategy to Always, in the field that says it now.
    SetAlways,
    /// Remove the machine's finalizer.
    RemoveVmFinalizer,
    /// Apply the machine's status.
    ApplyVmStatus(Box<VirtualMachineStatus>),
    /// Render the instance's pod and make it.
    CreatePod,
    /// Delete the instance's pod, if it still has this uid.
    DeletePod {
        /// The pod's name.
        name: String,
        /// The pod's uid.
        uid: String,
    },
    /// Apply what of the instance's status is the controller's.
    ApplyVmiStatus(Box<VirtualMachineInstanceStatus>),
    /// Go on only if the API server, asked now, knows of no pod of the instance. What follows cannot
    /// be taken back, and a cache may be behind.
    ConfirmNoPod,
    /// Remove the instance's finalizer.
    RemoveVmiFinalizer,
    /// Tell what happened.
    Event(Event),
}

/// Whether an event tells of something as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// It is as it should be.
    Normal,
    /// Somebody may want to look.
    Warning,
}

/// What happened to the object that was decided on, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether it is as it should be.
    pub type_: EventType,
    /// What happened, in one word; KubeVirt's where it has one.
    pub reason: String,
    /// What happened, in a sentence.
    pub message: String,
}

impl Event {
    fn normal(reason: &str, message: String) -> Write {
        Self::told(EventType::Normal, reason, message)
    }

    fn warning(reason: &str, message: String) -> Write {
        Self::told(EventType::Warning, reason, message)
    }

    fn told(type_: EventType, reason: &str, message: String) -> Write {
        let reason = reason.to_owned();
        Write::Event(Self {
            type_,
            reason,
            message,
        })
    }
}

/// What the API server, or the rendering of the pod, refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, for people.
    pub message: String,
}
