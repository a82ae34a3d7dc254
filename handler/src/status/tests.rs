//! Each decision about a status, from the objects as the API server and the launcher have them.

mod reports;

use k8s_openapi::jiff::Timestamp;
use launcher_api::{Address, Phase as Told, Status};
use serde_json::{Value, json};

use super::*;

fn time(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

/// A VMI on the pod's network (masquerade) and on another one, in this phase.
fn vmi(phase: &str, more: &Value) -> VirtualMachineInstance {
    let mut vmi = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "vm", "namespace": "default", "uid": "u"},
        "spec": {
            "domain": {
                "memory": {"guest": "1Gi"},
                "devices": {"interfaces": [
                    {"name": "blue", "bridge": {}},
                    {"name": "default", "masquerade": {}},
                ]},
            },
            "networks": [
                {"name": "default", "pod": {}},
                {"name": "blue", "multus": {"networkName": "blue"}},
            ],
            "volumes": [{"name": "root", "containerDisk": {"image": "i"}}],
        },
        "status": {
            "phase": phase,
            "phaseTransitionTimestamps": [
                {"phase": "Scheduled", "phaseTransitionTimestamp": "1970-01-01T00:00:01Z"},
            ],
        },
    });
    merge(&mut vmi, more);
    serde_json::from_value(vmi).unwrap()
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

fn pod() -> PodFacts {
    PodFacts {
        uid: "p".into(),
        name: "virt-launcher-vm-abcde".into(),
        owner: "u".into(),
        ips: vec![
            "10.244.1.5".parse().unwrap(),
            "fd00:10:244:1::5".parse().unwrap(),
        ],
        over: false,
        disruption: None,
    }
}

fn told(phase: Told) -> Status {
    Status {
        phase: phase.into(),
        machine: "pc-q35-7.2".into(),
        interfaces: vec![
            launcher_api::Interface {
                name: "default".into(),
                mac: "02:00:00:00:00:01".into(),
                addresses: vec![address("10.0.2.2/24")],
                ..Default::default()
            },
            launcher_api::Interface {
                name: "blue".into(),
                mac: "02:00:00:00:00:02".into(),
                addresses: vec![address("192.168.7.7/24")],
                ..Default::default()
            },
        ],
        disks: vec![launcher_api::Disk {
            volume: "root".into(),
            target: "vda".into(),
            size: 1 << 30,
        }],
        ..Status::default()
    }
}

fn address(address: &str) -> Address {
    Address {
        address: address.into(),
        leased: true,
    }
}

fn observed(status: Status) -> Observed {
    Observed {
        report: Some(status.into()),
        agent: Agent::Unasked,
    }
}

fn written(
    vmi: &VirtualMachineInstance,
    pod: &PodFacts,
    observed: &Observed,
) -> Option<VirtualMachineInstanceStatus> {
    match decide(vmi, pod, observed, true, &time(100)) {
        Decision::Write(status) => Some(*status),
        Decision::Nothing => None,
        Decision::Await => panic!("waits"),
    }
}

/// The VMI after a write, as server-side apply leaves it: ours replaced, the others' kept.
fn applied(
    vmi: &VirtualMachineInstance,
    ours: VirtualMachineInstanceStatus,
) -> VirtualMachineInstance {
    let mut vmi = vmi.clone();
    let known = vmi.status.take().unwrap();
    let theirs = known.conditions.iter();
    let theirs = theirs.filter(|known| ![PAUSED, AGENT_CONNECTED].contains(&known.type_.as_str()));
    let conditions = theirs.chain(&ours.conditions).cloned().collect();
    vmi.status = Some(VirtualMachineInstanceStatus {
        conditions,
        reason: ours.reason.or(known.reason),
        ..ours
    });
    vmi
}

#[test]
fn the_first_write_has_all_that_is_known() {
    let status = written(
        &vmi("Scheduled", &json!({})),
        &pod(),
        &observed(told(Told::Running)),
    );
    let expected = json!({
        "phase": "Running",
        "phaseTransitionTimestamps": [
            {"phase": "Scheduled", "phaseTransitionTimestamp": "1970-01-01T00:00:01Z"},
            {"phase": "Running", "phaseTransitionTimestamp": "1970-01-01T00:01:40Z"},
        ],
        "interfaces": [
            {
                "name": "default", "podInterfaceName": "eth0", "mac": "02:00:00:00:00:01",
                "ipAddress": "10.244.1.5", "ipAddresses": ["10.244.1.5", "fd00:10:244:1::5"],
                "infoSource": "domain", "linkState": "up", "queueCount": 1,
            },
            {
                "name": "blue", "podInterfaceName": "pod16477688c0e", "mac": "02:00:00:00:00:02",
                "ipAddress": "192.168.7.7", "ipAddresses": ["192.168.7.7"],
                "infoSource": "domain", "linkState": "up", "queueCount": 1,
            },
        ],
        "machine": {"type": "pc-q35-7.2"},
        "memory": {"guestAtBoot": "1Gi", "guestCurrent": "1Gi", "guestRequested": "1Gi"},
        "volumeStatus": [{"name": "root", "target": "vda", "size": 1 << 30}],
    });
    assert_eq!(serde_json::to_value(status.unwrap()).unwrap(), expected);
}

