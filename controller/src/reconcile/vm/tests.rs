//! Each rule of what becomes of a machine.

use std::time::Duration;

use crds::{
    StateChangeRequestAction as Ask, VirtualMachinePrintableStatus as Printable,
    VirtualMachineStateChangeRequest,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::reconcile::EventType;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn machine(spec: Value, status: Value) -> VirtualMachine {
    let mut whole = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {
            "name": "vm", "namespace": "default", "uid": "vm-uid", "generation": 3,
            "finalizers": [FINALIZER],
        },
        "spec": {"template": {
            "metadata": {"labels": {"app": "db"}, "annotations": {"note": "kept"}},
            "spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}},
        }},
        "status": status,
    });
    for (name, value) in spec.as_object().unwrap() {
        whole["spec"][name] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

/// The instance of the machine, with this status.
fn made(status: Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": "vm", "namespace": "default", "uid": "vmi-uid",
            "annotations": {"kubevirt.io/vm-generation": "3"},
            "ownerReferences": [{
                "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "vm",
                "uid": "vm-uid", "controller": true,
            }],
        },
        "spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}},
        "status": status,
    }))
    .unwrap()
}

fn in_phase(phase: &str) -> VirtualMachineInstance {
    made(json!({"phase": phase, "phaseTransitionTimestamps": [{"phase": "Running"}]}))
}

fn deleting(mut vmi: VirtualMachineInstance) -> VirtualMachineInstance {
    vmi.metadata.deletion_timestamp = Some(Time(at(1)));
    vmi
}

fn snapshot(vm: VirtualMachine, vmi: Option<VirtualMachineInstance>) -> VmSnapshot {
    VmSnapshot {
        vm: Arc::new(vm),
        vmi: vmi.map(Arc::new),
        pod_left: false,
        unbound_claim: false,
        failure: None,
    }
}

