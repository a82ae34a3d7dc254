//! What a machine says of itself.

use std::collections::BTreeMap;

use super::*;

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
fn an_annotation_of_ours_that_has_changed_asks_for_a_restart() {
    let annotated = |annotations: &mut Option<_>, value: &str| {
        let annotations: &mut BTreeMap<_, _> = annotations.get_or_insert_default();
        annotations.insert(crds::ANTI_SPOOFING.to_owned(), value.to_owned());
    };
    let cases = [
        (None, None, false),
        (Some("disabled"), None, true),
        (Some("disabled"), Some("disabled"), false),
        (None, Some("disabled"), true),
        // It is the default.
        (Some("enabled"), None, false),
    ];
    for (wanted, made, expected) in cases {
        let mut vm = machine(json!({"runStrategy": "Always"}), json!({}));
        let mut vmi = in_phase("Running");
        for (metadata, value) in [(&mut vm.metadata, wanted), (&mut vmi.metadata, made)] {
            if let Some(value) = value {
                annotated(&mut metadata.annotations, value);
            }
        }
        let status = settled(snapshot(vm, Some(vmi)));
        let asked = reason(&status, "RestartRequired").is_some();
        assert_eq!(asked, expected, "{wanted:?} {made:?}");
    }
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
