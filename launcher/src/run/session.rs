//! One VM while it runs: its events become the timeline, the user's wishes become calls.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use crds::VirtualMachineInstance;
use futures::FutureExt;
use launcher_api::{Event, EventKind, GetStatusRequest, ShutdownRequest};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{Signal as Number, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::console::{self, Left};
use super::sandbox::{Attached, Lock, Sandbox};
use super::shim::Spec;
use super::story::{RETRY, Story, watch, word};
use super::timeline::Timeline;
use super::{Until, cni, ping};
use crate::lifecycle::{Outcome, Record};
use crate::pod;

/// How long one call to the launcher may take: a worker that hangs must not hang its user.
const CALL: Duration = Duration::from_secs(2);

/// How long a VM that was told to power off may take before its processes are killed.
const POWER_OFF: Duration = Duration::from_secs(15);

/// How long the last events may be on their way: nearly always they end at once.
const FAREWELL: Duration = Duration::from_secs(10);

/// The largest record that a worker writes, in bytes.
const RECORD: u64 = 64 * 1024;

/// The user's session at the serial console.
type Attachment = tokio::task::JoinHandle<Result<Left, console::ConsoleError>>;

/// The signals that ask for the end, from the moment when there is something to remove.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    /// Takes SIGINT, SIGTERM and SIGHUP.
    pub(super) fn take() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Waits for one of them.
    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }

    /// Whether one has come already.
    pub(super) fn came(&mut self) -> bool {
        self.asked().now_or_never().is_some()
    }
}

/// A running VM.
pub(super) struct Session {
    runtime_dir: PathBuf,
    log: PathBuf,
    child: Child,
    /// Whether the user's terminal is to have the console.
    with_console: bool,
    until: Option<Until>,
    story: Story,
    /// How often the user has asked for the end.
    asked: u32,
    /// The interface that the guest is asked at for a sign of life.
    asked_at: Option<String>,
    /// The network namespace that it is asked from, where that is not this host's.
    asked_from: Option<PathBuf>,
    /// The guest may hold an address, and has not answered there.
    pinging: bool,
    console: Option<Attachment>,
    /// The console went away with a worker; the next one has it again.
    reattach: bool,
    /// When the processes are killed.
    kill_at: Option<Instant>,
    /// Why the VM is given up.
    given_up: Option<String>,
}

/// What ends one round of waiting.
enum Next {
    Event(Event),
    Answered(std::io::Result<()>),
    Asked,
    Console(Result<Left, console::ConsoleError>),
    TimedOut,
    Stuck,
    Ended(ExitStatus),
}

impl Session {
    /// Starts the sandbox's processes.
    pub(super) fn start(
        sandbox: &Sandbox,
        spec: &Spec,
        lock: &Lock,
        vmi: &VirtualMachineInstance,
        until: Option<Until>,
        with_console: bool,
    ) -> anyhow::Result<Self> {
        let path = sandbox.dir.join("spec.json");
        pod::write_json(&path, spec)?;
        let log = File::create(sandbox.log())
            .with_context(|| format!("cannot write {}", sandbox.log().display()))?;
        // What the child leaves when it is killed comes to us, to be waited for.
        prctl::set_child_subreaper(true).context("cannot look after the VM's processes")?;
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
        let devices = &vmi.spec.domain.devices;
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let reached = reached(sandbox);
        // The guest's own address is known to the pod alone then, and it is the pod that may answer
        // for the pod's.
        let masquerade = reached.is_some_and(|reached| reached.masquerade);
        let has_console = devices.autoattach_serial_console.unwrap_or(true);
        Ok(Self {
            runtime_dir: sandbox.runtime_dir(),
            log: sandbox.log(),
            child,
            with_console: with_console && has_console && terminal && until.is_none(),
            until,
            story: Story::default(),
            asked: 0,
            asked_at: reached.map(|reached| reached.name.clone()),
            asked_from: masquerade.then(|| sandbox.netns()),
            pinging: false,
            console: None,
            reattach: false,
            kill_at: None,
            given_up: None,
        })
    }

