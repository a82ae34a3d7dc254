//! The process between `run` and init: it makes the PID and mount namespaces and keeps the
//! sandbox when `run` is gone.
//!
//! ```text
//! run ──spawns──▶ sandbox (this) ──spawns as PID 1──▶ init ──▶ worker, QEMU
//!  └ killed: SIGTERM ▶ │ shuts the guest down, then removes the sandbox itself
//!                      └ killed: SIGKILL ▶ init, and with it the PID namespace;
//!                        run removes the sandbox
//! ```

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid, setsid};
use serde::{Deserialize, Serialize};

use super::sandbox::{self, Sandbox};
use crate::convert::Accelerator;
use crate::pod::{QEMU_ID, RUNTIME_DIR};

/// Where the programs are found inside: the user's build may lie where uid 107 cannot go.
const PROGRAMS: &str = "/run/ferrovirt";

/// Where init finds the sandbox's own directory, in one that only root may enter.
pub(super) const SANDBOX: &str = "/run/ferrovirt-sandbox/dir";

/// Device nodes of a pod: name, major, minor.
const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// What the process is to do; written by `run`, in the sandbox's directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The sandbox, where the VM has one; a capability probe has only a directory.
    pub(super) sandbox: Option<Sandbox>,
    /// What becomes [`RUNTIME_DIR`] inside.
    pub(super) runtime_dir: PathBuf,
    /// The host name inside.
    pub(super) hostname: String,
    /// What executes the guest: decides whether there is a `/dev/kvm`.
    pub(super) accelerator: Accelerator,
    /// `run`'s process id. Told, not looked up: once `run` is gone, the parent is another.
    pub(super) parent: u32,
    /// Inputs, mounted below the runtime directory.
    pub(super) mounts: Vec<Mount>,
    /// init's arguments.
    pub(super) init: Vec<String>,
}

/// A file of the host that the pod sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Mount {
    /// The file.
    pub(super) source: PathBuf,
    /// Where it appears, relative to the runtime directory; its place exists already.
    pub(super) target: PathBuf,
    /// Whether it cannot be written there.
    pub(super) read_only: bool,
}

/// Why a sandbox's inside could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}")]
pub struct ShimError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed<E: Into<io::Error>>(
    operation: &'static str,
    path: impl AsRef<Path>,
) -> impl FnOnce(E) -> ShimError {
    let path = path.as_ref().to_owned();
    move |source| ShimError {
        operation,
        path,
        source: source.into(),
    }
}

/// Runs init in namespaces of its own until it ends; returns its exit status.
///
/// `lock` is the sandbox's lock, inherited from `run`: as long as this process lives, nobody
/// takes the sandbox for abandoned.
///
/// # Errors
/// [`ShimError`] where the inside could not be made.
pub fn keep(spec: &Spec, lock: Option<i32>) -> Result<u8, ShimError> {
    // What is made here is for the pod's user as well.
    umask(Mode::from_bits_truncate(0o022));
    // Not of the terminal's: Ctrl-C is for `run`, which shuts the guest down.
    setsid().map_err(failed("leave the session of", "run"))?;
    let signals = SigSet::all();
    signals
        .thread_block()
        .map_err(failed("block signals of", "run"))?;
    prctl::set_pdeathsig(Signal::SIGTERM).map_err(failed("watch", "run"))?;
    let orphaned = || getppid() != Pid::from_raw(spec.parent.cast_signed());
    let lock = lock.map(adopt).transpose();
    let lock = lock.map_err(failed("keep", "the sandbox's lock"))?;
    let home = Home::remember()?;
    enter(spec)?;
    let init = start(spec)?;
    // From here on, nothing in the sandbox holds a privilege but init, which gives it up.
    home.enter()?;
    // `run` may have died before the death signal was asked for.
    if orphaned() {
        terminate(&init);
    }
    let code = wait(&init, &signals);
    // The lock that `run` removed with the sandbox may have a successor, and the sandbox with it.
    if orphaned()
        && let (Some(sandbox), Some(lock)) = (&spec.sandbox, &lock)
        && sandbox.is_held_by(lock)
        && let Err(error) = sandbox::remove(sandbox)
    {
        eprintln!("virt-launcher: {:#}", anyhow::Error::from(error));
    }
    Ok(code)
}

/// The host's namespaces: CNI plugins and the sandbox's own mount are there.
struct Home([(CloneFlags, File); 5]);

impl Home {
    fn remember() -> Result<Self, ShimError> {
        let open = |flag, name: &str| {
            let path = Path::new("/proc/self/ns").join(name);
            let file = File::open(&path).map_err(failed("open", &path))?;
            Ok((flag, file))
        };
        Ok(Self([
            open(CloneFlags::CLONE_NEWIPC, "ipc")?,
            open(CloneFlags::CLONE_NEWUTS, "uts")?,
            open(CloneFlags::CLONE_NEWNET, "net")?,
            // That of children: the pod's ends with its init, and then takes neither processes
            // nor threads any more.
            open(CloneFlags::CLONE_NEWPID, "pid")?,
            open(CloneFlags::CLONE_NEWNS, "mnt")?,
        ]))
    }

