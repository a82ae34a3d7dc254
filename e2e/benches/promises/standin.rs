//! A stand-in for the worker: init starts it in its place, in a pod that init has set up, and it
//! starts a peer there and tells how long that took until its vCPUs ran.
//!
//! So a peer has the very namespaces, tap, user, device nodes and reaper that our worker has.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The names of the files that the benchmark and its stand-in write for each other, in the pod's
/// runtime directory.
pub(crate) const JOB: &str = "job.json";
pub(crate) const RESULT: &str = "result.json";

/// What to start.
#[derive(Serialize, Deserialize)]
pub(crate) enum Job {
    /// `virt-qemu-run`: says on standard error when its guest runs.
    VirtQemuRun { root: PathBuf, xml: PathBuf },
    /// QEMU with `-S`: runs once its monitor is told so.
    Qemu { argv: Vec<String>, monitor: PathBuf },
}

/// What came of it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// From just before it was executed until its vCPUs ran.
    pub(crate) millis: f64,
}

/// The worker's main, as `virt-worker run --runtime-dir DIR …`.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(at) = arguments
        .iter()
        .position(|argument| argument == "--runtime-dir")
    else {
        // `--version`: all is well.
        return ExitCode::SUCCESS;
    };
    let directory = Path::new(&arguments[at + 1]);
    let job = directory.join(JOB);
    while !job.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let job = std::fs::read(job).expect("the job can be read");
    let job = serde_json::from_slice(&job).expect("the benchmark writes jobs");

    // init blocks all signals, and children would inherit that.
    SigSet::all()
        .thread_unblock()
        .expect("signals can be unblocked");
    let begun = Instant::now();
    let mut child = match job {
        Job::VirtQemuRun { root, xml } => virt_qemu_run(&root, &xml),
        Job::Qemu { argv, monitor } => qemu(&argv, &monitor),
    };
    let outcome = Outcome {
        millis: begun.elapsed().as_secs_f64() * 1000.0,
    };
    let mut end = SigSet::empty();
    end.add(Signal::SIGTERM);
    end.thread_block().expect("a signal can be blocked");
    let text = serde_json::to_vec(&outcome).expect("the outcome is a plain record");
    std::fs::write(directory.join("result.new"), text).expect("the directory can be written");
    std::fs::rename(directory.join("result.new"), directory.join(RESULT)).expect("it is there");

    end.wait().expect("a signal can be waited for");
    // It may have ended by itself.
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
    let _ = child.wait();
    ExitCode::SUCCESS
}

fn virt_qemu_run(root: &Path, xml: &Path) -> Child {
    let mut child = Command::new("virt-qemu-run")
        .arg("-v")
        .arg("-r")
        .arg(root)
        .arg(xml)
        .stderr(Stdio::piped())
        .spawn()
        .expect("virt-qemu-run is installed");
    // The pipe stays open with the child; what it says later fits into it.
    let stderr = child.stderr.as_mut().expect("it is a pipe");
    let mut said = BufReader::new(stderr).lines();
    let mut heard = vec![];
    while let Some(Ok(line)) = said.next() {
        if line.contains("guest running") {
            return child;
        }
        heard.push(line);
    }
    let status = child.wait();
    panic!(
        "virt-qemu-run ended early, {status:?}:\n{}",
        heard.join("\n")
    );
}

fn qemu(argv: &[String], monitor: &Path) -> Child {
    let child = Command::new(&argv[0])
        .args(&argv[1..])
        .spawn()
        .expect("QEMU is installed");
    let stream = loop {
        match UnixStream::connect(monitor) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_micros(200)),
        }
    };
    let mut answers = BufReader::new(stream.try_clone().expect("a socket can be shared")).lines();
    let mut stream = stream;
    let mut ask = |command: &str| {
        writeln!(stream, "{{\"execute\":\"{command}\"}}").expect("QEMU listens");
        loop {
            let line = answers.next().and_then(Result::ok).expect("QEMU answers");
            // The greeting and events come between.
            if line.starts_with("{\"return\"") {
                return line;
            }
        }
    };
    ask("qmp_capabilities");
    ask("cont");
    while !ask("query-status").contains("\"running\": true") {}
    child
}