    /// Follows the VM to its end; `limit` is for what `--until` waits for.
    ///
    /// # Errors
    /// Where the VM failed, or did not get ready in time.
    pub(super) async fn follow(
        &mut self,
        timeline: &mut Timeline,
        signals: &mut Signals,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let (sender, mut events) = mpsc::channel(16);
        let ended = Arc::<AtomicBool>::default();
        tokio::spawn(watch(self.runtime_dir.clone(), sender, Arc::clone(&ended)));
        let mut deadline = self.until.map(|_| Instant::now() + limit);
        timeline.doing("starting the launcher");
        loop {
            let next = tokio::select! {
                biased;
                Some(event) = events.recv() => Next::Event(event),
                () = signals.asked() => Next::Asked,
                result = until_answered(
                    &self.runtime_dir,
                    self.asked_at.as_deref(),
                    self.asked_from.as_deref(),
                ), if self.pinging => Next::Answered(result),
                left = leave(&mut self.console) => Next::Console(left),
                () = at(deadline) => Next::TimedOut,
                () = at(self.kill_at) => Next::Stuck,
                status = self.child.wait() => Next::Ended(status?),
            };
            match next {
                Next::Event(event) => self.heard(timeline, &event),
                Next::Answered(result) => self.answered(timeline, result).await,
                Next::Asked => self.asked(timeline).await,
                Next::Console(left) => self.left(timeline, left),
                Next::TimedOut => {
                    deadline = None;
                    self.given_up = Some(format!(
                        "the guest was not ready {} s after the start: {}",
                        timeline.elapsed().as_secs(),
                        self.story.missing()
                    ));
                    self.power_off().await;
                }
                Next::Stuck => {
                    timeline.note("warning: the VM does not end; killing its processes");
                    self.kill_at = None;
                    self.signal(Number::SIGKILL);
                }
                Next::Ended(status) => {
                    ended.store(true, Ordering::Relaxed);
                    self.told_last(timeline, &mut events).await;
                    return self.verdict(status);
                }
            }
        }
    }

