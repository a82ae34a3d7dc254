//! A thousand instances on nodes that are only told of: what one costs does not grow with their
//! number, the controllers stay small, and no write is repeated.
//!
//! ```text
//! test ── instances ──▶ API server ◀── virt-controller ── pods, status
//!                         ▲     ◀── kube-scheduler ── binds pods to simulated nodes
//!                         └── Simulator ── as their kubelet and their virt-handler
//! ```

mod simulator;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};

use self::simulator::{SIMULATED, Simulator};
use super::guest::mini;
use super::install::Installation;
use crate::api::on_the_node;

/// How many instances there are first, and in the end.
const FEW: usize = 100;
const MANY: usize = 1000;

/// How much more an instance may cost among many, in time and in the controllers' processor time.
const GROWTH: u32 = 2;

/// What a controller may have in memory, in KiB.
const MEMORY: u64 = 64 * 1024;

/// Writes of ours until an instance is ready, without the one that its handler has.
const WRITES: usize = 5;

/// How long nothing must be written when nothing happens.
const IDLE: Duration = Duration::from_secs(20);

/// How many requests are under way at once.
const CONCURRENT: usize = 20;

pub(crate) async fn a_thousand_instances_cost_what_a_hundred_do(ferrovirt: &Installation<'_>) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("scale").await;
    for node in api.nodes().await {
        api.run_pod(namespace, on_the_node(&node, &node)).await;
    }
    let simulator = Simulator::new(api, namespace);
    simulator.make_nodes().await;
    tokio::select! {
        () = simulator.run() => panic!("a watch ended"),
        () = measure(ferrovirt, &simulator) => {}
    }
}

async fn measure(ferrovirt: &Installation<'_>, simulator: &Simulator<'_>) {
    // The first instance pays for what all have in common, such as connections.
    start(ferrovirt, simulator, 0..1).await;
    let few = start(ferrovirt, simulator, 1..FEW).await;
    let many = start(ferrovirt, simulator, FEW..MANY).await;
    let writes = writes(ferrovirt);
    // How long nothing happens is what is tried, so this is no wait for anything.
    tokio::time::sleep(IDLE).await;
    let after = self::writes(ferrovirt);
    let controllers = Controller::all(ferrovirt, simulator.namespace).await;
    println!("{MANY} instances after {IDLE:?}:");
    print(&controllers);
    let late = &after[writes.len()..];
    assert!(late.is_empty(), "written while nothing happened: {late:#?}");
    let instances = by_instance(&writes, simulator.namespace);
    let mut kinds = BTreeMap::<&[String], usize>::new();
    for writes in instances.values() {
        *kinds.entry(writes).or_default() += 1;
    }
    for (writes, count) in kinds {
        println!("  {count} instances took {}: {writes:?}", writes.len());
    }
    assert_eq!(instances.len(), MANY, "each was written about");
    for (name, writes) in &instances {
        assert!(writes.len() <= WRITES, "{name}: {writes:?}");
    }
    for controller in controllers {
        assert!(controller.peak < MEMORY, "{controller}");
    }
    assert!(many.time <= few.time * GROWTH, "{few:?}, {many:?}");
    assert!(
        many.processor <= few.processor * GROWTH,
        "{few:?}, {many:?}"
    );
    remove(simulator).await;
    print(&Controller::all(ferrovirt, simulator.namespace).await);
}

/// What one instance cost, of several.
#[derive(Debug)]
struct Cost {
    /// From the first request until all were ready, divided among them.
    time: Duration,
    /// The controllers' processor time.
    processor: Duration,
}

/// Makes instances, and waits until all that there are run and are ready.
async fn start(
    ferrovirt: &Installation<'_>,
    simulator: &Simulator<'_>,
    range: Range<usize>,
) -> Cost {
    let (api, namespace) = (simulator.api, simulator.namespace);
    let before = Controller::all(ferrovirt, namespace).await;
    let begun = Instant::now();
    stream::iter(range.clone())
        .for_each_concurrent(CONCURRENT, async |number| {
            let mut spec = mini();
            spec["nodeSelector"] = json!({SIMULATED: "true"});
            let instance = json!({
                "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
                "metadata": {"name": name(number), "namespace": namespace},
                "spec": spec,
            });
            api.apply(instance).await;
        })
        .await;
    simulator.wait(range.end).await;
    let elapsed = begun.elapsed();
    let after = Controller::all(ferrovirt, namespace).await;
    let count = u32::try_from(range.len()).expect("they are few");
    let processor = |all: &[Controller]| all.iter().map(|one| one.processor).sum::<Duration>();
    let cost = Cost {
        time: elapsed / count,
        processor: (processor(&after) - processor(&before)) / count,
    };
    println!("{range:?}: {elapsed:?}; each {cost:?}");
    print(&after);
    cost
}

