//! One VM under test.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use crate::{BOOT, Console, Lab, eventually};

/// How long processes may take to end.
const END: Duration = Duration::from_secs(60);

/// One line of `virt-launcher run -o json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// What happened.
    pub event: String,
    /// When, in milliseconds since `run` began.
    pub elapsed_ms: f64,
    /// For people.
    pub message: String,
}

/// The processes of a VM, by their ids in the test's PID namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processes {
    /// Keeps the namespaces.
    pub sandbox: i32,
    /// PID 1 of the pod.
    pub init: i32,
    /// The worker.
    pub worker: i32,
    /// QEMU.
    pub qemu: i32,
}

/// A `virt-launcher run` and what it says.
pub struct Vm<'lab> {
    lab: &'lab Lab,
    child: Child,
    events: Receiver<Event>,
    stderr: Option<JoinHandle<String>>,
    seen: Vec<Event>,
    name: String,
}

impl<'lab> Vm<'lab> {
    /// Starts the manifest's VM under TCG, with the guests' images. `name` is the manifest's.
    ///
    /// # Panics
    /// Where virt-launcher or the guests are not built.
    pub fn run(lab: &'lab Lab, name: &str, manifest: &Path, args: &[&str]) -> Self {
        Self::start(lab, name, lab.launcher(), manifest, args)
    }

    /// The same by `launcher`, a command that takes `run`.
    ///
    /// # Panics
    /// Where that or the guests are not built.
    pub fn start(
        lab: &'lab Lab,
        name: &str,
        mut launcher: Command,
        manifest: &Path,
        args: &[&str],
    ) -> Self {
        let mut child = launcher
            .args(["run", "--emulation", "tcg", "-o", "json", "--images"])
            .arg(crate::images())
            .args(args)
            .arg(manifest)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("virt-launcher can be started");
        let (sender, events) = channel();
        let stdout = child.stdout.take().expect("it is a pipe");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line)
                    && sender.send(event).is_err()
                {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().expect("it is a pipe");
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            // What is no UTF-8 is no message of ours.
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self {
            lab,
            child,
            events,
            stderr: Some(stderr),
            seen: vec![],
            name: name.to_owned(),
        }
    }

    /// Waits for an event, from now on or in the past.
    ///
    /// # Panics
    /// When it does not come in time, with all that came.
    pub fn wait_for(&mut self, event: &str, limit: Duration) -> Event {
        if let Some(seen) = self.seen.iter().find(|seen| seen.event == event) {
            return seen.clone();
        }
        self.wait_for_next(event, limit)
    }

