//! How an instance ends.

use super::*;

#[test]
fn a_pod_that_is_over_is_the_end() {
    let with = |ended, over| Launcher {
        ended,
        over,
        ..bound()
    };
    let taken = |disruption| Launcher {
        deleting: true,
        disruption,
        ended: ended(0, "Completed", ""),
        ..bound()
    };
    let put_out = |status| Launcher {
        disruption: condition("True", "TerminationByKubelet", "node is shutting down"),
        ended: ended(status, "", ""),
        over: over(false, "Terminated"),
        ..bound()
    };
    use Phase::{Failed, Succeeded};
    let evicted = condition("True", "EvictionByEvictionAPI", "Eviction API: evicting");
    let cases = [
        (
            with(ended(0, "Completed", ""), over(true, "")),
            Succeeded,
            "",
            "",
        ),
        // The machine ended well; what only helps it did not.
        (
            with(ended(0, "Completed", ""), over(false, "")),
            Succeeded,
            "",
            "",
        ),
        (with(None, over(true, "")), Succeeded, "", ""),
        (
            with(
                ended(3, "Error", "QEMU was killed by SIGKILL"),
                over(false, ""),
            ),
            Failed,
            "GuestCrashed",
            "QEMU was killed by SIGKILL",
        ),
        (
            with(ended(1, "Error", "no disk"), None),
            Failed,
            "LauncherFailed",
            "no disk (exit status 1)",
        ),
        (
            with(ended(137, "OOMKilled", ""), None),
            Failed,
            "OOMKilled",
            "the launcher did not say why (exit status 137)",
        ),
        // Put out by the kubelet, with its containers and without.
        (
            with(ended(137, "Error", ""), over(false, "Evicted")),
            Failed,
            "Evicted",
            "the kubelet's words",
        ),
        (
            with(None, over(false, "UnexpectedAdmissionError")),
            Failed,
            "UnexpectedAdmissionError",
            "the kubelet's words",
        ),
        (
            with(None, over(false, "")),
            Failed,
            "PodFailed",
            "the kubelet's words",
        ),
        // Shut down because it was taken away.
        (taken(None), Failed, "PodDeleted", "the pod was deleted"),
        (
            taken(evicted),
            Failed,
            "Evicted",
            "the pod was evicted: Eviction API: evicting",
        ),
        // By the kubelet: there is no deletion.
        (
            put_out(0),
            Failed,
            "Evicted",
            "the pod was evicted: node is shutting down",
        ),
        (
            put_out(3),
            Failed,
            "Evicted",
            "the pod was evicted: node is shutting down",
        ),
    ];
    for (pod, phase, why, said) in cases {
        for before in ["Running", "Unknown"] {
            let snapshot = snapshot(in_phase(before), Some(pod.clone()));
            let decision = decide(&snapshot, at(1000));
            assert!(
                words(&decision).ends_with("(Stopped)"),
                "{pod:?}: {decision:?}"
            );
            let status = settled(snapshot);
            assert_eq!(status.phase, Some(phase), "{pod:?}");
            assert_eq!(status.reason.as_deref().unwrap_or_default(), why, "{pod:?}");
            let synchronized = reason(&status, "Synchronized");
            assert_eq!(
                synchronized,
                (phase == Failed).then(|| format!("False {why}"))
            );
            if phase == Failed {
                assert_eq!(message(&status, "Synchronized"), said);
            }
        }
    }
}

#[test]
fn whose_wish_an_end_was_is_known_when_the_pod_is_over() {
    let pod = Launcher {
        ended: ended(0, "Completed", ""),
        ..bound()
    };
    let status = settled(snapshot(in_phase("Running"), Some(pod)));
    assert_eq!(status.phase, Some(Phase::Running));
}

#[test]
fn a_start_that_failed_is_told_from_a_crash() {
    for status in [1, 3] {
        let pod = Launcher {
            ended: ended(status, "Error", "no disk"),
            ..bound()
        };
        let status = settled(snapshot(in_phase("Scheduled"), Some(pod)));
        assert_eq!(status.reason.as_deref(), Some("StartFailed"));
    }
}