#[test]
fn what_is_written_is_not_written_again() {
    let mut agent = told(Told::Paused);
    agent.agent_connected = true;
    let asked = Observed {
        agent: Agent::Asked(Some(Box::default())),
        ..observed(agent)
    };
    for observed in [
        observed(told(Told::Running)),
        asked,
        observed(told(Told::Failed)),
    ] {
        let before = vmi(
            "Scheduled",
            &json!({"status": {"conditions": [
                {"type": "Ready", "status": "False"},
            ]}}),
        );
        let after = applied(&before, written(&before, &pod(), &observed).unwrap());
        assert_eq!(
            decide(&after, &pod(), &observed, true, &time(200)),
            Decision::Nothing
        );
    }
}

#[test]
fn phases_go_forward_only() {
    let over = || PodFacts {
        over: true,
        ..pod()
    };
    let disrupted = |why| PodFacts {
        disruption: Some(why),
        ..pod()
    };
    let deleted = json!({"metadata": {"deletionTimestamp": "1970-01-01T00:00:01Z"}});
    let no = json!({});
    let cases = [
        // before, launcher, pod, VMI => phase and reason
        ("Scheduled", Told::Starting, pod(), &no, None),
        (
            "Scheduled",
            Told::Running,
            pod(),
            &no,
            Some((Phase::Running, None)),
        ),
        (
            "Scheduled",
            Told::ShuttingDown,
            pod(),
            &no,
            Some((Phase::Running, None)),
        ),
        (
            "Unknown",
            Told::Running,
            pod(),
            &no,
            Some((Phase::Running, None)),
        ),
        ("Unknown", Told::Starting, pod(), &no, None),
        ("Running", Told::Starting, pod(), &no, None),
        (
            "Scheduled",
            Told::Succeeded,
            over(),
            &no,
            Some((Phase::Succeeded, None)),
        ),
        (
            "Running",
            Told::Succeeded,
            over(),
            &no,
            Some((Phase::Succeeded, None)),
        ),
        (
            "Scheduled",
            Told::Failed,
            pod(),
            &no,
            Some((Phase::Failed, Some("StartFailed"))),
        ),
        (
            "Running",
            Told::Failed,
            pod(),
            &no,
            Some((Phase::Failed, Some("GuestCrashed"))),
        ),
        (
            "Running",
            Told::Succeeded,
            disrupted(Disruption::Evicted),
            &no,
            Some((Phase::Failed, Some("Evicted"))),
        ),
        (
            "Running",
            Told::Succeeded,
            disrupted(Disruption::Deleted),
            &no,
            Some((Phase::Failed, Some("PodDeleted"))),
        ),
        (
            "Running",
            Told::Succeeded,
            disrupted(Disruption::Deleted),
            &deleted,
            Some((Phase::Succeeded, None)),
        ),
        (
            "Running",
            Told::Succeeded,
            pod(),
            &deleted,
            Some((Phase::Succeeded, None)),
        ),
        ("Pending", Told::Running, pod(), &no, None),
        ("Scheduling", Told::Running, pod(), &no, None),
        ("Succeeded", Told::Running, pod(), &no, None),
        ("Succeeded", Told::Failed, pod(), &no, None),
        ("Failed", Told::Succeeded, pod(), &no, None),
    ];
    for (before, phase, pod, more, expected) in cases {
        let status = written(&vmi(before, more), &pod, &observed(told(phase)));
        let found = status.map(|status| (status.phase.unwrap(), status.reason));
        let expected = expected.map(|(phase, reason)| (phase, reason.map(str::to_owned)));
        assert_eq!(found, expected, "{before} {phase:?} {pod:?} {more}");
    }
}

#[test]
fn an_end_is_the_guests_own_only_once_its_pod_says_so() {
    let running = vmi("Running", &json!({}));
    let ended = observed(told(Told::Succeeded));
    let at = |pod: &PodFacts, patient| decide(&running, pod, &ended, patient, &time(1));
    let phase = |decision| match decision {
        Decision::Write(status) => status.phase,
        other => panic!("{other:?}"),
    };
    assert_eq!(at(&pod(), true), Decision::Await);
    assert_eq!(phase(at(&pod(), false)), Some(Phase::Succeeded));
    let mut pod = PodFacts {
        over: true,
        ..pod()
    };
    assert_eq!(phase(at(&pod, true)), Some(Phase::Succeeded));
    pod.disruption = Some(Disruption::Evicted);
    assert_eq!(phase(at(&pod, true)), Some(Phase::Failed));
}

