//! What is known of a VM from its events, and how they are come by.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use launcher_api::{Event, EventKind, WatchRequest};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The pause between two attempts to reach a launcher that is starting (again).
pub(super) const RETRY: Duration = Duration::from_millis(10);

/// What is known so far.
#[derive(Default)]
pub(super) struct Story {
    running: bool,
    leased: bool,
    /// The guest answered.
    pub(super) ready: bool,
    /// The launcher has told how the VM ended.
    pub(super) over: bool,
    /// Why it failed.
    pub(super) failure: Option<String>,
}

impl Story {
    /// Takes one event in.
    pub(super) fn note(&mut self, event: &Event) {
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

    /// What a guest that is not ready lacks.
    pub(super) fn missing(&self) -> &'static str {
        match (self.running, self.leased) {
            (false, _) => "its vCPUs never ran",
            (true, false) => "it took no lease; look at its console (`run` on a terminal)",
            (true, true) => "it holds its lease and answers no ping from this host",
        }
    }
}

/// The stable word for an event: `lease-granted`.
pub(super) fn word(event: &Event) -> String {
    let name = event.kind().as_str_name();
    let name = name.trim_start_matches("EVENT_KIND_");
    name.to_ascii_lowercase().replace('_', "-")
}

/// Passes the launcher's events on, over every worker that the VM ever has; once the VM's processes
/// have `ended`, those that are still to be had.
pub(super) async fn watch(
    runtime_dir: PathBuf,
    events: mpsc::Sender<Event>,
    ended: Arc<AtomicBool>,
) {
    let mut over = false;
    while !over && !events.is_closed() {
        // Before the attempt: what is not reached after the end never will be.
        let last = ended.load(Ordering::Relaxed);
        let stream = async {
            let mut client = launcher_api::connect(&runtime_dir).await.ok()?;
            client.watch(WatchRequest {}).await.ok()
        };
        let Some(stream) = stream.await else {
            if last {
                return;
            }
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

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_launcher_is_waited_for_until_the_processes_have_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, mut events) = mpsc::channel(1);
        let ended = Arc::<AtomicBool>::default();
        tokio::spawn(watch(dir.path().to_owned(), sender, Arc::clone(&ended)));
        let early = timeout(RETRY * 3, events.recv()).await;
        assert!(early.is_err(), "it may still come");
        ended.store(true, Ordering::Relaxed);
        let last = timeout(Duration::from_secs(60), events.recv()).await;
        assert_eq!(last.unwrap(), None);
    }

    fn event(kind: EventKind) -> Event {
        Event {
            kind: kind.into(),
            message: "why".into(),
            ..Event::default()
        }
    }

    #[test]
    fn what_is_missing_is_the_first_step_that_did_not_happen() {
        let mut story = Story::default();
        let mut missing = vec![story.missing()];
        for kind in [EventKind::DomainAdopted, EventKind::LeaseGranted] {
            story.note(&event(kind));
            missing.push(story.missing());
        }
        assert!(missing[0].contains("vCPUs"), "{missing:?}");
        assert!(missing[1].contains("no lease"), "{missing:?}");
        assert!(missing[2].contains("no ping"), "{missing:?}");
    }

    #[test]
    fn a_failure_keeps_its_cause() {
        let mut story = Story::default();
        story.note(&event(EventKind::Failed));
        assert_eq!((story.over, story.failure.as_deref()), (true, Some("why")));
    }

    #[test]
    fn events_have_words_as_kubernetes_has_reasons() {
        assert_eq!(word(&event(EventKind::LeaseGranted)), "lease-granted");
    }
}
