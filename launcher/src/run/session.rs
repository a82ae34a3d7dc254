//! One VM while it runs: its events become the timeline, the user's wishes become calls.

use std::fs::File;
use std::io::IsTerminal;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use crds::VirtualMachineInstance;
use launcher_api::{Event, EventKind, GetStatusRequest, ShutdownRequest, WatchRequest};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::time::{ClockId, clock_gettime};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::console::{self, Left};
use super::sandbox::{Lock, Sandbox};
use super::shim::Spec;
use super::timeline::Timeline;
use super::{Until, ping};
use crate::lifecycle::{Outcome, Record};
use crate::pod::{self, Pod};

/// The pause between two attempts to reach a launcher that is starting (again).
const RETRY: Duration = Duration::from_millis(10);

/// The user's session at the serial console.
type Attached = tokio::task::JoinHandle<Result<Left, console::ConsoleError>>;

/// A running VM.
pub(super) struct Session {
    runtime_dir: PathBuf,
    log: PathBuf,
    child: Child,
    has_console: bool,
}

/// What ends one round of waiting.
enum Next {
    Event(Event),
    Answered,
    Asked,
    Console(Result<Left, console::ConsoleError>),
    TimedOut,
    Ended(std::process::ExitStatus),
}

impl Session {
    /// Starts the sandbox's processes.
    pub(super) fn start(
        sandbox: &Sandbox,
        spec: &Spec,
        lock: &Lock,
        vmi: &VirtualMachineInstance,
    ) -> anyhow::Result<Self> {
        let path = sandbox.dir.join("spec.json");
        pod::write_json(&path, spec)?;
        let log = File::create(sandbox.log())
            .with_context(|| format!("cannot write {}", sandbox.log().display()))?;
        // The child holds the lock as well, and lets go of it only by ending.
        fcntl(&**lock, FcntlArg::F_SETFD(FdFlag::empty())).context("cannot pass the lock on")?;
        let child = Command::new(std::env::current_exe()?)
            .args(["sandbox", "--lock", &lock.as_raw_fd().to_string(), "--spec"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the sandbox")?;
        fcntl(&**lock, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context("cannot keep the lock")?;
        let console = vmi
            .spec
            .domain
            .devices
            .autoattach_serial_console
            .unwrap_or(true);
        Ok(Self {
            runtime_dir: sandbox.runtime_dir(),
            log: sandbox.log(),
            child,
            has_console: console,
        })
    }

    /// Follows the VM to its end.
    ///
    /// # Errors
    /// Where the VM failed, or did not get ready in time.
    pub(super) async fn follow(
        &mut self,
        timeline: &mut Timeline,
        until: Option<(Until, Duration)>,
        with_console: bool,
    ) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let (sender, mut events) = mpsc::channel(16);
        tokio::spawn(watch(self.runtime_dir.clone(), sender));
        let mut story = Story::default();
        let mut asked = 0_u32;
        let mut pinged: Option<Ipv4Addr> = None;
        let mut console: Option<Attached> = None;
        let deadline = until.map(|(_, limit)| tokio::time::Instant::now() + limit);
        timeline.doing("starting the launcher");
        loop {
            let next = tokio::select! {
                biased;
                Some(event) = events.recv() => Next::Event(event),
                _ = interrupt.recv() => Next::Asked,
                _ = terminate.recv() => Next::Asked,
                _ = hangup.recv() => Next::Asked,
                result = answered(pinged) => {
                    result.context("cannot ping")?;
                    Next::Answered
                }
                left = leave(&mut console) => Next::Console(left),
                () = until_deadline(deadline) => Next::TimedOut,
                status = self.child.wait() => Next::Ended(status?),
            };
            match next {
                Next::Event(event) => {
                    story.note(&event);
                    if console.is_none() {
                        self.tell(timeline, &event);
                    }
                    match event.kind() {
                        EventKind::GuestRunning if !story.over && asked == 0 => {
                            let wanted = with_console && self.has_console && until.is_none();
                            if wanted && terminal && console.is_none() {
                                timeline.note("serial console: Ctrl-] leaves it");
                                timeline.pause();
                                let dir = self.runtime_dir.clone();
                                let session = async move { console::attach(&dir).await };
                                console = Some(tokio::spawn(session));
                            } else {
                                timeline.doing("the guest boots");
                            }
                        }
                        EventKind::LeaseGranted if !story.ready => {
                            pinged = self.address().await;
                        }
                        _ => {}
                    }
                }
                Next::Answered => {
                    pinged = None;
                    story.ready = true;
                    if console.is_none() {
                        timeline.done("guest-ready", "the guest answers a ping");
                    }
                    if until.is_some() {
                        asked += 1;
                        self.shut_down(None).await;
                    }
                }
                Next::Asked => {
                    asked += 1;
                    let now = asked > 1;
                    timeline.note(if now {
                        "powering off"
                    } else {
                        "Ctrl-C again powers off"
                    });
                    self.shut_down(now.then_some(0)).await;
                }
                Next::Console(left) => {
                    console = None;
                    timeline.resume();
                    if let Err(error) = left {
                        timeline.note(&format!("warning: {error}"));
                    }
                    timeline.note("left the console; Ctrl-C shuts the VM down");
                }
                Next::TimedOut => {
                    self.shut_down(Some(0)).await;
                    self.child.wait().await?;
                    bail!(
                        "the guest was not ready {} s after the start: {}",
                        timeline.elapsed().as_secs(),
                        story.missing()
                    );
                }
                Next::Ended(status) => {
                    if let Some(console) = console.take() {
                        // The terminal is put back before anything is told.
                        console.abort();
                        let _ = console.await;
                        timeline.resume();
                    }
                    // Events that were on their way.
                    while let Ok(event) = events.try_recv() {
                        story.note(&event);
                        self.tell(timeline, &event);
                    }
                    if story.failure.is_none()
                        && let Some(cause) = self.failure()
                    {
                        timeline.done("failed", &cause);
                        story.failure = Some(cause);
                    }
                    return self.verdict(status, &story, until.is_some());
                }
            }
        }
    }

    fn tell(&self, timeline: &Timeline, event: &Event) {
        let kind = event.kind().as_str_name();
        let kind = kind
            .trim_start_matches("EVENT_KIND_")
            .to_ascii_lowercase()
            .replace('_', "-");
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        let age = now.saturating_sub(Duration::from_micros(event.monotonic_us));
        timeline.at(
            timeline.elapsed().saturating_sub(age),
            &kind,
            &event.message,
        );
    }

    async fn address(&self) -> Option<Ipv4Addr> {
        let mut client = launcher_api::connect(&self.runtime_dir).await.ok()?;
        let status = client
            .get_status(GetStatusRequest {})
            .await
            .ok()?
            .into_inner();
        status
            .interfaces
            .iter()
            .find_map(|interface| ping::host_part(&interface.address))
    }

    /// Asks the launcher; where it cannot be reached, its parent.
    async fn shut_down(&self, grace_seconds: Option<u32>) {
        let called = async {
            let mut client = launcher_api::connect(&self.runtime_dir).await.ok()?;
            client
                .shutdown(ShutdownRequest { grace_seconds })
                .await
                .ok()
        };
        if called.await.is_none()
            && let Some(id) = self.child.id()
        {
            let pid = nix::unistd::Pid::from_raw(id.cast_signed());
            // It may have ended since.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
    }

    /// Why the VM failed, as the worker wrote it down: one that failed at once was gone before
    /// anybody could watch it.
    fn failure(&self) -> Option<String> {
        let record = Pod::new(&self.runtime_dir).record();
        match pod::read_json::<Record>(&record).ok()?.outcome? {
            Outcome::Failed(cause) => Some(cause),
            Outcome::Succeeded(_) => None,
        }
    }

    fn verdict(
        &self,
        status: std::process::ExitStatus,
        story: &Story,
        must_be_ready: bool,
    ) -> anyhow::Result<()> {
        if let Some(cause) = &story.failure {
            bail!("the VM failed: {cause}");
        }
        if !status.success() {
            bail!("{}", last_words(&self.log, status));
        }
        if must_be_ready && !story.ready {
            bail!(
                "the VM ended before the guest was ready: {}",
                story.missing()
            );
        }
        Ok(())
    }
}

/// What is known so far.
#[derive(Default)]
struct Story {
    running: bool,
    leased: bool,
    ready: bool,
    over: bool,
    failure: Option<String>,
}

impl Story {
    fn note(&mut self, event: &Event) {
        match event.kind() {
            EventKind::GuestRunning | EventKind::DomainAdopted => self.running = true,
            EventKind::LeaseGranted => self.leased = true,
            EventKind::Succeeded => self.over = true,
            EventKind::Failed => {
                self.over = true;
                self.failure = Some(event.message.clone());
            }
            _ => {}
        }
    }

    fn missing(&self) -> &'static str {
        match (self.running, self.leased) {
            (false, _) => "its vCPUs never ran",
            (true, false) => "it took no lease; look at its console (`run` on a terminal)",
            (true, true) => "it holds its lease and answers no ping from this host",
        }
    }
}

/// Passes the launcher's events on, over every worker that the VM ever has.
async fn watch(runtime_dir: PathBuf, events: mpsc::Sender<Event>) {
    let mut over = false;
    while !over && !events.is_closed() {
        let stream = async {
            let mut client = launcher_api::connect(&runtime_dir).await.ok()?;
            client.watch(WatchRequest {}).await.ok()
        };
        let Some(stream) = stream.await else {
            sleep(RETRY).await;
            continue;
        };
        let mut stream = stream.into_inner();
        while let Ok(Some(event)) = stream.message().await {
            over = matches!(event.kind(), EventKind::Succeeded | EventKind::Failed);
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

async fn answered(address: Option<Ipv4Addr>) -> std::io::Result<()> {
    match address {
        Some(address) => ping::until_answered(address).await,
        None => std::future::pending().await,
    }
}

async fn leave(console: &mut Option<Attached>) -> Result<Left, console::ConsoleError> {
    match console {
        Some(session) => session.await.unwrap_or(Ok(Left::ByLauncher)),
        None => std::future::pending().await,
    }
}

async fn until_deadline(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The last line that init or the worker wrote.
fn last_words(log: &std::path::Path, status: std::process::ExitStatus) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    let words = last.map(|line| line.trim_start_matches("virt-launcher: ").to_owned());
    words.unwrap_or_else(|| format!("the launcher ended with {status}"))
}