    fn enter(self) -> Result<(), ShimError> {
        self.0.into_iter().try_for_each(|(flag, namespace)| {
            setns(namespace, flag).map_err(failed("go back to", "the host's namespaces"))
        })
    }
}

/// Takes over a descriptor that `run` passed; init does not get it.
#[expect(
    unsafe_code,
    reason = "the number of an inherited descriptor comes as an argument"
)]
fn adopt(descriptor: i32) -> nix::Result<File> {
    // SAFETY: `run` passed the descriptor for this process to keep; nothing else here knows it.
    let file = unsafe { File::from_raw_fd(descriptor) };
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(file)
}

/// Enters the network namespace and makes the others, with the pod's file system.
fn enter(spec: &Spec) -> Result<(), ShimError> {
    match &spec.sandbox {
        Some(sandbox) => {
            let netns = sandbox.netns();
            let file = File::open(&netns).map_err(failed("open", &netns))?;
            setns(file, CloneFlags::CLONE_NEWNET).map_err(failed("enter", &netns))?;
        }
        None => unshare(CloneFlags::CLONE_NEWNET).map_err(failed("make", "a network namespace"))?,
    }
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(flags).map_err(failed("make", "the pod's namespaces"))?;
    nix::unistd::sethostname(&spec.hostname)
        .map_err(failed("set the host name", &spec.hostname))?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(failed("make private", "/"))?;
    // Before /run and /tmp are covered: they may lie below either. Not before the namespace was
    // made: a mount of another namespace cannot be bound.
    let outside = Outside::open(spec)?;
    for (target, mode) in [
        ("/run", "mode=755"),
        ("/tmp", "mode=1777"),
        ("/dev", "mode=755"),
    ] {
        tmpfs(target, mode)?;
    }
    devices(spec.accelerator)?;
    outside.mount(spec)?;
    etc(&spec.hostname)
}

/// What the pod sees of the host, opened by path before the paths are covered.
struct Outside {
    runtime: File,
    programs: Vec<(PathBuf, File)>,
    mounts: Vec<File>,
    sandbox: Option<File>,
    hugepages: Option<File>,
}

impl Outside {
    fn open(spec: &Spec) -> Result<Self, ShimError> {
        let own = std::env::current_exe().map_err(failed("find", "this program"))?;
        let programs = ["virt-launcher", "virt-worker"].map(|name| {
            let path = own.with_file_name(name);
            Ok((PathBuf::from(name), open_path(&path)?))
        });
        Ok(Self {
            runtime: open_path(&spec.runtime_dir)?,
            programs: programs.into_iter().collect::<Result<_, _>>()?,
            mounts: spec
                .mounts
                .iter()
                .map(|m| open_path(&m.source))
                .collect::<Result<_, _>>()?,
            sandbox: spec
                .sandbox
                .as_ref()
                .map(|sandbox| open_path(&sandbox.dir))
                .transpose()?,
            hugepages: open_path(Path::new("/dev/hugepages")).ok(),
        })
    }

    fn mount(&self, spec: &Spec) -> Result<(), ShimError> {
        let runtime = Path::new(RUNTIME_DIR);
        fs::create_dir_all(runtime).map_err(failed("make", runtime))?;
        bind(&self.runtime, runtime, false)?;
        for (given, source) in spec.mounts.iter().zip(&self.mounts) {
            bind(source, &runtime.join(&given.target), given.read_only)?;
        }
        fs::create_dir_all(PROGRAMS).map_err(failed("make", PROGRAMS))?;
        for (name, source) in &self.programs {
            let target = Path::new(PROGRAMS).join(name);
            File::create(&target).map_err(failed("make", &target))?;
            bind(source, &target, true)?;
        }
        if let Some(sandbox) = &self.sandbox {
            let target = Path::new(SANDBOX);
            let parent = target.parent().unwrap_or(target);
            fs::create_dir_all(target).map_err(failed("make", target))?;
            fs::set_permissions(parent, fs::Permissions::from_mode(0o700))
                .map_err(failed("close", parent))?;
            bind(sandbox, target, false)?;
        }
        if let Some(hugepages) = &self.hugepages {
            let target = Path::new("/dev/hugepages");
            fs::create_dir_all(target).map_err(failed("make", target))?;
            bind(hugepages, target, false)?;
        }
        Ok(())
    }
}

fn open_path(path: &Path) -> Result<File, ShimError> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty())
        .map(File::from)
        .map_err(failed("open", path))
}

