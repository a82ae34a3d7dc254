//! Stage 2: one worker at a time, every orphan reaped at once.

use std::error::Error;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{InitArgs, VM_FAILED, last_words, take_over};
use crate::pod::Pod;

/// The worker's file name; it lies beside this program.
const WORKER: &str = "virt-worker";

/// A worker that lived this long was well: its successor starts at once.
const HEALTHY: Duration = Duration::from_secs(10);

/// The first and the longest pause before a worker that keeps dying is started again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));

/// Early deaths in a row after which init gives up, unless a QEMU is there to be looked after.
const PATIENCE: u32 = 8;

/// Why init cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// The worker's program cannot be executed.
    #[error("cannot start {path}")]
    Spawn {
        /// The program.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A call that has no reason to fail failed.
    #[error("cannot {operation}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// The worker dies again and again.
    #[error("the worker died {PATIENCE} times in a row, last {last}; its log tells why")]
    GivenUp {
        /// How it died last.
        last: String,
    },
}

fn kernel(operation: &'static str) -> impl Fn(Errno) -> SuperviseError {
    move |source| SuperviseError::Kernel { operation, source }
}

/// Runs workers until one says that the VM has ended; returns the exit status.
///
/// # Errors
/// [`SuperviseError`]; the VM ends with init then.
pub fn supervise(args: &InitArgs) -> Result<u8, SuperviseError> {
    let held = args.held.iter().map(|held| take_over(*held));
    // Open for as long as init lives, which is what other containers wait for.
    let _held = held
        .collect::<Result<Vec<_>, _>>()
        .map_err(kernel("keep what stage 1 opened"))?;
    let outcome = look_after(args);
    if let (Err(error), Some(log)) = (&outcome, args.termination_descriptor)
        && let Ok(log) = take_over(log)
    {
        last_words::write(&mut log.into(), &line(error));
    }
    outcome
}

/// An error with its cause.
fn line(error: &SuperviseError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn look_after(args: &InitArgs) -> Result<u8, SuperviseError> {
    let signals = SigSet::all();
    signals.thread_block().map_err(kernel("block signals"))?;
    let inbox = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(kernel("open a signal descriptor"))?;
    let mut restarts = Restarts::default();
    let mut terminate = false;
    loop {
        let worker = spawn(args)?;
        let born = Instant::now();
        if terminate {
            forward(worker, Signal::SIGTERM);
        }
        let death = loop {
            if let Some(death) = reap(worker)? {
                break death;
            }
            wait(&inbox, None)?;
            terminate |= relay(&inbox, Some(worker));
        };
        match death {
            Death::Exit(0) => return Ok(0),
            Death::Exit(VM_FAILED) => return Ok(VM_FAILED),
            Death::Exit(code) if args.probe => return Ok(code),
            Death::Signal(_) if args.probe => {
                return Err(SuperviseError::GivenUp {
                    last: death.to_string(),
                });
            }
            death => {
                let Some(pause) = restarts.next(born.elapsed(), others_live()) else {
                    return Err(SuperviseError::GivenUp {
                        last: death.to_string(),
                    });
                };
                eprintln!("virt-launcher: the worker ended ({death}); starting a new one");
                let until = Instant::now() + pause;
                while let Some(rest) = until.checked_duration_since(Instant::now()) {
                    wait(&inbox, Some(rest))?;
                    terminate |= relay(&inbox, None);
                    reap(worker)?;
                }
            }
        }
    }
}

/// When a worker that died is started again: pure.
#[derive(Default)]
struct Restarts {
    early: u32,
}

impl Restarts {
    /// The pause before the next start; `None` to give up.
    fn next(&mut self, lived: Duration, others_live: bool) -> Option<Duration> {
        self.early = if lived >= HEALTHY { 0 } else { self.early + 1 };
        if self.early >= PATIENCE && !others_live {
            return None;
        }
        let doubled = PAUSE
            .0
            .saturating_mul(1 << self.early.saturating_sub(1).min(20));
        Some(if self.early <= 1 {
            Duration::ZERO
        } else {
            doubled.min(PAUSE.1)
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Exit(u8),
    Signal(Signal),
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "by exit status {code}"),
            Self::Signal(signal) => write!(f, "by {signal}"),
        }
    }
}

fn spawn(args: &InitArgs) -> Result<Pid, SuperviseError> {
    let program = worker_program();
    let pod = Pod::new(&args.runtime_dir);
    let mut command = Command::new(&program);
    command
        .arg(if args.probe { "probe" } else { "run" })
        .arg("--runtime-dir")
        .arg(pod.dir())
        .arg("--accelerator")
        .arg(args.accelerator.to_string());
    for sockets in &args.packet_sockets {
        command.arg("--packet-sockets").arg(sockets.to_string());
    }
    for file in &args.container_disk_file {
        command.arg("--container-disk-file").arg(file.to_string());
    }
    for file in &args.kernel_boot_file {
        command.arg("--kernel-boot-file").arg(file.to_string());
    }
    if let (Some(log), false) = (args.termination_descriptor, args.probe) {
        command.arg("--termination-descriptor").arg(log.to_string());
    }
    if let (Some(began), false) = (args.began, args.probe) {
        command.arg("--init-began").arg(began.to_string());
    }
    command
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", pod.dir())
        .env("TMPDIR", pod.dir())
        // One arena serves a process that is idle nearly always; each more costs its own pages.
        .env("MALLOC_ARENA_MAX", "1")
        .env(
            "LIBVIRT_LOG_OUTPUTS",
            format!("3:file:{}", pod.dir().join("libvirt.log").display()),
        );
    let child = command.spawn().map_err(|source| SuperviseError::Spawn {
        path: program,
        source,
    })?;
    // A process id fits: the kernel's own type is an i32.
    Ok(Pid::from_raw(child.id().cast_signed()))
}

fn worker_program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().unwrap_or(Path::new("/usr/bin")).join(WORKER)
}

