//! The life of one VM, as a pure machine: an input in, the actions to take out.
//!
//! ```text
//!             Started/Adopted            Suspended     (StartedPaused: Paused at once)
//!  Starting ─────────────────▶ Running ◀──────────▶ Paused
//!     │  │                        │      Resumed       │
//!     │  └── StopRequested ──┐    │ StopRequested      │ StopRequested
//!     │      (kept for later)│    ▼                    │
//!     │                      └▶ ShuttingDown ◀─────────┘
//!     │                           │  press the power button again every RETRY
//!     │                           │ GraceOver, or grace 0
//!     │                           ▼
//!     │                       PoweringOff
//!     │ StartFailed               │ Stopped
//!     └──────────▶ Ended ◀────────┘          (Stopped ends every state)
//! ```
//!
//! A worker that is killed loses this machine and nothing else: what the next one needs is in
//! the [`Record`], and [`Vm::resume`] puts it back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a guest has to react before the power button is pressed again: one that is still
/// booting has no handler yet and loses the event.
pub const RETRY: Duration = Duration::from_secs(2);

/// How long a guest's agent has to thaw its file systems before it is asked again.
pub const THAW_RETRY: Duration = Duration::from_secs(10);

/// Where a VM stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The domain is being made.
    Starting,
    /// vCPUs run.
    Running,
    /// vCPUs stand still.
    Paused(Pause),
    /// The guest was asked to power off.
    ShuttingDown,
    /// The domain is being destroyed.
    PoweringOff,
    /// There is no QEMU any more.
    Ended(Outcome),
}

/// Why vCPUs stand still (`virDomainPausedReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// By request.
    User,
    /// A disk reported an error that the guest is not to see.
    IoError,
    /// The guest's watchdog fired.
    Watchdog,
    /// The guest panicked.
    Crashed,
    /// Any other.
    Other,
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "paused",
            Self::IoError => "a disk reported an I/O error",
            Self::Watchdog => "the watchdog fired",
            Self::Crashed => "the guest panicked",
            Self::Other => "paused by QEMU",
        })
    }
}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// By its own will or by request.
    Succeeded(String),
    /// It could not start, or QEMU died.
    Failed(String),
}

/// Why libvirt says that a domain has stopped (`virDomainEventStoppedDetailType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The guest powered itself off.
    Shutdown,
    /// Destroyed by request.
    Destroyed,
    /// The guest panicked.
    Crashed,
    /// QEMU died.
    Failed,
    /// Any other.
    Other,
}

/// What happens to a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The domain was started.
    Started,
    /// The domain was started, and its vCPUs wait for somebody's word (`startStrategy: Paused`).
    StartedPaused,
    /// The domain could not be started.
    StartFailed(String),
    /// A domain that an earlier worker started was found; `paused` has its reason.
    Adopted {
        /// Why its vCPUs stand still, where they do.
        paused: Option<Pause>,
    },
    /// The domain that an earlier worker started was found, and is over.
    Gone(StopReason),
    /// libvirt: vCPUs run (again).
    Resumed,
    /// libvirt: vCPUs stand still.
    Suspended(Pause),
    /// libvirt: the guest starts anew, by itself or by request.
    Rebooted,
    /// libvirt: the guest has begun to power off.
    GuestShutdown,
    /// libvirt: the domain is gone.
    Stopped(StopReason),
    /// Somebody wants the VM to end.
    StopRequested {
        /// How long the guest may take; zero means at once.
        grace: Duration,
    },
    /// [`RETRY`] has passed since the power button was pressed.
    RetryDue,
    /// The grace period is over.
    GraceOver,
    /// Somebody freezes the guest's file systems.
    Frozen {
        /// When they are to be thawed, where nobody does it before.
        thaw_after: Option<Duration>,
    },
    /// The guest's file systems are thawed.
    Thawed,
    /// The time for which they were to be frozen is over.
    ThawDue,
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// ACPI power button.
    PressPowerButton,
    /// Come back with [`Input::RetryDue`] after [`RETRY`].
    ArmRetry,
    /// Come back with [`Input::GraceOver`] after this time.
    ArmGrace(Duration),
    /// Destroy the domain.
    PowerOff,
    /// Come back with [`Input::ThawDue`] after this time, or not at all: what was armed before is
    /// forgotten.
    ArmThaw(Option<Duration>),
    /// Thaw the guest's file systems.
    Thaw,
    /// Tell the outcome and leave.
    Finish(Outcome),
}

/// What a worker leaves for the one that follows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// How often a worker was started for this VM.
    pub worker_starts: u32,
    /// The domain was running once: never start it a second time.
    pub started: bool,
    /// When the grace period of a requested stop ends: `CLOCK_BOOTTIME`, milliseconds.
    pub stop_deadline_ms: Option<u64>,
    /// The guest has begun to power itself off.
    pub powering_off: bool,
    /// When the guest's file systems are to be thawed: `CLOCK_BOOTTIME`, milliseconds.
    pub thaw_deadline_ms: Option<u64>,
    /// The addresses that the guest holds by DHCP, by the VMI's names of interfaces.
    pub leased: BTreeMap<String, BTreeSet<IpAddr>>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

/// One VM's life.
#[derive(Debug)]
pub struct Vm {
    state: State,
    /// A stop that came before the domain was there.
    wanted: Option<Duration>,
    /// The domain went away before its start was answered; the answer has the better cause.
    lost: Option<StopReason>,
    /// The vCPUs were stopped before the domain's start was answered.
    paused: Option<Pause>,
    /// The guest has begun to power off: no need to press again.
    reacted: bool,
}

