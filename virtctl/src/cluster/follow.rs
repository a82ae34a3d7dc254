//! What is seen of a machine: its instance, by a list, then a watch, and so on for as long as it is
//! wanted. While there is none, the machine itself, until nothing is asked of it any more.

use std::time::Duration;

use crds::{
    VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceCondition,
    VirtualMachineInstancePhase as Phase,
};
use futures::StreamExt as _;
use kube_client::Api;
use kube_client::api::{ListParams, WatchEvent, WatchParams};

use super::Machine;
use crate::wait::{Run, Sights, Stage};

/// Before a watch that broke is begun again.
const PAUSE: Duration = Duration::from_secs(1);

/// Between two looks at a machine that is about to take up a request.
const SETTLING: Duration = Duration::from_millis(200);

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
                match list.items.first() {
                    Some(vmi) => yield Some(seen(vmi)),
                    None => for await sight in self.without_instance() { yield sight?; },
                }
                let since = list.metadata.resource_version.unwrap_or_default();
                let events = api.watch(&WatchParams::default().fields(&only), &since).await;
                let mut events = events.map_err(|error| self.failed(error))?.boxed();
                while let Some(event) = events.next().await {
                    match event {
                        Ok(WatchEvent::Added(vmi) | WatchEvent::Modified(vmi)) => {
                            yield Some(seen(&vmi));
                        }
                        Ok(WatchEvent::Deleted(_)) => {
                            for await sight in self.without_instance() { yield sight?; }
                        }
                        Ok(WatchEvent::Bookmark(_)) => {}
                        Ok(WatchEvent::Error(_)) | Err(_) => break,
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        .boxed()
    }

    /// What is seen of a machine that has no instance: until what was asked of it is done, it takes
    /// no other request.
    fn without_instance(&self) -> Sights<'_> {
        let client = self.cluster.client().clone();
        let api: Api<VirtualMachine> = Api::namespaced(client, &self.name.namespace);
        async_stream::try_stream! {
            loop {
                let vm = api.get_opt(&self.name.name).await;
                let vm = vm.map_err(|error| self.failed(error))?;
                let Some(busy) = vm.as_ref().and_then(busy) else { break };
                yield Some(busy);
                tokio::time::sleep(SETTLING).await;
            }
            yield None;
        }
        .boxed()
    }
}

/// The machine between two instances.
fn busy(vm: &VirtualMachine) -> Option<Run> {
    let status = vm.status.as_ref()?;
    if status.state_change_requests.is_empty() {
        return None;
    }
    let word = status.printable_status.map(|status| format!("{status:?}"));
    Some(Run {
        id: String::new(),
        stage: Stage::Starting,
        status: word.unwrap_or_else(|| "Unknown".to_owned()),
    })
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
    Some(message.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_machine_is_busy_while_something_is_asked_of_it() {
        let with = |status: serde_json::Value| {
            let object = json!({
                "apiVersion": "kubevirt.io/v1",
                "kind": "VirtualMachine",
                "metadata": {"name": "demo"},
                "spec": {"template": {"spec": {"domain": {"devices": {}}}}},
                "status": status,
            });
            busy(&serde_json::from_value(object).unwrap()).map(|run| run.status)
        };
        let asked = json!([{"action": "Stop", "uid": "u"}]);
        assert_eq!(with(json!({"printableStatus": "Stopped"})), None);
        assert_eq!(
            with(json!({"printableStatus": "Stopping", "stateChangeRequests": asked})),
            Some("Stopping".to_owned())
        );
    }

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