fn bind(source: &File, target: &Path, read_only: bool) -> Result<(), ShimError> {
    let source = format!("/proc/self/fd/{}", source.as_raw_fd());
    mount(
        Some(source.as_str()),
        target,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(failed("mount", target))?;
    if read_only {
        remount_read_only(target)?;
    }
    Ok(())
}

fn remount_read_only(target: &Path) -> Result<(), ShimError> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        .map_err(failed("make read-only", target))
}

fn tmpfs(target: &str, options: &str) -> Result<(), ShimError> {
    mount(
        Some("tmpfs"),
        target,
        Some("tmpfs"),
        MsFlags::MS_NOSUID,
        Some(options),
    )
    .map_err(failed("mount", target))
}

/// The pod's own device nodes, which its user may open.
fn devices(accelerator: Accelerator) -> Result<(), ShimError> {
    for (name, major, minor) in DEVICES {
        device(&Path::new("/dev").join(name), major, minor)?;
    }
    fs::create_dir("/dev/net").map_err(failed("make", "/dev/net"))?;
    device(Path::new(crate::pod::TUN_DEVICE), 10, 200)?;
    if accelerator == Accelerator::Kvm {
        device(Path::new("/dev/kvm"), 10, 232)?;
    }
    for directory in ["/dev/shm", "/dev/pts"] {
        fs::create_dir(directory).map_err(failed("make", directory))?;
    }
    tmpfs("/dev/shm", "mode=1777")?;
    std::os::unix::fs::symlink("/proc/self/fd", "/dev/fd").map_err(failed("make", "/dev/fd"))
}

fn device(path: &Path, major: u64, minor: u64) -> Result<(), ShimError> {
    let mode = Mode::from_bits_truncate(0o666);
    mknod(path, SFlag::S_IFCHR, mode, makedev(major, minor)).map_err(failed("make", path))?;
    // mknod's mode is subject to the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(failed("open up", path))
}

/// Files of /etc that a kubelet or an image would bring.
///
/// libvirt looks its own user up, and Debian gives uid 107 away; it looks its host's name up as
/// well, and without an entry waits for a DNS server that is out of the pod's reach.
fn etc(hostname: &str) -> Result<(), ShimError> {
    let files = [
        (
            "passwd",
            format!("root:x:0:0:root:/:/bin/false\nqemu:x:{QEMU_ID}:{QEMU_ID}:qemu:/:/bin/false\n"),
        ),
        ("group", format!("root:x:0:\nqemu:x:{QEMU_ID}:\n")),
        (
            "hosts",
            format!("127.0.0.1 localhost {hostname}\n::1 localhost {hostname}\n"),
        ),
    ];
    for (name, text) in files {
        let source = Path::new("/run").join(name);
        fs::write(&source, text).map_err(failed("write", &source))?;
        bind(&open_path(&source)?, &Path::new("/etc").join(name), true)?;
    }
    Ok(())
}

/// Starts init as PID 1 of the new namespace.
#[expect(
    unsafe_code,
    reason = "the new /proc can only be mounted from inside the PID namespace"
)]
fn start(spec: &Spec) -> Result<Child, ShimError> {
    let program = Path::new(PROGRAMS).join("virt-launcher");
    let mut command = Command::new(&program);
    command.arg("init").args(&spec.init);
    // SAFETY: between fork and exec of a process with one thread; only system calls.
    unsafe {
        command.pre_exec(|| {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)?;
            // As in every container: settings go by netlink, or not at all.
            let bind = MsFlags::MS_BIND;
            mount(
                Some("/proc/sys"),
                "/proc/sys",
                None::<&str>,
                bind,
                None::<&str>,
            )?;
            let read_only = bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(
                None::<&str>,
                "/proc/sys",
                None::<&str>,
                read_only,
                None::<&str>,
            )?;
            Ok(())
        })
    };
    command.spawn().map_err(failed("start", &program))
}

/// Waits for init's end, and passes requests to end on to it.
fn wait(init: &Child, signals: &SigSet) -> u8 {
    let pid = Pid::from_raw(init.id().cast_signed());
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return u8::try_from(code).unwrap_or(u8::MAX),
            // As a shell tells of it: 128 and the signal.
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                eprintln!("virt-launcher: init was killed by {signal}");
                return 128 | (signal as u8);
            }
            Err(nix::Error::ECHILD) => return u8::MAX,
            _ => {}
        }
        if let Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP) = signals.wait() {
            terminate(init);
        }
    }
}

fn terminate(init: &Child) {
    // It may have ended since; the wait finds out.
    let _ = kill(Pid::from_raw(init.id().cast_signed()), Signal::SIGTERM);
}

/// Gives a file to the pod's user.
///
/// # Errors
/// [`ShimError`], naming the file.
pub(super) fn give(path: &Path) -> Result<(), ShimError> {
    chown(path, Some(QEMU_ID), Some(QEMU_ID)).map_err(failed("give away", path))
}
