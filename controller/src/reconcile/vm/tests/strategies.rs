//! When an instance is made and deleted.

use super::*;

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
    let lost = || Some(in_phase("Unknown"));
    let cases: [(&str, Option<VirtualMachineInstance>, Vec<Value>, usize); 12] = [
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
        ("Manual", lost(), vec![start()], 1),
        ("RerunOnFailure", lost(), vec![start()], 1),
        ("Manual", lost(), vec![stop(Some("other")), start()], 1),
    ];
    for (strategy, vmi, requests, expected) in cases {
        let status = json!({"runStrategy": strategy, "stateChangeRequests": requests});
        let vm = machine(json!({"runStrategy": strategy}), status);
        let left = settled(snapshot(vm, vmi)).state_change_requests;
        assert_eq!(left.len(), expected, "{strategy} {requests:?}: {left:?}");
    }
}

#[test]
fn a_start_waits_until_it_is_known_what_became_of_a_lost_instance() {
    let over = |mut snapshot: VmSnapshot| {
        // It is deleted; its pod is the last to go, and only then is there another instance.
        assert_eq!(words(&decide(&snapshot, at(1000))), "delete");
        (snapshot.vmi, snapshot.pod_left) = (None, true);
        assert_eq!(words(&decide(&snapshot, at(1000))), "status");
        snapshot.pod_left = false;
        assert_eq!(words(&decide(&snapshot, at(1000))), "create");
    };
    for strategy in ["Manual", "RerunOnFailure"] {
        let status = json!({"runStrategy": strategy, "stateChangeRequests": [{"action": "Start"}]});
        let vm = machine(json!({"runStrategy": strategy}), status);
        let mut snapshot = snapshot(vm, Some(in_phase("Unknown")));
        assert_eq!(words(&decide(&snapshot, at(1000))), "status", "{strategy}");
        Arc::make_mut(&mut snapshot.vm).status = Some(settled(snapshot.clone()));
        for phase in ["Failed", "Succeeded"] {
            snapshot.vmi = Some(Arc::new(in_phase(phase)));
            over(snapshot.clone());
        }
        // It ran all the time.
        snapshot.vmi = Some(Arc::new(in_phase("Running")));
        assert_eq!(settled(snapshot).state_change_requests, [], "{strategy}");
    }
}

#[test]
fn halted_undoes_what_was_asked_for_before_it() {
    let start = || json!({"action": "Start"});
    let stop = || json!({"action": "Stop", "uid": "vmi-uid"});
    let going = || Some(deleting(in_phase("Running")));
    type Case = (Value, Option<VirtualMachineInstance>, Vec<Value>, bool);
    let cases: [Case; 8] = [
        // The controller's own request, in the back-off.
        (json!("RerunOnFailure"), None, vec![start()], false),
        (json!("RerunOnFailure"), going(), vec![start()], false),
        // A restart.
        (json!("Manual"), None, vec![start()], false),
        (json!("Manual"), going(), vec![stop(), start()], false),
        (json!("Always"), None, vec![start()], false),
        // It was Halted when it was asked to start, with its instance gone and not gone yet.
        (json!("Halted"), None, vec![start()], true),
        (json!("Halted"), going(), vec![start()], true),
        (Value::Null, None, vec![start()], true),
    ];
    for (followed, vmi, requests, starts) in cases {
        let case = format!("{followed} {requests:?}");
        let status = json!({"runStrategy": followed, "stateChangeRequests": requests});
        let vm = machine(json!({"runStrategy": "Halted"}), status);
        let mut snapshot = snapshot(vm, vmi);
        let status = settled(snapshot.clone());
        assert_eq!(!status.state_change_requests.is_empty(), starts, "{case}");
        snapshot.vmi = None;
        Arc::make_mut(&mut snapshot.vm).status = Some(status);
        let said = words(&decide(&snapshot, at(1000)));
        assert_eq!(said == "always", starts, "{case}: {said}");
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
fn an_instance_has_those_of_its_machines_annotations_that_are_ours() {
    let own = |value: &str| {
        let own = [(crds::ANTI_SPOOFING, value), ("other", "left")];
        own.map(|(key, value)| (key.to_owned(), value.to_owned()))
    };
    for (template, expected) in [(None, "disabled"), (Some("enabled"), "enabled")] {
        let mut vm = machine(json!({"runStrategy": "Always"}), json!({}));
        vm.metadata.annotations = Some(own("disabled").into());
        if let Some(value) = template {
            let annotations = &mut vm.spec.template.metadata.annotations;
            let annotations = annotations.get_or_insert_default();
            annotations.insert(crds::ANTI_SPOOFING.to_owned(), value.to_owned());
        }
        let decision = decide(&snapshot(vm, None), at(1000));
        let [Write::CreateVmi(vmi), Write::Event(_)] = &decision.writes[..] else {
            panic!("{decision:?}");
        };
        assert_eq!(
            json!(vmi)["metadata"]["annotations"],
            json!({
                "note": "kept", "kubevirt.io/vm-generation": "3", crds::ANTI_SPOOFING: expected,
            })
        );
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
