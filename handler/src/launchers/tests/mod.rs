//! Launchers on real sockets, honest and hostile.

pub(crate) mod adversary;
mod world;

use std::future::poll_fn;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use adversary::Adversary;
use launcher_api::{Event, EventKind, Phase, SOCKET, Status};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;

use super::link::Link;
use super::socket::{LOOKS, Place, SocketError};
use super::{Launchers, Seen};
use crate::events::{Events, Note, Waiting};
use crate::status::{Agent, Ended, Observed, PodFacts, Stage};

/// What must happen happens within this, which is less than what is looked at anyway from time to
/// time.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

/// A kubelet's directory of pods.
pub(crate) struct Kubelet(TempDir);

impl Kubelet {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn place(&self, uid: &str) -> Place {
        Place::new(self.0.path(), uid)
    }

    fn runtime(&self, uid: &str) -> PathBuf {
        let volumes = self.0.path().join(uid).join("volumes");
        volumes.join("kubernetes.io~empty-dir/runtime")
    }

    /// The runtime directory of a new pod.
    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        let runtime = self.runtime(uid);
        std::fs::create_dir_all(&runtime).unwrap();
        runtime
    }
}

/// One VMI that is followed.
pub(crate) struct Followed {
    observed: watch::Receiver<Observed>,
    notes: Waiting,
    pub(crate) launchers: Launchers,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followed {
    pub(crate) fn start(kubelet: &Kubelet, uid: &str) -> Self {
        let place = kubelet.place(uid);
        let (events, notes) = Events::new();
        let launchers = Launchers::default();
        let (observing, observed) = watch::channel(Observed::default());
        let known = launchers.clone();
        let vmi = json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": uid, "namespace": "default"},
            "spec": {"domain": {"devices": {}}},
            "status": {"phase": "Scheduled"},
        });
        let (_api, seen) = watch::channel(Seen {
            vmi: Arc::new(serde_json::from_value(vmi).unwrap()),
            pod: Arc::new(PodFacts::default()),
        });
        let task = tokio::spawn(async move {
            let link = Link {
                place,
                launchers: &known,
                events: &events,
                seen: &seen,
                observed: &observing,
            };
            link.keep().await;
        });
        Self {
            observed,
            notes,
            launchers,
            task,
        }
    }

    async fn until(&mut self, holds: impl FnMut(&Observed) -> bool) {
        let waited = timeout(DEADLINE, self.observed.wait_for(holds)).await;
        waited.expect("in time").expect("followed");
    }

    pub(crate) async fn stands_at(&mut self, stage: Stage) {
        self.until(|observed| {
            observed
                .report
                .as_ref()
                .is_some_and(|told| told.stage == stage)
        })
        .await;
    }
}

fn status(phase: Phase) -> Status {
    Status {
        phase: phase.into(),
        ..Status::default()
    }
}

async fn found(place: Place) -> Result<(), SocketError> {
    let found = timeout(DEADLINE, place.connect()).await.expect("in time");
    found.map(|_| ())
}

#[tokio::test]
async fn the_way_to_a_socket_is_waited_for_step_by_step() {
    let kubelet = Kubelet::new();
    let mut followed = Followed::start(&kubelet, "one");
    let mut path = kubelet.0.path().to_owned();
    for step in ["one", "volumes", "kubernetes.io~empty-dir", "runtime"] {
        tokio::task::yield_now().await;
        path.push(step);
        std::fs::create_dir(&path).unwrap();
    }
    let says = watch::Sender::new(status(Phase::Running));
    let _server = Adversary::new(&says).listen(&path.join(SOCKET));
    followed.stands_at(Stage::Running).await;
    assert!(followed.launchers.get("default", "one").is_some());
}

