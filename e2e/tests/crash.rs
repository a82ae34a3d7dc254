//! What a guest notices when a part of us is killed: nothing, or a clean end.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a step that fails is a test that fails"
)]

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::{BOOT, Lab, Vm, eventually, repository};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything else may take, on a loaded machine that emulates the guest's CPU.
const MOMENT: Duration = Duration::from_secs(120);

/// Echoes that a connection has to bring, however few there is time for between the workers.
const ECHOES: u32 = 19;

/// The port on which the mini guest echoes.
const ECHO: u16 = 7;

fn example() -> std::path::PathBuf {
    repository().join("examples/vm.yaml")
}

fn kill_nine(vm: &Vm<'_>, pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL)
        .unwrap_or_else(|error| panic!("{pid} is not there ({error})\n{}", vm.artefacts()));
}

/// Sends a number and waits for it to come back.
fn echoes(stream: &mut TcpStream, number: u32) {
    let line = format!("{number:08}\n");
    stream
        .write_all(line.as_bytes())
        .expect("the connection is up");
    let mut back = [0; 9];
    stream.read_exact(&mut back).expect("the guest answers");
    assert_eq!(back, line.as_bytes());
}

/// Pauses that differ from run to run, up to 400 ms each.
struct Pauses(u64);

impl Pauses {
    fn new() -> Self {
        let seed = RandomState::new().build_hasher().finish() | 1;
        println!("pauses from the seed {seed}");
        Self(seed)
    }

    /// The next one, by xorshift.
    fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(self.0 % 400)
    }
}

#[test]
fn a_connection_outlives_twenty_workers() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &example(), &[]);
    // Before it there are the processes that probe QEMU.
    vm.wait_for("sandbox", BOOT);
    // Twice while the domain is made and the guest boots: whatever was half done is done again.
    let mut worker = vm.worker_other_than(0);
    let mut pauses = Pauses::new();
    for _ in 0..2 {
        std::thread::sleep(pauses.next());
        kill_nine(&vm, worker);
        worker = vm.worker_other_than(worker);
    }
    vm.wait_for("guest-ready", BOOT);
    let address = vm.address();
    let starts = vm.status()["workerStarts"].as_u64();
    let qemu = vm.processes().qemu;
    let to = SocketAddr::new(address.into(), ECHO);
    let mut stream = eventually("the guest's echo service", BOOT, || {
        lab.connect(to, Duration::from_secs(1)).ok()
    });
    stream
        .set_read_timeout(Some(MOMENT))
        .expect("a timeout can be set");
    let stop = Arc::new(AtomicBool::new(false));
    let traffic = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) || count < ECHOES {
                echoes(&mut stream, count);
                count += 1;
            }
        })
    };
    for round in 0..18 {
        // udhcpc renews on SIGUSR1. Once only: asked a second time before it was answered, it
        // gives its address up.
        let mut console = (round == 9).then(|| vm.console());
        if let Some(console) = &mut console {
            console.send("kill -USR1 $(pidof udhcpc)\n");
        }
        std::thread::sleep(pauses.next());
        kill_nine(&vm, worker);
        worker = vm.worker_other_than(worker);
    }
    let status = vm.wait_until_phase("Running");
    // One that is killed before it has noted its start is not counted.
    assert!(status["workerStarts"].as_u64() > starts, "{status}");
    assert_eq!(vm.address(), address);
    assert_eq!(vm.processes().qemu, qemu);
    stop.store(true, Ordering::Relaxed);
    traffic.join().expect("the connection stayed up");
    vm.shut_down();
    lab.assert_clean();
}

#[test]
fn a_request_to_end_finds_the_guest_also_while_no_worker_listens() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &example(), &[]);
    vm.wait_for("guest-ready", BOOT);
    kill_nine(&vm, vm.processes().worker);
    vm.signal(Signal::SIGINT);
    vm.wait_for("shutdown-requested", MOMENT);
    vm.wait_for("succeeded", MOMENT);
    let (status, stderr) = vm.wait();
    assert!(status.success(), "{stderr}");
    lab.assert_clean();
}

#[test]
fn a_request_to_end_that_comes_first_of_all_leaves_nothing() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &example(), &[]);
    vm.wait_for("sandbox", BOOT);
    vm.signal(Signal::SIGINT);
    vm.signal(Signal::SIGINT);
    vm.wait();
    lab.assert_clean();
}

