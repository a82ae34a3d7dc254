//! What the object `kubevirt` says of the cluster: whether machines can be run.

use crds::{KubeVirt, KubeVirtCondition, KubeVirtPhase, KubeVirtStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::condition::{FALSE, TRUE};

/// Machines can be run.
const AVAILABLE: &str = "Available";
/// Something has gone wrong.
const DEGRADED: &str = "Degraded";
/// Parts are still to become ready.
const PROGRESSING: &str = "Progressing";

/// The status to write, with the types and reasons of KubeVirt's conditions; none where it is there,
/// or the object is being deleted. `handler` says whether a node has a handler that is ready: the
/// controller leads, or it would not ask.
pub fn decide(kubevirt: &KubeVirt, handler: bool, now: Timestamp) -> Option<KubeVirtStatus> {
    if kubevirt.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let (phase, reason, message) = match handler {
        true => (
            KubeVirtPhase::Deployed,
            "AllComponentsReady",
            "machines can be run",
        ),
        false => (
            KubeVirtPhase::Deploying,
            "DeploymentInProgress",
            "no node has a handler that is ready; look at the pods of the DaemonSet virt-handler",
        ),
    };
    let current = kubevirt.status.clone().unwrap_or_default();
    let condition = |type_: &str, is: bool| {
        let status = if is { TRUE } else { FALSE };
        let mut before = current.conditions.iter();
        let before = before.find(|before| before.type_ == type_ && before.status == status);
        let since = before.and_then(|before| before.last_transition_time.clone());
        KubeVirtCondition {
            last_transition_time: since.or(Some(Time(now))),
            message: Some(message.to_owned()),
            reason: Some(reason.to_owned()),
            status: status.to_owned(),
            type_: type_.to_owned(),
        }
    };
    let wanted = KubeVirtStatus {
        conditions: vec![
            condition(AVAILABLE, handler),
            condition(DEGRADED, false),
            condition(PROGRESSING, !handler),
        ],
        observed_generation: kubevirt.metadata.generation,
        observed_kube_virt_version: Some(format!("v{}", env!("CARGO_PKG_VERSION"))),
        phase: Some(phase),
    };
    (current != wanted).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn kubevirt(status: &Option<KubeVirtStatus>) -> KubeVirt {
        let mut object: KubeVirt = serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "KubeVirt",
            "metadata": {"name": "kubevirt", "generation": 2},
            "spec": {},
        }))
        .unwrap();
        object.status.clone_from(status);
        object
    }

    /// Of each condition its type, its status, its reason and since when it is so.
    fn conditions(status: &KubeVirtStatus) -> Value {
        let conditions = status.conditions.iter().map(|condition| {
            let since = condition.last_transition_time.as_ref().unwrap();
            let since = since.0.as_second();
            json!([condition.type_, condition.status, condition.reason, since])
        });
        conditions.collect()
    }

    #[test]
    fn it_is_available_once_a_node_has_a_handler() {
        let deploying = decide(&kubevirt(&None), false, at(1));
        let status = deploying.as_ref().unwrap();
        assert_eq!(status.phase, Some(KubeVirtPhase::Deploying));
        assert_eq!(status.observed_generation, Some(2));
        let why = "DeploymentInProgress";
        assert_eq!(
            conditions(status),
            json!([
                ["Available", "False", why, 1],
                ["Degraded", "False", why, 1],
                ["Progressing", "True", why, 1],
            ])
        );

        let deployed = decide(&kubevirt(&deploying), true, at(2));
        let status = deployed.as_ref().unwrap();
        assert_eq!(status.phase, Some(KubeVirtPhase::Deployed));
        let version = concat!("v", env!("CARGO_PKG_VERSION"));
        assert_eq!(status.observed_kube_virt_version.as_deref(), Some(version));
        let why = "AllComponentsReady";
        assert_eq!(
            conditions(status),
            json!([
                ["Available", "True", why, 2],
                ["Degraded", "False", why, 1],
                ["Progressing", "False", why, 2],
            ])
        );
    }

    #[test]
    fn what_is_there_is_not_written_again() {
        for handler in [false, true] {
            let written = decide(&kubevirt(&None), handler, at(1));
            let mut object = kubevirt(&written);
            assert_eq!(decide(&object, handler, at(2)), None);
            object.metadata.generation = Some(3);
            let status = decide(&object, handler, at(2)).unwrap();
            assert_eq!(status.observed_generation, Some(3));
        }
    }

    #[test]
    fn an_object_that_goes_is_left() {
        let mut object = kubevirt(&None);
        object.metadata.deletion_timestamp = Some(Time(at(1)));
        assert_eq!(decide(&object, true, at(1)), None);
    }
}