/// Reaps all that has ended; tells of the worker's end.
fn reap(worker: Pid) -> Result<Option<Death>, SuperviseError> {
    let mut death = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == worker => {
                death = Some(Death::Exit(u8::try_from(code).unwrap_or(u8::MAX)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == worker => {
                death = Some(Death::Signal(signal));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(death),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(kernel("wait for children")(errno)),
        }
    }
}

/// Whether any child is left: a QEMU, most likely.
fn others_live() -> bool {
    !matches!(
        waitpid(None, Some(WaitPidFlag::WNOHANG)),
        Err(Errno::ECHILD)
    )
}

fn wait(inbox: &SignalFd, timeout: Option<Duration>) -> Result<(), SuperviseError> {
    let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
        PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    });
    match poll(
        &mut [PollFd::new(inbox.as_fd(), PollFlags::POLLIN)],
        timeout,
    ) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(kernel("wait for a signal")(errno)),
    }
}

/// Passes signals on; tells whether one of them asks for the end.
fn relay(inbox: &SignalFd, worker: Option<Pid>) -> bool {
    let mut terminate = false;
    while let Ok(Some(info)) = inbox.read_signal() {
        let signal = i32::try_from(info.ssi_signo)
            .ok()
            .and_then(|n| Signal::try_from(n).ok());
        if let Some(Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT) = signal {
            terminate = true;
            if let Some(worker) = worker {
                forward(worker, Signal::SIGTERM);
            }
        }
    }
    terminate
}

fn forward(worker: Pid, signal: Signal) {
    // It may have ended since; the reaper finds out.
    let _ = kill(worker, signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: Duration = Duration::from_millis(50);

    #[test]
    fn a_worker_that_was_well_is_replaced_at_once() {
        let mut restarts = Restarts::default();
        for _ in 0..100 {
            assert_eq!(restarts.next(HEALTHY, false), Some(Duration::ZERO));
        }
    }

    #[test]
    fn early_deaths_are_answered_with_growing_pauses_and_then_given_up() {
        let mut restarts = Restarts::default();
        let pauses: Vec<_> = std::iter::from_fn(|| restarts.next(EARLY, false)).collect();
        assert_eq!(pauses.len(), PATIENCE as usize - 1);
        assert_eq!(pauses[0], Duration::ZERO);
        assert!(
            pauses.windows(2).all(|pair| pair[0] < pair[1]),
            "{pauses:?}"
        );
    }

    #[test]
    fn a_guest_is_never_given_up() {
        let mut restarts = Restarts::default();
        let longest = (0..1000).filter_map(|_| restarts.next(EARLY, true)).max();
        assert_eq!(longest, Some(PAUSE.1));
    }

    #[test]
    fn a_healthy_life_forgives_earlier_deaths() {
        let mut restarts = Restarts::default();
        for _ in 0..PATIENCE - 1 {
            restarts.next(EARLY, false);
        }
        assert_eq!(restarts.next(HEALTHY, false), Some(Duration::ZERO));
        assert_eq!(restarts.next(EARLY, false), Some(Duration::ZERO));
    }
}
