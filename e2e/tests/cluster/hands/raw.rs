//! Each verb on the wire, as the contract with KubeVirt's clients has it.

use serde_json::{Value, json};

use super::call::{Caller, GROUP, PLAIN};
use crate::api::{Api, eventually};
use crate::vms::Installation;
use crate::vms::guest::{Guest, holds, mini};

/// What discovery names.
const SERVED: [&str; 20] = [
    "expand-vm-spec",
    "version",
    "virtualmachineinstances/console",
    "virtualmachineinstances/filesystemlist",
    "virtualmachineinstances/freeze",
    "virtualmachineinstances/guestosinfo",
    "virtualmachineinstances/pause",
    "virtualmachineinstances/portforward",
    "virtualmachineinstances/reset",
    "virtualmachineinstances/softreboot",
    "virtualmachineinstances/unfreeze",
    "virtualmachineinstances/unpause",
    "virtualmachineinstances/userlist",
    "virtualmachineinstances/vnc",
    "virtualmachineinstances/vnc/screenshot",
    "virtualmachines/expand-spec",
    "virtualmachines/portforward",
    "virtualmachines/restart",
    "virtualmachines/start",
    "virtualmachines/stop",
];

/// Clients find the group, and everything that is in it.
pub(crate) async fn the_api_is_discovered(ferrovirt: &Installation<'_>) {
    let caller = Caller::new(ferrovirt.api, "default");
    let call = format!("GET {GROUP}");
    let group = caller.answer(&call, &Value::Null, 200).await.json();
    let versions = group["versions"].as_array().expect("it has versions");
    let versions: Vec<_> = versions.iter().map(|version| &version["version"]).collect();
    assert_eq!(versions, ["v1", "v1alpha3"]);
    assert_eq!(group["preferredVersion"]["version"], "v1");
    for version in ["v1", "v1alpha3"] {
        let call = format!("GET {GROUP}/{version}");
        let list = caller.answer(&call, &Value::Null, 200).await.json();
        let resources = list["resources"].as_array().expect("it has resources");
        let mut names: Vec<_> = resources
            .iter()
            .filter_map(|resource| resource["name"].as_str())
            .collect();
        names.sort_unstable();
        assert_eq!(names, SERVED, "{version}");
        let call = format!("GET {GROUP}/{version}/version");
        let told = caller.answer(&call, &Value::Null, 200).await.json();
        assert!(told["gitVersion"].is_string(), "{told:#}");
    }
    // kubectl fails where a group cannot be listed. What the API server could not reach at first, it
    // asks again a while later.
    eventually("kubectl lists every group", async || {
        ferrovirt
            .try_kubectl(&["api-resources", "--cached=false"])
            .ok()
    })
    .await;
}

pub(crate) async fn each_verb_answers(api: &Api) {
    let namespace = &api.namespace("verbs").await;
    let caller = &Caller::new(api, namespace);
    let machine = Guest::machine(api, namespace, "machine", "Halted", mini()).await;
    machine.printable("Stopped").await;
    tokio::join!(
        what_does_not_run_is_told_so(api, namespace, caller),
        a_machine_starts(caller, &machine),
    );
    machine.answers().await;
    what_runs_is_reached(caller).await;
    streams_are_shared(caller).await;
    ports_are_reached(caller).await;
    a_running_machine_obeys(caller, &machine).await;
    a_machine_stops(caller, &machine).await;
}

async fn what_does_not_run_is_told_so(api: &Api, namespace: &str, caller: &Caller<'_>) {
    let mut nowhere = mini();
    nowhere["nodeSelector"] = json!({"nowhere": "to-be-found"});
    let waiting = Guest::instance(api, namespace, "waiting", nowhere).await;
    waiting.phase("Scheduling").await;
    for stream in ["console", "vnc", "portforward/7"] {
        let path = format!("virtualmachineinstances/waiting/{stream}");
        caller.refused(&path, &[PLAIN], 400).await;
        let path = format!("virtualmachineinstances/none/{stream}");
        caller.refused(&path, &[PLAIN], 404).await;
    }
    caller
        .expect(&[
            ("PUT virtualmachines/none/start", json!({}), 404),
            ("PUT virtualmachineinstances/none/pause", json!({}), 404),
            (
                "GET virtualmachineinstances/none/guestosinfo",
                Value::Null,
                404,
            ),
            ("PUT virtualmachineinstances/waiting/pause", json!({}), 409),
            (
                "PUT virtualmachineinstances/waiting/no-such-verb",
                json!({}),
                404,
            ),
        ])
        .await;
    waiting.delete("VirtualMachineInstance").await;
}

