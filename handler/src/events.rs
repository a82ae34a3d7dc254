//! What happened to this node's VMs, as Events of their VMIs, under KubeVirt's reasons.

use std::time::Duration;

use crds::{VirtualMachineInstance, VirtualMachineInstancePhase as Phase};
use k8s_openapi::api::core::v1::ObjectReference;
use kube_client::{Client, Resource};
use kube_runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::status::{Ended, PAUSED, Stage};

/// Events that wait for the API server; further ones are lost, as Events may be.
const WAITING: usize = 256;

/// How long the API server may take for one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something that happened to a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Started,
    Paused(String),
    Resumed,
    ShuttingDown,
    Stopped,
    /// The guest's machine is gone against its will.
    Crashed(String),
    /// It could not be started.
    SyncFailed(String),
    /// The launcher warns.
    Warning(String),
}

impl Note {
    /// Type, reason and text; the text of a launcher is a bounded line already.
    fn event(self) -> Event {
        let (type_, reason, note) = match self {
            Self::Started => (
                EventType::Normal,
                "Started",
                "VirtualMachineInstance started.".into(),
            ),
            Self::Paused(why) => (EventType::Normal, "Paused", format!("{why}.")),
            Self::Resumed => (
                EventType::Normal,
                "Resumed",
                "VirtualMachineInstance resumed.".into(),
            ),
            Self::ShuttingDown => (
                EventType::Normal,
                "ShuttingDown",
                "Signaled graceful shutdown.".into(),
            ),
            Self::Stopped => (
                EventType::Normal,
                "Stopped",
                "The VirtualMachineInstance was shut down.".into(),
            ),
            Self::Crashed(cause) => (
                EventType::Warning,
                "Stopped",
                format!("The VirtualMachineInstance crashed: {cause}"),
            ),
            Self::SyncFailed(cause) => (EventType::Warning, "SyncFailed", cause),
            Self::Warning(text) => (EventType::Warning, "LauncherWarning", text),
        };
        Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: reason.to_owned(),
            secondary: None,
        }
    }
}

/// What the step from one status of a VMI to the next means for people. `stage` is the launcher's
/// word that led to it.
pub(crate) fn between(
    before: &VirtualMachineInstance,
    after: &VirtualMachineInstance,
    stage: &Stage,
) -> Vec<Note> {
    let phase = |vmi: &VirtualMachineInstance| vmi.status.as_ref().and_then(|status| status.phase);
    let mut notes = vec![];
    let (was, is) = (phase(before), phase(after));
    if was == Some(Phase::Scheduled) && is.is_some_and(|is| is != Phase::Failed) {
        notes.push(Note::Started);
    }
    if is == Some(Phase::Running) {
        match (paused(before), paused(after)) {
            (None, Some(why)) => notes.push(Note::Paused(why)),
            (Some(_), None) => notes.push(Note::Resumed),
            _ => {}
        }
    }
    if let (Stage::Ended(how), true) = (stage, was != is) {
        notes.push(match how {
            Ended::Succeeded => Note::Stopped,
            Ended::Failed(cause) if was == Some(Phase::Scheduled) => {
                Note::SyncFailed(cause.clone())
            }
            Ended::Failed(cause) => Note::Crashed(cause.clone()),
        });
    }
    notes
}

/// Why a VMI is shown as paused.
fn paused(vmi: &VirtualMachineInstance) -> Option<String> {
    let conditions = vmi.status.iter().flat_map(|status| &status.conditions);
    let mut paused = conditions.filter(|found| found.type_ == PAUSED && found.status == "True");
    Some(paused.next()?.message.clone().unwrap_or_default())
}

/// Where Events are handed in. Never waits.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    queue: mpsc::Sender<(ObjectReference, Note)>,
}

/// Events on their way.
pub(crate) type Waiting = mpsc::Receiver<(ObjectReference, Note)>;

impl Events {
    /// The queue's two ends.
    pub(crate) fn new() -> (Self, Waiting) {
        let (queue, waiting) = mpsc::channel(WAITING);
        (Self { queue }, waiting)
    }

    /// Tells of something that happened to a VM.
    pub(crate) fn tell(&self, vmi: &VirtualMachineInstance, note: Note) {
        if self.queue.try_send((vmi.object_ref(&()), note)).is_err() {
            tracing::warn!("too many Events wait; one is lost");
        }
    }
}

/// Carries Events to the API server, in the node's name.
pub(crate) async fn report(client: Client, node: &str, mut waiting: Waiting) {
    let reporter = Reporter {
        controller: "virt-handler".into(),
        instance: Some(node.to_owned()),
    };
    let recorder = Recorder::new(client, reporter);
    while let Some((about, note)) = waiting.recv().await {
        let event = note.event();
        match timeout(PATIENCE, recorder.publish(&event, &about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("cannot publish an Event: {error}"),
            Err(_) => tracing::warn!("the API server took no Event in time"),
        }
    }
}
