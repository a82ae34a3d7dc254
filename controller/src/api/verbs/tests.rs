//! Every strategy, in both its forms, with every phase of an instance, for every verb.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use crds::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube_client::{Client, Config};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tower::ServiceExt;

use super::plan::{Patch, Plan, Verb, longer_grace, plan};
use crate::api::{ApiContext, Handlers, Streams, namespaced};
use crate::reconcile::vm::{VmSnapshot, Write, decide};
use crate::server::Readiness;

const STRATEGIES: [&str; 5] = ["Always", "RerunOnFailure", "Manual", "Once", "Halted"];

/// Of an instance; None where there is none.
const PHASES: [Option<&str>; 8] = [
    None,
    Some("Pending"),
    Some("Scheduling"),
    Some("Scheduled"),
    Some("Running"),
    Some("Succeeded"),
    Some("Failed"),
    Some("Unknown"),
];

fn machine(run: Value, asked: Value) -> VirtualMachine {
    let mut spec = json!({"template": {"spec": {"domain": {"devices": {}}}}});
    for (field, value) in run.as_object().unwrap() {
        spec[field] = value.clone();
    }
    serde_json::from_value(json!({
        "metadata": {"name": "one"},
        "spec": spec,
        "status": {"stateChangeRequests": asked},
    }))
    .unwrap()
}

fn strategy(strategy: &str) -> VirtualMachine {
    machine(json!({"runStrategy": strategy}), json!([]))
}

fn instance(phase: &str) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "metadata": {"name": "one", "uid": "7"},
        "spec": {"domain": {"devices": {}}, "terminationGracePeriodSeconds": 60},
        "status": {"phase": phase},
    }))
    .unwrap()
}

fn planned(verb: Verb, vm: &VirtualMachine, phase: Option<&str>) -> Result<Plan, String> {
    plan(verb, vm, phase.map(instance).as_ref())
}

fn strategy_set(strategy: &str) -> Result<Plan, String> {
    whole(json!({"spec": {"runStrategy": strategy}}))
}

fn whole(patch: Value) -> Result<Plan, String> {
    Ok(Plan {
        patch: Patch::Whole(patch),
        shutdown: None,
    })
}

fn asks(requests: Value) -> Result<Plan, String> {
    let patch = json!({"status": {"stateChangeRequests": requests, "startFailure": null}});
    Ok(Plan {
        patch: Patch::Status(patch),
        shutdown: None,
    })
}

fn refused(why: &str) -> Result<Plan, String> {
    Err(why.to_owned())
}

