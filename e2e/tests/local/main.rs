//! `virtctl` with no cluster: every verb on machines of this machine.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails"
)]

mod agent;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use e2e::{BOOT, Console, Lab, Vm, as_nobody, eventually, install, program, repository};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long a command and what it causes may take, on a loaded machine that emulates the guest's CPU.
const MOMENT: Duration = Duration::from_secs(120);

/// What a shell of the mini guest prints before a command.
const PROMPT: &str = "mini# ";

/// The port on which the mini guest echoes.
const ECHO: u16 = 7;

/// `virtctl` where no cluster is known.
fn virtctl(lab: &Lab) -> Command {
    virtctl_at(lab, &program("virtctl"))
}

fn virtctl_at(lab: &Lab, program: &Path) -> Command {
    let mut command = lab.command(program);
    command
        .env("FERROVIRT_ROOT", lab.root())
        .env("HOME", lab.path())
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .stdin(Stdio::null());
    command
}

/// What a command says on standard output.
fn done(lab: &Lab, args: &[&str]) -> String {
    let output = virtctl(lab).args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// What the guest's agent tells; one that is busy, or takes longer than libvirt waits, is asked again.
fn told(lab: &Lab, args: &[&str]) -> String {
    eventually("an answer of the guest's agent", BOOT, || {
        let output = virtctl(lab).args(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let again = stderr.contains("the guest's agent does not answer")
            || stderr.trim_end().ends_with("; try again");
        assert!(output.status.success() || again, "{args:?}: {stderr}");
        let said = String::from_utf8(output.stdout).unwrap();
        output.status.success().then_some(said)
    })
}

/// Fails unless the command was refused by one line with these words.
fn assert_refused(output: &Output, what: &str, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{what}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{what}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{what}: no {word:?} in {stderr}");
    }
}

fn refused(lab: &Lab, args: &[&str], words: &[&str]) {
    let output = virtctl(lab).args(args).output().unwrap();
    assert_refused(&output, &args.join(" "), words);
}

/// The machine's row of `ps`.
fn row(lab: &Lab, name: &str) -> Vec<String> {
    let table = done(lab, &["ps"]);
    let rows = table.lines().map(|line| line.split_whitespace());
    let mut rows = rows.map(|row| row.map(str::to_owned).collect::<Vec<_>>());
    let row = rows.find(|row| row.get(1).is_some_and(|cell| cell == name));
    row.unwrap_or_else(|| panic!("{name} is not in\n{table}"))
}

/// The guest's console, at its prompt.
fn console(lab: &Lab) -> Console {
    let mut command = virtctl(lab);
    command.args(["console", "hello"]);
    let mut console = Console::start(command);
    console.send("\n");
    console.expect(PROMPT, BOOT);
    console
}

/// A `virtctl` that serves until it is killed.
struct Service(Child);

impl Service {
    fn start(lab: &Lab, args: &[&str]) -> Self {
        let mut command = virtctl(lab);
        command.args(args).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// The first line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.0.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The port in a text that ends with one, or that has one in it as a number of its own.
fn number(text: &str, after: &str) -> u16 {
    let from = text
        .find(after)
        .unwrap_or_else(|| panic!("no {after:?} in {text:?}"))
        + after.len();
    let digits: String = text[from..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no port in {text:?}"))
}

/// Sends a line to the guest's echo service; returns what comes back.
fn echoed(mut stream: impl Read + Write, line: &[u8]) -> Vec<u8> {
    stream.write_all(line).unwrap();
    let mut back = vec![0; line.len()];
    stream.read_exact(&mut back).unwrap();
    back
}

#[test]
fn a_machine_is_run_looked_at_used_and_ended_with_no_cluster() {
    let lab = Lab::new();
    let example = fs::read_to_string(repository().join("examples/vm.yaml")).unwrap();
    let (short, long) = ("GracePeriodSeconds: 10", "GracePeriodSeconds: 120");
    assert!(example.contains(short), "{example}");
    let manifest = lab.manifest(&example.replace(short, long));
    let mut vm = Vm::start(&lab, "hello", virtctl(&lab), &manifest, &[]);
    vm.wait_for("guest-ready", BOOT);

    listed(&lab, &vm);
    spoken_to(&lab, &mut vm);
    acted_on(&lab, &mut vm);
    seen(&lab);
    reached(&lab, &vm);

    for question in ["guestosinfo", "userlist", "fslist"] {
        refused(&lab, &[question, "hello"], &["default/hello", "agent"]);
    }
    let xml = done(&lab, &["dumpxml", "hello"]);
    assert!(xml.contains("<name>default_hello</name>"), "{xml}");
    refused(
        &lab,
        &["start", "hello"],
        &["default/hello: it runs already"],
    );
    refused(&lab, &["restart", "hello"], &["`virtctl soft-reboot`"]);

    let mut last = console(&lab);
    done(&lab, &["stop", "hello", "--wait"]);
    assert_eq!(done(&lab, &["ps", "-o", "json"]).lines().count(), 5);
    last.expect("reboot: Power down", MOMENT);
    assert_eq!(last.ended(MOMENT).code(), Some(1));
    let (status, stderr) = vm.wait();
    assert!(status.success(), "{stderr}");
    refused(
        &lab,
        &["console", "hello"],
        &["no VM default/hello runs", "`virtctl ps`"],
    );
    lab.assert_clean();
}

fn listed(lab: &Lab, vm: &Vm<'_>) {
    let address = vm.address().to_string();
    let shown = row(lab, "hello");
    assert_eq!(shown[..4], ["default", "hello", "Running", &address]);
    assert!(
        shown[4].ends_with('s') || shown[4].ends_with('m'),
        "{shown:?}"
    );
    let list: Value = serde_json::from_str(&done(lab, &["ps", "-A", "-o", "json"])).unwrap();
    let machine = &list["items"][0];
    assert_eq!(machine["metadata"]["name"], "hello");
    assert_eq!(machine["status"]["phase"], "Running");
    assert_eq!(machine["status"]["interfaces"][0]["ipAddress"], address);
    let yaml = done(lab, &["ps", "-o", "yaml", "-n", "default"]);
    assert!(yaml.contains("kind: VirtualMachineInstance"), "{yaml}");
    let elsewhere = done(lab, &["ps", "-n", "other"]);
    assert_eq!(elsewhere.lines().count(), 1, "{elsewhere}");
    refused(
        lab,
        &["console", "hello", "-n", "other"],
        &["no VM other/hello runs"],
    );
}

fn spoken_to(lab: &Lab, vm: &mut Vm<'_>) {
    let mut first = console(lab);
    assert_eq!(first.run("echo $((6 * 7))", MOMENT).trim(), "42");
    let mut second = console(lab);
    let ended = first.ended(MOMENT);
    assert_eq!(ended.code(), Some(1), "a second session ends the first");
    assert_eq!(second.run("echo $((6 * 8))", MOMENT).trim(), "48");

    // A worker is killed under the session; its successor has the guest again.
    let before = vm.processes();
    kill(Pid::from_raw(before.worker), Signal::SIGKILL).unwrap();
    assert_eq!(second.ended(MOMENT).code(), Some(1));
    vm.worker_other_than(before.worker);
    vm.wait_until_phase("Running");
    let mut third = console(lab);
    assert_eq!(third.run("echo $((6 * 9))", MOMENT).trim(), "54");
    assert_eq!(vm.processes().qemu, before.qemu);
    third.send("\x1d");
    assert!(third.ended(MOMENT).success(), "Ctrl-] leaves");
}

fn acted_on(lab: &Lab, vm: &mut Vm<'_>) {
    refused(
        lab,
        &["unpause", "hello"],
        &["default/hello: it is not paused"],
    );
    done(lab, &["pause", "hello", "--dry-run"]);
    assert_eq!(row(lab, "hello")[2], "Running");
    done(lab, &["pause", "vmi", "hello", "--wait"]);
    vm.wait_until_phase("Paused");
    assert_eq!(row(lab, "hello")[2], "Paused");
    refused(lab, &["pause", "hello"], &["is paused already"]);
    refused(lab, &["soft-reboot", "hello"], &["`virtctl unpause`"]);
    done(lab, &["unpause", "hello"]);
    vm.wait_until_phase("Running");
    for reboot in ["soft-reboot", "reset"] {
        let mut console = console(lab);
        // What was printed before comes first, and this is not in it.
        console.send(&format!("echo before \"{reboot}\"\n"));
        console.expect(&format!("before {reboot}\r\n"), MOMENT);
        done(lab, &[reboot, "hello"]);
        vm.wait_for_next("guest-rebooted", BOOT);
        console.expect(" up in ", BOOT);
        console.expect(PROMPT, BOOT);
    }
}

fn seen(lab: &Lab) {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
    let picture = lab.path().join("screen.png");
    let path = picture.to_str().unwrap();
    done(lab, &["screenshot", "hello", "-f", path]);
    assert!(fs::read(&picture).unwrap().starts_with(PNG));
    refused(
        lab,
        &["screenshot", "hello", "-f", "/nonexistent/a.png"],
        &["/nonexistent/a.png"],
    );

    let mut proxy = Service::start(lab, &["vnc", "hello", "--proxy-only"]);
    let port: Value = serde_json::from_str(&proxy.line()).unwrap();
    let port = port["port"].as_u64().unwrap().try_into().unwrap();
    let mut screen = lab.connect(at(port), MOMENT).unwrap();
    screen.set_read_timeout(Some(MOMENT)).unwrap();
    let mut version = [0; 12];
    screen.read_exact(&mut version).unwrap();
    assert_eq!(&version, b"RFB 003.008\n");
}

fn reached(lab: &Lab, vm: &Vm<'_>) {
    let mut forward = Service::start(lab, &["port-forward", "hello", &format!(":{ECHO}")]);
    let port = number(&forward.line(), "127.0.0.1:");
    let mut stream = lab.connect(at(port), MOMENT).unwrap();
    stream.set_read_timeout(Some(MOMENT)).unwrap();
    assert_eq!(echoed(&mut stream, b"by a port\n"), b"by a port\n");

    let mut command = virtctl(lab);
    command.args(["port-forward", "--stdio", "vm/hello", &ECHO.to_string()]);
    let mut console = Console::start(command);
    console.send("by pipes\n");
    console.expect("by pipes\n", MOMENT);
    drop(console);
    refused(
        lab,
        &["port-forward", "--stdio", "vm/hello", "4"],
        &["nothing listens on", &format!("{}:4", vm.address())],
    );
}

#[test]
fn whoever_looks_at_a_machine_that_is_killed_is_told() {
    let lab = Lab::new();
    let manifest = repository().join("examples/vm.yaml");
    let mut vm = Vm::start(&lab, "hello", virtctl(&lab), &manifest, &[]);
    vm.wait_for("guest-ready", BOOT);
    let mut command = virtctl(&lab);
    command.args(["console", "hello"]).stderr(Stdio::piped());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut console = command.spawn().unwrap();
    let mut printed = [0; 1];
    console
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut printed)
        .unwrap();

    // init: QEMU and the worker end with it, and `run` with them.
    kill(Pid::from_raw(vm.processes().init), Signal::SIGKILL).unwrap();
    let ended = eventually("the end of the session", MOMENT, || {
        console.try_wait().unwrap()
    });
    let mut said = String::new();
    console
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(ended.code(), Some(1), "{said}");
    assert!(last.starts_with("virtctl: "), "{said}");
    assert!(last.contains("default/hello"), "{said}");
    assert!(last.contains("`virtctl console hello`"), "{said}");
    vm.wait();
    lab.assert_becomes_clean(MOMENT);
    refused(&lab, &["stop", "hello"], &["no VM default/hello runs"]);
}

#[test]
fn a_machine_that_is_not_there_is_told_whatever_is_asked() {
    let lab = Lab::new();
    let commands: &[&[&str]] = &[
        &["start", "nobody"],
        &["stop", "nobody", "--force"],
        &["restart", "nobody"],
        &["pause", "nobody"],
        &["unpause", "vmi", "nobody"],
        &["soft-reboot", "nobody"],
        &["reset", "nobody"],
        &["console", "nobody"],
        &["vnc", "nobody", "--proxy-only"],
        &["screenshot", "nobody", "-f", "-"],
        &["port-forward", "nobody", "8080:80"],
        &["ssh", "root@nobody"],
        &["scp", "root@nobody:/etc/hostname", "."],
        &["guestosinfo", "nobody"],
        &["userlist", "nobody"],
        &["fslist", "nobody"],
        &["dumpxml", "nobody"],
    ];
    let words = [
        "no VM default/nobody runs",
        "`virtctl ps`",
        "`virtctl run FILE`",
    ];
    for command in commands {
        let local = [command, &["--local"][..]].concat();
        refused(&lab, &local, &words);
        let nowhere = [&words[..], &["no cluster"]].concat();
        refused(&lab, command, &nowhere);
    }
    let none = done(&lab, &["ps"]);
    assert_eq!(
        none.split_whitespace().count(),
        5,
        "the header alone: {none}"
    );
}

#[test]
fn whoever_may_not_look_is_told_to_be_root() {
    let lab = Lab::new();
    // As `run` makes it.
    let sandboxes = lab.root().join("sandboxes");
    fs::create_dir_all(&sandboxes).unwrap();
    let closed = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
    fs::set_permissions(&sandboxes, closed).unwrap();
    for args in [
        &["ps"][..],
        &["stop", "hello", "--local"],
        &["console", "hello"],
    ] {
        let mut command = virtctl(&lab);
        command.args(args);
        let mut nobody = as_nobody(&command);
        nobody
            .env("FERROVIRT_ROOT", lab.root())
            .env("HOME", "/nonexistent")
            .env_remove("KUBECONFIG")
            .env_remove("KUBERNETES_SERVICE_HOST")
            .stdin(Stdio::null());
        let output = nobody.output().unwrap();
        assert_refused(&output, &args.join(" "), &["takes root", "sudo"]);
    }
}

#[test]
fn a_virtctl_that_stands_alone_says_what_run_takes() {
    let lab = Lab::new();
    let alone = lab.path().join("virtctl");
    install(&program("virtctl"), &alone);
    let mut command = virtctl_at(&lab, &alone);
    command.env("PATH", lab.path()).args(["run", "vm.yaml"]);
    let output = command.output().unwrap();
    assert_refused(
        &output,
        "alone",
        &["virt-launcher is neither beside", "$PATH"],
    );
    refused(
        &lab,
        &["run", "-n", "tests", "vm.yaml"],
        &["metadata.namespace: tests"],
    );
    // The launcher's own words.
    let output = virtctl(&lab).args(["run", "absent.yaml"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("virt-launcher: "), "{stderr}");
    assert!(stderr.contains("absent.yaml"), "{stderr}");
}
