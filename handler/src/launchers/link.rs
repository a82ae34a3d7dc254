//! One launcher: reached, listened to, reached again.
//!
//! Everything that comes from here is a hostile launcher's to choose. Each call has a deadline, each
//! message a size, events are read at a bounded rate (what is not read waits in the launcher), and
//! only the newest of what they lead to is kept.

use std::time::Duration;

use kube_client::ResourceExt;
use launcher_api::{Event, EventKind, GetGuestInfoRequest, GetStatusRequest, Status, WatchRequest};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::bucket::Bucket;
use super::socket::{Client, Place};
use super::{Launcher, Launchers, Seen};
use crate::events::{Events, Note};
use crate::status::{Agent, Ended, Observed, Report, Stage, line};

/// The first pause and the longest before a launcher that went away is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long a launcher may take to answer.
const CALL: Duration = Duration::from_secs(2);

/// How long a guest's agent may take.
const AGENT_CALL: Duration = Duration::from_secs(10);

/// How often the launcher and the agent are asked where no event makes us ask.
const REFRESH: Duration = Duration::from_secs(60);

/// When the launcher is asked after an event, each time counted from the one before: it looks at
/// its domain once it has told that it runs, and has no event for what it finds.
const SETTLING: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
];

/// Events that are read at once, more than a worker keeps, and then one a period.
const EVENTS: (u32, Duration) = (600, Duration::from_millis(50));

/// A launcher's warnings that become Events of the VMI: so many at once, then one a period.
const WARNINGS: (u32, Duration) = (5, Duration::from_secs(60));

/// The longest warning, in characters.
const WARNING: usize = 250;

/// The way from one VMI to its launcher, and where what it says goes.
pub(super) struct Link<'a> {
    pub(super) place: Place,
    pub(super) launchers: &'a Launchers,
    pub(super) events: &'a Events,
    pub(super) seen: &'a watch::Receiver<Seen>,
    pub(super) observed: &'a watch::Sender<Observed>,
}