async fn a_machine_starts(caller: &Caller<'_>, machine: &Guest<'_>) {
    let dry = json!({"dryRun": ["All"]});
    caller
        .expect(&[
            ("PUT virtualmachines/machine/stop", json!({}), 409),
            ("PUT virtualmachines/machine/restart", json!({}), 409),
            ("GET virtualmachines/machine/start", Value::Null, 405),
            ("PUT virtualmachines/machine/start", json!("paused"), 400),
            ("PUT virtualmachines/machine/start", dry, 202),
        ])
        .await;
    let strategy = async || {
        let vm = machine.wait_vm("there", |vm| Some(vm.clone())).await;
        vm["spec"]["runStrategy"].clone()
    };
    assert_eq!(strategy().await, "Halted");
    // A request with no body is one with no options.
    caller
        .expect(&[("PUT virtualmachines/machine/start", Value::Null, 202)])
        .await;
    assert_eq!(strategy().await, "Always");
    machine.phase("Running").await;
    caller
        .expect(&[("PUT virtualmachines/machine/start", json!({}), 409)])
        .await;
}

async fn what_runs_is_reached(caller: &Caller<'_>) {
    let shot = caller
        .answer(
            "GET virtualmachineinstances/machine/vnc/screenshot?moveCursor=true",
            &Value::Null,
            200,
        )
        .await;
    assert!(
        shot.body.starts_with(b"\x89PNG\r\n"),
        "{:?}",
        shot.body.get(..16)
    );
    let spec = caller
        .answer("GET virtualmachines/machine/expand-spec", &Value::Null, 200)
        .await
        .json();
    assert_eq!(spec["metadata"]["name"], "machine");
    let expanded = caller.answer("PUT expand-vm-spec", &spec, 200).await.json();
    assert_eq!(expanded["spec"], spec["spec"]);
    let later = json!({"name": "a"});
    caller
        .expect(&[
            // No agent is in this guest.
            (
                "GET virtualmachineinstances/machine/guestosinfo",
                Value::Null,
                409,
            ),
            (
                "GET virtualmachineinstances/machine/userlist",
                Value::Null,
                409,
            ),
            (
                "GET virtualmachineinstances/machine/filesystemlist",
                Value::Null,
                409,
            ),
            ("PUT virtualmachineinstances/machine/freeze", json!({}), 409),
            (
                "PUT virtualmachineinstances/machine/unfreeze",
                json!({}),
                409,
            ),
            ("PUT virtualmachines/machine/migrate", json!({}), 501),
            ("PUT virtualmachines/machine/addvolume", later.clone(), 501),
            (
                "PUT virtualmachines/machine/removevolume",
                later.clone(),
                501,
            ),
            (
                "PUT virtualmachineinstances/machine/addvolume",
                later.clone(),
                501,
            ),
            (
                "PUT virtualmachineinstances/machine/removevolume",
                later,
                501,
            ),
            // No WebSocket.
            (
                "GET virtualmachineinstances/machine/console",
                Value::Null,
                400,
            ),
            (
                "PUT virtualmachineinstances/machine/vnc/screenshot",
                json!({}),
                405,
            ),
            (
                "GET virtualmachineinstances/machine/pause",
                Value::Null,
                405,
            ),
        ])
        .await;
}

