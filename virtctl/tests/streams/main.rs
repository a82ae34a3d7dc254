//! The streams' commands, against a server that speaks `plain.kubevirt.io` on a real socket: a
//! terminal's mode before and after, pipes, connections and datagrams, and the clients that are
//! started.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a step that fails is a test that fails"
)]

mod forward;
mod server;
mod terminal;
mod viewer;
mod web;

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use server::Server;
use tempfile::TempDir;

/// Nothing here takes longer, on a machine that is busy with other tests.
const MOMENT: Duration = Duration::from_secs(30);

/// A server, and a kubeconfig that leads to it.
struct Cluster {
    server: Server,
    dir: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let server = Server::start();
        let dir = TempDir::new().unwrap();
        let kubeconfig = format!(
            "{{apiVersion: v1, kind: Config, current-context: test, \
             contexts: [{{name: test, context: {{cluster: test, user: test, namespace: lab}}}}], \
             clusters: [{{name: test, cluster: {{server: 'http://{}'}}}}], \
             users: [{{name: test, user: {{}}}}]}}",
            server.address()
        );
        // A path that has to be quoted wherever it goes through a shell.
        std::fs::write(dir.path().join("kube 100% config"), kubeconfig).unwrap();
        Self { server, dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn virtctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtctl"));
        command
            .arg("--kubeconfig")
            .arg(self.path().join("kube 100% config"))
            .args(arguments)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null());
        command
    }
}

/// A process that does not outlive the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn ended(&mut self) -> std::process::ExitStatus {
        eventually("the end of the process", || self.0.try_wait().unwrap())
    }

    /// The next line that it prints.
    fn line(&mut self) -> String {
        let stdout = self.0.stdout.as_mut().unwrap();
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") && stdout.read(&mut byte).unwrap() == 1 {
            line.extend(byte);
        }
        String::from_utf8(line).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for what has no event of its own.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + MOMENT;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < until, "{what} never came");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Writes a program. This process never has it open: what another thread starts just then would
/// have, and nobody can run what is open for writing.
fn program(path: &Path, script: &str) {
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(path);
    let mut install = Running::start(install.stdin(Stdio::piped()));
    let mut input = install.0.stdin.take().unwrap();
    input.write_all(script.as_bytes()).unwrap();
    drop(input);
    assert!(install.ended().success());
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
