//! The harness of the tests that cross process boundaries.
//!
//! ```text
//! Lab: a network namespace that plays the host, and a root directory of its own
//!  └─ Vm: one `virt-launcher run` in it, its events, its processes, its serial console
//! ```
//!
//! Everything is a real part: kernel, CNI plugins, libvirt, QEMU, a booted Linux. Nothing
//! touches the machine's own network, and dropping a [`Lab`] removes all that it made; what a
//! failed test leaves to read goes to the test's output.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a step of the harness that fails is a test that fails"
)]

mod browser;
mod console;
mod lab;
mod vm;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

pub use browser::Browser;
pub use console::Console;
pub use lab::{Lab, processes};
pub use vm::{Event, Processes, Vm};

/// How long a guest may take to boot on a loaded machine that emulates its CPU.
pub const BOOT: Duration = Duration::from_secs(300);

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A program of ours, built by the same cargo run.
///
/// # Panics
/// Where it is not built: `cargo build --workspace --bins` does that.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its program");
    // target/<profile>/deps/<test>
    let directory = own
        .ancestors()
        .nth(2)
        .expect("a test lies in target/<profile>/deps");
    let path = directory.join(name);
    assert!(
        path.exists(),
        "{} is not built: cargo build --workspace --bins",
        path.display()
    );
    path
}

/// Copies a program to where a test has it run.
///
/// A process of its own writes the copy: what this one had open for writing, a child that another
/// test has just forked would have open too, and the kernel runs no such file.
///
/// # Panics
/// Where it cannot be written.
pub fn install(program: &Path, to: &Path) {
    let mut install = Command::new("install");
    let status = install
        .args(["-D", "-m", "755"])
        .args([program, to])
        .status();
    assert!(status.expect("install is installed").success());
}

/// The guests' images, as `make guests` makes them.
///
/// # Panics
/// Where they are not made.
pub fn images() -> PathBuf {
    let path = repository().join("e2e/out/images");
    assert!(
        path.join("index.json").exists(),
        "there are no guests: make guests"
    );
    path.canonicalize().expect("the path exists")
}

/// KubeVirt's own examples, where the design's files lie beside the repository.
pub fn kubevirt_examples() -> Option<PathBuf> {
    let path = repository().join("../shared/kubevirt/examples");
    path.canonicalize().ok()
}

/// Waits until `check` gives a value.
///
/// # Panics
/// With `what`, when `limit` has passed.
pub fn eventually<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < until, "not within {limit:?}: {what}");
        // The kernel has no event for most of what is waited for here.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same command as the user and group `nobody`, wherever its program lies.
///
/// # Panics
/// Where the program cannot be opened.
#[expect(unsafe_code, reason = "a child changes its user between fork and exec")]
pub fn as_nobody(command: &Command) -> Command {
    const NOBODY: u32 = 65534;
    // By descriptor: nobody may not be let into the directory of the user's build.
    let program = File::open(command.get_program()).expect("the program can be opened");
    let mut dropped = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    dropped.args(command.get_args());
    // SAFETY: system calls alone, and `program` stays open in the closure.
    unsafe {
        dropped.pre_exec(move || {
            let _ = &program;
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            setgroups(&[group])?;
            setresgid(group, group, group)?;
            setresuid(user, user, user).map_err(io::Error::from)
        })
    };
    dropped
}