impl Default for Vm {
    fn default() -> Self {
        Self {
            state: State::Starting,
            wanted: None,
            lost: None,
            paused: None,
            reacted: false,
        }
    }
}

impl Vm {
    /// The machine of a worker that follows another, with the stop it had been asked for.
    pub fn resume(stop: Option<Duration>) -> Self {
        Self {
            wanted: stop,
            ..Self::default()
        }
    }

    /// Where the VM stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes one input. An input that means nothing in the present state changes nothing.
    pub fn step(&mut self, input: Input) -> Vec<Action> {
        match (&self.state, input) {
            (State::Ended(_), _) => vec![],
            (State::Starting, Input::Stopped(reason)) => {
                self.lost = Some(reason);
                vec![]
            }
            (state, Input::Stopped(reason) | Input::Gone(reason)) => {
                let outcome = outcome(state, reason);
                self.end(outcome)
            }
            (State::Starting, Input::StartFailed(cause)) => self.end(Outcome::Failed(cause)),
            (State::Starting, Input::Started) => self.go(State::Running),
            (State::Starting, Input::StartedPaused) => self.go(State::Paused(Pause::User)),
            (State::Starting, Input::Adopted { paused }) => {
                self.go(paused.map_or(State::Running, State::Paused))
            }
            (State::Starting, Input::StopRequested { grace }) => {
                self.wanted = Some(self.wanted.map_or(grace, |known| known.min(grace)));
                vec![]
            }
            (State::Starting, Input::Suspended(reason)) => {
                self.paused = Some(reason);
                vec![]
            }
            (State::Starting, Input::Resumed) => {
                self.paused = None;
                vec![]
            }
            (State::Running, Input::Suspended(reason)) => self.go(State::Paused(reason)),
            (State::Paused(_), Input::Resumed) => self.go(State::Running),
            (State::Running | State::Paused(_), Input::StopRequested { grace }) => self.stop(grace),
            (State::ShuttingDown, Input::StopRequested { grace }) if grace.is_zero() => {
                self.power_off()
            }
            // A second, longer grace period does not prolong the first.
            (State::ShuttingDown, Input::StopRequested { grace }) => vec![Action::ArmGrace(grace)],
            (State::ShuttingDown, Input::RetryDue) if !self.reacted => {
                vec![Action::PressPowerButton, Action::ArmRetry]
            }
            (State::ShuttingDown, Input::GraceOver) => self.power_off(),
            (_, Input::GuestShutdown) => {
                self.reacted = true;
                vec![]
            }
            // It went down to come up again. One that was asked to stay down is asked once more.
            (state, Input::Rebooted) => {
                let again = self.reacted && *state == State::ShuttingDown;
                self.reacted = false;
                let again = again.then_some(Action::ArmRetry);
                // A guest that starts anew has nothing frozen.
                [Action::ArmThaw(None)].into_iter().chain(again).collect()
            }
            (_, Input::Frozen { thaw_after }) => vec![Action::ArmThaw(thaw_after)],
            (_, Input::Thawed) => vec![Action::ArmThaw(None)],
            // Until somebody says that it is thawed: a guest that is left frozen is lost.
            (_, Input::ThawDue) => vec![Action::Thaw, Action::ArmThaw(Some(THAW_RETRY))],
            _ => vec![],
        }
    }

    fn go(&mut self, state: State) -> Vec<Action> {
        self.state = match (state, self.paused.take()) {
            (State::Running, Some(reason)) => State::Paused(reason),
            (state, _) => state,
        };
        if let Some(reason) = self.lost.take() {
            return self.step(Input::Stopped(reason));
        }
        self.wanted
            .take()
            .map_or_else(Vec::new, |grace| self.stop(grace))
    }

    fn stop(&mut self, grace: Duration) -> Vec<Action> {
        if grace.is_zero() {
            return self.power_off();
        }
        // A paused guest cannot hear the button; its grace period runs all the same.
        self.state = State::ShuttingDown;
        vec![
            Action::ArmGrace(grace),
            Action::PressPowerButton,
            Action::ArmRetry,
        ]
    }

    fn power_off(&mut self) -> Vec<Action> {
        self.state = State::PoweringOff;
        vec![Action::PowerOff]
    }

    fn end(&mut self, outcome: Outcome) -> Vec<Action> {
        self.state = State::Ended(outcome.clone());
        vec![Action::Finish(outcome)]
    }
}

/// What a stop means in the state in which it came.
fn outcome(state: &State, reason: StopReason) -> Outcome {
    match (state, reason) {
        (State::PoweringOff, _) => Outcome::Succeeded("powered off".into()),
        (State::ShuttingDown, StopReason::Shutdown) => {
            Outcome::Succeeded("the guest shut down as asked".into())
        }
        (_, StopReason::Shutdown) => Outcome::Succeeded("the guest powered itself off".into()),
        (_, StopReason::Destroyed) => Outcome::Succeeded("powered off".into()),
        (_, StopReason::Crashed) => Outcome::Failed("the guest panicked".into()),
        (_, StopReason::Failed) => Outcome::Failed("QEMU ended unexpectedly".into()),
        (_, StopReason::Other) => Outcome::Failed("libvirt reports that the domain stopped".into()),
    }
}

#[cfg(test)]
mod tests;