    /// Waits for an event that has not been seen yet.
    ///
    /// # Panics
    /// When it does not come in time, with all that came.
    pub fn wait_for_next(&mut self, event: &str, limit: Duration) -> Event {
        let until = Instant::now() + limit;
        loop {
            match self
                .events
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(next) => {
                    self.seen.push(next.clone());
                    if next.event == event {
                        return next;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.fail(&format!("no {event} in {limit:?}")),
                Err(RecvTimeoutError::Disconnected) => {
                    let stderr = self.stderr.take().and_then(|t| t.join().ok());
                    self.fail(&format!(
                        "ended before {event}: {}",
                        stderr.unwrap_or_default()
                    ));
                }
            }
        }
    }

    fn fail(&self, what: &str) -> ! {
        let seen: Vec<String> = self
            .seen
            .iter()
            .map(|e| format!("{} {}", e.event, e.message))
            .collect();
        panic!("{what}\nevents:\n{}\n{}", seen.join("\n"), self.artefacts());
    }

    /// All that the launcher and the guest said, for a failed test.
    pub fn artefacts(&self) -> String {
        let Some(directory) = self.directory() else {
            return "no sandbox".into();
        };
        let files = ["launcher.log", "runtime/serial0.log", "runtime/libvirt.log"];
        let texts = files.map(|file| {
            let text = std::fs::read(directory.join(file)).unwrap_or_default();
            format!("--- {file}\n{}", String::from_utf8_lossy(&text))
        });
        texts.join("\n")
    }

    /// The sandbox's directory, while there is one.
    pub fn directory(&self) -> Option<PathBuf> {
        let sandboxes = std::fs::read_dir(self.lab.root().join("sandboxes")).ok()?;
        sandboxes.flatten().map(|entry| entry.path()).find(|path| {
            let text = std::fs::read_to_string(path.join("sandbox.json")).unwrap_or_default();
            text.contains(&format!("\"name\":\"{}\"", self.name))
        })
    }

    /// The pod's runtime directory.
    ///
    /// # Panics
    /// Where there is no sandbox.
    pub fn runtime_dir(&self) -> PathBuf {
        self.directory()
            .expect("the VM has a sandbox")
            .join("runtime")
    }

    /// The process id of `virt-launcher run`.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The VM's processes, once all of them are there.
    ///
    /// # Panics
    /// When they are not, in time.
    pub fn processes(&self) -> Processes {
        eventually("all processes of the VM", END, || self.try_processes())
    }

    /// The VM's processes, where all of them are there at this moment.
    pub fn try_processes(&self) -> Option<Processes> {
        let sandbox = child_of(self.pid(), "virt-launcher")?;
        let init = child_of(sandbox, "virt-launcher")?;
        let worker = child_of(init, "virt-worker")?;
        let qemu = child_of(init, "qemu-system")?;
        Some(Processes {
            sandbox,
            init,
            worker,
            qemu,
        })
    }

    /// The worker, once there is one other than `than`.
    ///
    /// # Panics
    /// When there is none, in time.
    pub fn worker_other_than(&self, than: i32) -> i32 {
        eventually("a new worker", END, || {
            let init = child_of(child_of(self.pid(), "virt-launcher")?, "virt-launcher")?;
            child_of(init, "virt-worker").filter(|worker| *worker != than)
        })
    }

    /// What `virt-launcher status --json` says.
    ///
    /// # Panics
    /// Where it says nothing.
    pub fn status(&self) -> serde_json::Value {
        let output = self.lab.launcher_output(&["status", "--json", &self.name]);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Waits until the status has this phase: a worker that is new, or busy, takes a while to say so.
    ///
    /// # Panics
    /// When it has not, in time.
    pub fn wait_until_phase(&self, phase: &str) -> serde_json::Value {
        eventually(phase, BOOT, || {
            let status = self.status();
            (status["phase"] == phase).then_some(status)
        })
    }

    /// The guest's address, as the launcher tells it.
    ///
    /// # Panics
    /// Where the VM has none.
    pub fn address(&self) -> Ipv4Addr {
        let status = self.status();
        let address = status["interfaces"][0]["address"]
            .as_str()
            .unwrap_or_default();
        let address = address
            .split('/')
            .next()
            .and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("no address in {status}"))
    }

    /// Waits until the guest holds every address that it is offered, and the events of that.
    ///
    /// # Panics
    /// When it does not, in time.
    pub fn wait_until_leased(&mut self, limit: Duration) {
        self.wait_for("guest-ready", limit);
        let offered = eventually("a lease of every address", limit, || {
            let status = self.status();
            let interfaces = status["interfaces"].as_array()?;
            let addresses = interfaces
                .iter()
                .filter_map(|one| one["addresses"].as_array());
            let addresses: Vec<_> = addresses.flatten().collect();
            let all = addresses.iter().all(|address| address["leased"] == true);
            all.then_some(addresses.len())
        });
        let granted = |vm: &Self| {
            vm.seen
                .iter()
                .filter(|e| e.event == "lease-granted")
                .count()
        };
        while granted(self) < offered {
            self.wait_for_next("lease-granted", limit);
        }
    }

    /// What CNI gave the pod on the network of that interface of the VMI.
    ///
    /// # Panics
    /// Where there is no sandbox.
    pub fn pod_addresses(&self, interface: &str) -> Vec<IpAddr> {
        let path = self.directory().expect("the VM has a sandbox");
        let text = std::fs::read(path.join("sandbox.json")).expect("a sandbox has a record");
        let record: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
        let attached = record["attached"].as_array().into_iter().flatten();
        let ips = attached
            .filter(|attached| attached["name"] == interface)
            .filter_map(|attached| attached["result"]["ips"].as_array())
            .flatten();
        ips.filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok())
            .collect()
    }

    /// Opens the serial console.
    pub fn console(&self) -> Console {
        Console::open(self.lab, &self.name)
    }

    /// A shell of the mini guest, which says nothing of its own accord any more.
    ///
    /// # Panics
    /// When there is none, in time.
    pub fn shell(&self) -> Console {
        let mut console = self.console();
        console.send("\n");
        console.expect("mini# ", BOOT);
        // A boot that takes long goes on behind the prompt.
        console.says("ls /run/ready", &["/run/ready\r\n"], BOOT);
        console
    }

    /// Sends a signal to `virt-launcher run`.
    ///
    /// # Panics
    /// Where it has ended.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("virt-launcher runs");
    }

    /// Waits for the end; returns how it ended and what was said on standard error.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let until = Instant::now() + BOOT;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                break status;
            }
            assert!(
                Instant::now() < until,
                "virt-launcher does not end\n{}",
                self.artefacts()
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok());
        (status, stderr.unwrap_or_default())
    }

    /// Shuts the VM down as Ctrl-C does, and waits.
    ///
    /// # Panics
    /// Where it does not end well.
    pub fn shut_down(self) {
        self.signal(Signal::SIGINT);
        let (status, stderr) = self.wait();
        assert!(status.success(), "{status}: {stderr}");
    }
}

impl Drop for Vm<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The process that keeps the namespaces shuts down and cleans up then.
            let sandbox = child_of(self.pid(), "virt-launcher");
            let _ = self.child.kill();
            let _ = self.child.wait();
            if let Some(sandbox) = sandbox {
                let path = format!("/proc/{sandbox}");
                let until = Instant::now() + END;
                while Path::new(&path).exists() && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}

/// A child whose program's name begins so.
pub(crate) fn child_of(parent: i32, name: &str) -> Option<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task"))
        .ok()?
        .flatten();
    let children =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<i32> = children
        .flat_map(|c| {
            c.split_whitespace()
                .filter_map(|p| p.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect();
    children.into_iter().find(|child| {
        std::fs::read_to_string(format!("/proc/{child}/comm"))
            .is_ok_and(|comm| comm.trim_end().starts_with(&name[..name.len().min(15)]))
    })
}
