//! What to do about a VirtualMachine and about a VirtualMachineInstance, and what the KubeVirt object
//! says, decided from what is known of them: pure, and the same for the same snapshot.
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
//! snapshot, and the status is written from that. Where nothing changed, nothing is written.

mod condition;
pub mod kubevirt;
mod launcher;
#[cfg(test)]
mod tests;
pub mod vm;
pub mod vmi;

use std::time::Duration;

pub use launcher::{Ended, Launcher, PodCondition, PodOver, Waiting};

/// What is to be done about one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<W> {
    /// The writes, in this order. The first that fails ends it.
    pub writes: Vec<W>,
    /// When to look again, whatever is heard until then. None where a change will be heard of.
    pub requeue: Option<Duration>,
}

impl<W> Decision<W> {
    fn write(writes: Vec<W>) -> Self {
        let requeue = None;
        Self { writes, requeue }
    }
}

/// The reason where something could not be made (KubeVirt's `FailedCreatePodReason`).
const FAILED_CREATE: &str = "FailedCreate";

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
    fn normal(reason: &str, message: String) -> Self {
        Self::new(EventType::Normal, reason, message)
    }

    fn warning(reason: &str, message: String) -> Self {
        Self::new(EventType::Warning, reason, message)
    }

    fn new(type_: EventType, reason: &str, message: String) -> Self {
        let reason = reason.to_owned();
        Self {
            type_,
            reason,
            message,
        }
    }
}

/// What the API server, or the rendering of the pod, refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, for people.
    pub message: String,
}
