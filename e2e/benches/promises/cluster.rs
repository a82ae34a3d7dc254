//! What the test cluster costs, and an ordinary pod's way to Ready on it: the base line for VMs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::network::run;
use crate::report::{Median, Row, Section};

/// Apart from any other cluster on the machine.
const NAME: &str = "bench";
/// Pods in each of the clusters.
const PODS: usize = 4;

/// Starts a cluster of one node in each round, and pods on it one after the other.
pub(crate) fn measure(rounds: usize) -> Section {
    let (mut starts, mut memory, mut pods) = (vec![], vec![], vec![]);
    for round in 0..rounds {
        eprintln!("cluster: {} of {rounds}", round + 1);
        let started = Instant::now();
        let cluster = Cluster::start();
        starts.push(started.elapsed().as_secs_f64());
        for number in 0..PODS {
            pods.push(cluster.pod(&format!("pod-{number}")));
        }
        memory.push(cluster.memory());
    }
    let row = |what: String, unit, values: Vec<f64>| Row {
        what,
        unit,
        ours: Median::of(values),
        peer: None,
        compared: None,
        budget: None,
    };
    Section {
        title: "The test cluster",
        command: "cargo bench -p e2e --bench promises -- cluster",
        rows: vec![
            row("start to a node that is Ready".into(), "s", starts),
            row(
                format!("PSS of all its processes, with {PODS} pods"),
                "MiB",
                memory,
            ),
            row("an ordinary pod, creation to Ready".into(), "s", pods),
        ],
        notes: include_str!("notes/cluster.md"),
    }
}

/// Ends with its owner.
struct Cluster {
    program: PathBuf,
}

impl Cluster {
    fn start() -> Self {
        let output = e2e::repository().join("e2e/out");
        let cluster = Self {
            program: output.join("cluster/bin/cluster"),
        };
        let owner = std::process::id().to_string();
        let mut up = cluster.command("up");
        up.args(["--owner", &owner, "--images"]);
        run(up.arg(output.join("cluster/images")));
        cluster
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args([verb, "--name", NAME]);
        command
    }

    /// Creates a pod; seconds until it is Ready.
    fn pod(&self, name: &str) -> f64 {
        let kubectl = self.program.with_file_name("kubectl");
        let script = format!(
            "{0} run {name} --quiet --image=busybox --restart=Never -- sleep 1000 &&
             {0} wait --for=condition=Ready --timeout=60s pod/{name}",
            kubectl.display()
        );
        let started = Instant::now();
        run(self.command("exec").args(["sh", "-c", &script]));
        started.elapsed().as_secs_f64()
    }

    /// In MiB. A process that ends meanwhile counts nothing.
    fn memory(&self) -> f64 {
        let directory = e2e::repository()
            .join("e2e/out/cluster/clusters")
            .join(NAME);
        let keeper = fs::read_to_string(directory.join("keeper.pid")).expect("it runs");
        let mut pids = vec![keeper.trim().to_owned()];
        let mut kib = 0.0;
        while let Some(pid) = pids.pop() {
            let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let rollup = read("smaps_rollup");
            let pss = rollup.lines().find_map(|line| {
                let value = line.strip_prefix("Pss:")?.split_whitespace().next()?;
                value.parse::<f64>().ok()
            });
            kib += pss.unwrap_or_default();
            let tasks = fs::read_dir(format!("/proc/{pid}/task"));
            for task in tasks.into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children"));
                pids.extend(
                    children
                        .unwrap_or_default()
                        .split_whitespace()
                        .map(str::to_owned),
                );
            }
        }
        kib / 1024.0
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        run(&mut self.command("down"));
    }
}