/// Consoles and screens: their subprotocol, and who gives way to whom.
async fn streams_are_shared(caller: &Caller<'_>) {
    let console = "virtualmachineinstances/machine/console";
    caller
        .refused(console, &["base64.channel.k8s.io"], 400)
        .await;
    let plain = caller.open(console, &[]).await.expect("none is offered");
    assert_eq!(plain.protocol, None);
    let mut first = caller
        .open(console, &["other", PLAIN])
        .await
        .expect("ours is offered");
    assert_eq!(first.protocol.as_deref(), Some(PLAIN));
    assert_eq!(plain.closed().await, Some(1000));
    first.send(b"\necho be\"\"gun\n").await;
    first.expect("begun\r\n").await;
    let mut second = caller.stream(console).await;
    assert_eq!(first.closed().await, Some(1000));
    second.send(b"echo sec\"\"ond\n").await;
    second.expect("second\r\n").await;
    second.close().await;

    let vnc = "virtualmachineinstances/machine/vnc";
    let mut first = caller.stream(vnc).await;
    first.expect("RFB 003.008\n").await;
    let preserve = format!("{vnc}?preserveSession=true");
    caller.refused(&preserve, &[PLAIN], 503).await;
    let mut second = caller.stream(vnc).await;
    second.expect("RFB 003.008\n").await;
    assert_eq!(first.closed().await, Some(1000));
    second.close().await;
    // Nobody is in the way now, but the other end needs a moment to notice.
    let mut third = eventually("the screen is free", async || {
        caller.open(&preserve, &[PLAIN]).await.ok()
    })
    .await;
    third.expect("RFB 003.008\n").await;
    third.close().await;
}

async fn ports_are_reached(caller: &Caller<'_>) {
    for path in [
        "virtualmachineinstances/machine/portforward/7",
        "virtualmachineinstances/machine/portforward/7/tcp",
        "virtualmachines/machine/portforward/7",
        "virtualmachines/machine/portforward/7/tcp",
    ] {
        let mut stream = caller.stream(path).await;
        stream.echo("there and back\n").await;
        stream.close().await;
    }
    // The guest closes after its answer.
    let mut web = caller
        .stream("virtualmachineinstances/machine/portforward/80")
        .await;
    web.send(b"GET / HTTP/1.0\r\n\r\n").await;
    web.expect("200 OK").await;
    assert_eq!(web.closed().await, Some(1000));
    for port in ["0", "65536", "http", "-1", "7/sctp"] {
        let path = format!("virtualmachineinstances/machine/portforward/{port}");
        caller.refused(&path, &[PLAIN], 400).await;
    }
}

async fn a_running_machine_obeys(caller: &Caller<'_>, machine: &Guest<'_>) {
    let older = Caller::new(machine.api, machine.namespace).version("v1alpha3");
    let paused = async |wanted: bool| {
        let state = if wanted { "paused" } else { "going on" };
        machine
            .wait_vmi(state, |vmi| (holds(vmi, "Paused") == wanted).then_some(()))
            .await;
    };
    let pause = "PUT virtualmachineinstances/machine/pause";
    let unpause = "PUT virtualmachineinstances/machine/unpause";
    caller
        .expect(&[
            (unpause, json!({}), 409),
            (pause, json!({"dryRun": ["All"]}), 202),
            (unpause, json!({}), 409),
            (pause, json!({}), 202),
            (pause, json!({}), 409),
        ])
        .await;
    paused(true).await;
    machine.printable("Paused").await;
    older.expect(&[(unpause, json!({}), 202)]).await;
    paused(false).await;
    for verb in ["reset", "softreboot"] {
        let address = machine.answers().await;
        machine.mark(&address).await;
        let call = format!("PUT virtualmachineinstances/machine/{verb}");
        caller.expect(&[(&call, json!({}), 202)]).await;
        machine.rebooted(&address).await;
    }
}

async fn a_machine_stops(caller: &Caller<'_>, machine: &Guest<'_>) {
    let uid = machine.vmi().await.expect("it runs")["metadata"]["uid"].clone();
    let restart = json!({"gracePeriodSeconds": 0});
    caller
        .expect(&[("PUT virtualmachines/machine/restart", restart, 202)])
        .await;
    machine
        .wait_vmi("another one", |vmi| {
            let another = vmi["metadata"]["uid"].is_string() && vmi["metadata"]["uid"] != uid;
            (another && vmi["status"]["phase"] == "Running").then_some(())
        })
        .await;
    let stop = json!({"gracePeriod": 0});
    caller
        .expect(&[("PUT virtualmachines/machine/stop", stop, 202)])
        .await;
    machine.printable("Stopped").await;
    machine.gone("VirtualMachineInstance").await;
    let paused = json!({"paused": true});
    caller
        .expect(&[("PUT virtualmachines/machine/start", paused, 202)])
        .await;
    machine.printable("Paused").await;
    machine.delete("VirtualMachine").await;
}