/// Deletes all instances, and waits until they and their pods are gone.
async fn remove(simulator: &Simulator<'_>) {
    let begun = Instant::now();
    let (api, namespace) = (simulator.api, simulator.namespace);
    stream::iter(0..MANY)
        .for_each_concurrent(CONCURRENT, async |number| {
            let (version, kind) = ("kubevirt.io/v1", "VirtualMachineInstance");
            api.delete(version, kind, Some(namespace), &name(number))
                .await;
        })
        .await;
    simulator.wait(0).await;
    println!("{MANY} instances are gone after {:?}", begun.elapsed());
}

fn print(controllers: &[Controller]) {
    for controller in controllers {
        println!("  {controller}");
    }
}

fn name(number: usize) -> String {
    format!("scale-{number}")
}

/// A process of virt-controller; sizes in KiB.
struct Controller {
    /// The most that it ever had in memory.
    peak: u64,
    resident: u64,
    /// Of that, what no file has: heap and stacks.
    anonymous: u64,
    processor: Duration,
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            peak,
            resident,
            anonymous,
            processor,
        } = self;
        write!(
            f,
            "virt-controller: {resident} KiB, of it {anonymous} anonymous, {peak} at most; {processor:?}"
        )
    }
}

impl Controller {
    /// The processes of virt-controller on the nodes.
    async fn all(ferrovirt: &Installation<'_>, namespace: &str) -> Vec<Self> {
        /// One line for each process: proc_pid_status(5) and proc_pid_stat(5) have the numbers in
        /// this order.
        const SCRIPT: &str = "for process in $(pidof virt-controller); do
            echo $(awk '/^(VmHWM|VmRSS|RssAnon):/ {print $2}' /proc/$process/status) \
                $(cut -d' ' -f14,15 /proc/$process/stat)
        done";
        /// Ticks are hundredths of a second (`getconf CLK_TCK`).
        const TICK: Duration = Duration::from_millis(10);
        let mut all = vec![];
        for node in ferrovirt.api.nodes().await {
            if node.starts_with(SIMULATED) {
                continue;
            }
            let output = ferrovirt.api.shell(namespace, &node, SCRIPT).await;
            all.extend(output.lines().map(|line| {
                let numbers = line.split(' ').map(|number| number.parse::<u32>());
                let numbers: Result<Vec<_>, _> = numbers.collect();
                let numbers = numbers.unwrap_or_else(|error| panic!("{line}: {error}"));
                let [peak, resident, anonymous, user, system] = numbers[..] else {
                    panic!("{line}: not five numbers");
                };
                Self {
                    peak: peak.into(),
                    resident: resident.into(),
                    anonymous: anonymous.into(),
                    processor: TICK * (user + system),
                }
            }));
        }
        assert!(!all.is_empty(), "no virt-controller runs");
        all
    }
}

/// Our writes, as the API server's audit log has them; without Events, Leases, and the heartbeats
/// that handlers write to their nodes.
fn writes(ferrovirt: &Installation<'_>) -> Vec<Value> {
    let writes = ferrovirt.cluster.audit(|entry| {
        let user = entry["user"]["username"].as_str().unwrap_or_default();
        let resource = entry["objectRef"]["resource"].as_str().unwrap_or_default();
        user.starts_with("system:serviceaccount:ferrovirt:")
            && !["events", "leases", "nodes"].contains(&resource)
    });
    writes.expect("the cluster is our own")
}

/// What was written about each instance.
fn by_instance(writes: &[Value], namespace: &str) -> BTreeMap<String, Vec<String>> {
    let mut instances = BTreeMap::<String, Vec<String>>::new();
    let in_it = |entry: &&Value| entry["objectRef"]["namespace"] == namespace;
    for entry in writes.iter().filter(in_it) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &entry["objectRef"];
        let about = text(&object["name"]);
        let launcher = about.strip_prefix("virt-launcher-");
        let instance = launcher.and_then(|pod| Some(pod.rsplit_once('-')?.0));
        let write = format!(
            "{} {} {} {}",
            text(&entry["verb"]),
            text(&object["resource"]),
            text(&object["subresource"]),
            entry["responseStatus"]["code"],
        );
        let instance = instance.unwrap_or(&about).to_owned();
        instances.entry(instance).or_default().push(write);
    }
    instances
}