#[test]
fn a_qemu_that_hangs_is_ended_after_the_grace_period() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &example(), &[]);
    vm.wait_for("guest-running", BOOT);
    let qemu = Pid::from_raw(vm.processes().qemu);
    kill(qemu, Signal::SIGSTOP).expect("QEMU runs");
    vm.signal(Signal::SIGINT);
    vm.wait_for("powered-off", BOOT);
    vm.wait();
    lab.assert_clean();
}

#[test]
fn a_renewal_is_answered_by_a_new_worker() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &example(), &[]);
    // So that the next one to be granted is the renewal.
    vm.wait_until_leased(BOOT);
    let worker = vm.processes().worker;
    kill_nine(&vm, worker);
    vm.worker_other_than(worker);
    vm.wait_until_phase("Running");
    let mut console = vm.console();
    // udhcpc renews on SIGUSR1.
    console.run("kill -USR1 $(pidof udhcpc)", MOMENT);
    vm.wait_for_next("lease-granted", MOMENT);
    drop(console);
    vm.shut_down();
}

#[test]
fn nobody_in_the_sandbox_holds_a_capability() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &example(), &[]);
    vm.wait_for("guest-running", BOOT);
    let processes = vm.processes();
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let pod = namespace(processes.init);
    assert!(pod.is_some());
    // One that has ended since is left out.
    let inside: Vec<(i32, String)> = e2e::processes()
        .map(|(pid, _)| pid)
        .filter(|pid| namespace(*pid) == pod)
        .filter_map(|pid| {
            Some((
                pid,
                std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
            ))
        })
        .collect();
    for known in [processes.init, processes.worker, processes.qemu] {
        let is_there = inside.iter().any(|(pid, _)| *pid == known);
        assert!(is_there, "{known} is not in {inside:?}");
    }
    for (name, status) in inside {
        let field = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            line[key.len()..].trim().to_owned()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{name} {set}");
        }
        assert_eq!(field("Uid:"), "107\t107\t107\t107", "{name}");
        assert_eq!(field("Gid:"), "107\t107\t107\t107", "{name}");
        assert_eq!(field("NoNewPrivs:"), "1", "{name}");
    }
    vm.shut_down();
    lab.assert_clean();
}

#[test]
fn the_end_of_init_is_the_end_of_the_vm_and_nothing_is_left() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &example(), &[]);
    vm.wait_for("guest-running", BOOT);
    let processes = vm.processes();
    kill_nine(&vm, processes.init);
    let (status, _) = vm.wait();
    assert!(!status.success());
    for pid in [processes.sandbox, processes.worker, processes.qemu] {
        eventually("the end of every process", MOMENT, || {
            (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
    }
    lab.assert_clean();
}

#[test]
fn a_crash_of_qemu_is_told_with_the_end_of_its_log() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &example(), &[]);
    vm.wait_for("guest-running", BOOT);
    kill_nine(&vm, vm.processes().qemu);
    let failed = vm.wait_for("failed", MOMENT);
    assert!(
        failed.message.starts_with("QEMU ended unexpectedly"),
        "{}",
        failed.message
    );
    let (status, stderr) = vm.wait();
    assert!(!status.success());
    assert!(stderr.contains("QEMU ended unexpectedly"), "{stderr}");
    lab.assert_clean();
}

#[test]
fn a_killed_run_leaves_a_vm_that_shuts_down_and_cleans_up() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &example(), &[]);
    vm.wait_for("guest-ready", BOOT);
    vm.signal(Signal::SIGKILL);
    let _ = vm.wait();
    lab.assert_becomes_clean(BOOT);
}

#[test]
fn what_killed_processes_left_is_removed_by_the_next_run() {
    let lab = Lab::new();
    let mut vm = Vm::run(&lab, "hello", &example(), &[]);
    vm.wait_for("guest-running", BOOT);
    let sandbox = vm.processes().sandbox;
    vm.signal(Signal::SIGSTOP);
    kill_nine(&vm, sandbox);
    vm.signal(Signal::SIGKILL);
    let _ = vm.wait();
    assert!(
        !lab.leftovers().is_empty(),
        "both makers were killed, so nobody cleaned up"
    );
    let mut again = Vm::run(&lab, "hello", &example(), &[]);
    again.wait_for("guest-running", BOOT);
    again.shut_down();
    lab.assert_clean();
}