#[test]
fn a_helper_that_fails_before_the_machine_runs_is_its_end() {
    let failed = |compute| Launcher {
        failed_helper: ended(128, "StartError", "container volumeroot: no such file"),
        ended: compute,
        ..bound()
    };
    let going = Launcher {
        deleting: true,
        ..failed(None)
    };
    let why = "container volumeroot: no such file (exit status 128)";
    let cases = [
        (in_phase("Scheduled"), failed(None), Phase::Failed, why),
        // What the launcher says itself is better.
        (
            in_phase("Scheduled"),
            failed(ended(1, "Error", "no disk")),
            Phase::Failed,
            "no disk (exit status 1)",
        ),
        (in_phase("Running"), failed(None), Phase::Running, ""),
        (in_phase("Scheduled"), going.clone(), Phase::Scheduled, ""),
        (deleting(in_phase("Scheduled")), going, Phase::Scheduled, ""),
    ];
    for (vmi, pod, phase, why) in cases {
        let status = settled(snapshot(vmi, Some(pod.clone())));
        assert_eq!(status.phase, Some(phase), "{pod:?}");
        let reason = status.reason.as_deref();
        assert_eq!(reason, (phase == Phase::Failed).then_some("StartFailed"));
        if phase == Phase::Failed {
            assert_eq!(message(&status, "Synchronized"), why);
        }
    }
}

#[test]
fn a_pod_that_outlives_its_machine_is_deleted() {
    let failed = |phase: &str| {
        instance(json!({
            "phase": phase,
            "phaseTransitionTimestamps": [
                {"phase": phase, "phaseTransitionTimestamp": at(1000).to_string()},
            ],
        }))
    };
    let waits = || Launcher {
        failed_helper: ended(128, "", ""),
        ..bound()
    };
    let helpers_wait = Launcher {
        ended: ended(1, "", ""),
        ..bound()
    };
    let over = Launcher {
        over: over(false, ""),
        ..helpers_wait.clone()
    };
    let going = Launcher {
        deleting: true,
        ..waits()
    };
    // Seconds since the end, seconds left.
    let cases = [
        ("Failed", waits(), 0, Some(30)),
        ("Failed", waits(), 29, Some(1)),
        ("Failed", waits(), 30, Some(0)),
        ("Failed", waits(), 3000, Some(0)),
        ("Succeeded", helpers_wait, 30, Some(0)),
        // The clocks differ.
        ("Failed", waits(), -5, Some(30)),
        ("Failed", waits(), -60, Some(30)),
        ("Failed", waits(), -61, Some(0)),
        ("Failed", going, 30, None),
        ("Failed", over, 30, None),
        ("Running", waits(), 30, None),
    ];
    for (phase, pod, passed, expected) in cases {
        let case = format!("{phase} {passed} {pod:?}");
        let decision = decide(&snapshot(failed(phase), Some(pod)), at(1000 + passed));
        let deletes = words(&decision) == "delete, (SuccessfulDelete)";
        assert_eq!(deletes, expected == Some(0), "{case}");
        let left = expected.filter(|left| *left > 0).map(Duration::from_secs);
        assert_eq!(decision.requeue, left, "{case}");
    }
}

#[test]
fn the_pod_says_why_where_the_handler_has_said_that() {
    let failed = || instance(json!({"phase": "Failed", "reason": "StartFailed"}));
    let pod = Launcher {
        ended: ended(1, "Error", "no disk"),
        ..bound()
    };
    let decision = decide(&snapshot(failed(), Some(pod.clone())), at(1000));
    assert_eq!(words(&decision), "status, (StartFailed)");
    let status = settled(snapshot(failed(), Some(pod)));
    assert_eq!(status.reason.as_deref(), Some("StartFailed"));
    assert_eq!(message(&status, "Synchronized"), "no disk (exit status 1)");
    // What nobody said stays unsaid.
    let status = settled(snapshot(failed(), None));
    assert_eq!(reason(&status, "Synchronized"), None);
    // An end that went well is no reason.
    let pod = Launcher {
        ended: ended(0, "Completed", ""),
        ..bound()
    };
    let status = settled(snapshot(failed(), Some(pod)));
    assert_eq!(reason(&status, "Synchronized"), None);
}

