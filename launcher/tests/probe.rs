//! `virt-launcher probe` as a process, in front of a worker that is only its socket.

#![allow(clippy::unwrap_used, reason = "in tests, helpers included")]

use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use launcher_api::SOCKET;
use nix::poll::{PollFd, PollFlags, poll};

/// How long the probe may take to come, in milliseconds.
const LIMIT: u16 = 60_000;

/// A process; killed where a test fails.
struct Probe(Child);

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_worker_is_spoken_to_without_any_privilege() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root, to give it up");
        return;
    }
    // Only root finds the socket; everybody may connect to it.
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join(SOCKET);
    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let probe = Command::new(env!("CARGO_BIN_EXE_virt-launcher"))
        .args(["probe", "--ping", "--timeout", "60", "--runtime-dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .spawn();
    let mut probe = Probe(probe.unwrap());
    let mut coming = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut coming, LIMIT), Ok(1), "it does not come");
    let (connection, _) = listener.accept().unwrap();

    let status = fs::read_to_string(format!("/proc/{}/status", probe.0.id())).unwrap();
    for line in ["Uid:\t107\t107\t107\t107\n", "Gid:\t107\t107\t107\t107\n"] {
        assert!(status.contains(line), "{status}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let none = format!("{set}:\t{:016x}\n", 0);
        assert!(status.contains(&none), "{set}: {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    assert!(status.contains("Groups:\t107 \n"), "{status}");

    drop((connection, listener));
    assert_eq!(probe.0.wait().unwrap().code(), Some(1));
}
