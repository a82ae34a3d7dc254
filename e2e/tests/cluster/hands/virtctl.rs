//! Each verb by our virtctl, as a user types it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::api::{Api, LIMIT, eventually};
use crate::vms::Installation;
use crate::vms::guest::{Guest, holds, mini};

/// `virtctl`, in one namespace.
pub(super) struct Virtctl<'a> {
    program: PathBuf,
    kubeconfig: &'a Path,
    namespace: &'a str,
    /// Where it runs.
    pub(super) directory: PathBuf,
}

impl<'a> Virtctl<'a> {
    pub(super) fn new(ferrovirt: &Installation<'a>, namespace: &'a str, directory: &Path) -> Self {
        Self::other(e2e::program("virtctl"), ferrovirt, namespace, directory)
    }

    /// Another program that takes the same commands.
    pub(super) fn other(
        program: PathBuf,
        ferrovirt: &Installation<'a>,
        namespace: &'a str,
        directory: &Path,
    ) -> Self {
        Self {
            program,
            kubeconfig: ferrovirt.cluster.kubeconfig(),
            namespace,
            directory: directory.to_owned(),
        }
    }

    /// A command line, its arguments apart by blanks. It runs in the cluster's network, as this thread
    /// does, and ends with its owner.
    pub(super) fn command(&self, line: &str) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command
            .args(line.split_whitespace())
            .args(["--namespace", self.namespace])
            .env("KUBECONFIG", self.kubeconfig)
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        command
    }

    /// How a command ended.
    pub(super) async fn output(&self, line: &str) -> Output {
        let mut command = Command::from(self.command(line));
        let output = timeout(LIMIT, command.kill_on_drop(true).output()).await;
        let output = output.unwrap_or_else(|_| panic!("virtctl {line}: still runs"));
        output.expect("virtctl starts")
    }

    /// What a command prints.
    pub(super) async fn run(&self, line: &str) -> String {
        let output = self.output(line).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "virtctl {line}: {errors}");
        String::from_utf8(output.stdout).expect("virtctl prints text")
    }

    /// What a command prints as JSON.
    pub(super) async fn json(&self, line: &str) -> Value {
        let printed = self.run(&format!("{line} -o json")).await;
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{line}: {error}: {printed}"))
    }

    /// What a command fails with.
    pub(super) async fn errors(&self, line: &str) -> String {
        let output = self.output(line).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "virtctl {line}: {errors}");
        errors
    }

    /// The one line that a command fails with.
    async fn fails(&self, line: &str) -> String {
        let errors = self.errors(line).await;
        assert_eq!(errors.lines().count(), 1, "virtctl {line}: {errors}");
        errors
    }

    /// A command that goes on until it is dropped.
    pub(super) fn spawn(&self, line: &str) -> Child {
        let mut command = Command::from(self.command(line));
        let child = command.kill_on_drop(true).spawn();
        child.expect("virtctl starts")
    }
}

pub(crate) async fn each_verb_answers_virtctl(ferrovirt: &Installation<'_>) {
    let api = ferrovirt.api;
    let namespace = &api.namespace("virtctl").await;
    let work = tempfile::tempdir().expect("there is a place for files");
    let virtctl = &Virtctl::new(ferrovirt, namespace, work.path());
    tokio::join!(
        a_machine_is_made(ferrovirt, virtctl),
        a_machine_is_driven(api, namespace, virtctl),
    );
}

/// `create`'s manifest is accepted as it is.
async fn a_machine_is_made(ferrovirt: &Installation<'_>, virtctl: &Virtctl<'_>) {
    let manifest = virtctl
        .run(
            "create vm --name made --run-strategy Halted --memory 128Mi
             --volume-containerdisk src:localhost/ferrovirt/mini:devel",
        )
        .await;
    let file = virtctl.directory.join("made.yaml");
    std::fs::write(&file, manifest).expect("there is room");
    let file = file.display().to_string();
    ferrovirt.kubectl(&["apply", "-n", virtctl.namespace, "-f", &file]);
    let made = Guest {
        api: ferrovirt.api,
        namespace: virtctl.namespace,
        name: "made",
    };
    made.printable("Stopped").await;
    let expanded = virtctl.json("expand --vm made").await;
    assert_eq!(expanded["metadata"]["name"], "made");
    let error = virtctl.fails("stop made").await;
    assert!(error.contains("VM is not running"), "{error}");
    let error = virtctl.fails("console made").await;
    assert!(error.contains("made"), "{error}");
    made.delete("VirtualMachine").await;
    let error = virtctl.fails("start made").await;
    assert!(error.contains("not found"), "{error}");
    let version = virtctl.run("version").await;
    assert!(version.lines().count() >= 2, "client and server: {version}");
}

