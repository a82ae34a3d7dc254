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
    /// It was shut down with its pod, which was taken away for this reason.
    Taken(String),
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
            Self::Taken(reason) => (
                EventType::Warning,
                "Stopped",
                format!("The VirtualMachineInstance failed: its pod was taken away ({reason})"),
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
            Ended::Succeeded if is == Some(Phase::Failed) => {
                let status = after.status.as_ref();
                let reason = status.and_then(|status| status.reason.clone());
                Note::Taken(reason.unwrap_or_default())
            }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vmi(phase: &str, paused: bool) -> VirtualMachineInstance {
        let paused = json!([{"type": "Paused", "status": "True", "message": "by user"}])
            .as_array()
            .filter(|_| paused)
            .cloned();
        let vmi = json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": "vm"},
            "spec": {"domain": {"devices": {}}},
            "status": {"phase": phase, "reason": "Evicted", "conditions": paused.unwrap_or_default()},
        });
        serde_json::from_value(vmi).unwrap()
    }

    #[test]
    fn each_step_is_told_once() {
        let failed = || Stage::Ended(Ended::Failed("why".into()));
        let ended = Stage::Ended(Ended::Succeeded);
        let by_user = || Note::Paused("by user".into());
        let cases = [
            (
                ("Scheduled", false),
                ("Running", false),
                Stage::Running,
                vec![Note::Started],
            ),
            (
                ("Scheduled", false),
                ("Running", true),
                Stage::Running,
                vec![Note::Started, by_user()],
            ),
            (
                ("Running", false),
                ("Running", false),
                Stage::Running,
                vec![],
            ),
            (
                ("Running", false),
                ("Running", true),
                Stage::Running,
                vec![by_user()],
            ),
            (("Running", true), ("Running", true), Stage::Running, vec![]),
            (
                ("Running", true),
                ("Running", false),
                Stage::Running,
                vec![Note::Resumed],
            ),
            (
                ("Unknown", false),
                ("Running", false),
                Stage::Running,
                vec![],
            ),
            (
                ("Running", true),
                ("Succeeded", false),
                ended.clone(),
                vec![Note::Stopped],
            ),
            (
                ("Scheduled", false),
                ("Succeeded", false),
                ended.clone(),
                vec![Note::Started, Note::Stopped],
            ),
            (
                ("Running", false),
                ("Failed", false),
                ended.clone(),
                vec![Note::Taken("Evicted".into())],
            ),
            (
                ("Scheduled", false),
                ("Failed", false),
                ended,
                vec![Note::Taken("Evicted".into())],
            ),
            (
                ("Scheduled", false),
                ("Failed", false),
                failed(),
                vec![Note::SyncFailed("why".into())],
            ),
            (
                ("Running", false),
                ("Failed", false),
                failed(),
                vec![Note::Crashed("why".into())],
            ),
        ];
        for (before, after, stage, expected) in cases {
            let notes = between(&vmi(before.0, before.1), &vmi(after.0, after.1), &stage);
            assert_eq!(notes, expected, "{before:?} {after:?} {stage:?}");
        }
    }

    #[tokio::test]
    async fn events_that_nobody_takes_are_lost_and_nothing_waits() {
        let (events, mut waiting) = Events::new();
        for _ in 0..2 * WAITING {
            events.tell(&vmi("Running", false), Note::Resumed);
        }
        drop(events);
        let mut count = 0;
        while waiting.recv().await.is_some() {
            count += 1;
        }
        assert_eq!(count, WAITING);
    }
}
