//! Whatever of ours, or of Kubernetes', is killed: guests keep their connections, and what is told
//! of them is true again a moment later.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::guest::{Guest, mini};
use super::install::Installation;
use crate::api::{Api, LIMIT, eventually, on_the_node};

/// What is killed, by the names of processes on a node.
const PARTS: [&[&str]; 5] = [
    &["virt-worker"],
    &["virt-handler"],
    &["virt-controller"],
    &["kubelet"],
    &["virt-worker", "virt-handler", "virt-controller"],
];

/// A connection to a guest that must never break.
struct Line {
    stream: TcpStream,
    sent: u64,
}

impl Line {
    async fn open(address: &str) -> Self {
        let stream = TcpStream::connect((address, 7)).await;
        let stream = stream.expect("the echo server listens");
        Self { stream, sent: 0 }
    }

    /// A line goes to the guest and comes back.
    async fn check(&mut self, after: &str) {
        self.sent += 1;
        let line = format!("{}\n", self.sent);
        let mut answer = vec![0; line.len()];
        let round = async {
            self.stream.write_all(line.as_bytes()).await?;
            self.stream.read_exact(&mut answer).await
        };
        let round = tokio::time::timeout(LIMIT, round).await;
        let round = round.unwrap_or_else(|_| panic!("the guest is silent after {after}"));
        round.unwrap_or_else(|error| panic!("the connection broke after {after}: {error}"));
        assert_eq!(answer, line.as_bytes(), "after {after}");
    }
}

pub(crate) async fn a_guest_outlives_every_part_of_ours(ferrovirt: &Installation<'_>) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("crash").await;
    let nodes = &hands_on_nodes(api, namespace).await;
    let guest = Guest::machine(api, namespace, "survivor", "Always", mini()).await;
    let address = guest.answers().await;
    let uid = guest.vmi().await.expect("it runs")["metadata"]["uid"].clone();
    let mut line = Line::open(&address).await;
    line.check("nothing yet").await;

    for parts in PARTS {
        let what = parts.join(", ");
        // Something happens while nobody looks: another machine's QEMU is killed too.
        let victim = Guest::machine(api, namespace, "victim", "RerunOnFailure", mini()).await;
        let before = victim.phase("Running").await["metadata"]["uid"].clone();
        let killed = ferrovirt.containers(parts).await;
        // By one script on each node: once the kubelet is dead nobody carries another there.
        kill(api, namespace, nodes, &victim.end_of_qemu(), parts).await;
        line.check(&what).await;
        // What is ready may yet be what was killed.
        eventually("others in place of the killed", async || {
            let others = ferrovirt.containers(parts).await;
            others.is_disjoint(&killed).then_some(())
        })
        .await;
        ferrovirt.ready().await;
        let back = Instant::now();
        victim
            .wait_vmi("told to have ended", |vmi| {
                let other = vmi["metadata"]["uid"] != before;
                (other || vmi["status"]["phase"] == "Failed").then_some(())
            })
            .await;
        println!("{what}: right {:?} after its return", back.elapsed());
        victim
            .wait_vmi("another one", |vmi| {
                let another =
                    vmi["metadata"]["uid"].is_string() && vmi["metadata"]["uid"] != before;
                (another && vmi["status"]["phase"] == "Running").then_some(())
            })
            .await;
        victim.delete("VirtualMachine").await;
        line.check(&what).await;
    }

    let vmi = guest.phase("Running").await;
    assert_eq!(
        vmi["metadata"]["uid"], uid,
        "the guest is the one that it was"
    );
    assert_eq!(guest.pods().await.len(), 1);
    guest.delete("VirtualMachine").await;
}

/// The API server is away for a while; everything goes on, and is right soon after.
pub(crate) async fn a_guest_outlives_the_api_server(ferrovirt: &Installation<'_>, away: Duration) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("apiless").await;
    let guest = Guest::machine(api, namespace, "survivor", "Always", mini()).await;
    let address = guest.answers().await;
    let vmi = guest.phase("Running").await;
    let pods = guest.pods().await;
    let mut line = Line::open(&address).await;
    let until = Instant::now() + away;
    while Instant::now() < until {
        ferrovirt.cluster.kill_component("kube-apiserver");
        line.check("the API server's end").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    eventually("the API server is back", async || {
        api.get("v1", "Namespace", None, namespace).await.ok()
    })
    .await;
    guest.shell(&address, "poweroff -f").await;
    guest
        .wait_vmi("another one", |next| {
            let another = next["metadata"]["uid"] != vmi["metadata"]["uid"];
            (another && next["status"]["phase"] == "Running").then_some(())
        })
        .await;
    let after = guest.pods().await;
    assert_eq!(after.len(), 1);
    assert_ne!(after, pods);
    guest.delete("VirtualMachine").await;
}

/// Parts are killed at random moments; no connection breaks, and there is never a second pod.
pub(crate) async fn guests_outlive_random_kills(ferrovirt: &Installation<'_>, kills: u32) {
    const NAMES: [&str; 3] = ["one", "two", "three"];
    let api = ferrovirt.api;
    let namespace = &api.namespace("random").await;
    let nodes = &hands_on_nodes(api, namespace).await;
    let guests = NAMES.map(|name| Guest::machine(api, namespace, name, "Always", mini()));
    let guests = futures::future::join_all(guests).await;
    let (mut lines, mut pods) = (vec![], vec![]);
    for guest in &guests {
        lines.push(Line::open(&guest.answers().await).await);
        pods.push(guest.pods().await);
    }
    let seed = std::process::id();
    println!("seed {seed}");
    let mut random = u64::from(seed);
    for kill_number in 0..kills {
        // Knuth's MMIX.
        let mut below = |bound: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let parts = PARTS[usize::try_from(below(PARTS.len() as u64)).unwrap_or(0)];
        // When a part dies is what is tried, so this is no wait for anything.
        tokio::time::sleep(Duration::from_millis(below(2000))).await;
        kill(api, namespace, nodes, "true", parts).await;
        for ((line, guest), pods) in lines.iter_mut().zip(&guests).zip(&pods) {
            line.check(&format!("kill {kill_number} of {parts:?}"))
                .await;
            assert_eq!(
                guest.pods().await,
                *pods,
                "after kill {kill_number} of {parts:?}"
            );
        }
    }
    ferrovirt.ready().await;
    for guest in &guests {
        guest.phase("Running").await;
        guest.printable("Running").await;
        guest.delete("VirtualMachine").await;
    }
}

/// Makes a pod on each node, of the node's name, that may do there what it likes. Gives the names:
/// a node whose kubelet was killed may not be told of as ready.
async fn hands_on_nodes(api: &Api, namespace: &str) -> Vec<String> {
    let nodes = api.nodes().await;
    for node in &nodes {
        api.run_pod(namespace, on_the_node(node, node)).await;
    }
    nodes
}

/// Runs a script and then kills processes by name, on every node at once.
async fn kill(api: &Api, namespace: &str, nodes: &[String], first: &str, names: &[&str]) {
    let kills = nodes.iter().map(|node| {
        // A node may run none of them.
        let script = format!("{first}; kill -9 $(pidof {}); true", names.join(" "));
        async move {
            let carried = async || api.try_shell(namespace, node, &script).await.ok();
            if names.contains(&"kubelet") {
                // Nobody is left to carry the answer.
                carried().await;
            } else {
                // The kubelet may only just be back.
                eventually(&format!("a kill on {node}"), carried).await;
            }
        }
    });
    futures::future::join_all(kills).await;
}
