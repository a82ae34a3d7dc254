//! The cluster that a test runs on.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use e2e::repository;
use kube_client::config::{Config, KubeConfigOptions, Kubeconfig};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::api::Api;
use crate::machine::{Lives, Machine};

/// How long it may take until nothing is left: the kernel ends the processes of a namespace, and the
/// machine's init reaps the keeper.
const CLEAN: Duration = Duration::from_secs(120);

/// A cluster of our own, or the one that `KUBECONFIG` names. Dropping it stops it where it is ours.
pub(crate) struct Cluster {
    kubeconfig: PathBuf,
    own: Option<Own>,
}

/// A cluster that `e2e/cluster` made.
struct Own {
    name: String,
    directory: PathBuf,
    before: Machine,
    turn: Turn,
}

/// A test's place beside others that make clusters: links and loop devices are the whole machine's, so
/// whoever looks for those that are left is alone on it.
enum Turn {
    Alone {
        _turn: RwLockWriteGuard<'static, ()>,
    },
    Beside {
        _turn: RwLockReadGuard<'static, ()>,
    },
}

static TURNS: RwLock<()> = RwLock::new(());

impl Turn {
    fn alone() -> Self {
        // A test that failed has left its mark in its own result.
        let turn = TURNS.write().unwrap_or_else(PoisonError::into_inner);
        Self::Alone { _turn: turn }
    }

    fn beside() -> Self {
        let turn = TURNS.read().unwrap_or_else(PoisonError::into_inner);
        Self::Beside { _turn: turn }
    }

    /// Whether something that has come to the machine is this cluster's for sure.
    fn answers_for(&self, thing: &str) -> bool {
        let machines = ["link ", "loop device "];
        matches!(self, Self::Alone { .. }) || !machines.iter().any(|kind| thing.starts_with(kind))
    }
}

impl Cluster {
    /// The cluster of `KUBECONFIG`; where that is not set, a new one.
    pub(crate) fn start(name: &str, nodes: u8) -> Self {
        Self::start_on("bridge", name, nodes, Turn::beside)
    }

    /// The same; a new one is the only one, so that its end can be looked at more closely.
    pub(crate) fn start_alone(name: &str, nodes: u8) -> Self {
        Self::start_on("bridge", name, nodes, Turn::alone)
    }

    /// The same as `start`, with the pod network that is named where it is a new one.
    pub(crate) fn start_with(network: &str, name: &str, nodes: u8) -> Self {
        Self::start_on(network, name, nodes, Turn::beside)
    }

    fn start_on(network: &str, name: &str, nodes: u8, turn: fn() -> Turn) -> Self {
        match std::env::var_os("KUBECONFIG") {
            Some(kubeconfig) => Self {
                kubeconfig: kubeconfig.into(),
                own: None,
            },
            None => Self::make(network, name, nodes, turn()),
        }
    }

    /// A new cluster, for what is to be done to none but our own; none where `KUBECONFIG` is set.
    pub(crate) fn start_own(name: &str, nodes: u8) -> Option<Self> {
        match std::env::var_os("KUBECONFIG") {
            Some(_) => {
                eprintln!("skipped: KUBECONFIG names a cluster that is not the test's");
                None
            }
            None => Some(Self::make("bridge", name, nodes, Turn::alone())),
        }
    }

    fn make(network: &str, name: &str, nodes: u8, turn: Turn) -> Self {
        // Two runs at a time do not meet.
        let name = format!("{name}-{}", std::process::id());
        let directory = output().join("cluster/clusters").join(&name);
        let own = Own {
            before: Machine::now(&directory, &name),
            directory,
            name,
            turn,
        };
        let images = ["cluster/images", "images", "ferrovirt"].map(|layout| output().join(layout));
        let mut up = own.command("up");
        up.args(["--nodes", &nodes.to_string(), "--cni", network]);
        // A test run that is killed stops nothing itself.
        up.args(["--owner", &std::process::id().to_string()]);
        for layout in images {
            up.arg("--images").arg(layout);
        }
        run(&mut up);
        let kubeconfig = own.directory.join("kubeconfig");
        Self {
            kubeconfig,
            own: Some(own),
        }
    }

