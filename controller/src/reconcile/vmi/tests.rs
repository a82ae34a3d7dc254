//! Each rule of what becomes of an instance.

use crds::{VirtualMachineInstanceCondition, VirtualMachineInstanceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::reconcile::{Ended, EventType, PodCondition, PodOver, Waiting};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn instance(status: Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": "vm", "namespace": "default", "uid": "vmi-uid", "finalizers": [FINALIZER],
        },
        "spec": {"domain": {"devices": {}}},
        "status": status,
    }))
    .unwrap()
}

fn in_phase(phase: &str) -> VirtualMachineInstance {
    instance(json!({"phase": phase}))
}

fn deleting(mut vmi: VirtualMachineInstance) -> VirtualMachineInstance {
    vmi.metadata.deletion_timestamp = Some(Time(at(1)));
    vmi
}

fn unbound() -> Launcher {
    Launcher {
        name: "virt-launcher-vm-abcde".to_owned(),
        uid: "pod-uid".to_owned(),
        vmi_name: "vm".to_owned(),
        vmi_uid: "vmi-uid".to_owned(),
        image: Some("launcher".to_owned()),
        qos_class: Some("Burstable".to_owned()),
        ..Launcher::default()
    }
}

fn bound() -> Launcher {
    Launcher {
        node: Some("node1".to_owned()),
        ..unbound()
    }
}

fn condition(status: &str, reason: &str, message: &str) -> Option<PodCondition> {
    Some(PodCondition {
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        since: Some(Time(at(7))),
    })
}

fn ended(status: i32, reason: &str, message: &str) -> Option<Ended> {
    Some(Ended {
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    })
}

fn over(succeeded: bool, reason: &str) -> Option<PodOver> {
    Some(PodOver {
        succeeded,
        reason: reason.to_owned(),
        message: "the kubelet's words".to_owned(),
    })
}

fn snapshot(vmi: VirtualMachineInstance, pod: Option<Launcher>) -> VmiSnapshot {
    VmiSnapshot {
        vmi: Arc::new(vmi),
        pod: pod.map(Arc::new),
        node_ready: true,
        offers: Offers {
            handler: true,
            kvm: true,
        },
        missing_claims: Vec::new(),
        failure: None,
    }
}

