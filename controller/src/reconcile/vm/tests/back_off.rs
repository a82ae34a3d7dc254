//! What fails, and is tried again.

use super::*;

#[test]
fn what_was_refused_is_told() {
    let vm = machine(json!({"runStrategy": "Always"}), json!({}));
    let mut snapshot = snapshot(vm, None);
    snapshot.failure = Some(Failure {
        message: "exceeded quota".to_owned(),
    });
    let decision = decide(&snapshot, at(1000));
    let [Write::ApplyStatus(status), Write::Event(event)] = &decision.writes[..] else {
        panic!("{decision:?}");
    };
    assert_eq!(reason(status, "Failure").unwrap(), "True FailedCreate");
    assert_eq!(
        (event.type_, event.reason.as_str()),
        (EventType::Warning, "FailedCreate")
    );
    // It is tried again, and the status is not written again.
    Arc::make_mut(&mut snapshot.vm).status = Some((**status).clone());
    assert_eq!(words(&decide(&snapshot, at(1000))), "");
    snapshot.failure = None;
    assert_eq!(words(&decide(&snapshot, at(1000))), "create");
    // It worked.
    snapshot.vmi = Some(Arc::new(made(json!({}))));
    assert_eq!(reason(&settled(snapshot), "Failure"), None);
}

#[test]
fn starts_that_fail_wait_longer_each_time() {
    let failed = |count: i32, uid: &str| {
        let mut vmi = made(json!({"phase": "Failed", "conditions": [{
            "type": "Synchronized", "status": "False", "reason": "LauncherFailed", "message": "why",
        }]}));
        vmi.metadata.uid = Some(uid.to_owned());
        let before = match count {
            0 => Value::Null,
            count => json!({"consecutiveFailCount": count, "lastFailedVMIUID": "before",
                "retryAfterTimestamp": "1970-01-01T00:00:00Z"}),
        };
        let status = json!({"runStrategy": "Always", "startFailure": before});
        let vm = machine(json!({"runStrategy": "Always"}), status);
        snapshot(vm, Some(vmi))
    };
    for (count, seconds) in [
        (0, 10),
        (1, 20),
        (2, 40),
        (3, 80),
        (4, 160),
        (5, 300),
        (30, 300),
    ] {
        for uid in ["a", "b", "0f9e6a4f-57a2-4f4b-a9d7-1d6c58ec1d1a"] {
            let mut snapshot = failed(count, uid);
            let decision = decide(&snapshot, at(1000));
            let [Write::ApplyStatus(status)] = &decision.writes[..] else {
                panic!("{decision:?}");
            };
            let failure = status.start_failure.clone().unwrap();
            assert_eq!(failure.consecutive_fail_count, Some(count + 1));
            assert_eq!(failure.last_failed_vmi_uid.as_deref(), Some(uid));
            let wait = failure.retry_after_timestamp.unwrap().0.as_second() - 1000;
            assert!(
                (seconds..=(seconds * 11 / 10).min(300)).contains(&wait),
                "{count}: {wait}"
            );
            assert_eq!(status.printable_status, Some(Printable::CrashLoopBackOff));
            assert_eq!(reason(status, "Failure").unwrap(), "True LauncherFailed");
            // Counted once; then the instance goes, and the next waits.
            Arc::make_mut(&mut snapshot.vm).status = Some((**status).clone());
            assert_eq!(words(&decide(&snapshot, at(1000))), "delete");
            snapshot.vmi = None;
            let waits = decide(&snapshot, at(1000));
            assert_eq!(
                waits.requeue,
                Some(Duration::from_secs(wait.unsigned_abs()))
            );
            let status = settled(snapshot.clone());
            assert_eq!(status.printable_status, Some(Printable::CrashLoopBackOff));
            assert_eq!(reason(&status, "Failure").unwrap(), "True LauncherFailed");
            assert_eq!(words(&decide(&snapshot, at(1000 + wait))), "create");
        }
    }
}

#[test]
fn a_time_that_no_wait_reaches_is_not_waited_for() {
    // Seconds until it, seconds waited.
    for (ahead, expected) in [
        (-1, None),
        (0, None),
        (1, Some(1)),
        (300, Some(300)),
        (301, None),
        (1_000_000_000, None),
    ] {
        let status = json!({"runStrategy": "Always", "startFailure": {"consecutiveFailCount": 3,
            "lastFailedVMIUID": "before", "retryAfterTimestamp": at(1000 + ahead).to_string()}});
        let vm = machine(json!({"runStrategy": "Always"}), status);
        let decision = decide(&snapshot(vm, None), at(1000));
        let waits = expected.map(Duration::from_secs);
        assert_eq!(decision.requeue, waits, "{ahead}");
        assert_eq!(words(&decision) == "create", expected.is_none(), "{ahead}");
    }
}

#[test]
fn failures_are_forgotten_after_a_run() {
    let status = |strategy: &str| {
        json!({"runStrategy": strategy, "startFailure": {"consecutiveFailCount": 3,
            "lastFailedVMIUID": "before", "retryAfterTimestamp": "1970-01-01T00:00:00Z"}})
    };
    let cases = [
        ("Always", Some(in_phase("Running")), false),
        ("Always", Some(in_phase("Failed")), false),
        ("Always", Some(made(json!({"phase": "Scheduled"}))), true),
        // It failed before it ran.
        ("Always", Some(made(json!({"phase": "Failed"}))), true),
        // It ran unseen.
        ("Always", Some(made(json!({"phase": "Succeeded"}))), false),
        (
            "RerunOnFailure",
            Some(made(json!({"phase": "Scheduled"}))),
            true,
        ),
        ("Manual", None, false),
        ("Halted", None, false),
    ];
    for (strategy, vmi, kept) in cases {
        let vm = machine(json!({"runStrategy": strategy}), status(strategy));
        let snapshot = snapshot(vm, vmi);
        let current = snapshot.vm.status.clone().unwrap();
        let wanted = status::wanted(&snapshot, &current, at(1000));
        assert_eq!(wanted.start_failure.is_some(), kept, "{strategy}");
    }
}
