//! Every call of the launcher's protocol that acts on a guest, or asks one, against real guests:
//! Debian with its agent, and one that has none.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails"
)]

mod screen;

use std::process::Output;
use std::time::Duration;

use e2e::{BOOT, Lab, Vm, repository};
use futures::SinkExt;
use futures::channel::mpsc;
use launcher_api::launcher_client::LauncherClient;
use launcher_api::{
    ConsoleBytes, FreezeRequest, GetGuestInfoRequest, GetStatsRequest, GetStatusRequest,
    GuestExecReply, GuestExecRequest, GuestInfo, GuestPingRequest, PauseReason, PauseRequest,
    Phase, ResetRequest, SoftRebootRequest, Stats, Status, UnfreezeRequest, UnpauseRequest,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Streaming};

/// How long a call and what it causes may take, on a loaded machine that emulates the guest's CPU.
const MOMENT: Duration = Duration::from_secs(120);

/// What a shell of the mini guest prints before a command.
const PROMPT: &str = "mini# ";

/// A guest that prints ten times as often is silent after this.
const SILENCE: Duration = Duration::from_secs(2);

type Client = LauncherClient<Channel>;

type Refusal = tonic::Status;

async fn connect(vm: &Vm<'_>) -> Client {
    let until = Instant::now() + MOMENT;
    loop {
        match launcher_api::connect(&vm.runtime_dir()).await {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn status(client: &mut Client) -> Status {
    let status = client.get_status(GetStatusRequest {}).await;
    status.unwrap().into_inner()
}

fn running(status: &Status) -> bool {
    status.phase() == Phase::Running
}

/// Waits until the status is so.
async fn becomes(client: &mut Client, what: &str, check: impl Fn(&Status) -> bool) {
    let until = Instant::now() + MOMENT;
    loop {
        let status = status(client).await;
        if check(&status) {
            return;
        }
        assert!(Instant::now() < until, "not {what}: {status:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Kills the worker; returns the way to the next one.
async fn another_worker(vm: &Vm<'_>) -> Client {
    let worker = vm.processes().worker;
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    vm.worker_other_than(worker);
    let mut client = connect(vm).await;
    becomes(&mut client, "taken up", |status| {
        status.phase() != Phase::Starting
    })
    .await;
    client
}

fn code<T>(answer: Result<T, Refusal>) -> Code {
    answer.err().expect("the call is refused").code()
}

/// What the agent answers; one that is busy is asked again, as the refusal says.
async fn answered<T>(
    client: &mut Client,
    ask: impl AsyncFn(&mut Client) -> Result<tonic::Response<T>, Refusal>,
) -> Result<T, Refusal> {
    let until = Instant::now() + MOMENT;
    loop {
        match ask(client).await {
            Err(refusal) if refusal.code() == Code::Unavailable && Instant::now() < until => {}
            answer => return answer.map(tonic::Response::into_inner),
        }
    }
}

async fn exec(client: &mut Client, command: &[&str]) -> Result<GuestExecReply, Refusal> {
    let request = GuestExecRequest {
        command: command.iter().map(|&part| part.to_owned()).collect(),
        timeout_seconds: 0,
    };
    answered(client, async |client| {
        client.guest_exec(request.clone()).await
    })
    .await
}

async fn said(client: &mut Client, command: &[&str]) -> String {
    let reply = exec(client, command).await.unwrap();
    String::from_utf8(reply.stdout).unwrap().trim().to_owned()
}

async fn info(client: &mut Client) -> GuestInfo {
    let info = answered(client, async |client| {
        client.get_guest_info(GetGuestInfoRequest {}).await
    });
    info.await.unwrap()
}

async fn stats(client: &mut Client) -> Stats {
    let stats = client.get_stats(GetStatsRequest {}).await;
    stats.unwrap().into_inner()
}

/// `virt-launcher probe`, as the kubelet runs it.
fn probe(lab: &Lab, vm: &Vm<'_>, args: &[&str]) -> Output {
    let mut command = lab.launcher();
    command.args(["probe", "--timeout", "60", "--runtime-dir"]);
    command.arg(vm.runtime_dir()).args(args).output().unwrap()
}

#[tokio::test]
async fn a_guest_with_an_agent_answers() {
    let lab = Lab::new();
    let manifest = lab.manifest(
        "apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: calls}
spec:
  domain:
    devices:
      disks:
      - {name: root, disk: {bus: virtio}}
      - {name: data, disk: {bus: virtio}}
      interfaces:
      - {name: default, bridge: {}}
    memory: {guest: 512Mi}
  networks:
  - {name: default, pod: {}}
  terminationGracePeriodSeconds: 120
  volumes:
  - name: root
    containerDisk: {image: 'localhost/ferrovirt/debian:devel'}
  - name: data
    emptyDisk: {capacity: 1Gi}
",
    );
    let mut vm = Vm::run(&lab, "calls", &manifest, &[]);
    vm.wait_for("guest-running", BOOT);
    let mut client = connect(&vm).await;
    let answer = client.guest_ping(GuestPingRequest {}).await;
    assert_eq!(code(answer), Code::FailedPrecondition, "it has not booted");
    vm.wait_for("agent-connected", BOOT);

    let known = status(&mut client).await;
    assert!(known.agent_connected);
    assert!(known.machine.starts_with("pc-q35-"), "{}", known.machine);
    let disks = known.disks.iter();
    let disks: Vec<_> = disks
        .map(|disk| (&*disk.volume, &*disk.target, disk.size))
        .collect();
    assert!(
        matches!(disks[..], [("root", "vda", 1..), ("data", "vdb", size)] if size == 1 << 30),
        "{disks:?}"
    );

    let pinged = answered(&mut client, async |client| {
        client.guest_ping(GuestPingRequest {}).await
    });
    pinged.await.unwrap();
    let ran = exec(&mut client, &["sh", "-c", "echo out; echo err >&2; exit 3"]).await;
    let ran = ran.unwrap();
    assert_eq!(
        (ran.exit_code, &*ran.stdout, &*ran.stderr),
        (3, &b"out\n"[..], &b"err\n"[..])
    );
    let ran = exec(&mut client, &["head", "-c", "100000", "/dev/zero"]).await;
    assert_eq!(ran.unwrap().stdout.len(), 64 * 1024);
    let ran = exec(&mut client, &["/nonexistent"]).await;
    assert_eq!(code(ran), Code::FailedPrecondition);
    assert_eq!(code(exec(&mut client, &[]).await), Code::InvalidArgument);
    let slow = GuestExecRequest {
        command: vec!["sleep".into(), "600".into()],
        timeout_seconds: 1,
    };
    let slow = answered(&mut client, async |client| {
        client.guest_exec(slow.clone()).await
    });
    assert_eq!(
        code(slow.await),
        Code::DeadlineExceeded,
        "a command that does not end"
    );

    let probed = probe(&lab, &vm, &["--ping"]);
    assert!(probed.status.success(), "{probed:?}");
    let probed = probe(&lab, &vm, &["--exec", "--", "test", "-d", "/etc"]);
    assert!(probed.status.success(), "{probed:?}");
    let probed = probe(&lab, &vm, &["--exec", "--", "ls", "/nonexistent"]);
    let text = String::from_utf8(probed.stderr).unwrap();
    assert_eq!(probed.status.code(), Some(1), "{text}");
    assert!(text.contains("ls ended with status 2: ls: "), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");

    // The lease names the guest, at a moment of its own.
    let until = Instant::now() + BOOT;
    while said(&mut client, &["hostname"]).await != "calls" {
        assert!(Instant::now() < until, "the guest takes no name");
        sleep(Duration::from_millis(100)).await;
    }
    let told = info(&mut client).await;
    let os = told.os.unwrap();
    assert_eq!((&*os.id, &*os.version_id), ("debian", "12"));
    assert_eq!(os.kernel_release, said(&mut client, &["uname", "-r"]).await);
    assert_eq!(told.hostname, "calls");
    assert_eq!(told.fs_freeze_status, "thawed");
    assert!(told.supported_commands.contains(&"guest-exec".to_owned()));
    let root = told.filesystems.iter().find(|fs| fs.mount_point == "/");
    let root = root.expect("there is a root file system");
    assert!((1..root.total_bytes).contains(&root.used_bytes), "{root:?}");
    let mac = &known.interfaces[0].mac;
    let card = told.interfaces.iter().find(|card| card.mac == *mac);
    assert!(card.is_some(), "{mac} is not in {:?}", told.interfaces);

    let before = stats(&mut client).await;
    // From the disk itself, whatever is cached.
    let read = ["dd", "if=/dev/vda", "of=/dev/null", "bs=1M", "count=4"];
    let read = [&read[..], &["iflag=direct"]].concat();
    assert_eq!(exec(&mut client, &read).await.unwrap().exit_code, 0);
    let after = stats(&mut client).await;
    assert!(after.cpu_time_ns > before.cpu_time_ns);
    assert_eq!((after.vcpus.len(), &*after.vcpus[0].state), (1, "running"));
    let memory = after.memory.unwrap();
    assert_eq!(memory.domain_bytes, 512 << 20);
    assert!(memory.resident_bytes > Some(64 << 20), "{memory:?}");
    let names = after.blocks.iter().map(|block| &*block.name);
    assert_eq!(names.collect::<Vec<_>>(), ["root", "data"]);
    assert!(after.blocks[0].read_bytes > before.blocks[0].read_bytes);
    assert_eq!(after.interfaces[0].name, "default");
    assert!(after.interfaces[0].receive_packets > 0);

    frozen(&vm, client).await;

    let mut client = another_worker(&vm).await;
    becomes(&mut client, "connected", |status| status.agent_connected).await;
    let boot = ["cat", "/proc/sys/kernel/random/boot_id"];
    let first = said(&mut client, &boot).await;
    client.soft_reboot(SoftRebootRequest {}).await.unwrap();
    vm.wait_for_next("guest-rebooted", BOOT);
    vm.wait_for_next("agent-connected", BOOT);
    assert_ne!(said(&mut client, &boot).await, first);

    let stop = ["systemctl", "--no-block", "stop", "qemu-guest-agent"];
    // It may be gone before it has told how that went.
    let _ = exec(&mut client, &stop).await;
    vm.wait_for_next("agent-disconnected", MOMENT);
    let answer = client.guest_ping(GuestPingRequest {}).await;
    assert_eq!(code(answer), Code::FailedPrecondition);
    vm.shut_down();
    lab.assert_clean();
}

async fn freeze(client: &mut Client, unfreeze_timeout_seconds: u32) {
    let request = FreezeRequest {
        unfreeze_timeout_seconds,
    };
    let frozen = answered(client, async |client| client.freeze(request).await);
    frozen.await.unwrap();
}

/// Freezes the guest three times: until it is thawed, for two seconds, and with a worker that dies.
async fn frozen(vm: &Vm<'_>, mut client: Client) {
    freeze(&mut client, 0).await;
    assert_eq!(info(&mut client).await.fs_freeze_status, "frozen");
    freeze(&mut client, 0).await;
    let thawed = answered(&mut client, async |client| {
        client.unfreeze(UnfreezeRequest {}).await
    });
    thawed.await.unwrap();
    assert_eq!(info(&mut client).await.fs_freeze_status, "thawed");

    freeze(&mut client, 2).await;
    thaws(&mut client).await;

    // Long enough for the next worker to find it so.
    freeze(&mut client, 60).await;
    let mut client = another_worker(vm).await;
    becomes(&mut client, "connected", |status| status.agent_connected).await;
    assert_eq!(info(&mut client).await.fs_freeze_status, "frozen");
    thaws(&mut client).await;
}

async fn thaws(client: &mut Client) {
    let until = Instant::now() + MOMENT;
    while info(client).await.fs_freeze_status != "thawed" {
        assert!(Instant::now() < until, "the guest stays frozen");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_guest_without_an_agent_is_paused_seen_and_rebooted() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &repository().join("examples/vm.yaml"), &[]);
    vm.wait_for("guest-ready", BOOT);
    let mut client = connect(&vm).await;

    let answer = client.get_guest_info(GetGuestInfoRequest {}).await;
    assert_eq!(code(answer), Code::FailedPrecondition);
    let answer = client.freeze(FreezeRequest::default()).await;
    assert_eq!(code(answer), Code::FailedPrecondition);
    let probed = probe(&lab, &vm, &["--ping"]);
    let text = String::from_utf8(probed.stderr).unwrap();
    assert_eq!(probed.status.code(), Some(1), "{text}");
    assert!(text.contains("agent is not connected"), "{text}");

    drop(vm.shell());
    let answer = client.unpause(UnpauseRequest {}).await;
    assert_eq!(code(answer), Code::FailedPrecondition);
    let mut ticks = Ticks::begin(&mut client).await;
    ticks.printed("tick\r\ntick\r\n").await;
    client.pause(PauseRequest {}).await.unwrap();
    becomes(&mut client, "paused by its user", |known| {
        known.phase() == Phase::Paused && known.pause_reason() == PauseReason::User
    })
    .await;
    ticks.silence().await;
    let answer = client.pause(PauseRequest {}).await;
    assert_eq!(code(answer), Code::FailedPrecondition);
    let answer = client.soft_reboot(SoftRebootRequest {}).await;
    assert_eq!(code(answer), Code::FailedPrecondition);
    let mut client = another_worker(&vm).await;
    let known = status(&mut client).await;
    assert_eq!(known.pause_reason(), PauseReason::User, "{known:?}");
    client.unpause(UnpauseRequest {}).await.unwrap();
    becomes(&mut client, "running", running).await;
    let mut ticks = Ticks::begin(&mut client).await;
    ticks.printed("tick\r\ntick\r\n").await;
    drop(ticks);

    screen::seen(&mut client).await;

    // Its power button is a request for the end, which becomes a reboot on the way.
    for soft in [false, true] {
        let mut console = vm.console();
        // Older output comes first, and this is not in it.
        console.send(&format!("\x03echo before \"soft: {soft}\"\n"));
        console.expect(&format!("before soft: {soft}\r\n"), MOMENT);
        if soft {
            client.soft_reboot(SoftRebootRequest {}).await.unwrap();
        } else {
            client.reset(ResetRequest {}).await.unwrap();
        }
        vm.wait_for_next("guest-rebooted", BOOT);
        console.expect(" up in ", BOOT);
        console.expect(PROMPT, BOOT);
        becomes(&mut client, "running", running).await;
    }
    vm.shut_down();
    lab.assert_clean();
}

/// A guest's console on which it counts.
struct Ticks {
    /// Its end is the session's.
    _typed: mpsc::Sender<ConsoleBytes>,
    output: Streaming<ConsoleBytes>,
}

impl Ticks {
    async fn begin(client: &mut Client) -> Self {
        let (mut typed, input) = mpsc::channel(1);
        let output = client.console(input).await.unwrap().into_inner();
        // What an earlier session left running ends.
        let command = "\x03while :; do echo tick; sleep 0.2; done\n";
        let data = command.as_bytes().to_vec();
        typed.send(ConsoleBytes::of(data)).await.unwrap();
        Self {
            _typed: typed,
            output,
        }
    }

    async fn printed(&mut self, text: &str) {
        let printed = async {
            let mut all = String::new();
            while !all.contains(text) {
                let bytes = self.output.message().await.unwrap().expect("it is open");
                all.push_str(&String::from_utf8_lossy(&bytes.data));
            }
        };
        timeout(MOMENT, printed).await.expect("the guest prints");
    }

    /// Waits until the guest prints nothing for a while.
    async fn silence(&mut self) {
        let until = Instant::now() + MOMENT;
        while timeout(SILENCE, self.output.message()).await.is_ok() {
            assert!(Instant::now() < until, "the guest goes on");
        }
    }
}