/// What is decided, in words; events by their reason.
fn words(decision: &Decision<Write>) -> String {
    let words = decision.writes.iter().map(|write| match write {
        Write::CreatePod => "create".to_owned(),
        Write::DeletePod { .. } => "delete".to_owned(),
        Write::ApplyStatus(_) => "status".to_owned(),
        Write::ConfirmNoPod => "confirm".to_owned(),
        Write::RemoveFinalizer => "let go".to_owned(),
        Write::Event(event) => format!("({})", event.reason),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn status(decision: &Decision<Write>) -> Option<&VirtualMachineInstanceStatus> {
    decision.writes.iter().find_map(|write| match write {
        Write::ApplyStatus(status) => Some(&**status),
        _ => None,
    })
}

/// Takes the status over, as the API server does: what is the handler's stays.
fn write(snapshot: &mut VmiSnapshot, applied: &VirtualMachineInstanceStatus) {
    let vmi = Arc::make_mut(&mut snapshot.vmi);
    let before = vmi.status.take().unwrap_or_default();
    let owned = ["LiveMigratable", "PodScheduled", "Ready", "Synchronized"];
    let kept = before.conditions.into_iter();
    let kept = kept.filter(|c| !owned.contains(&c.type_.as_str()));
    let mut status = applied.clone();
    status.conditions.extend(kept);
    status.interfaces = before.interfaces;
    vmi.status = Some(status);
}

/// The status after all that is decided has been written; it is written once.
fn settled(mut snapshot: VmiSnapshot) -> VirtualMachineInstanceStatus {
    let decision = decide(&snapshot, at(1000));
    if let Some(applied) = status(&decision) {
        write(&mut snapshot, applied);
        let again = decide(&snapshot, at(2000));
        assert_eq!(again, Decision::write(Vec::new()), "after {applied:?}");
    }
    snapshot.vmi.status.clone().unwrap_or_default()
}

fn reason(status: &VirtualMachineInstanceStatus, type_: &str) -> Option<String> {
    let condition = find(&status.conditions, type_)?;
    Some(format!(
        "{} {}",
        condition.status,
        condition.reason.as_deref().unwrap_or_default()
    ))
}

fn find<'a>(
    conditions: &'a [VirtualMachineInstanceCondition],
    type_: &str,
) -> Option<&'a VirtualMachineInstanceCondition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn message<'a>(status: &'a VirtualMachineInstanceStatus, type_: &str) -> &'a str {
    find(&status.conditions, type_)
        .unwrap()
        .message
        .as_deref()
        .unwrap()
}

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
        (deleting(in_phase("Running")), "confirm, let go"),
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

#[test]
fn an_instance_that_waits_says_why() {
    let pending = |message: &str| Launcher {
        scheduled: condition("False", "Unschedulable", message),
        ..unbound()
    };
    let handler = Offers {
        handler: true,
        kvm: false,
    };
    let kvm = "0/2 nodes are available: 2 Insufficient devices.kubevirt.io/kvm.";
    let cases = [
        (
            Offers::default(),
            "0/1 nodes are available: 1 Insufficient devices.kubevirt.io/tun.",
            "VirtHandlerNotReady",
            "virt-handler is not ready on any node; the machine starts when it is \
             (0/1 nodes are available: 1 Insufficient devices.kubevirt.io/tun.)",
        ),
        (
            handler,
            "0/1 nodes: 1 Insufficient memory.",
            "Unschedulable",
            "0/1 nodes: 1 Insufficient memory.",
        ),
        (
            handler,
            kvm,
            "Unschedulable",
            "no node has KVM; useEmulation in the KubeVirt object lets machines run without \
             (0/2 nodes are available: 2 Insufficient devices.kubevirt.io/kvm.)",
        ),
        // All of it is taken.
        (
            Offers {
                handler: true,
                kvm: true,
            },
            kvm,
            "Unschedulable",
            kvm,
        ),
    ];
    for (offers, said, expected_reason, expected) in cases {
        let mut snapshot = snapshot(in_phase("Scheduling"), Some(pending(said)));
        snapshot.offers = offers;
        let decision = decide(&snapshot, at(1000));
        assert_eq!(words(&decision), format!("status, ({expected_reason})"));
        let mut status = settled(snapshot.clone());
        assert_eq!(
            reason(&status, "PodScheduled").unwrap(),
            format!("False {expected_reason}")
        );
        assert_eq!(message(&status, "PodScheduled"), expected);
        // It is told once, and not when its words change.
        Arc::make_mut(&mut snapshot.vmi).status = Some(status.clone());
        snapshot.pod = Some(Arc::new(pending("0/3 nodes are available")));
        assert_eq!(words(&decide(&snapshot, at(1000))), "status");
        // It is over with a node.
        snapshot.pod = Some(Arc::new(bound()));
        status = settled(snapshot);
        assert_eq!(reason(&status, "PodScheduled"), None);
    }
}

#[test]
fn an_image_that_cannot_be_pulled_is_told() {
    let waiting = |reason: &str| Launcher {
        waiting: Some(Waiting {
            reason: reason.to_owned(),
            message: "container volumeroot: no such host".to_owned(),
        }),
        ..bound()
    };
    let mut snapshot = snapshot(in_phase("Scheduled"), Some(waiting("ErrImagePull")));
    let decision = decide(&snapshot, at(1000));
    assert_eq!(words(&decision), "status, (ErrImagePull)");
    let status = settled(snapshot.clone());
    assert_eq!(
        reason(&status, "Synchronized").unwrap(),
        "False ErrImagePull"
    );
    assert_eq!(
        message(&status, "Synchronized"),
        "container volumeroot: no such host"
    );
    Arc::make_mut(&mut snapshot.vmi).status = Some(status);
    snapshot.pod = Some(Arc::new(waiting("ImagePullBackOff")));
    assert_eq!(words(&decide(&snapshot, at(1000))), "status");
    snapshot.pod = Some(Arc::new(bound()));
    assert_eq!(reason(&settled(snapshot), "Synchronized"), None);
}

#[test]
fn a_claim_that_is_missing_is_waited_for() {
    let mut snapshot = snapshot(instance(Value::Null), None);
    snapshot.missing_claims = vec!["data".to_owned(), "logs".to_owned()];
    let decision = decide(&snapshot, at(1000));
    assert_eq!(words(&decision), "status, (FailedPvcNotFound)");
    let status = settled(snapshot.clone());
    assert_eq!(status.phase, Some(Phase::Pending));
    assert_eq!(
        reason(&status, "Synchronized").unwrap(),
        "False FailedPvcNotFound"
    );
    assert!(message(&status, "Synchronized").contains("data, logs"));
    Arc::make_mut(&mut snapshot.vmi).status = Some(status);
    snapshot.missing_claims.clear();
    assert_eq!(
        words(&decide(&snapshot, at(1000))),
        "create, (SuccessfulCreate)"
    );
    snapshot.pod = Some(Arc::new(unbound()));
    assert_eq!(reason(&settled(snapshot), "Synchronized"), None);
}

#[test]
fn what_was_refused_is_told() {
    let mut snapshot = snapshot(instance(Value::Null), None);
    snapshot.failure = Some(Failure {
        message: "exceeded quota".to_owned(),
    });
    assert_eq!(
        words(&decide(&snapshot, at(1000))),
        "status, (FailedCreate)"
    );
    let status = settled(snapshot.clone());
    assert_eq!(status.phase, Some(Phase::Pending));
    assert_eq!(
        reason(&status, "Synchronized").unwrap(),
        "False FailedCreate"
    );
    assert_eq!(message(&status, "Synchronized"), "exceeded quota");
    Arc::make_mut(&mut snapshot.vmi).status = Some(status);
    snapshot.failure = None;
    assert_eq!(
        words(&decide(&snapshot, at(1000))),
        "create, (SuccessfulCreate)"
    );
}

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
    use Phase::{Failed, Succeeded};
    let evicted = condition("True", "EvictionByEvictionAPI", "Eviction API: evicting");
    let cases = [
        (with(ended(0, "Completed", ""), None), Succeeded, "", ""),
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
    let going = |ended| Launcher {
        deleting: true,
        ended,
        ..bound()
    };
    let cases = [
        (None, Phase::Running),
        (ended(0, "Completed", ""), Phase::Succeeded),
        (ended(3, "Error", "why"), Phase::Failed),
    ];
    for (ended, phase) in cases {
        let vmi = deleting(in_phase("Running"));
        assert_eq!(
            settled(snapshot(vmi, Some(going(ended)))).phase,
            Some(phase)
        );
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
        (snapshot(vmi(), None), "confirm, let go"),
    ];
    for (snapshot, expected) in cases {
        assert_eq!(words(&decide(&snapshot, at(1000))), expected);
    }
    let mut let_go = vmi();
    let_go.metadata.finalizers = Some(vec!["somebody.else/s".to_owned()]);
    assert_eq!(words(&decide(&snapshot(let_go, None), at(1000))), "");
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

#[test]
fn events_tell_what_is_wrong_from_what_is_not() {
    let shut_down = Launcher {
        ended: ended(0, "", ""),
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