    /// Runs a test in the cluster's network. Where it fails, what the cluster knows is kept.
    pub(crate) fn run(&self, test: impl AsyncFnOnce(&Api) + Send) {
        let thread = || {
            // Before any thread of the runtime, so that all of them are there.
            if let Some(own) = &self.own {
                let namespace = format!("/proc/{}/ns/net", own.pid("control"));
                let namespace = File::open(namespace).expect("the cluster runs");
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("its network can be entered");
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(async {
                let api = Api::new(config(&self.kubeconfig).await);
                test(&api).await;
            });
        };
        let result = std::thread::scope(|scope| scope.spawn(thread).join());
        if let Err(panic) = result {
            self.keep_artefacts();
            resume_unwind(panic);
        }
    }

    /// The file by which clients find it.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The directory of its certificates and keys; none where the cluster is another's.
    pub(crate) fn pki(&self) -> Option<PathBuf> {
        Some(self.own.as_ref()?.directory.join("pki"))
    }

    /// `cluster node ACTION NODE`; false where the cluster is another's.
    pub(crate) fn node(&self, action: &str, node: &str) -> bool {
        let Some(own) = &self.own else { return false };
        run(own.command("node").args([action, node]));
        true
    }

    /// Kills a component of the control plane, where the cluster is ours and it runs.
    pub(crate) fn kill_component(&self, name: &str) {
        let Some(own) = &self.own else { return };
        let network = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let ours = network(own.pid("control"));
        for pid in crate::machine::pids() {
            let program = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let program = program.split(|&byte| byte == 0).next().unwrap_or_default();
            let program = Path::new(std::str::from_utf8(program).unwrap_or_default());
            if program.file_name().is_some_and(|file| file == name) && network(pid) == ours {
                let pid = i32::try_from(pid).expect("a pid is an i32");
                // It may have ended since.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// The entries of the API server's audit log; none where the cluster is another's.
    pub(crate) fn audit(&self, wanted: impl Fn(&Value) -> bool) -> Option<Vec<Value>> {
        let log = self.own.as_ref()?.directory.join("log/audit.log");
        let log = fs::read_to_string(log).expect("the API server keeps an audit log");
        let entries = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        Some(entries.filter(wanted).collect())
    }

    /// Logs, events and pods, for whoever looks into a failure.
    fn keep_artefacts(&self) {
        let name = self.own.as_ref().map_or("other", |own| &own.name);
        let to = output().join("failed").join(name);
        let _ = fs::remove_dir_all(&to);
        if fs::create_dir_all(&to).is_err() {
            return;
        }
        if let Some(own) = &self.own {
            let log = own.directory.join("log");
            let _ = Command::new("cp").arg("-r").arg(log).arg(&to).status();
        }
        for (file, what) in [
            ("events.txt", "events"),
            ("pods.yaml", "pods"),
            ("nodes.yaml", "nodes"),
        ] {
            let Ok(file) = File::create(to.join(file)) else {
                continue;
            };
            let format = if what == "events" { "wide" } else { "yaml" };
            let mut kubectl = self.kubectl();
            kubectl.args(["get", what, "--all-namespaces", "-o", format]);
            let _ = kubectl.stdout(file).status();
        }
        self.keep_machines(&to);
        eprintln!(
            "the cluster's logs, events and pods are in {}",
            to.display()
        );
    }

    /// What launchers and their guests have printed.
    fn keep_machines(&self, to: &Path) {
        let columns = "custom-columns=:metadata.namespace,:metadata.name";
        let mut list = self.kubectl();
        list.args(["get", "pods", "-A", "-l", "kubevirt.io=virt-launcher"]);
        let Ok(pods) = list.args(["--no-headers", "-o", columns]).output() else {
            return;
        };
        for pod in String::from_utf8_lossy(&pods.stdout).lines() {
            let Some((namespace, name)) = pod.trim().split_once(char::is_whitespace) else {
                continue;
            };
            let name = name.trim();
            if let Ok(file) = File::create(to.join(format!("{namespace}.{name}.log"))) {
                let mut logs = self.kubectl();
                logs.args([
                    "logs",
                    "-n",
                    namespace,
                    name,
                    "--all-containers",
                    "--prefix",
                ]);
                let _ = logs.stdout(file).status();
            }
        }
    }

    /// kubectl, in its network.
    pub(crate) fn kubectl(&self) -> Command {
        let mut kubectl = match &self.own {
            Some(own) => {
                let mut inside = own.command("exec");
                inside.arg(kubectl());
                inside
            }
            None => Command::new(kubectl()),
        };
        kubectl.arg("--kubeconfig").arg(&self.kubeconfig);
        kubectl
    }

    /// Stops the cluster; fails where anything of it is left.
    pub(crate) fn stop(mut self) {
        if let Some(own) = self.own.take() {
            let lives = own.lives();
            run(&mut own.command("down"));
            own.assert_clean(&lives);
        }
    }

    /// Kills one of the two processes that clean up; fails where anything is left a moment later.
    pub(crate) fn kill(mut self, part: &str) {
        if let Some(own) = self.own.take() {
            let lives = own.lives();
            let pid = i32::try_from(own.pid(part)).expect("a pid is an i32");
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the cluster runs");
            own.assert_clean(&lives);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            let _ = catch_unwind(AssertUnwindSafe(|| run(&mut own.command("down"))));
        }
    }
}

impl Own {
    /// A command of the `cluster` program about this cluster.
    fn command(&self, command: &str) -> Command {
        let program = output().join("cluster/bin/cluster");
        assert!(
            program.exists(),
            "there is no cluster program: e2e/cluster/build"
        );
        let mut cluster = Command::new(program);
        cluster.args([command, "--name", &self.name]);
        cluster.stdin(Stdio::null());
        cluster
    }

    fn pid(&self, role: &str) -> u32 {
        let text = fs::read_to_string(self.directory.join(format!("{role}.pid")));
        let text = text.expect("the cluster runs");
        text.parse().expect("a pid is a number")
    }

    fn lives(&self) -> Lives {
        let lives = Lives::below(self.pid("keeper"));
        // Else the test could not fail: a node alone has five processes, in six namespaces.
        let (processes, namespaces) = lives.count();
        assert!(processes > 10 && namespaces > 10, "{lives:?}");
        lives
    }

    fn assert_clean(&self, lives: &Lives) {
        let until = Instant::now() + CLEAN;
        loop {
            let mut left = lives.left(matches!(self.turn, Turn::Alone { .. }));
            let new = Machine::now(&self.directory, &self.name).since(&self.before);
            left.extend(new.into_iter().filter(|thing| self.turn.answers_for(thing)));
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < until, "left behind:\n{}", left.join("\n"));
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The program kubectl, for what needs no cluster.
pub(crate) fn kubectl() -> PathBuf {
    output().join("cluster/bin/kubectl")
}

fn output() -> PathBuf {
    let output = repository().join("e2e/out");
    output.canonicalize().expect("e2e/cluster/build has run")
}

async fn config(kubeconfig: &Path) -> Config {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("the kubeconfig can be read");
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    config.expect("the kubeconfig names a cluster")
}

fn run(command: &mut Command) {
    let status = command.status().expect("the program can be started");
    assert!(status.success(), "{command:?}: {status}");
}
