//! virt-sidecar as a process, beside an init that is only its lock.

// Each test program uses a part of this.
#![allow(dead_code, reason = "one program's share is another's dead code")]

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take here.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

const PROGRAM: &str = env!("CARGO_BIN_EXE_virt-sidecar");

/// A running virt-sidecar; killed where a test fails.
pub(crate) struct Sidecar(pub(crate) Child);

impl Sidecar {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::run(Command::new(PROGRAM).args(arguments))
    }

    /// One for which the kernel watches no directory.
    pub(crate) fn unwatched(arguments: &[&str]) -> Self {
        let script = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", script, PROGRAM]);
        Self::run(command.args(arguments))
    }

    fn run(command: &mut Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    pub(crate) fn terminate(&self) {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        kill(pid, Signal::SIGTERM).unwrap();
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Its status and what it said on standard error.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = until("the end of virt-sidecar", || self.0.try_wait().unwrap());
        let mut said = String::new();
        let mut stderr = self.0.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
        (status, said)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// init's lock, made as init makes it.
pub(crate) fn init(directory: &Path) -> Flock<File> {
    let temporary = directory.join("init.new");
    let file = File::create(&temporary).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
    std::fs::rename(temporary, directory.join("init.lock")).unwrap();
    lock
}

/// What `look` finds, looked for again and again.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}