#[test]
fn what_was_asked_to_end_ends_well() {
    let cases = [
        (None, Phase::Running),
        (ended(0, "Completed", ""), Phase::Succeeded),
        (ended(3, "Error", "why"), Phase::Failed),
    ];
    for (ended, phase) in cases {
        for disruption in [None, condition("True", "EvictionByEvictionAPI", "")] {
            let going = Launcher {
                deleting: true,
                disruption,
                ended: ended.clone(),
                ..bound()
            };
            let vmi = deleting(in_phase("Running"));
            assert_eq!(settled(snapshot(vmi, Some(going))).phase, Some(phase));
        }
    }
}

#[test]
fn a_final_phase_stays_as_it_was_written() {
    let before = json!({
        "phase": "Failed",
        "reason": "the handler's",
        "phaseTransitionTimestamps": [{"phase": "Failed"}],
        "conditions": [
            {"type": "Synchronized", "status": "False", "reason": "the controller's"},
            {"type": "PodScheduled", "status": "False"},
        ],
    });
    let gone = Launcher {
        deleting: true,
        ended: ended(0, "Completed", ""),
        ..bound()
    };
    for pod in [None, Some(bound()), Some(gone)] {
        let status = settled(snapshot(instance(before.clone()), pod));
        assert_eq!(status.phase, Some(Phase::Failed));
        assert_eq!(status.reason.as_deref(), Some("the handler's"));
        assert_eq!(
            reason(&status, "Synchronized").unwrap(),
            "False the controller's"
        );
        assert_eq!(reason(&status, "PodScheduled"), None);
        assert_eq!(reason(&status, "Ready").unwrap(), "False GuestNotRunning");
    }
}

#[test]
fn a_deletion_waits_for_the_pod() {
    let going = Launcher {
        deleting: true,
        ..bound()
    };
    let vmi = || deleting(in_phase("Running"));
    let cases = [
        (snapshot(vmi(), Some(bound())), "delete, (SuccessfulDelete)"),
        (snapshot(vmi(), Some(going)), "status"),
    ];
    for (snapshot, expected) in cases {
        assert_eq!(words(&decide(&snapshot, at(1000))), expected);
    }
}

#[test]
fn an_end_that_nobody_saw_is_told_of_when_the_instance_is_let_go() {
    let others = "somebody.else/s";
    let cases = [
        ("Running", vec![FINALIZER], "confirm, let go, (Stopped)"),
        ("Unknown", vec![FINALIZER], "confirm, let go, (Stopped)"),
        // Who wrote that has told of it.
        ("Succeeded", vec![FINALIZER], "confirm, let go"),
        ("Failed", vec![FINALIZER], "confirm, let go"),
        ("Scheduled", vec![FINALIZER], "confirm, let go"),
        // Somebody may yet write it.
        ("Running", vec![others, FINALIZER], "confirm, let go"),
        ("Running", vec![others], ""),
        ("Running", vec![], ""),
    ];
    for (phase, finalizers, expected) in cases {
        let mut vmi = deleting(in_phase(phase));
        let named = finalizers.iter().map(|name| (*name).to_owned()).collect();
        vmi.metadata.finalizers = Some(named);
        let decision = decide(&snapshot(vmi, None), at(1000));
        assert_eq!(words(&decision), expected, "{phase} {finalizers:?}");
    }
}