/// What a viewer reads first is the screen's own greeting (RFC 6143, section 7.1.1).
pub(super) async fn a_viewer_is_served(virtctl: &Virtctl<'_>) {
    let mut proxy = Command::from(virtctl.command("vnc driven --proxy-only"))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("virtctl starts");
    let greeting = async {
        let mut told = String::new();
        let stdout = proxy.stdout.take().expect("it is a pipe");
        BufReader::new(stdout).read_line(&mut told).await?;
        let told: Value = serde_json::from_str(&told)?;
        let port = told["port"].as_u64().and_then(|port| port.try_into().ok());
        let mut viewer = TcpStream::connect(("127.0.0.1", port.unwrap_or(0))).await?;
        let mut greeting = [0; 12];
        viewer.read_exact(&mut greeting).await.map(|_| greeting)
    };
    let greeting = timeout(LIMIT, greeting).await;
    let greeting = greeting.expect("virtctl vnc: it serves in time");
    assert_eq!(&greeting.expect("virtctl vnc serves"), b"RFB 003.008\n");
}

async fn a_machine_is_driven(api: &Api, namespace: &str, virtctl: &Virtctl<'_>) {
    let guest = Guest::machine(api, namespace, "driven", "Manual", mini()).await;
    guest.printable("Stopped").await;
    virtctl.run("start driven").await;
    let address = guest.answers().await;
    let error = virtctl.fails("start driven").await;
    assert!(error.contains("already running"), "{error}");

    let shot = virtctl.directory.join("driven.png");
    virtctl.run("screenshot driven --file driven.png").await;
    let shot = std::fs::read(shot).expect("it is written");
    assert!(shot.starts_with(b"\x89PNG\r\n"));
    a_viewer_is_served(virtctl).await;
    for question in ["guestosinfo", "userlist", "fslist"] {
        let error = virtctl.fails(&format!("{question} driven")).await;
        assert!(error.contains("agent"), "{error}");
    }

    a_guest_is_held_and_rebooted(virtctl, &guest, &address).await;

    virtctl
        .run("expose vm driven --name web --port 8080 --target-port 80")
        .await;
    let service = api.get("v1", "Service", Some(namespace), "web").await;
    let service = service.expect("expose makes a Service");
    assert_eq!(service.data["spec"]["ports"][0]["port"], 8080);
    assert_eq!(service.data["spec"]["ports"][0]["targetPort"], 80);
    eventually("the Service leads to the guest", async || {
        let slices = api.dynamic("v1", "Endpoints", Some(namespace));
        let ends = slices.get("web").await.ok()?;
        let ends = ends.data["subsets"].to_string();
        ends.contains(&address).then_some(())
    })
    .await;

    an_instance_is_replaced(virtctl, &guest).await;
    a_deaf_guest_is_given_more_time(virtctl, &guest).await;
    guest
        .wait_vm("asked no more", |vm| {
            let requests = vm["status"]["stateChangeRequests"].as_array();
            requests.is_none_or(Vec::is_empty).then_some(())
        })
        .await;
    virtctl.run("start driven --paused").await;
    guest
        .wait_vmi("paused", |vmi| holds(vmi, "Paused").then_some(()))
        .await;
    virtctl.run("unpause vm driven").await;
    a_guest_that_hears_is_told_at_once(virtctl, &guest).await;
    guest.delete("VirtualMachine").await;
}

/// Paused and resumed, then rebooted in both ways.
pub(super) async fn a_guest_is_held_and_rebooted(
    virtctl: &Virtctl<'_>,
    guest: &Guest<'_>,
    address: &str,
) {
    virtctl.run("pause vm driven").await;
    guest.printable("Paused").await;
    virtctl.run("unpause vm driven").await;
    guest.printable("Running").await;
    for verb in ["reset", "soft-reboot"] {
        guest.mark(address).await;
        virtctl.run(&format!("{verb} driven")).await;
        guest.rebooted(address).await;
    }
}

pub(super) async fn an_instance_is_replaced(virtctl: &Virtctl<'_>, guest: &Guest<'_>) {
    let uid = guest.vmi().await.expect("it runs")["metadata"]["uid"].clone();
    virtctl.run("restart driven --force --grace-period 0").await;
    guest
        .wait_vmi("another one", |vmi| {
            let another = vmi["metadata"]["uid"].is_string() && vmi["metadata"]["uid"] != uid;
            (another && vmi["status"]["phase"] == "Running").then_some(())
        })
        .await;
}

/// Its pod is deleted almost an hour later: a guest that heard of the stop only then would not be gone
/// within the time that anything here is waited for.
async fn a_guest_that_hears_is_told_at_once(virtctl: &Virtctl<'_>, guest: &Guest<'_>) {
    let address = guest.answers().await;
    guest.rebooted(&address).await;
    virtctl.run("stop driven --grace-period 3600").await;
    guest.printable("Stopped").await;
}

/// More than its instance's grace period, which it would use up.
async fn a_deaf_guest_is_given_more_time(virtctl: &Virtctl<'_>, guest: &Guest<'_>) {
    let address = guest.answers().await;
    let stopped = "grep ^State /proc/$(pidof acpid)/status";
    eventually("nobody in the guest hears its power button", async || {
        guest.ask(&address, "kill -STOP $(pidof acpid)").await?;
        let state = guest.ask(&address, stopped).await?;
        state.contains("(stopped)").then_some(())
    })
    .await;
    let asked = Instant::now();
    virtctl.run("stop driven --grace-period 25").await;
    guest.printable("Stopped").await;
    let took = asked.elapsed();
    assert!(took >= Duration::from_secs(25), "it had {took:?}");
}