/// What is decided, in words.
fn words(decision: &Decision<Write>) -> String {
    let words = decision.writes.iter().filter_map(|write| match write {
        Write::CreateVmi(_) => Some("create"),
        Write::DeleteVmi { .. } => Some("delete"),
        Write::SetAlways => Some("always"),
        Write::RemoveFinalizer => Some("let go"),
        Write::ApplyStatus(_) => Some("status"),
        Write::Event(_) => None,
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The status that is there in the end: statuses are written until nothing else is decided.
fn settled(mut snapshot: VmSnapshot) -> VirtualMachineStatus {
    for _ in 0..3 {
        let decision = decide(&snapshot, at(1000));
        let status = decision.writes.into_iter().find_map(|write| match write {
            Write::ApplyStatus(status) => Some(*status),
            _ => None,
        });
        let Some(status) = status else {
            return snapshot.vm.status.clone().unwrap_or_default();
        };
        Arc::make_mut(&mut snapshot.vm).status = Some(status);
    }
    panic!("a status is written again and again");
}

fn printed(snapshot: VmSnapshot) -> Printable {
    settled(snapshot).printable_status.unwrap()
}

fn reason(status: &VirtualMachineStatus, type_: &str) -> Option<String> {
    let mut conditions = status.conditions.iter();
    let condition = conditions.find(|condition| condition.type_ == type_)?;
    Some(format!(
        "{} {}",
        condition.status,
        condition.reason.as_deref().unwrap_or_default()
    ))
}

#[test]
fn a_run_strategy_says_what_becomes_of_an_instance() {
    let followed = |strategy: &str| json!({"runStrategy": strategy});
    let stop = |strategy: &str| {
        json!({"runStrategy": strategy, "stateChangeRequests": [
            {"action": "Stop", "uid": "vmi-uid"},
        ]})
    };
    let start = |strategy: &str| json!({"runStrategy": strategy, "stateChangeRequests": [{"action": "Start"}]});
    let none = || None;
    let running = || Some(in_phase("Running"));
    let succeeded = || Some(in_phase("Succeeded"));
    let failed = || Some(in_phase("Failed"));
    let ending = || Some(deleting(in_phase("Running")));
    type Instance<'a> = &'a dyn Fn() -> Option<VirtualMachineInstance>;
    type Status<'a> = &'a dyn Fn(&str) -> Value;
    let cases: [(&str, Status<'_>, Instance<'_>, &str); 40] = [
        ("Always", &followed, &none, "create"),
        ("Always", &followed, &running, "status"),
        ("Always", &followed, &succeeded, "delete"),
        ("Always", &followed, &failed, "delete"),
        ("Always", &followed, &ending, "status"),
        ("Always", &stop, &running, "delete"),
        ("Always", &stop, &none, "create"),
        ("Always", &start, &running, "status"),
        ("Halted", &followed, &none, "status"),
        ("Halted", &followed, &running, "delete"),
        ("Halted", &followed, &succeeded, "delete"),
        ("Halted", &followed, &failed, "delete"),
        ("Halted", &followed, &ending, "status"),
        ("Halted", &start, &none, "always"),
        ("Halted", &stop, &none, "status"),
        ("Manual", &followed, &none, "status"),
        ("Manual", &followed, &running, "status"),
        ("Manual", &followed, &succeeded, "status"),
        ("Manual", &followed, &failed, "status"),
        ("Manual", &stop, &running, "delete"),
        ("Manual", &stop, &succeeded, "delete"),
        ("Manual", &stop, &none, "status"),
        ("Manual", &start, &none, "create"),
        ("Manual", &start, &running, "status"),
        ("Manual", &start, &succeeded, "delete"),
        ("Manual", &start, &ending, "status"),
        ("RerunOnFailure", &|_| json!({}), &none, "create"),
        ("RerunOnFailure", &|_| followed("Halted"), &none, "create"),
        ("RerunOnFailure", &followed, &none, "status"),
        ("RerunOnFailure", &start, &none, "create"),
        ("RerunOnFailure", &followed, &running, "status"),
        ("RerunOnFailure", &followed, &succeeded, "delete"),
        // That it is to run again is noted first.
        ("RerunOnFailure", &followed, &failed, "status"),
        ("RerunOnFailure", &start, &failed, "delete"),
        ("RerunOnFailure", &stop, &failed, "delete"),
        ("RerunOnFailure", &stop, &running, "delete"),
        ("Once", &followed, &none, "create"),
        ("Once", &followed, &succeeded, "status"),
        ("Once", &followed, &failed, "status"),
        ("Once", &stop, &running, "status"),
    ];
    for (strategy, status, instance, expected) in cases {
        let vm = machine(json!({"runStrategy": strategy}), status(strategy));
        let snapshot = snapshot(vm, instance());
        let said = words(&decide(&snapshot, at(1000)));
        let phase = snapshot.vmi.as_deref().map(crate::reconcile::vmi::phase);
        let status = &snapshot.vm.status;
        assert_eq!(said, expected, "{strategy} {phase:?} {status:?}");
    }
}

#[test]
fn running_is_the_older_form() {
    for (running, expected) in [(true, "create"), (false, "status")] {
        let vm = machine(json!({"running": running}), json!({}));
        assert_eq!(words(&decide(&snapshot(vm, None), at(1000))), expected);
    }
}

#[test]
fn a_request_is_kept_until_it_is_done() {
    let stop = |uid: Option<&str>| json!({"action": "Stop", "uid": uid});
    let start = || json!({"action": "Start"});
    let running = || Some(in_phase("Running"));
    let cases: [(&str, Option<VirtualMachineInstance>, Vec<Value>, usize); 9] = [
        ("Always", running(), vec![stop(Some("vmi-uid"))], 1),
        // It was meant for an instance before this one.
        ("Always", running(), vec![stop(Some("other"))], 0),
        ("Always", running(), vec![stop(None)], 0),
        ("Manual", None, vec![stop(Some("vmi-uid"))], 0),
        ("Manual", running(), vec![start()], 0),
        ("Manual", running(), vec![stop(Some("vmi-uid")), start()], 2),
        (
            "Manual",
            Some(deleting(in_phase("Running"))),
            vec![start()],
            1,
        ),
        ("Once", Some(in_phase("Failed")), vec![start()], 1),
        ("Manual", running(), vec![stop(Some("other")), start()], 0),
    ];
    for (strategy, vmi, requests, expected) in cases {
        let status = json!({"runStrategy": strategy, "stateChangeRequests": requests});
        let vm = machine(json!({"runStrategy": strategy}), status);
        let left = settled(snapshot(vm, vmi)).state_change_requests;
        assert_eq!(left.len(), expected, "{strategy} {requests:?}: {left:?}");
    }
}

#[test]
fn a_failure_under_rerun_on_failure_is_noted_before_the_instance_goes() {
    let vm = machine(
        json!({"runStrategy": "RerunOnFailure"}),
        json!({"runStrategy": "RerunOnFailure"}),
    );
    let mut snapshot = snapshot(vm, Some(in_phase("Failed")));
    let decision = decide(&snapshot, at(1000));
    let [Write::ApplyStatus(status)] = &decision.writes[..] else {
        panic!("{decision:?}");
    };
    let start = VirtualMachineStateChangeRequest {
        action: Ask::Start,
        data: Default::default(),
        uid: None,
    };
    assert_eq!(status.state_change_requests, [start]);
    Arc::make_mut(&mut snapshot.vm).status = Some((**status).clone());
    assert_eq!(words(&decide(&snapshot, at(1000))), "delete");
    snapshot.vmi = Some(Arc::new(deleting(in_phase("Failed"))));
    assert_eq!(words(&decide(&snapshot, at(1000))), "");
    snapshot.vmi = None;
    assert_eq!(words(&decide(&snapshot, at(1000))), "create");
    snapshot.vmi = Some(Arc::new(made(json!({}))));
    assert_eq!(settled(snapshot).state_change_requests, []);
}

#[test]
fn an_instance_is_what_the_template_says() {
    let requests = |data: Value| {
        json!({"stateChangeRequests": [
            {"action": "Stop", "uid": "before"}, {"action": "Start", "data": data},
        ]})
    };
    let cases = [
        (json!({}), Value::Null),
        (requests(json!({})), Value::Null),
        (requests(json!({"paused": "false"})), Value::Null),
        (requests(json!({"paused": "true"})), json!("Paused")),
    ];
    for (status, start) in cases {
        let vm = machine(json!({"runStrategy": "Always"}), status);
        let decision = decide(&snapshot(vm, None), at(1000));
        let [Write::CreateVmi(vmi), Write::Event(event)] = &decision.writes[..] else {
            panic!("{decision:?}");
        };
        assert_eq!(event.reason, "SuccessfulCreate");
        let vmi = json!(vmi);
        assert_eq!(
            vmi["metadata"],
            json!({
                "annotations": {"note": "kept", "kubevirt.io/vm-generation": "3"},
                "finalizers": ["foregroundDeleteVirtualMachine"],
                "labels": {"app": "db"},
                "name": "vm",
                "namespace": "default",
                "ownerReferences": [{
                    "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "vm",
                    "uid": "vm-uid", "controller": true, "blockOwnerDeletion": true,
                }],
            })
        );
        assert_eq!(vmi["spec"]["domain"]["memory"], json!({"guest": "64Mi"}));
        assert_eq!(vmi["spec"]["startStrategy"], start);
    }
}

#[test]
fn no_instance_is_made_while_a_pod_of_the_one_before_is_left() {
    let vm = machine(json!({"runStrategy": "Always"}), json!({}));
    let mut snapshot = snapshot(vm, None);
    snapshot.pod_left = true;
    assert_eq!(words(&decide(&snapshot, at(1000))), "status");
}

#[test]
fn a_deletion_waits_for_the_instance() {
    let gone = |vmi, orphan: bool| {
        let mut vm = machine(json!({"runStrategy": "Always"}), json!({}));
        vm.metadata.deletion_timestamp = Some(Time(at(1)));
        if orphan {
            vm.metadata
                .finalizers
                .get_or_insert_default()
                .push(ORPHAN.to_owned());
        }
        words(&decide(&snapshot(vm, vmi), at(1000)))
    };
    assert_eq!(gone(Some(in_phase("Running")), false), "delete");
    assert_eq!(gone(Some(deleting(in_phase("Running"))), false), "status");
    assert_eq!(gone(None, false), "let go");
    // It stays behind, as was asked.
    assert_eq!(gone(Some(in_phase("Running")), true), "let go");
    let mut other = in_phase("Running");
    other.metadata.owner_references = None;
    assert_eq!(gone(Some(other), false), "let go");
}

#[test]
fn an_instance_that_is_not_the_machines_is_left_alone() {
    let vm = machine(json!({"runStrategy": "Halted"}), json!({}));
    let mut other = in_phase("Running");
    other.metadata.owner_references = None;
    let snapshot = snapshot(vm, Some(other));
    assert_eq!(words(&decide(&snapshot, at(1000))), "status");
    let status = settled(snapshot);
    assert_eq!(status.created, Some(false));
    assert_eq!(reason(&status, "Failure").unwrap(), "True FailedCreate");
}

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
fn failures_are_forgotten_after_a_run() {
    let status = |strategy: &str| {
        json!({"runStrategy": strategy, "startFailure": {"consecutiveFailCount": 3,
            "lastFailedVMIUID": "before", "retryAfterTimestamp": "1970-01-01T00:00:00Z"}})
    };
    let cases = [
        ("Always", Some(in_phase("Running")), false),
        ("Always", Some(in_phase("Failed")), false),
        ("Always", Some(made(json!({"phase": "Scheduled"}))), true),
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

#[test]
fn a_template_that_has_changed_asks_for_a_restart() {
    let memory = |guest: &str| {
        json!({"metadata": {"labels": {"app": "db"}},
            "spec": {"domain": {"devices": {}, "memory": {"guest": guest}}}})
    };
    let written_out = json!({"spec": {
        "domain": {"devices": {}, "memory": {"guest": "64Mi"}, "machine": {"type": "q35"}},
        "terminationGracePeriodSeconds": 30,
    }});
    let cases = [
        (memory("128Mi"), in_phase("Running"), true),
        (memory("128Mi"), made(json!({})), true),
        // Made anew anyway.
        (memory("128Mi"), deleting(in_phase("Running")), false),
        (memory("64Mi"), in_phase("Running"), false),
        (written_out, in_phase("Running"), false),
    ];
    for (template, vmi, expected) in cases {
        let spec = json!({"runStrategy": "Always", "template": template});
        let mut vm = machine(spec, json!({"runStrategy": "Always"}));
        vm.metadata.generation = Some(5);
        let status = settled(snapshot(vm, Some(vmi)));
        let asked = reason(&status, "RestartRequired");
        assert_eq!(
            asked.as_deref(),
            expected.then_some("True TemplateChanged"),
            "{template}"
        );
        assert_eq!(status.desired_generation, Some(5));
        let changed = template != memory("64Mi") && template["spec"]["domain"]["machine"].is_null();
        assert_eq!(
            status.observed_generation,
            Some(if changed { 3 } else { 5 })
        );
    }
    // A start that was paused does not count.
    let mut vm = machine(json!({"runStrategy": "Always"}), json!({}));
    vm.metadata.generation = Some(5);
    let mut vmi = in_phase("Running");
    vmi.spec.start_strategy = Some(crds::StartStrategy::Paused);
    assert_eq!(
        reason(&settled(snapshot(vm, Some(vmi))), "RestartRequired"),
        None
    );
}

#[test]
fn one_word_says_how_things_stand() {
    use Printable::*;
    let because = |phase: &str, type_: &str, reason: &str| {
        Some(made(json!({"phase": phase, "conditions": [
            {"type": type_, "status": "False", "reason": reason},
        ]})))
    };
    let paused = Some(made(json!({"phase": "Running", "conditions": [
        {"type": "Paused", "status": "True"},
    ]})));
    let cases = [
        ("Halted", None, false, Stopped),
        ("Manual", Some(in_phase("Succeeded")), false, Stopped),
        ("Once", Some(in_phase("Failed")), false, Stopped),
        ("Always", Some(made(json!({}))), false, Starting),
        ("Always", because("Pending", "Ready", ""), false, Starting),
        (
            "Always",
            because("Scheduling", "Ready", ""),
            false,
            Starting,
        ),
        ("Always", because("Scheduled", "Ready", ""), false, Starting),
        ("Always", Some(in_phase("Running")), false, Running),
        ("Always", Some(in_phase("Running")), true, Running),
        ("Always", paused, false, Paused),
        (
            "Always",
            Some(deleting(in_phase("Running"))),
            false,
            Stopping,
        ),
        ("Always", Some(deleting(made(json!({})))), false, Stopping),
        ("Always", Some(in_phase("Unknown")), false, Unknown),
        (
            "Always",
            because("Scheduling", "PodScheduled", "Unschedulable"),
            false,
            ErrorUnschedulable,
        ),
        (
            "Always",
            because("Scheduling", "PodScheduled", "VirtHandlerNotReady"),
            false,
            ErrorUnschedulable,
        ),
        (
            "Always",
            because("Scheduling", "PodScheduled", "Unschedulable"),
            true,
            ErrorUnschedulable,
        ),
        (
            "Always",
            because("Pending", "Synchronized", "FailedPvcNotFound"),
            false,
            ErrorPvcNotFound,
        ),
        (
            "Always",
            because("Pending", "Synchronized", "FailedCreate"),
            false,
            Starting,
        ),
        (
            "Always",
            Some(made(json!({"phase": "Scheduling"}))),
            true,
            WaitingForVolumeBinding,
        ),
        ("Halted", None, true, Stopped),
        ("Manual", None, true, Stopped),
        (
            "Always",
            because("Scheduled", "Synchronized", "ErrImagePull"),
            false,
            ErrImagePull,
        ),
        (
            "Always",
            because("Scheduled", "Synchronized", "InvalidImageName"),
            false,
            ErrImagePull,
        ),
        (
            "Always",
            because("Scheduled", "Synchronized", "ImagePullBackOff"),
            false,
            ImagePullBackOff,
        ),
    ];
    for (strategy, vmi, unbound, expected) in cases {
        let vm = machine(
            json!({"runStrategy": strategy}),
            json!({"runStrategy": strategy}),
        );
        let mut snapshot = snapshot(vm, vmi);
        snapshot.unbound_claim = unbound;
        let status = snapshot.vmi.as_ref().map(|vmi| vmi.status.clone());
        assert_eq!(printed(snapshot), expected, "{strategy} {status:?}");
    }
    let mut vm = machine(json!({"runStrategy": "Always"}), json!({}));
    vm.metadata.deletion_timestamp = Some(Time(at(1)));
    let ending = snapshot(vm, Some(deleting(in_phase("Running"))));
    assert_eq!(printed(ending), Terminating);
}

#[test]
fn conditions_are_the_instances() {
    let vmi = made(json!({"phase": "Running", "conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:07Z"},
        {"type": "AgentConnected", "status": "True"},
        {"type": "Paused", "status": "False", "reason": "NotPaused"},
    ]}));
    let vm = machine(
        json!({"runStrategy": "Always"}),
        json!({"conditions": [
            {"type": "Ready", "status": "False", "reason": "GuestNotRunning",
             "lastTransitionTime": "1970-01-01T00:00:01Z"},
            {"type": "PodScheduled", "status": "False"},
        ]}),
    );
    let mut snapshot = snapshot(vm, Some(vmi));
    let status = settled(snapshot.clone());
    let types: Vec<_> = status.conditions.iter().map(|c| c.type_.as_str()).collect();
    assert_eq!(types, ["AgentConnected", "Paused", "Ready"]);
    assert_eq!((status.ready, status.created), (Some(true), Some(true)));
    // As old as the instance's.
    assert_eq!(status.conditions[2].last_transition_time, Some(Time(at(7))));
    snapshot.vmi = None;
    Arc::make_mut(&mut snapshot.vm).spec.run_strategy = Some(RunStrategy::Halted);
    Arc::make_mut(&mut snapshot.vm).status = Some(status);
    let status = settled(snapshot);
    assert_eq!(status.conditions.len(), 1);
    assert_eq!(reason(&status, "Ready").unwrap(), "False VMINotExists");
    assert_eq!((status.ready, status.created), (Some(false), Some(false)));
}

#[test]
fn the_way_to_running_takes_three_statuses() {
    let ready = |status: &str, reason: &str, message: &str| json!({"type": "Ready", "status": status, "reason": reason, "message": message});
    let not_running = ready(
        "False",
        "GuestNotRunning",
        "Guest VM is not reported as running",
    );
    let seen = [
        json!({}),
        json!({"phase": "Scheduling", "conditions": [not_running]}),
        json!({"phase": "Scheduled", "conditions": [not_running]}),
        json!({"phase": "Running", "conditions": [not_running]}),
        json!({"phase": "Running", "conditions": [ready("True", "", "")]}),
    ];
    let mut snapshot = snapshot(machine(json!({"runStrategy": "Always"}), json!({})), None);
    let mut written = 0;
    for status in seen {
        snapshot.vmi = Some(Arc::new(made(status)));
        for write in decide(&snapshot, at(1000)).writes {
            if let Write::ApplyStatus(status) = write {
                written += 1;
                Arc::make_mut(&mut snapshot.vm).status = Some(*status);
            }
        }
    }
    assert_eq!(written, 3);
}

#[test]
fn the_order_of_conditions_is_no_change() {
    let vm = machine(json!({"runStrategy": "Halted"}), json!({}));
    let mut snapshot = snapshot(vm, None);
    let mut status = settled(snapshot.clone());
    status.conditions.push(crds::VirtualMachineCondition {
        status: "True".to_owned(),
        type_: "A".to_owned(),
        ..Default::default()
    });
    Arc::make_mut(&mut snapshot.vm).status = Some(status.clone());
    assert!(status::same(&status, &{
        let mut sorted = status.clone();
        sorted.conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        sorted
    }));
    // It is nobody's, and goes.
    assert_eq!(words(&decide(&snapshot, at(1000))), "status");
}