#[test]
fn a_phase_that_was_had_before_keeps_its_time() {
    let known = json!({"status": {"phaseTransitionTimestamps": [
        {"phase": "Running", "phaseTransitionTimestamp": "1970-01-01T00:00:02Z"},
    ]}});
    let status = written(
        &vmi("Unknown", &known),
        &pod(),
        &observed(told(Told::Running)),
    );
    let transitions = status.unwrap().phase_transition_timestamps;
    assert_eq!(transitions.len(), 1);
    assert_eq!(transitions[0].phase_transition_timestamp, Some(time(2)));
}

#[test]
fn running_waits_for_what_is_missing_but_not_for_ever() {
    let no_addresses = PodFacts {
        ips: vec![],
        ..pod()
    };
    let running = observed(told(Told::Running));
    let mut no_machine = told(Told::Running);
    no_machine.machine.clear();
    let no_machine = observed(no_machine);
    let scheduled = vmi("Scheduled", &json!({}));
    for (pod, observed) in [(&no_addresses, &running), (&pod(), &no_machine)] {
        let awaits = decide(&scheduled, pod, observed, true, &time(1));
        assert_eq!(awaits, Decision::Await);
        let written = decide(&scheduled, pod, observed, false, &time(1));
        assert!(matches!(written, Decision::Write(_)), "{written:?}");
    }
    // One without the pod's network needs none of its addresses.
    let nowhere = vmi("Scheduled", &json!({"spec": {"networks": []}}));
    let written = decide(&nowhere, &no_addresses, &running, true, &time(1));
    assert!(matches!(written, Decision::Write(_)), "{written:?}");
}

#[test]
fn addresses_stay_while_a_kubelet_that_starts_tells_none() {
    let running = observed(told(Told::Running));
    let scheduled = vmi("Scheduled", &json!({}));
    let known = applied(&scheduled, written(&scheduled, &pod(), &running).unwrap());
    let untold = PodFacts {
        ips: vec![],
        ..pod()
    };
    let decision = decide(&known, &untold, &running, true, &time(200));
    assert_eq!(decision, Decision::Nothing);
}

#[test]
fn a_launcher_cannot_show_another_pods_address() {
    let bridge = json!({"spec": {
        "domain": {"devices": {"interfaces": [{"name": "default", "bridge": {}}]}},
    }});
    let mut lies = told(Told::Running);
    lies.interfaces[0].addresses = ["10.244.9.9/24", "10.244.1.5/24", "no address"]
        .map(address)
        .to_vec();
    let status = written(&vmi("Scheduled", &bridge), &pod(), &observed(lies)).unwrap();
    assert_eq!(status.interfaces[0].ip_addresses, ["10.244.1.5"]);
    // What is the spec's is there, what is not is not.
    assert_eq!(status.interfaces.len(), 1);
}

#[test]
fn conditions_come_and_go_and_keep_their_time() {
    use PauseReason::{Crashed, IoError, Other, Unspecified, User, Watchdog};
    let reasons = [
        (User, "PausedByUser"),
        (IoError, "PausedIOError"),
        (Watchdog, "PausedByWatchdog"),
        (Crashed, "PausedCrashed"),
        (Other, "Paused"),
        (Unspecified, "Paused"),
    ];
    for (reason, word) in reasons {
        let mut paused = told(Told::Paused);
        paused.set_pause_reason(reason);
        let scheduled = vmi("Scheduled", &json!({}));
        let status = written(&scheduled, &pod(), &observed(paused)).unwrap();
        let found = condition(&status, PAUSED).unwrap();
        assert_eq!(
            (found.status.as_str(), found.reason.as_deref()),
            ("True", Some(word))
        );
        let vmi = applied(&scheduled, status);
        // Another cause is news, but not since another time.
        let mut again = told(Told::Paused);
        again.set_pause_reason(if reason == User { IoError } else { User });
        let status = decide(&vmi, &pod(), &observed(again), true, &time(300));
        let Decision::Write(status) = status else {
            panic!("{status:?}")
        };
        let since = condition(&status, PAUSED)
            .unwrap()
            .last_transition_time
            .clone();
        assert_eq!(since, Some(time(100)));
        let status = written(&vmi, &pod(), &observed(told(Told::Running))).unwrap();
        assert_eq!(condition(&status, PAUSED), None);
    }
}