fn is_final(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[test]
fn start() {
    let (start, stop) = (
        json!({"action": "Start"}),
        json!({"action": "Stop", "uid": "7"}),
    );
    let verb = Verb::Start { paused: false };
    for strategy_name in STRATEGIES {
        for phase in PHASES {
            let expected = match (strategy_name, phase) {
                (_, Some("Pending" | "Scheduling" | "Scheduled" | "Running")) => {
                    refused("VM is already running")
                }
                ("Always", _) => refused("Always does not support manual start requests"),
                ("Once", _) => refused("Once does not support manual start requests"),
                ("Halted", _) => strategy_set("Always"),
                ("RerunOnFailure", Some("Failed")) => {
                    refused("RerunOnFailure does not support starting VM from failed state")
                }
                (_, None | Some("Unknown")) => asks(json!([start])),
                (_, Some(_)) => asks(json!([stop, start])),
            };
            let found = planned(verb, &strategy(strategy_name), phase);
            assert_eq!(found, expected, "{strategy_name} {phase:?}");
        }
    }
    // An instance that nobody has looked at yet.
    let mut new = instance("Pending");
    new.status = None;
    let found = plan(verb, &strategy("Manual"), Some(&new));
    assert_eq!(found, asks(json!([start])));
}

#[test]
fn a_start_that_is_accepted_is_not_dropped() {
    let mut asked = 0;
    for (name, phase) in STRATEGIES
        .into_iter()
        .flat_map(|name| PHASES.map(|phase| (name, phase)))
    {
        let mut vm = strategy(name);
        let planned = planned(Verb::Start { paused: true }, &vm, phase);
        let Ok(Patch::Status(patch)) = planned.map(|plan| plan.patch) else {
            continue;
        };
        asked += 1;
        let mut status = patch["status"].clone();
        status["runStrategy"] = json!(name);
        vm.status = serde_json::from_value(status).unwrap();
        let snapshot = VmSnapshot {
            vm: Arc::new(vm),
            vmi: phase.map(|phase| Arc::new(instance(phase))),
            pod_left: false,
            unbound_claim: false,
            failure: None,
        };
        for write in decide(&snapshot, Timestamp::UNIX_EPOCH).writes {
            if let Write::ApplyStatus(status) = write {
                let left = &status.state_change_requests;
                assert!(!left.is_empty(), "{name} {phase:?}");
            }
        }
    }
    assert_eq!(asked, 11);
}

#[test]
fn start_paused() {
    let start = json!({"action": "Start", "data": {"paused": "true"}});
    let stop = json!({"action": "Stop", "uid": "7"});
    let verb = Verb::Start { paused: true };
    let cases = [
        ("Halted", None, asks(json!([start]))),
        ("Halted", Some("Succeeded"), asks(json!([start]))),
        ("Manual", None, asks(json!([start]))),
        ("Manual", Some("Failed"), asks(json!([stop, start]))),
        ("RerunOnFailure", None, asks(json!([start]))),
        (
            "Always",
            None,
            refused("Always does not support manual start requests"),
        ),
        ("Manual", Some("Running"), refused("VM is already running")),
    ];
    for (name, phase, expected) in cases {
        assert_eq!(
            planned(verb, &strategy(name), phase),
            expected,
            "{name} {phase:?}"
        );
    }
    // Its template says so anyway.
    let mut vm = strategy("Halted");
    vm.spec.template.spec.start_strategy = Some(crds::StartStrategy::Paused);
    assert_eq!(planned(verb, &vm, None), strategy_set("Always"));
}

#[test]
fn stop() {
    let asked = || asks(json!([{"action": "Stop", "uid": "7"}]));
    for name in STRATEGIES {
        for phase in PHASES {
            let expected = match (name, phase) {
                ("Always" | "Once", _) => strategy_set("Halted"),
                (_, None) => refused("VM is not running"),
                (_, Some(_)) if is_final(phase) => refused("VM is not running"),
                ("Halted", Some(_)) => {
                    refused("Halted only supports manual stop requests with a shorter graceperiod")
                }
                (_, Some(_)) => asked(),
            };
            let verb = Verb::Stop { grace: None };
            let found = planned(verb, &strategy(name), phase);
            assert_eq!(found, expected, "{name} {phase:?}");
        }
    }
}

#[test]
fn stop_sooner() {
    let soon = |planned: Result<Plan, String>| {
        planned.map(|plan| Plan {
            shutdown: Some(5),
            ..plan
        })
    };
    let asked = || asks(json!([{"action": "Stop", "uid": "7"}]));
    let verb = Verb::Stop { grace: Some(5) };
    let cases = [
        ("Always", Some("Running"), soon(strategy_set("Halted"))),
        ("Once", Some("Running"), soon(strategy_set("Halted"))),
        ("Manual", Some("Running"), soon(asked())),
        ("RerunOnFailure", Some("Running"), soon(asked())),
        // What stops already may stop sooner, and not later.
        ("Halted", Some("Running"), soon(asked())),
        // Nobody is there to be told.
        ("Always", None, strategy_set("Halted")),
        ("Always", Some("Scheduling"), strategy_set("Halted")),
        ("Manual", Some("Unknown"), asked()),
    ];
    for (name, phase, expected) in cases {
        assert_eq!(
            planned(verb, &strategy(name), phase),
            expected,
            "{name} {phase:?}"
        );
    }
    let later = Verb::Stop { grace: Some(60) };
    let why = "Halted only supports manual stop requests with a shorter graceperiod";
    assert_eq!(
        planned(later, &strategy("Halted"), Some("Running")),
        refused(why)
    );
}

#[test]
fn restart() {
    let both = || asks(json!([{"action": "Stop", "uid": "7"}, {"action": "Start"}]));
    for name in STRATEGIES {
        for phase in PHASES {
            let expected = match (name, phase) {
                ("Halted", _) => refused("Halted does not support manual restart requests"),
                ("Once", _) => refused("Once does not support manual restart requests"),
                (_, None) => refused("VM is not running"),
                (_, Some(_)) => both(),
            };
            let verb = Verb::Restart { grace: None };
            let found = planned(verb, &strategy(name), phase);
            assert_eq!(found, expected, "{name} {phase:?}");
        }
    }
    let verb = Verb::Restart { grace: Some(0) };
    for (phase, shutdown) in [("Running", Some(0)), ("Pending", None), ("Failed", None)] {
        let found = planned(verb, &strategy("Always"), Some(phase)).unwrap();
        assert_eq!(found.shutdown, shutdown, "{phase}");
    }
}

#[test]
fn a_longer_grace_period_becomes_the_instances() {
    let stop = |grace| Verb::Stop { grace };
    let restart = |grace| Verb::Restart { grace };
    let cases = [
        (stop(None), "Running", None),
        (stop(Some(5)), "Running", None),
        (stop(Some(60)), "Running", None),
        (stop(Some(61)), "Running", Some(61)),
        (restart(Some(60)), "Running", None),
        (restart(Some(61)), "Running", Some(61)),
        // Nobody is told.
        (stop(Some(61)), "Scheduling", None),
        (stop(Some(61)), "Unknown", None),
    ];
    for (verb, phase, expected) in cases {
        let mut vmi = instance(phase);
        let plan = plan(verb, &strategy("Manual"), Some(&vmi)).unwrap();
        assert_eq!(longer_grace(&plan, &vmi), Ok(expected), "{verb:?} {phase}");
        // It stops already.
        vmi.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let found = longer_grace(&plan, &vmi);
        assert_eq!(found.is_err(), expected.is_some(), "{verb:?} {phase}");
        if let Err(why) = found {
            assert!(why.ends_with("give it 60 or less"), "{why}");
        }
    }
}

#[test]
fn the_older_field_stays_the_one_that_says_it() {
    let running = |running: bool| machine(json!({"running": running}), json!([]));
    let set = |running: bool| whole(json!({"spec": {"running": running}}));
    let start = Verb::Start { paused: false };
    assert_eq!(planned(start, &running(false), None), set(true));
    assert_eq!(
        planned(start, &running(true), None),
        refused("Always does not support manual start requests")
    );
    let stop = Verb::Stop { grace: None };
    assert_eq!(planned(stop, &running(true), Some("Running")), set(false));
    assert_eq!(
        planned(stop, &running(false), None),
        refused("VM is not running")
    );
}

#[test]
fn only_a_stop_overtakes_what_was_asked_before() {
    let busy = machine(
        json!({"runStrategy": "Manual"}),
        json!([{"action": "Start"}]),
    );
    let underway = refused("unable to complete request: stop/start already underway");
    let cases = [
        (Verb::Start { paused: false }, None, underway.clone()),
        (Verb::Restart { grace: None }, Some("Running"), underway),
        (
            Verb::Stop { grace: None },
            Some("Running"),
            asks(json!([{"action": "Stop", "uid": "7"}])),
        ),
    ];
    for (verb, phase, expected) in cases {
        assert_eq!(planned(verb, &busy, phase), expected, "{verb:?}");
    }
}

#[test]
fn a_restart_that_is_asked_for_again_has_its_guest_told_again() {
    let both = json!([{"action": "Stop", "uid": "7"}, {"action": "Start"}]);
    let another = json!([{"action": "Stop", "uid": "6"}, {"action": "Start"}]);
    let soon = Some(5);
    let cases = [
        (&both, soon, "Running", true),
        // There is nothing to be told.
        (&both, None, "Running", false),
        (&both, soon, "Unknown", false),
        // It is not the same.
        (&another, soon, "Running", false),
        (&json!([{"action": "Start"}]), soon, "Running", false),
    ];
    for (pending, grace, phase, passes) in cases {
        let vm = machine(json!({"runStrategy": "Manual"}), pending.clone());
        let expected = match passes {
            true => asks(both.clone()).map(|plan| Plan {
                shutdown: grace,
                ..plan
            }),
            false => refused("unable to complete request: stop/start already underway"),
        };
        let found = planned(Verb::Restart { grace }, &vm, Some(phase));
        assert_eq!(found, expected, "{pending} {grace:?} {phase}");
    }
}

/// What serves calls where the API server is at this address.
fn router(address: SocketAddr) -> Router {
    let config = Config::new(format!("http://{address}").parse().unwrap());
    let client = Client::try_from(config).unwrap();
    let context = ApiContext {
        client: client.clone(),
        readiness: watch::channel(Readiness::Ready).1,
        trust: watch::channel(None).1,
        handlers: Handlers {
            client,
            namespace: "ferrovirt".into(),
            tls: watch::channel(None).1,
        },
        streams: Streams::new(watch::channel(false).1),
    };
    Router::new()
        .nest("/{namespace}", namespaced())
        .with_state(context)
}

/// What answers a call where the API server is not there to be asked.
async fn answered(method: &Method, path: &str, body: &str) -> u16 {
    let router = router((Ipv4Addr::LOCALHOST, 1).into());
    let request = Request::builder().method(method).uri(format!("/n{path}"));
    let request = request.body(Body::from(body.to_owned())).unwrap();
    router.oneshot(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn every_verb_is_served_by_its_method() {
    let (vm, vmi) = ("/virtualmachines/one", "/virtualmachineinstances/one");
    let (get, put) = (&Method::GET, &Method::PUT);
    // 503 is of whoever goes on to ask the API server; 400 of a stream that is none.
    let cases = [
        (put, vm, "start", 503),
        (put, vm, "stop", 503),
        (put, vm, "restart", 503),
        (get, vm, "expand-spec", 503),
        (get, vm, "portforward/22", 503),
        (get, vm, "portforward/22/udp", 503),
        (put, vm, "migrate", 501),
        (put, vm, "addvolume", 501),
        (put, vm, "removevolume", 501),
        (put, vmi, "addvolume", 501),
        (put, vmi, "removevolume", 501),
        (put, vmi, "pause", 503),
        (put, vmi, "unpause", 503),
        (put, vmi, "softreboot", 503),
        (put, vmi, "reset", 503),
        (put, vmi, "freeze", 503),
        (put, vmi, "unfreeze", 503),
        (get, vmi, "guestosinfo", 503),
        (get, vmi, "userlist", 503),
        (get, vmi, "filesystemlist", 503),
        (get, vmi, "vnc/screenshot", 503),
        (get, vmi, "vnc", 400),
        (get, vmi, "console", 400),
        (get, vmi, "portforward/22", 400),
        (get, vmi, "portforward/22/tcp", 400),
        (get, vm, "console", 404),
        (put, vmi, "start", 404),
        (get, vmi, "portforward", 404),
        (get, vmi, "portforward/22/tcp/more", 404),
    ];
    for (method, object, verb, code) in cases {
        let path = format!("{object}/{verb}");
        assert_eq!(answered(method, &path, "").await, code, "{method} {path}");
        if code != 404 {
            let other = if method == get { put } else { get };
            assert_eq!(answered(other, &path, "").await, 405, "{other} {path}");
        }
    }
    assert_eq!(answered(put, "/expand-vm-spec", "{}").await, 400);
    // What is wrong is told before anybody is asked.
    let odd = r#"{"graceperiod": 1}"#;
    assert_eq!(answered(put, &format!("{vm}/stop"), odd).await, 400);
}

/// The next call of the API server at `listener`: its first line, and where it is answered.
async fn next_call(listener: &TcpListener) -> (String, TcpStream) {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    (head.lines().next().unwrap().to_owned(), socket)
}

#[tokio::test]
async fn what_was_begun_is_not_cut_short_by_a_caller_that_leaves() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let router = router(listener.local_addr().unwrap());
    let request = Request::put("/n/virtualmachines/one/stop").body(Body::empty());
    let (first, mut socket) = tokio::select! {
        call = next_call(&listener) => call,
        answer = router.oneshot(request.unwrap()) => panic!("{answer:?}"),
    };
    assert!(first.contains("/virtualmachines/one"), "{first}");
    // By now, nobody waits for the answer.
    let machine = serde_json::to_string(&strategy("Manual")).unwrap();
    let length = machine.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{machine}"
    );
    socket.write_all(answer.as_bytes()).await.unwrap();
    let next = timeout(Duration::from_secs(60), next_call(&listener));
    let (next, _) = next.await.unwrap();
    assert!(next.contains("/virtualmachineinstances/one"), "{next}");
}
