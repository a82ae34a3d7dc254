//! What each input means in each state.

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
fn a_machine_that_is_started_paused_waits_to_be_resumed() {
    let (mut vm, actions) = vm(&[Input::StartedPaused]);
    assert_eq!((vm.state(), actions), (&State::Paused(Pause::User), vec![]));
    assert_eq!(vm.step(Input::Resumed), []);
    assert_eq!(*vm.state(), State::Running);
    let (mut vm, _) = super::tests::vm(&[stop(NOW)]);
    assert_eq!(vm.step(Input::StartedPaused), [Action::PowerOff]);
}

#[test]
fn a_pause_that_comes_before_the_starts_answer_is_kept() {
    let stopped = || Input::Suspended(Pause::IoError);
    let adopted = |paused| Input::Adopted { paused };
    let paused = State::Paused(Pause::IoError);
    for (inputs, expected) in [
        (vec![stopped(), Input::Started], &paused),
        (vec![stopped(), adopted(None)], &paused),
        (
            vec![stopped(), Input::StartedPaused],
            &State::Paused(Pause::User),
        ),
        (
            vec![stopped(), Input::Resumed, Input::Started],
            &State::Running,
        ),
        (
            vec![stopped(), Input::Started, Input::Resumed],
            &State::Running,
        ),
    ] {
        assert_eq!(vm(&inputs).0.state(), expected, "after {inputs:?}");
    }
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
        vec![Input::Started, Input::Suspended(Pause::IoError)],
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
fn a_guest_that_reboots_instead_is_asked_again() {
    let (mut vm, _) = vm(&[Input::Started, stop(GRACE), Input::GuestShutdown]);
    // The first retry finds a guest that goes down, and nothing more is armed.
    assert_eq!(vm.step(Input::RetryDue), []);
    assert_eq!(
        vm.step(Input::Rebooted),
        [Action::ArmThaw(None), Action::ArmRetry]
    );
    assert_eq!(
        vm.step(Input::RetryDue),
        [Action::PressPowerButton, Action::ArmRetry]
    );
}

#[test]
fn a_reboot_is_forgotten_by_a_stop_that_comes_later() {
    let (mut vm, _) = vm(&[Input::Started, Input::GuestShutdown]);
    assert_eq!(vm.step(Input::Rebooted), [Action::ArmThaw(None)]);
    vm.step(stop(GRACE));
    assert_eq!(
        vm.step(Input::RetryDue),
        [Action::PressPowerButton, Action::ArmRetry]
    );
}

#[test]
fn a_frozen_guest_is_asked_to_thaw_until_it_has() {
    let (mut vm, armed) = vm(&[
        Input::Started,
        Input::Frozen {
            thaw_after: Some(GRACE),
        },
    ]);
    assert_eq!(armed, [Action::ArmThaw(Some(GRACE))]);
    for _ in 0..2 {
        assert_eq!(
            vm.step(Input::ThawDue),
            [Action::Thaw, Action::ArmThaw(Some(THAW_RETRY))]
        );
    }
    assert_eq!(vm.step(Input::Thawed), [Action::ArmThaw(None)]);
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
    let (mut vm, actions) = vm(&[Input::Started, Input::Suspended(Pause::User)]);
    assert_eq!((vm.state(), actions), (&State::Paused(Pause::User), vec![]));
    assert_eq!(vm.step(Input::Resumed), []);
    assert_eq!(*vm.state(), State::Running);
}
