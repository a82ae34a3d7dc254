//! An instance follows its pod.

use super::*;

#[test]
fn an_instance_gets_one_pod() {
    let cases = [
        (instance(Value::Null), "create, (SuccessfulCreate)"),
        (in_phase("Pending"), "create, (SuccessfulCreate)"),
        // It had one.
        (in_phase("Scheduling"), "confirm, status, (Stopped)"),
        (in_phase("Scheduled"), "confirm, status, (Stopped)"),
        (in_phase("Running"), "confirm, status, (Stopped)"),
        (in_phase("Unknown"), "confirm, status, (Stopped)"),
        (deleting(instance(Value::Null)), "confirm, let go"),
        (deleting(in_phase("Running")), "confirm, let go, (Stopped)"),
        (deleting(in_phase("Failed")), "confirm, let go"),
    ];
    for (vmi, expected) in cases {
        let snapshot = snapshot(vmi, None);
        let said = words(&decide(&snapshot, at(1000)));
        assert_eq!(said, expected, "{:?}", snapshot.vmi.status);
    }
}

#[test]
fn a_phase_follows_the_pod() {
    let unschedulable = Launcher {
        scheduled: condition("False", "Unschedulable", "no"),
        ..unbound()
    };
    let cases = [
        (Value::Null, unbound(), Phase::Scheduling),
        (Value::Null, bound(), Phase::Scheduled),
        (json!({"phase": "Pending"}), unbound(), Phase::Scheduling),
        (json!({"phase": "Scheduling"}), unbound(), Phase::Scheduling),
        (
            json!({"phase": "Scheduling"}),
            unschedulable,
            Phase::Scheduling,
        ),
        (json!({"phase": "Scheduling"}), bound(), Phase::Scheduled),
        (json!({"phase": "Scheduled"}), bound(), Phase::Scheduled),
        (json!({"phase": "Running"}), bound(), Phase::Running),
        (json!({"phase": "Unknown"}), bound(), Phase::Unknown),
        (json!({"phase": "Succeeded"}), bound(), Phase::Succeeded),
        (json!({"phase": "Failed"}), bound(), Phase::Failed),
    ];
    for (status, pod, expected) in cases {
        let settled = settled(snapshot(instance(status.clone()), Some(pod)));
        assert_eq!(settled.phase, Some(expected), "{status}");
        let transitions = settled.phase_transition_timestamps;
        let last = transitions.last().and_then(|transition| transition.phase);
        assert_eq!(last, Some(expected), "{status}");
    }
}

#[test]
fn the_pods_facts_come_with_its_node() {
    let status = settled(snapshot(instance(Value::Null), Some(unbound())));
    assert_eq!(status.node_name, None);
    assert_eq!(json!(status.active_pods), json!({"pod-uid": ""}));
    let status = settled(snapshot(instance(Value::Null), Some(bound())));
    assert_eq!(status.node_name.as_deref(), Some("node1"));
    assert_eq!(json!(status.active_pods), json!({"pod-uid": "node1"}));
    assert_eq!(status.qos_class.as_deref(), Some("Burstable"));
    assert_eq!(
        status.launcher_container_image_version.as_deref(),
        Some("launcher")
    );
}

#[test]
fn a_pod_that_is_about_to_be_ready_is_waited_for() {
    let vmi = || {
        let since =
            json!([{"phase": "Running", "phaseTransitionTimestamp": "1970-01-01T00:02:00Z"}]);
        instance(json!({"phase": "Running", "phaseTransitionTimestamps": since}))
    };
    let ready = Launcher {
        ready: condition("True", "", ""),
        ..bound()
    };
    let cases = [
        (bound(), 120, "", Some(4)),
        (bound(), 123, "", Some(1)),
        (bound(), 124, "status", None),
        // The clocks differ.
        (bound(), 60, "", Some(4)),
        (bound(), 59, "status", None),
        (ready, 120, "status", None),
    ];
    for (pod, now, expected, again) in cases {
        let decision = decide(&snapshot(vmi(), Some(pod)), at(now));
        assert_eq!(words(&decision), expected, "at {now}");
        assert_eq!(decision.requeue, again.map(Duration::from_secs), "at {now}");
    }
}

#[test]
fn the_way_to_running_takes_three_statuses() {
    let ready = Launcher {
        ready: condition("True", "", ""),
        ..bound()
    };
    let mut snapshot = snapshot(instance(Value::Null), None);
    let mut said = Vec::new();
    for pod in [None, Some(unbound()), Some(bound()), Some(ready.clone())] {
        snapshot.pod = pod.map(Arc::new);
        let decision = decide(&snapshot, at(1000));
        said.push(words(&decision));
        if let Some(applied) = status(&decision) {
            write(&mut snapshot, &applied.clone());
        }
    }
    // The handler's write.
    Arc::make_mut(&mut snapshot.vmi)
        .status
        .as_mut()
        .unwrap()
        .phase = Some(Phase::Running);
    let decision = decide(&snapshot, at(1000));
    said.push(words(&decision));
    assert_eq!(
        said,
        [
            "create, (SuccessfulCreate)",
            "status",
            "status",
            "",
            "status"
        ]
    );
    let status = settled(snapshot);
    assert_eq!(reason(&status, "Ready").unwrap(), "True ");
    assert_eq!(
        reason(&status, "LiveMigratable").unwrap(),
        "False NotImplemented"
    );
}

