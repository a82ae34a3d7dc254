//! What the test cluster costs, and an ordinary pod's way to Ready on it: the base line for VMs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::network::run;
use crate::report::{Budget, Compared, Median, Row, Section};

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
        let cluster = Cluster::start(&["cluster/images"]);
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

/// From an instance's creation to Running, against a pod's to Ready, in turns on one cluster; and what
/// the controller and the handler take meanwhile.
pub(crate) fn machines(rounds: usize) -> Section {
    let cluster = Cluster::start(&["cluster/images", "images", "ferrovirt"]);
    cluster.install();
    let (mut instances, mut pods) = (vec![], vec![]);
    // The first of each pulls its images.
    cluster.instance("first");
    cluster.pod("first");
    for round in 0..rounds {
        eprintln!("machines: {} of {rounds}", round + 1);
        instances.push(cluster.instance(&format!("vmi-{round}")));
        let pod = format!("pod-{round}");
        pods.push(cluster.pod(&pod));
        cluster.shell(&format!("KUBECTL delete pod {pod} --now --wait"));
    }
    let beside = Compared {
        how: "difference",
        unit: "s",
        value: Median::of_differences(&instances, &pods),
    };
    let resident = |program| Row {
        what: format!("resident memory of {program}"),
        unit: "MiB",
        ours: Median::of([cluster.resident(program)]),
        peer: None,
        compared: None,
        budget: None,
    };
    Section {
        title: "Machines in the test cluster",
        command: "cargo bench -p e2e --bench promises -- machines",
        rows: vec![
            Row {
                what: "an instance, creation to Running".into(),
                unit: "s",
                ours: Median::of(instances),
                peer: Some(("a pod, to Ready", Median::of(pods))),
                compared: Some(beside),
                budget: Some(Budget::AtMost(2.0)),
            },
            resident("virt-controller"),
            resident("virt-handler"),
        ],
        notes: include_str!("notes/machines.md"),
    }
}

/// The `mini` guest, out of its container image.
const INSTANCE: &str = "apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 0
  domain:
    memory: {guest: 128Mi}
    devices: {disks: [{name: root, disk: {bus: virtio}}]}
  volumes: [{name: root, containerDisk: {image: 'localhost/ferrovirt/mini:devel'}}]";

/// The nodes have no KVM that works.
const SETTINGS: &str = "apiVersion: kubevirt.io/v1
kind: KubeVirt
metadata: {name: kubevirt, namespace: ferrovirt}
spec: {configuration: {developerConfiguration: {useEmulation: true}}}";

/// Ends with its owner.
struct Cluster {
    program: PathBuf,
}

impl Cluster {
    fn start(layouts: &[&str]) -> Self {
        let output = e2e::repository().join("e2e/out");
        let cluster = Self {
            program: output.join("cluster/bin/cluster"),
        };
        let owner = std::process::id().to_string();
        let mut up = cluster.command("up");
        up.args(["--owner", &owner]);
        for layout in layouts {
            up.arg("--images").arg(output.join(layout));
        }
        run(&mut up);
        cluster
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args([verb, "--name", NAME]);
        command
    }

    /// Creates a pod; seconds until it is Ready.
    fn pod(&self, name: &str) -> f64 {
        let create =
            format!("KUBECTL run {name} --quiet --image=busybox --restart=Never -- sleep 1000");
        self.until(&create, &format!("--for=condition=Ready pod/{name}"))
    }

    /// Creates an instance; seconds until it is Running. Deletes it.
    fn instance(&self, name: &str) -> f64 {
        let object = INSTANCE.replace("NAME", name);
        let create = format!("KUBECTL create -f - <<'END'\n{object}\nEND\n");
        let running = format!("--for=jsonpath='{{.status.phase}}'=Running vmi/{name}");
        let seconds = self.until(&create, &running);
        self.shell(&format!("KUBECTL delete vmi {name} --wait"));
        seconds
    }

    /// Seconds that it takes to create something and to wait for it.
    fn until(&self, create: &str, wait: &str) -> f64 {
        let started = Instant::now();
        self.shell(&format!(
            "set -e\n{create}\nKUBECTL wait --timeout=60s {wait}"
        ));
        started.elapsed().as_secs_f64()
    }

    /// Installs Ferrovirt, and waits until it is ready.
    fn install(&self) {
        let deploy = e2e::repository().join("deploy");
        self.shell(&format!(
            "set -e
             KUBECTL apply -k {}
             KUBECTL rollout status -n ferrovirt --timeout=120s deployment/virt-controller daemonset/virt-handler
             until KUBECTL apply -f - <<'END'\n{SETTINGS}\nEND\ndo sleep 0.5; done",
            deploy.display()
        ));
    }

    fn shell(&self, script: &str) {
        let kubectl = self.program.with_file_name("kubectl");
        let script = script.replace("KUBECTL", &kubectl.display().to_string());
        run(self.command("exec").args(["sh", "-c", &script]));
    }

    /// The most that a process of that name has resident, in MiB.
    fn resident(&self, program: &str) -> f64 {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let sizes = processes.filter_map(|process| {
            let read = |file| fs::read_to_string(process.path().join(file)).unwrap_or_default();
            let status = read("status");
            let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
            let size = field("VmRSS:")?.split_whitespace().next()?;
            (field("Name:")?.trim() == program).then(|| size.parse::<f64>().ok())?
        });
        sizes.fold(0.0, f64::max) / 1024.0
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