#[test]
fn a_guest_that_was_given_more_time_is_told_and_has_it_before_its_pod_is_deleted() {
    let vmi = |phase: &str, grace: Option<i64>| {
        let mut vmi = deleting(in_phase(phase));
        vmi.spec.termination_grace_period_seconds = grace;
        vmi
    };
    let made_with = |grace_seconds| Launcher {
        grace_seconds,
        ..bound()
    };
    let shut_down = Launcher {
        ended: ended(0, "", ""),
        ..made_with(Some(60))
    };
    let over = Launcher {
        over: over(true, ""),
        ..made_with(Some(60))
    };
    // Seconds since the instance was deleted, and until its pod is; none: at once.
    let cases = [
        (vmi("Running", Some(100)), made_with(Some(60)), 0, Some(71)),
        (vmi("Running", Some(100)), made_with(Some(60)), 70, Some(1)),
        (vmi("Running", Some(100)), made_with(Some(60)), 71, None),
        (vmi("Running", Some(100)), made_with(Some(60)), 7000, None),
        // The clocks differ.
        (vmi("Running", Some(100)), made_with(Some(60)), -5, Some(71)),
        (vmi("Running", Some(100)), made_with(Some(60)), -61, None),
        (vmi("Running", Some(30)), made_with(Some(60)), 0, None),
        (vmi("Running", Some(10)), made_with(Some(60)), 0, None),
        (vmi("Running", None), made_with(Some(60)), 0, None),
        (vmi("Running", Some(100)), made_with(None), 0, None),
        // There is nobody to be told.
        (vmi("Scheduled", Some(100)), made_with(Some(60)), 0, None),
        (vmi("Unknown", Some(100)), made_with(Some(60)), 0, None),
        (vmi("Succeeded", Some(100)), made_with(Some(60)), 0, None),
        (vmi("Running", Some(100)), shut_down, 0, None),
        (vmi("Running", Some(100)), over, 0, None),
    ];
    for (vmi, pod, passed, expected) in cases {
        let case = format!("{passed} {:?} {pod:?}", phase(&vmi));
        let decision = decide(&snapshot(vmi, Some(pod)), at(1 + passed));
        let deletes = words(&decision) == "delete, (SuccessfulDelete)";
        assert_eq!(deletes, expected.is_none(), "{case}");
        // At every look: whoever was to tell it may have ended.
        let told = words(&decision).ends_with("shut down in 100 s");
        assert_eq!(told, expected.is_some(), "{case}");
        let left = expected.map(Duration::from_secs);
        assert_eq!(decision.requeue, left, "{case}");
    }
}

#[test]
fn a_guest_is_told_again_and_nothing_written_again() {
    let mut vmi = deleting(in_phase("Running"));
    vmi.spec.termination_grace_period_seconds = Some(100);
    let pod = Launcher {
        grace_seconds: Some(60),
        ..bound()
    };
    let mut snapshot = snapshot(vmi, Some(pod));
    let decision = decide(&snapshot, at(1));
    assert_eq!(words(&decision), "status, shut down in 100 s");
    write(&mut snapshot, status(&decision).unwrap());
    assert_eq!(words(&decide(&snapshot, at(2))), "shut down in 100 s");
}

#[test]
fn events_tell_what_is_wrong_from_what_is_not() {
    let shut_down = Launcher {
        ended: ended(0, "", ""),
        over: over(true, ""),
        ..bound()
    };
    let failed = Launcher {
        ended: ended(3, "", "why"),
        ..bound()
    };
    for (pod, type_, said) in [
        (
            shut_down,
            EventType::Normal,
            "The VirtualMachineInstance was shut down.",
        ),
        (
            failed,
            EventType::Warning,
            "The VirtualMachineInstance failed: why",
        ),
    ] {
        let decision = decide(&snapshot(in_phase("Running"), Some(pod)), at(1000));
        let Some(Write::Event(event)) = decision.writes.last() else {
            panic!("{decision:?}");
        };
        assert_eq!((event.type_, event.message.as_str()), (type_, said));
    }
}
