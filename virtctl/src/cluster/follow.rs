//! What is seen of a machine's instance: a list, then a watch, and so on for as long as it is
//! wanted.

use std::time::Duration;

use crds::{
    VirtualMachineInstance, VirtualMachineInstanceCondition, VirtualMachineInstancePhase as Phase,
};
use futures::StreamExt as _;
use kube_client::Api;
use kube_client::api::{ListParams, WatchEvent, WatchParams};

use super::Machine;
use crate::wait::{Run, Sights, Stage};

/// Before a watch that broke is begun again.
const PAUSE: Duration = Duration::from_secs(1);

impl Machine {
    /// What is seen of it.
    pub fn follow(&self) -> Sights<'_> {
        let client = self.cluster.client().clone();
        let api: Api<VirtualMachineInstance> = Api::namespaced(client, &self.name.namespace);
        let only = format!("metadata.name={}", self.name.name);
        async_stream::try_stream! {
            loop {
                let list = api.list(&ListParams::default().fields(&only)).await;
                let list = list.map_err(|error| self.failed(error))?;
                yield list.items.first().map(seen);
                let since = list.metadata.resource_version.unwrap_or_default();
                let events = api.watch(&WatchParams::default().fields(&only), &since).await;
                let mut events = events.map_err(|error| self.failed(error))?.boxed();
                while let Some(event) = events.next().await {
                    match event {
                        Ok(WatchEvent::Added(vmi) | WatchEvent::Modified(vmi)) => {
                            yield Some(seen(&vmi));
                        }
                        Ok(WatchEvent::Deleted(_)) => yield None,
                        Ok(WatchEvent::Bookmark(_)) => {}
                        Ok(WatchEvent::Error(_)) | Err(_) => break,
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        .boxed()
    }
}

fn seen(vmi: &VirtualMachineInstance) -> Run {
    let status = vmi.status.as_ref();
    let phase = status.and_then(|status| status.phase);
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    let paused = conditions
        .iter()
        .any(|c| c.type_ == "Paused" && c.status == "True");
    let stage = match phase {
        Some(Phase::Running) if paused => Stage::Paused,
        Some(Phase::Running) => Stage::Running,
        Some(Phase::Succeeded | Phase::Failed) => Stage::Ended,
        _ => Stage::Starting,
    };
    let phase = phase.map_or("Pending".to_owned(), |phase| format!("{phase:?}"));
    let status = match hindrance(stage, conditions) {
        Some(hindrance) => format!("{phase}, {hindrance}"),
        None if paused => "Paused".to_owned(),
        None => phase,
    };
    Run {
        id: vmi.metadata.uid.clone().unwrap_or_default(),
        stage,
        status,
    }
}

/// What an instance that starts, or has failed, tells of what hinders it.
fn hindrance(stage: Stage, conditions: &[VirtualMachineInstanceCondition]) -> Option<String> {
    if matches!(stage, Stage::Running | Stage::Paused) {
        return None;
    }
    let of = |kind: &str| {
        let mut found = conditions.iter();
        found.find(|c| c.type_ == kind && c.status == "False" && c.message.is_some())
    };
    let told = of("PodScheduled")
        .or_else(|| of("Synchronized"))
        .or_else(|| of("Ready"))?;
    let message = told.message.as_deref()?.lines().next()?;
    Some(message.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_instance_is_seen_as_its_status_says() {
        let condition = |kind: &str, status: &str, message: &str| json!({"type": kind, "status": status, "message": message});
        let unschedulable = condition("PodScheduled", "False", "0/1 nodes are available\nat all");
        let ready = condition("Ready", "False", "Guest VM is not running");
        let paused = condition("Paused", "True", "VMI was paused by user");
        for (status, stage, word) in [
            (json!({}), Stage::Starting, "Pending"),
            (json!({"phase": "Scheduled"}), Stage::Starting, "Scheduled"),
            (
                json!({"phase": "Scheduling", "conditions": [ready, unschedulable]}),
                Stage::Starting,
                "Scheduling, 0/1 nodes are available",
            ),
            (
                json!({"phase": "Running", "conditions": [ready]}),
                Stage::Running,
                "Running",
            ),
            (
                json!({"phase": "Running", "conditions": [paused]}),
                Stage::Paused,
                "Paused",
            ),
            (json!({"phase": "Failed"}), Stage::Ended, "Failed"),
        ] {
            let object = json!({
                "apiVersion": "kubevirt.io/v1",
                "kind": "VirtualMachineInstance",
                "metadata": {"name": "demo", "uid": "u"},
                "spec": {"domain": {"devices": {}}},
                "status": status,
            });
            let vmi: VirtualMachineInstance = serde_json::from_value(object).unwrap();
            let run = Run {
                id: "u".to_owned(),
                stage,
                status: word.to_owned(),
            };
            assert_eq!(seen(&vmi), run);
        }
    }
}
