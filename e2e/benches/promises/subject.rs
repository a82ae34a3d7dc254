//! What is measured: a VM of ours, and the same VM started by others.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use e2e::{BOOT, Event, Lab, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::standin::{JOB, Job, Outcome, RESULT};

/// Where the runtime directory lies in a pod.
const RUNTIME_DIR: &str = "/run/virt-launcher";
/// The pod's user.
const QEMU_ID: u32 = 107;

/// Who starts the VM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Ferrovirt,
    VirtQemuRun,
    Hand,
}

/// What a VM of ours was made of, for others to make the same.
pub(crate) struct Template {
    xml: String,
    settings: String,
    argv: Vec<String>,
    disks: Vec<(String, Vec<u8>)>,
}

impl Template {
    /// Starts the VM once.
    pub(crate) fn take(lab: &Lab, manifest: &Path) -> Self {
        let vm = Vm::start(lab, manifest, By::Ferrovirt, None);
        let runtime = vm.runtime();
        let libvirt = runtime.join("libvirt/etc");
        let definitions = entries(&libvirt.join("qemu"));
        let xml = definitions
            .iter()
            .find(|path| path.extension().is_some_and(|e| e == "xml"));
        let argv = fs::read_to_string(format!("/proc/{}/cmdline", vm.qemu())).expect("QEMU runs");
        let disks = entries(&runtime.join("disks"));
        let name = |path: &Path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let template = Self {
            xml: fs::read_to_string(xml.expect("libvirt keeps the definition"))
                .expect("it is text"),
            settings: fs::read_to_string(libvirt.join("qemu.conf")).expect("the worker wrote it"),
            argv: argv
                .trim_end_matches('\0')
                .split('\0')
                .map(str::to_owned)
                .collect(),
            disks: disks
                .iter()
                .map(|path| (name(path), fs::read(path).expect("a disk can be read")))
                .collect(),
        };
        vm.stop();
        template
    }

    /// Puts all of it into the pod of a stand-in, and tells it to begin.
    fn give(&self, runtime: &Path, by: By) {
        let write = |name: &str, bytes: &[u8]| {
            let path = runtime.join(name);
            let parent = path.parent().expect("it is below the runtime directory");
            fs::create_dir_all(parent).expect("the directory can be made");
            fs::write(&path, bytes).expect("the file can be written");
            for path in [parent, &path] {
                chown(path, Some(QEMU_ID), Some(QEMU_ID)).expect("root may");
            }
        };
        write("libvirt/etc/qemu.conf", self.settings.as_bytes());
        chown(runtime.join("libvirt"), Some(QEMU_ID), Some(QEMU_ID)).expect("root may");
        write("domain.xml", self.xml.as_bytes());
        for (name, bytes) in &self.disks {
            write(&format!("disks/{name}"), bytes);
        }
        let inside = Path::new(RUNTIME_DIR);
        let job = match by {
            By::VirtQemuRun => Job::VirtQemuRun {
                root: inside.join("libvirt"),
                xml: inside.join("domain.xml"),
            },
            By::Ferrovirt | By::Hand => Job::Qemu {
                argv: by_hand(&self.argv),
                monitor: inside.join("charmonitor.sock"),
            },
        };
        write(
            "job.new",
            &serde_json::to_vec(&job).expect("a job is a plain record"),
        );
        fs::rename(runtime.join("job.new"), runtime.join(JOB)).expect("it was just written");
    }
}

/// libvirt's command line with paths and names in place of the descriptors that libvirt passes.
fn by_hand(argv: &[String]) -> Vec<String> {
    let mut result = vec![];
    let mut arguments = argv.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-add-fd" => drop(arguments.next()),
            // libvirt's master key, for encrypted disks.
            "-object" => {
                let object = arguments.next().expect("-object has an argument");
                if !object.contains("masterKey0") {
                    result.extend(["-object".to_owned(), object.clone()]);
                }
            }
            text if text.starts_with("socket,id=") => result.push(named_socket(text)),
            text if text.starts_with("{\"type\":\"tap\"") => {
                let id = text.split("\"id\":\"").nth(1).expect("a netdev has an id");
                result.push(format!(
                    "{{\"type\":\"tap\",\"ifname\":\"tap0\",\"script\":\"no\",\
                     \"downscript\":\"no\",\"id\":\"{id}"
                ));
            }
            text => result.push(text.to_owned()),
        }
    }
    result
}

fn named_socket(text: &str) -> String {
    let fields = text.split(',').map(|field| match field.split_once('=') {
        Some(("fd", _)) => {
            let id = text.trim_start_matches("socket,id=").split(',').next();
            format!("path={RUNTIME_DIR}/{}.sock", id.unwrap_or_default())
        }
        Some(("logfile", _)) => format!("logfile={RUNTIME_DIR}/serial0.log"),
        _ => field.to_owned(),
    });
    fields.collect::<Vec<_>>().join(",")
}

/// A VM whose vCPUs run.
pub(crate) struct Vm {
    run: Child,
    events: Receiver<Event>,
    sandbox: PathBuf,
    by: By,
    /// From exec to running vCPUs.
    pub(crate) millis: f64,
}

impl Vm {
    /// Starts the manifest's VM; `template` is what others start in its place.
    pub(crate) fn start(lab: &Lab, manifest: &Path, by: By, template: Option<&Template>) -> Self {
        let mut vm = Self::prepare(lab, manifest, by);
        if let Some(template) = template {
            return vm.begin(template);
        }
        let begun = vm.wait_for("init-started").elapsed_ms;
        vm.millis = vm.wait_for("guest-running").elapsed_ms - begun;
        vm
    }