    /// Ends what may still run of the VM: nothing is removed beneath a living guest.
    pub(super) async fn end(&mut self) {
        for (number, patience) in [(Number::SIGTERM, POWER_OFF), (Number::SIGKILL, CALL)] {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            self.signal(number);
            let _ = timeout(patience, self.child.wait()).await;
        }
        let until = Instant::now() + POWER_OFF;
        while waitpid(None, Some(WaitPidFlag::WNOHANG)) != Err(Errno::ECHILD)
            && Instant::now() < until
        {
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn heard(&mut self, timeline: &Timeline, event: &Event) {
        self.story.note(event);
        if self.console.is_none() {
            tell(timeline, event);
        }
        match event.kind() {
            EventKind::GuestRunning if !self.story.over && self.asked == 0 => {
                if self.with_console && self.console.is_none() {
                    self.attach(timeline);
                } else {
                    timeline.doing("the guest boots");
                }
            }
            EventKind::DomainAdopted if self.reattach => self.attach(timeline),
            _ => {}
        }
        // A worker that was killed may have granted the lease and told nobody.
        let may_hold = [EventKind::LeaseGranted, EventKind::DomainAdopted].contains(&event.kind());
        self.pinging |= may_hold && !self.story.ready;
    }

    fn attach(&mut self, timeline: &Timeline) {
        timeline.note("serial console: Ctrl-] leaves it");
        timeline.pause();
        self.reattach = false;
        let dir = self.runtime_dir.clone();
        let session = async move { console::attach(launcher_api::connect(&dir).await?).await };
        self.console = Some(tokio::spawn(session));
    }

    fn left(&mut self, timeline: &mut Timeline, left: Result<Left, console::ConsoleError>) {
        self.console = None;
        timeline.resume();
        match left {
            Ok(Left::ByUser) => timeline.note("left the console; Ctrl-C shuts the VM down"),
            Ok(Left::ByLauncher) => self.reattach = true,
            Err(error) => timeline.note(&format!("warning: {error}")),
        }
    }

    async fn answered(&mut self, timeline: &Timeline, result: std::io::Result<()>) {
        self.pinging = false;
        if let Err(error) = result {
            timeline.note(&format!("warning: cannot ping the guest: {error}"));
            return;
        }
        self.story.ready = true;
        if self.console.is_none() {
            timeline.done("guest-ready", "the guest answers a ping");
        }
        if self.until.is_some() {
            self.asked += 1;
            self.shut_down(None).await;
        }
    }

    async fn asked(&mut self, timeline: &Timeline) {
        self.asked += 1;
        if self.asked > 1 {
            timeline.note("powering off");
            self.power_off().await;
        } else {
            timeline.note("shutting the guest down; a second Ctrl-C powers it off");
            self.shut_down(None).await;
        }
    }

    async fn power_off(&mut self) {
        self.kill_at.get_or_insert(Instant::now() + POWER_OFF);
        self.shut_down(Some(0)).await;
    }

    /// What was on its way when the processes ended.
    async fn told_last(&mut self, timeline: &mut Timeline, events: &mut mpsc::Receiver<Event>) {
        if let Some(console) = self.console.take() {
            // The terminal is put back before anything is told.
            console.abort();
            let _ = console.await;
            timeline.resume();
        }
        let until = Instant::now() + FAREWELL;
        while let Ok(Some(event)) = tokio::time::timeout_at(until, events.recv()).await {
            self.story.note(&event);
            tell(timeline, &event);
        }
        if self.story.over {
            return;
        }
        match self.recorded_outcome() {
            Some(Outcome::Failed(cause)) => {
                timeline.done("failed", &cause);
                self.story.failure = Some(cause);
            }
            Some(Outcome::Succeeded(reason)) => timeline.done("succeeded", &reason),
            None => {}
        }
    }

    /// Asks the launcher; where it does not answer, its parent.
    async fn shut_down(&self, grace_seconds: Option<u32>) {
        let called = async {
            let mut client = launcher_api::connect(&self.runtime_dir).await.ok()?;
            client
                .shutdown(ShutdownRequest { grace_seconds })
                .await
                .ok()
        };
        if !matches!(timeout(CALL, called).await, Ok(Some(_))) {
            self.signal(Number::SIGTERM);
        }
    }

    fn signal(&self, number: Number) {
        if let Some(id) = self.child.id() {
            // It may have ended since.
            let _ = kill(Pid::from_raw(id.cast_signed()), number);
        }
    }

    /// How the VM ended, as the worker wrote it down: one that ended at once was gone before anybody
    /// could watch it.
    fn recorded_outcome(&self) -> Option<Outcome> {
        let text = launcher_api::read_beneath(&self.runtime_dir, pod::RECORD, RECORD).ok()?;
        serde_json::from_slice::<Record>(&text).ok()?.outcome
    }

    fn verdict(&self, status: ExitStatus) -> anyhow::Result<()> {
        if let Some(why) = &self.given_up {
            bail!("{why}");
        }
        if let Some(cause) = &self.story.failure {
            bail!("the VM failed: {cause}");
        }
        if !status.success() {
            return Err(anyhow!(last_words(&self.log, status)));
        }
        if self.until.is_some() && !self.story.ready {
            bail!(
                "the VM ended before the guest was ready: {}",
                self.story.missing()
            );
        }
        Ok(())
    }
}

/// Asks the guest at the addresses that it holds on `interface` until it answers; waits for ever
/// where it holds none.
///
/// # Errors
/// Where it cannot be asked.
async fn until_answered(
    runtime_dir: &Path,
    interface: Option<&str>,
    netns: Option<&Path>,
) -> std::io::Result<()> {
    let addresses = held_addresses(runtime_dir, interface).await;
    ping::until_answered(&addresses, netns).await
}

/// The addresses that the guest holds on `interface`, once the launcher tells: one that is busy, or
/// starts again, is asked again.
async fn held_addresses(runtime_dir: &Path, interface: Option<&str>) -> Vec<IpAddr> {
    let asked = async || {
        let mut client = launcher_api::connect(runtime_dir).await.ok()?;
        let status = client.get_status(GetStatusRequest {}).await.ok()?;
        Some(status.into_inner())
    };
    let status = loop {
        if let Ok(Some(status)) = timeout(CALL, asked()).await {
            break status;
        }
        sleep(RETRY).await;
    };
    let interfaces = status.interfaces.iter();
    interfaces
        .filter(|own| Some(&*own.name) == interface)
        .flat_map(|own| &own.addresses)
        .filter(|address| address.leased)
        .filter_map(|address| cni::host_part(&address.address))
        .collect()
}

fn tell(timeline: &Timeline, event: &Event) {
    let then = timeline.moment(event.monotonic_us);
    timeline.at(then, &word(event), &event.message);
}

/// The network that the guest can be reached on: the first that has an address, which is the pod's
/// own where that has one.
fn reached(sandbox: &Sandbox) -> Option<&Attached> {
    let mut attached = sandbox.attached.iter();
    attached.find(|attached| cni::addresses(&attached.result).next().is_some())
}

async fn leave(console: &mut Option<Attachment>) -> Result<Left, console::ConsoleError> {
    match console {
        Some(session) => session.await.unwrap_or(Ok(Left::ByLauncher)),
        None => std::future::pending().await,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// The last thing that a program of ours said: what it says for people begins with its name.
fn last_words(log: &Path, status: ExitStatus) -> String {
    /// The end of a log, in bytes.
    const END: u64 = 64 * 1024;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
        let mut end = vec![];
        file.take(END).read_to_end(&mut end)?;
        Ok(end)
    };
    let end = read().unwrap_or_default();
    let said = String::from_utf8_lossy(&end);
    let ours = |line: &'_ str| {
        let names = ["virt-launcher: ", "virt-worker: "];
        names
            .iter()
            .find_map(|name| line.strip_prefix(name).map(str::to_owned))
    };
    let words = said.lines().rev().find_map(ours);
    words.unwrap_or_else(|| format!("the launcher ended with {status}"))
}

#[cfg(test)]
mod tests {
    use launcher_api::SOCKET;
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_launcher_that_does_not_answer_is_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let asked = async {
            // The first is refused, as by a worker that is killed.
            drop(listener.accept().await.unwrap());
            listener.accept().await.unwrap()
        };
        tokio::select! {
            addresses = held_addresses(dir.path(), Some("default")) => panic!("{addresses:?}"),
            asked = timeout(Duration::from_secs(60), asked) => drop(asked.unwrap()),
        }
    }
}