impl Link<'_> {
    /// Follows the launcher for ever, over every worker that it has.
    pub(super) async fn keep(&self) {
        let mut warnings = Warnings::new(self.seen);
        let mut pause = PAUSES.0;
        let mut told = String::new();
        loop {
            let born = Instant::now();
            let problem = match self.place.connect().await {
                Ok(client) => {
                    let session = Session {
                        link: self,
                        client,
                        warnings: &mut warnings,
                    };
                    session.run().await.err().map(|error| error.to_string())
                }
                Err(error) => Some(error.to_string()),
            };
            if born.elapsed() > PAUSES.1 {
                pause = PAUSES.0;
            }
            // A launcher that is starting, or between two workers, refuses for a moment.
            if let Some(problem) = problem.filter(|problem| pause == PAUSES.1 && told != *problem) {
                tracing::warn!(pod = %self.seen.borrow().pod.name, "{problem}");
                told = problem;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// One connection.
struct Session<'a> {
    link: &'a Link<'a>,
    client: Client,
    warnings: &'a mut Warnings,
}

impl Session<'_> {
    /// Listens until the launcher goes away.
    async fn run(mut self) -> Result<(), tonic::Status> {
        let told = greet(&mut self.client, self.link.seen).await?;
        self.note(told);
        let Link {
            place,
            launchers,
            seen,
            observed,
            ..
        } = self.link;
        let launcher = Launcher::new((*seen).clone(), self.client.clone(), place.clone());
        let _entered = launchers.enter(launcher);
        let agent = ask_agent(self.client.clone(), observed);
        tokio::select! {
            result = self.listen() => result,
            () = agent => Ok(()),
        }
    }

    async fn listen(&mut self) -> Result<(), tonic::Status> {
        // Only the beginning has a deadline: the stream is for as long as the VM lives.
        let stream = timeout(CALL, self.client.watch(WatchRequest {})).await;
        let mut stream = stream.map_err(|_| silent())??.into_inner();
        let mut reading = Bucket::new(EVENTS.0, EVENTS.1, Instant::now());
        let mut readable = Ok(());
        let mut settling = SETTLING.into_iter();
        let mut refresh = Instant::now();
        loop {
            let closed = readable.err();
            tokio::select! {
                biased;
                event = stream.message(), if closed.is_none() => {
                    let Some(event) = event? else { return Ok(()) };
                    readable = reading.take(Instant::now());
                    self.heard(&event);
                    settling = SETTLING.into_iter();
                    refresh = Instant::now();
                }
                () = sleep_until(refresh) => {
                    let told = status(&mut self.client).await?;
                    self.note(told);
                    refresh = Instant::now() + settling.next().unwrap_or(REFRESH);
                }
                () = sleep_until(closed.unwrap_or(refresh)), if closed.is_some() => {
                    readable = reading.take(Instant::now());
                }
            }
        }
    }

    /// Takes in one event. All but the last are only a reason to ask for the status; the last is
    /// all there will be, as the launcher ends with it.
    fn heard(&mut self, event: &Event) {
        let ended = match event.kind() {
            EventKind::Succeeded => Ended::Succeeded,
            EventKind::Failed => Ended::failed(&event.message),
            EventKind::Warning => return self.warnings.heard(self.link, event),
            _ => return,
        };
        self.link.observed.send_modify(|observed| {
            let report = observed.report.get_or_insert_default();
            report.stage = Stage::Ended(ended);
        });
    }

    /// Takes in what the launcher says of its VM. Once over is over.
    fn note(&self, told: Status) {
        let report = Report::from(told);
        self.link.observed.send_if_modified(|observed| {
            let known = observed.report.as_ref();
            let over = known.is_some_and(|known| matches!(known.stage, Stage::Ended(_)));
            let new = !over && known != Some(&report);
            if new {
                observed.report = Some(report);
            }
            new
        });
    }
}

/// Asks the guest's agent, when it has come and from time to time; its slowness is nobody else's.
async fn ask_agent(mut client: Client, observed: &watch::Sender<Observed>) {
    let mut changes = observed.subscribe();
    loop {
        let connected = |observed: &Observed| {
            let report = observed.report.as_ref();
            report.is_some_and(|report| report.agent_connected)
        };
        if changes.wait_for(connected).await.is_err() {
            return;
        }
        let asked = client.get_guest_info(GetGuestInfoRequest {});
        let answer = timeout(AGENT_CALL, asked).await;
        let answer = answer.ok().and_then(Result::ok);
        let guest = answer.map(|answer| Box::new(answer.into_inner().into()));
        observed.send_if_modified(|observed| {
            let known = match &observed.agent {
                Agent::Asked(known) => known.clone(),
                Agent::Unasked => None,
            };
            // An agent that is slow once has not forgotten what it said.
            let agent = Agent::Asked(guest.or(known));
            let new = observed.agent != agent;
            observed.agent = agent;
            new
        });
        tokio::select! {
            () = sleep(REFRESH) => {}
            gone = changes.wait_for(|observed| !connected(observed)) => {
                if gone.is_err() {
                    return;
                }
                drop(gone);
                observed.send_modify(|observed| observed.agent = Agent::Unasked);
            }
        }
    }
}

/// What the launcher says of its VM, where that is the one that it should be.
///
/// Its place says who it is. One that says otherwise may be another VM's, linked to there.
pub(super) async fn greet(
    client: &mut Client,
    seen: &watch::Receiver<Seen>,
) -> Result<Status, tonic::Status> {
    let told = status(client).await?;
    if told.uid != seen.borrow().vmi.uid().unwrap_or_default() {
        let other = "what listens there runs another VM";
        return Err(tonic::Status::permission_denied(other));
    }
    Ok(told)
}

async fn status(client: &mut Client) -> Result<Status, tonic::Status> {
    let asked = client.get_status(GetStatusRequest {});
    let answer = timeout(CALL, asked).await.map_err(|_| silent())??;
    Ok(answer.into_inner())
}

fn silent() -> tonic::Status {
    tonic::Status::deadline_exceeded("the launcher does not answer")
}

/// A launcher's warnings, each told once.
struct Warnings {
    allowed: Bucket,
    /// Of this time (the node's CLOCK_MONOTONIC, microseconds) and before, all is told: each
    /// worker repeats its events to whoever comes.
    told: u64,
}

impl Warnings {
    fn new(seen: &watch::Receiver<Seen>) -> Self {
        let status = seen.borrow().vmi.status.clone().unwrap_or_default();
        // What a running VM's launcher had to say before we came, the handler before us has told.
        let came_late = status.phase != Some(crds::VirtualMachineInstancePhase::Scheduled);
        Self {
            allowed: Bucket::new(WARNINGS.0, WARNINGS.1, Instant::now()),
            told: if came_late { monotonic_us() } else { 0 },
        }
    }

    fn heard(&mut self, link: &Link<'_>, event: &Event) {
        if event.monotonic_us <= self.told || self.allowed.take(Instant::now()).is_err() {
            return;
        }
        self.told = event.monotonic_us;
        if let Some(text) = line(&event.message, WARNING) {
            link.events
                .tell(&link.seen.borrow().vmi, Note::Warning(text));
        }
    }
}

fn monotonic_us() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |now| {
        let micros = std::time::Duration::from(now).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX)
    })
}