#[test]
fn ready_says_why_not() {
    let paused = json!({"phase": "Running", "conditions": [{"type": "Paused", "status": "True"}]});
    let ready = || Launcher {
        ready: condition("True", "", ""),
        ..bound()
    };
    let probing = Launcher {
        ready: condition("False", "ContainersNotReady", "compute"),
        ..bound()
    };
    let going = || Launcher {
        deleting: true,
        ..ready()
    };
    let missing = VmiSnapshot {
        missing_claims: vec!["data".to_owned()],
        ..snapshot(instance(Value::Null), None)
    };
    let lost = |phase| VmiSnapshot {
        node_ready: false,
        ..snapshot(in_phase(phase), Some(ready()))
    };
    let cases = [
        (missing, "False PodNotExists"),
        (
            snapshot(instance(Value::Null), Some(unbound())),
            "False GuestNotRunning",
        ),
        (
            snapshot(in_phase("Scheduled"), Some(ready())),
            "False GuestNotRunning",
        ),
        (snapshot(in_phase("Running"), Some(ready())), "True "),
        (
            snapshot(in_phase("Running"), Some(probing)),
            "False ContainersNotReady",
        ),
        (
            snapshot(in_phase("Running"), Some(bound())),
            "False PodConditionMissing",
        ),
        (snapshot(instance(paused), Some(ready())), "False Paused"),
        (
            snapshot(in_phase("Running"), Some(going())),
            "False PodTerminating",
        ),
        (
            snapshot(deleting(in_phase("Running")), Some(going())),
            "False PodTerminating",
        ),
        (
            snapshot(in_phase("Unknown"), Some(ready())),
            "False GuestNotRunning",
        ),
        (
            snapshot(in_phase("Failed"), Some(ready())),
            "False GuestNotRunning",
        ),
        (lost("Running"), "False NodeNotReady"),
        (lost("Scheduled"), "False NodeNotReady"),
    ];
    for (snapshot, expected) in cases {
        let before = snapshot.vmi.status.clone();
        assert_eq!(
            reason(&settled(snapshot), "Ready").unwrap(),
            expected,
            "{before:?}"
        );
    }
}

#[test]
fn ready_is_as_old_as_the_pods() {
    let ready = Launcher {
        ready: condition("True", "", ""),
        ..bound()
    };
    let status = settled(snapshot(in_phase("Running"), Some(ready)));
    let since = find(&status.conditions, "Ready")
        .unwrap()
        .last_transition_time
        .clone();
    assert_eq!(since, Some(Time(at(7))));
}

/// The handler and the controller take turns: whatever the handler does, the phase is written at
/// most twice for each time that the node is lost.
#[test]
fn a_node_that_is_lost_makes_the_phase_unknown_once() {
    let ready = Launcher {
        ready: condition("True", "", ""),
        ..bound()
    };
    let mut snapshot = snapshot(in_phase("Running"), Some(ready));
    let ready = settled(snapshot.clone());
    Arc::make_mut(&mut snapshot.vmi).status = Some(ready);
    let says_running = |snapshot: &mut VmiSnapshot| {
        Arc::make_mut(&mut snapshot.vmi)
            .status
            .as_mut()
            .unwrap()
            .phase = Some(Phase::Running);
    };
    for _ in 0..2 {
        snapshot.node_ready = false;
        let decision = decide(&snapshot, at(1000));
        assert_eq!(words(&decision), "status, (NodeNotReady)");
        let applied = status(&decision).unwrap().clone();
        assert_eq!(applied.phase, Some(Phase::Unknown));
        write(&mut snapshot, &applied);
        // A handler that is still there says otherwise.
        says_running(&mut snapshot);
        assert_eq!(decide(&snapshot, at(1000)), Decision::write(Vec::new()));
        // The node is back.
        snapshot.node_ready = true;
        let applied = status(&decide(&snapshot, at(1000))).unwrap().clone();
        write(&mut snapshot, &applied);
        assert_eq!(reason(&applied, "Ready").unwrap(), "True ");
        assert_eq!(applied.phase, Some(Phase::Running));
    }
    // One that was on its way is not known to have run.
    let scheduled = VmiSnapshot {
        node_ready: false,
        vmi: Arc::new(in_phase("Scheduled")),
        ..snapshot
    };
    assert_eq!(settled(scheduled).phase, Some(Phase::Scheduled));
}

#[test]
fn what_is_the_handlers_is_not_written() {
    let there = json!({
        "phase": "Running",
        "interfaces": [{"name": "default"}],
        "reason": "the handler's",
        "conditions": [{"type": "AgentConnected", "status": "True"}],
    });
    let decision = decide(&snapshot(instance(there), Some(bound())), at(1000));
    let applied = status(&decision).unwrap();
    assert_eq!(applied.interfaces, []);
    assert_eq!(applied.reason, None);
    assert_eq!(reason(applied, "AgentConnected"), None);
}