    /// Makes the sandbox; a stand-in in it waits for its template.
    fn prepare(lab: &Lab, manifest: &Path, by: By) -> Self {
        let launcher = match by {
            By::Ferrovirt => e2e::program("virt-launcher"),
            By::VirtQemuRun | By::Hand => peers(lab),
        };
        let mut run = lab
            .command(launcher)
            .arg("--root")
            .arg(lab.root())
            .args(["run", "--emulation", "tcg", "-o", "json", "--images"])
            .arg(e2e::images())
            .arg(manifest)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("virt-launcher can be started");
        let events = follow(&mut run);
        let mut vm = Self {
            run,
            events,
            sandbox: PathBuf::new(),
            by,
            millis: 0.0,
        };
        vm.wait_for("sandbox");
        vm.sandbox = eventually("the sandbox", BOOT, || sandbox(lab, manifest));
        if by != By::Ferrovirt {
            // init has set the network up by then.
            child(vm.init(), "virt-worker");
        }
        vm
    }

    /// Tells the stand-in to start the template's VM, and waits until its vCPUs run.
    fn begin(mut self, template: &Template) -> Self {
        let result = self.runtime().join(RESULT);
        template.give(&self.runtime(), self.by);
        let text = eventually("the peer's VM runs", BOOT, || fs::read(&result).ok());
        let outcome: Outcome = serde_json::from_slice(&text).expect("it is a stand-in's");
        self.millis = outcome.millis;
        self
    }

    /// Waits for an event that has not come yet.
    pub(crate) fn wait_for(&self, event: &str) -> Event {
        loop {
            let next = self.events.recv_timeout(BOOT);
            let next = next.unwrap_or_else(|error| panic!("no {event}: {error}\n{}", self.log()));
            if next.event == event {
                return next;
            }
        }
    }

    /// What init and the worker, or its stand-in, said.
    fn log(&self) -> String {
        fs::read_to_string(self.sandbox.join("launcher.log")).unwrap_or_default()
    }

    /// The pod's runtime directory, as the host sees it.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.sandbox.join("runtime")
    }

    /// The sandbox's directory.
    pub(crate) fn sandbox(&self) -> &Path {
        &self.sandbox
    }

    fn init(&self) -> i32 {
        child(
            child(self.run.id().cast_signed(), "virt-launcher"),
            "virt-launcher",
        )
    }

    fn qemu(&self) -> i32 {
        child(self.init(), "qemu-system")
    }

    /// What the VM costs beside QEMU.
    pub(crate) fn memory(&self) -> Memory {
        let worker = child(self.init(), "virt-worker");
        match self.by {
            By::Ferrovirt => Memory::of(&[self.init(), worker]),
            By::VirtQemuRun => Memory::of(&[child(worker, "virt-qemu-run")]),
            By::Hand => Memory::of(&[]),
        }
    }

    /// Powers it off and waits until nothing is left of it.
    pub(crate) fn stop(mut self) {
        let pid = Pid::from_raw(self.run.id().cast_signed());
        for _ in 0..2 {
            // The second time it powers off; it may have ended by then.
            let _ = kill(pid, Signal::SIGINT);
            std::thread::sleep(Duration::from_millis(100));
        }
        eventually("the VM has ended", BOOT, || {
            self.run.try_wait().ok().flatten()
        });
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // After a failure: `run` cleans up.
        if matches!(self.run.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.run.id().cast_signed()), Signal::SIGTERM);
            let _ = self.run.wait();
        }
    }
}

/// Memory of processes, in MiB.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) anonymous: f64,
    pub(crate) pss: f64,
}

impl Memory {
    fn of(pids: &[i32]) -> Self {
        let read = |field: &str| -> f64 {
            let texts = pids
                .iter()
                .map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")));
            let kib = texts.map(|text| {
                let text = text.expect("the process lives");
                let value = text
                    .lines()
                    .find_map(|line| line.strip_prefix(field)?.split_whitespace().next());
                value
                    .and_then(|kib| kib.parse::<f64>().ok())
                    .expect("the kernel tells")
            });
            kib.sum::<f64>() / 1024.0
        };
        Self {
            anonymous: read("Anonymous:"),
            pss: read("Pss:"),
        }
    }
}

/// virt-launcher beside a stand-in for the worker.
fn peers(lab: &Lab) -> PathBuf {
    let directory = lab.path().join("peers");
    if !directory.exists() {
        fs::create_dir(&directory).expect("the directory can be written");
        let own = std::env::current_exe().expect("a process knows its program");
        fs::copy(own, directory.join("virt-worker")).expect("it can be copied");
        let launcher = e2e::program("virt-launcher");
        fs::copy(launcher, directory.join("virt-launcher")).expect("it can be copied");
    }
    directory.join("virt-launcher")
}

fn follow(run: &mut Child) -> Receiver<Event> {
    let (sender, events) = channel();
    let stdout = run.stdout.take().expect("it is a pipe");
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Ok(event) = serde_json::from_str(&line)
                && sender.send(event).is_err()
            {
                return;
            }
        }
    });
    events
}

/// The sandbox of the VM that a manifest names with its first `name:`.
fn sandbox(lab: &Lab, manifest: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(manifest).ok()?;
    let name = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("name: "))?;
    let name = format!("\"name\":\"{name}\"");
    entries(&lab.root().join("sandboxes"))
        .into_iter()
        .find(|path| {
            fs::read_to_string(path.join("sandbox.json")).is_ok_and(|text| text.contains(&name))
        })
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The child of a process whose program's name begins so.
fn child(parent: i32, name: &str) -> i32 {
    eventually(&format!("a {name}"), BOOT, || {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        let mut children = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        children.find(|pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with(name))
        })
    })
}
