//! The life of one VM, as a pure machine: an input in, the actions to take out.
//!
//! ```text
//!             Started/Adopted            Suspended
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
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a guest has to react before the power button is pressed again: one that is still
/// booting has no handler yet and loses the event.
pub const RETRY: Duration = Duration::from_secs(2);

/// Where a VM stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The domain is being made.
    Starting,
    /// vCPUs run.
    Running,
    /// vCPUs stand still, for the reason given.
    Paused(String),
    /// The guest was asked to power off.
    ShuttingDown,
    /// The domain is being destroyed.
    PoweringOff,
    /// There is no QEMU any more.
    Ended(Outcome),
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
    /// The domain could not be started.
    StartFailed(String),
    /// A domain that an earlier worker started was found; `paused` has its reason.
    Adopted {
        /// Why its vCPUs stand still, where they do.
        paused: Option<String>,
    },
    /// The domain that an earlier worker started was found, and is over.
    Gone(StopReason),
    /// libvirt: vCPUs run (again).
    Resumed,
    /// libvirt: vCPUs stand still.
    Suspended(String),
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
    /// The guest has begun to power off: no need to press again.
    reacted: bool,
}

impl Default for Vm {
    fn default() -> Self {
        Self {
            state: State::Starting,
            wanted: None,
            lost: None,
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
            (State::Starting, Input::Adopted { paused }) => {
                self.go(paused.map_or(State::Running, State::Paused))
            }
            (State::Starting, Input::StopRequested { grace }) => {
                self.wanted = Some(self.wanted.map_or(grace, |known| known.min(grace)));
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
            _ => vec![],
        }
    }

    fn go(&mut self, state: State) -> Vec<Action> {
        self.state = state;
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
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);
    const NOW: Duration = Duration::ZERO;

    fn vm(inputs: &[Input]) -> (Vm, Vec<Action>) {
        let mut vm = Vm::default();
        let mut last = vec![];
        for input in inputs {
            last = vm.step(input.clone());
        }
        (vm, last)
    }

    fn stop(grace: Duration) -> Input {
        Input::StopRequested { grace }
    }

    #[test]
    fn a_requested_stop_presses_the_button_and_arms_both_timers() {
        let (vm, actions) = vm(&[Input::Started, stop(GRACE)]);
        assert_eq!(*vm.state(), State::ShuttingDown);
        assert_eq!(
            actions,
            [
                Action::ArmGrace(GRACE),
                Action::PressPowerButton,
                Action::ArmRetry
            ]
        );
    }

    #[test]
    fn a_guest_that_ignores_the_button_is_asked_again_then_powered_off() {
        let (mut vm, again) = vm(&[Input::Started, stop(GRACE), Input::RetryDue]);
        assert_eq!(again, [Action::PressPowerButton, Action::ArmRetry]);
        assert_eq!(vm.step(Input::GraceOver), [Action::PowerOff]);
        assert_eq!(
            vm.step(Input::Stopped(StopReason::Destroyed)),
            [Action::Finish(Outcome::Succeeded("powered off".into()))]
        );
    }

    #[test]
    fn a_guest_that_reacts_is_not_asked_again() {
        let (_, actions) = vm(&[
            Input::Started,
            stop(GRACE),
            Input::GuestShutdown,
            Input::RetryDue,
        ]);
        assert_eq!(actions, []);
    }

    #[test]
    fn a_grace_period_of_zero_powers_off_at_once_in_every_live_state() {
        for inputs in [
            vec![Input::Started],
            vec![Input::Started, Input::Suspended("I/O error".into())],
            vec![Input::Started, stop(GRACE)],
            vec![Input::Adopted { paused: None }],
        ] {
            let (mut vm, _) = vm(&inputs);
            assert_eq!(vm.step(stop(NOW)), [Action::PowerOff], "after {inputs:?}");
        }
    }

    #[test]
    fn a_stop_that_comes_during_the_start_is_kept_with_the_shortest_grace() {
        let (vm, actions) = vm(&[stop(GRACE), stop(GRACE / 2), stop(GRACE), Input::Started]);
        assert_eq!(*vm.state(), State::ShuttingDown);
        assert_eq!(actions[0], Action::ArmGrace(GRACE / 2));
    }

    #[test]
    fn a_new_worker_carries_on_with_the_stop_of_the_old_one() {
        let mut vm = Vm::resume(Some(GRACE / 3));
        assert_eq!(
            vm.step(Input::Adopted { paused: None })[0],
            Action::ArmGrace(GRACE / 3)
        );
    }

    #[test]
    fn the_cause_of_a_stop_decides_the_outcome() {
        let cases = [
            (vec![Input::Started], StopReason::Shutdown, true),
            (vec![Input::Started], StopReason::Destroyed, true),
            (vec![Input::Started], StopReason::Failed, false),
            (vec![Input::Started], StopReason::Crashed, false),
            (vec![Input::Started], StopReason::Other, false),
            (
                vec![Input::Started, stop(GRACE)],
                StopReason::Shutdown,
                true,
            ),
            (vec![Input::Started, stop(GRACE)], StopReason::Failed, false),
            (vec![Input::Started, stop(NOW)], StopReason::Failed, true),
        ];
        for (inputs, reason, succeeded) in cases {
            let (mut vm, _) = vm(&inputs);
            let actions = vm.step(Input::Stopped(reason));
            let [Action::Finish(outcome)] = &actions[..] else {
                panic!("{inputs:?}: {actions:?}")
            };
            assert_eq!(
                matches!(outcome, Outcome::Succeeded(_)),
                succeeded,
                "{inputs:?} then {reason:?}"
            );
        }
    }

    #[test]
    fn a_domain_lost_during_its_start_ends_with_the_cause_that_the_start_tells() {
        let lost = Input::Stopped(StopReason::Failed);
        let (mut vm, actions) = vm(std::slice::from_ref(&lost));
        assert_eq!(actions, []);
        assert_eq!(
            vm.step(Input::StartFailed("no such disk".into())),
            [Action::Finish(Outcome::Failed("no such disk".into()))]
        );
        let (_, actions) = super::tests::vm(&[lost, Input::Started]);
        assert!(matches!(&actions[..], [Action::Finish(Outcome::Failed(_))]));
    }

    #[test]
    fn a_domain_that_ended_while_no_worker_was_there_is_over() {
        let cases = [(StopReason::Shutdown, true), (StopReason::Failed, false)];
        for (reason, succeeded) in cases {
            let (vm, _) = vm(&[Input::Gone(reason)]);
            let State::Ended(outcome) = vm.state() else {
                panic!("{reason:?}: {:?}", vm.state())
            };
            assert_eq!(
                matches!(outcome, Outcome::Succeeded(_)),
                succeeded,
                "{reason:?}"
            );
        }
    }

    #[test]
    fn nothing_follows_the_end() {
        let (mut vm, _) = vm(&[Input::Started, Input::Stopped(StopReason::Shutdown)]);
        for input in [Input::Started, stop(NOW), Input::GraceOver, Input::Resumed] {
            assert_eq!(vm.step(input), []);
        }
    }

    #[test]
    fn pausing_and_resuming_needs_no_action() {
        let (mut vm, actions) = vm(&[Input::Started, Input::Suspended("paused".into())]);
        assert_eq!(
            (vm.state(), actions),
            (&State::Paused("paused".into()), vec![])
        );
        assert_eq!(vm.step(Input::Resumed), []);
        assert_eq!(*vm.state(), State::Running);
    }
}