#[tokio::test]
async fn what_a_launcher_plants_is_not_followed() {
    let kubelet = Kubelet::new();
    let says = watch::Sender::new(status(Phase::Running));
    let other = kubelet.pod("other").join(SOCKET);
    let _server = Adversary::new(&says).listen(&other);
    found(kubelet.place("other")).await.unwrap();
    type Plant = fn(&Path, &Path);
    let plants: [(&str, Plant); 6] = [
        ("symlink", |other, here| symlink(other, here).unwrap()),
        ("relative symlink", |_, here| {
            let up = "../../../../other/volumes/kubernetes.io~empty-dir/runtime/launcher.sock";
            symlink(up, here).unwrap();
        }),
        ("fifo", |_, here| mkfifo(here, Mode::S_IRWXU).unwrap()),
        ("file", |_, here| std::fs::write(here, "").unwrap()),
        ("directory", |_, here| std::fs::create_dir(here).unwrap()),
        ("procfs", |_, here| {
            symlink("/proc/self/fd/0", here).unwrap()
        }),
    ];
    for (name, plant) in plants {
        let here = kubelet.pod(name).join(SOCKET);
        plant(&other, &here);
        let result = found(kubelet.place(name)).await;
        assert!(
            matches!(result, Err(SocketError::Planted { .. })),
            "{name}: {result:?}"
        );
    }
    // A directory on the way, too.
    let runtime = kubelet.pod("way");
    std::fs::remove_dir(&runtime).unwrap();
    symlink(kubelet.runtime("other"), &runtime).unwrap();
    let result = found(kubelet.place("way")).await;
    assert!(
        matches!(result, Err(SocketError::Planted { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn what_moves_in_a_launchers_directory_is_looked_at_now_and_then() {
    let kubelet = Kubelet::new();
    let runtime = kubelet.pod("one");
    let place = kubelet.place("one");
    let begun = Instant::now();
    let mut moves = tokio::task::spawn_blocking({
        let file = runtime.join("file");
        move || {
            for _ in 0..50_000 {
                std::fs::write(&file, "").unwrap();
                std::fs::remove_file(&file).unwrap();
            }
        }
    });
    let mut connecting = pin!(place.connect());
    let mut wakes = 0;
    let counted = poll_fn(|context| {
        wakes += 1;
        connecting.as_mut().poll(context)
    });
    tokio::select! {
        found = counted => panic!("{found:?}"),
        moved = timeout(DEADLINE, &mut moves) => moved.expect("in time").unwrap(),
    }
    // Each look is awaited, and so may be leave for it.
    let periods = begun.elapsed().as_millis() / LOOKS.1.as_millis();
    let most = 2 * (u128::from(LOOKS.0) + periods + 1);
    assert!(wakes <= most, "{wakes} of {most}");
    let says = watch::Sender::new(status(Phase::Running));
    let _server = Adversary::new(&says).listen(&runtime.join(SOCKET));
    timeout(DEADLINE, connecting)
        .await
        .expect("in time")
        .unwrap();
}

#[tokio::test]
async fn a_launcher_of_another_vm_is_not_followed() {
    let kubelet = Kubelet::new();
    let says = watch::Sender::new(Status {
        uid: "another".to_owned(),
        ..status(Phase::Running)
    });
    let _server = Adversary::new(&says).listen(&kubelet.pod("one").join(SOCKET));
    let mut followed = Followed::start(&kubelet, "one");
    // It is asked again and again, and never believed until it is the one that it should be.
    timeout(Duration::from_secs(1), followed.stands_at(Stage::Running))
        .await
        .expect_err("it is not followed");
    assert!(followed.launchers.get("default", "one").is_none());
    says.send_modify(|status| status.uid.clear());
    followed.stands_at(Stage::Running).await;
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_tried_again() {
    let kubelet = Kubelet::new();
    let path = kubelet.pod("one").join(SOCKET);
    drop(UnixListener::bind(&path).unwrap());
    let result = found(kubelet.place("one")).await;
    assert!(
        matches!(result, Err(SocketError::Refused { .. })),
        "{result:?}"
    );
    let mut followed = Followed::start(&kubelet, "one");
    let says = watch::Sender::new(status(Phase::Running));
    let _server = Adversary::new(&says).listen(&path);
    followed.stands_at(Stage::Running).await;
}

#[tokio::test]
async fn a_worker_that_dies_is_followed_by_its_successor() {
    let kubelet = Kubelet::new();
    let path = kubelet.pod("one").join(SOCKET);
    let mut followed = Followed::start(&kubelet, "one");
    let says = watch::Sender::new(status(Phase::Running));
    let first = Adversary::new(&says).listen(&path);
    followed.stands_at(Stage::Running).await;
    drop(first);
    says.send_modify(|says| says.set_phase(Phase::ShuttingDown));
    let _second = Adversary::new(&says).listen(&path);
    followed.stands_at(Stage::ShuttingDown).await;
    says.send_modify(|says| says.set_phase(Phase::Running));
    followed.stands_at(Stage::Running).await;
}

#[tokio::test]
async fn what_changes_shortly_after_an_event_is_seen_without_another() {
    let kubelet = Kubelet::new();
    let path = kubelet.pod("one").join(SOCKET);
    let says = watch::Sender::new(status(Phase::Running));
    let mut tacit = Adversary::new(&says);
    tacit.tells = false;
    tacit.events =
        || Box::pin(tokio_stream::once(Ok(Event::default())).chain(tokio_stream::pending()));
    let _server = tacit.listen(&path);
    let mut followed = Followed::start(&kubelet, "one");
    followed.stands_at(Stage::Running).await;
    says.send_modify(|says| says.machine = "pc-q35-7.2".into());
    followed
        .until(|observed| {
            let told = observed.report.as_ref();
            told.is_some_and(|told| told.machine.is_some())
        })
        .await;
}

#[tokio::test]
async fn over_is_over_whatever_is_said_later() {
    let kubelet = Kubelet::new();
    let path = kubelet.pod("one").join(SOCKET);
    let mut followed = Followed::start(&kubelet, "one");
    let says = watch::Sender::new(status(Phase::Running));
    let mut ends = Adversary::new(&says);
    ends.events = || {
        let last = Event {
            kind: EventKind::Failed.into(),
            message: "QEMU\ndied".into(),
            ..Event::default()
        };
        Box::pin(tokio_stream::once(Ok(last)).chain(tokio_stream::pending()))
    };
    let server = ends.listen(&path);
    let over = Stage::Ended(Ended::Failed("QEMU died".into()));
    followed.stands_at(over.clone()).await;
    drop(server);
    // The next one is asked first, and then heard to warn.
    let mut lives = Adversary::new(&says);
    lives.events = || {
        let warning = Event {
            kind: EventKind::Warning.into(),
            message: "alive".into(),
            monotonic_us: 1,
            ..Event::default()
        };
        Box::pin(tokio_stream::once(Ok(warning)).chain(tokio_stream::pending()))
    };
    let _server = lives.listen(&path);
    let heard = timeout(DEADLINE, followed.notes.recv()).await;
    let (_, note) = heard.expect("in time").unwrap();
    assert_eq!(note, Note::Warning("alive".into()));
    let report = followed.observed.borrow().report.clone().unwrap();
    assert_eq!(report.stage, over);
}

#[tokio::test]
async fn one_launcher_never_delays_another() {
    let kubelet = Kubelet::new();
    let says = watch::Sender::new(status(Phase::Running));
    let flood: fn() -> adversary::Told = || {
        let event = Event {
            kind: EventKind::Warning.into(),
            message: "x".repeat(60_000),
            monotonic_us: u64::MAX,
            ..Event::default()
        };
        Box::pin(tokio_stream::iter(std::iter::repeat(Ok(event))))
    };
    let mut servers = vec![];
    let mut hostile = vec![];
    for index in 0..8 {
        let uid = format!("flood{index}");
        let mut adversary = Adversary::new(&says);
        adversary.events = flood;
        servers.push(adversary.listen(&kubelet.pod(&uid).join(SOCKET)));
        hostile.push(Followed::start(&kubelet, &uid));
    }
    // One that takes connections and never answers, and one whose answers are too large.
    let _silent = UnixListener::bind(kubelet.pod("silent").join(SOCKET)).unwrap();
    hostile.push(Followed::start(&kubelet, "silent"));
    let mut large = status(Phase::Running);
    large.reason = "x".repeat(1 << 20);
    let large = watch::Sender::new(large);
    servers.push(Adversary::new(&large).listen(&kubelet.pod("large").join(SOCKET)));
    hostile.push(Followed::start(&kubelet, "large"));

    let quiet = watch::Sender::new(status(Phase::Running));
    let _honest = Adversary::new(&quiet).listen(&kubelet.pod("honest").join(SOCKET));
    let mut honest = Followed::start(&kubelet, "honest");
    honest.stands_at(Stage::Running).await;
    for phase in [Phase::ShuttingDown, Phase::Running, Phase::Succeeded] {
        quiet.send_modify(|says| says.set_phase(phase));
        let stage = match phase {
            Phase::Running => Stage::Running,
            Phase::Succeeded => Stage::Ended(Ended::Succeeded),
            _ => Stage::ShuttingDown,
        };
        honest.stands_at(stage).await;
    }
    // The flood is told of, a little: what a launcher warns of reaches people, and not all of it.
    let mut notes = &mut hostile[0].notes;
    let first = timeout(DEADLINE, notes.recv()).await.expect("in time");
    let Some((_, Note::Warning(text))) = first else {
        panic!("{first:?}")
    };
    assert_eq!(text.len(), 250);
    // Nothing is after the end of time.
    notes = &mut hostile[1].notes;
    let _ = notes.recv().await;
    assert!(notes.try_recv().is_err());
    assert_eq!(hostile[8].observed.borrow().report, None, "silent");
    assert_eq!(hostile[9].observed.borrow().report, None, "large");
}

#[tokio::test]
async fn an_agent_that_hangs_holds_up_nothing_else() {
    let kubelet = Kubelet::new();
    let path = kubelet.pod("one").join(SOCKET);
    let says = watch::Sender::new(status(Phase::Running));
    says.send_modify(|says| says.agent_connected = true);
    let mut hangs = Adversary::new(&says);
    hangs.guest = || Box::pin(std::future::pending());
    let server = hangs.listen(&path);
    let mut followed = Followed::start(&kubelet, "one");
    followed.stands_at(Stage::Running).await;
    says.send_modify(|says| says.set_phase(Phase::Paused));
    followed
        .until(|observed| {
            let told = observed.report.as_ref();
            told.is_some_and(|told| matches!(told.stage, Stage::Paused(_)))
        })
        .await;
    assert_eq!(followed.observed.borrow().agent, Agent::Unasked);
    drop(server);
    let _server = Adversary::new(&says).listen(&path);
    followed
        .until(|observed| matches!(&observed.agent, Agent::Asked(Some(_))))
        .await;
}
