//! A launcher's pod, reduced to what decisions are made from: a thousand pods as Kubernetes has them
//! would be most of the controller's memory.

use k8s_openapi::api::core::v1 as k8s;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

use super::condition::TRUE;

/// The container whose end is the machine's.
const COMPUTE: &str = "compute";

/// What the names of the containers begin with that hand disks and kernels over: the machine does not
/// start without them.
const HAND_OVER: [&str; 2] = ["volume", "kernel-boot"];

/// Why containers wait, where that is worth telling (the kubelet's words).
const WAITING: [&str; 8] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// A launcher's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launcher {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
    /// The name of the instance that controls it, or empty.
    pub vmi_name: String,
    /// The uid of the instance that controls it, or empty.
    pub vmi_uid: String,
    /// It is being deleted.
    pub deleting: bool,
    /// What it has to end once it is deleted, in seconds.
    pub grace_seconds: Option<i64>,
    /// The node that it is bound to.
    pub node: Option<String>,
    /// The launcher's image.
    pub image: Option<String>,
    /// Its quality of service: Guaranteed, Burstable or BestEffort.
    pub qos_class: Option<String>,
    /// Its condition Ready.
    pub ready: Option<PodCondition>,
    /// Its condition PodScheduled.
    pub scheduled: Option<PodCondition>,
    /// Why it is taken away, where its condition DisruptionTarget is True.
    pub disruption: Option<PodCondition>,
    /// The first container that waits for something worth telling.
    pub waiting: Option<Waiting>,
    /// The end of the container `compute`.
    pub ended: Option<Ended>,
    /// The end of the first container that failed and was to hand something over.
    pub failed_helper: Option<Ended>,
    /// The end of the pod as a whole.
    pub over: Option<PodOver>,
}

/// A pod's condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodCondition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, for programs.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Since when.
    pub since: Option<Time>,
}

/// What a container waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The kubelet's word, such as ErrImagePull.
    pub reason: String,
    /// What it says.
    pub message: String,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status.
    pub status: i32,
    /// The container runtime's word, such as OOMKilled.
    pub reason: String,
    /// What it said last.
    pub message: String,
}

/// How a pod ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodOver {
    /// All its containers ended well.
    pub succeeded: bool,
    /// Why, for programs, such as Evicted.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

impl Launcher {
    /// The pod. One that no instance controls has no instance.
    pub fn new(pod: &k8s::Pod) -> Self {
        let metadata = &pod.metadata;
        let owner = metadata.owner_references.iter().flatten().find(controls);
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let containers = status.and_then(|status| status.container_statuses.as_ref());
        let containers = || containers.into_iter().flatten();
        let condition = |type_| status.and_then(|status| condition(status, type_));
        let compute = spec.and_then(|spec| spec.containers.iter().find(|c| c.name == COMPUTE));
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            vmi_name: owner.map(|owner| owner.name.clone()).unwrap_or_default(),
            vmi_uid: owner.map(|owner| owner.uid.clone()).unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            grace_seconds: spec.and_then(|spec| spec.termination_grace_period_seconds),
            node: spec.and_then(|spec| spec.node_name.clone()),
            image: compute.and_then(|compute| compute.image.clone()),
            qos_class: status.and_then(|status| status.qos_class.clone()),
            ready: condition("Ready"),
            scheduled: condition("PodScheduled"),
            disruption: condition("DisruptionTarget").filter(|c| c.status == TRUE),
            waiting: containers().find_map(waiting),
            ended: containers().find(|c| c.name == COMPUTE).and_then(ended),
            failed_helper: containers().find_map(failed_helper),
            over: status.and_then(over),
        }
    }
}

fn controls(owner: &&OwnerReference) -> bool {
    owner.controller == Some(true)
        && owner.kind == "VirtualMachineInstance"
        && owner.api_version.starts_with("kubevirt.io/")
}

fn condition(status: &k8s::PodStatus, type_: &str) -> Option<PodCondition> {
    let mut conditions = status.conditions.iter().flatten();
    let condition = conditions.find(|condition| condition.type_ == type_)?;
    Some(PodCondition {
        status: condition.status.clone(),
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        since: condition.last_transition_time.clone(),
    })
}

fn waiting(container: &k8s::ContainerStatus) -> Option<Waiting> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    WAITING.contains(&reason).then(|| Waiting {
        reason: reason.to_owned(),
        message: format!("container {}: {message}", container.name),
    })
}

fn ended(container: &k8s::ContainerStatus) -> Option<Ended> {
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    Some(Ended {
        status: ended.exit_code,
        reason: ended.reason.clone().unwrap_or_default(),
        message: ended
            .message
            .as_deref()
            .unwrap_or_default()
            .trim()
            .to_owned(),
    })
}

fn failed_helper(container: &k8s::ContainerStatus) -> Option<Ended> {
    let name = &container.name;
    if !HAND_OVER.iter().any(|begin| name.starts_with(begin)) {
        return None;
    }
    let ended = ended(container).filter(|ended| ended.status != 0)?;
    let said = match ended.message.as_str() {
        "" => &ended.reason,
        said => said,
    };
    Some(Ended {
        message: format!("container {name}: {said}"),
        ..ended
    })
}

fn over(status: &k8s::PodStatus) -> Option<PodOver> {
    let succeeded = match status.phase.as_deref() {
        Some("Succeeded") => true,
        Some("Failed") => false,
        _ => return None,
    };
    Some(PodOver {
        succeeded,
        reason: status.reason.clone().unwrap_or_default(),
        message: status.message.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> k8s::Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "virt-launcher-vm-abcde", "uid": "pod", "ownerReferences": [
                {"apiVersion": "v1", "kind": "Other", "name": "other", "uid": "other"},
                {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": "vm",
                 "uid": "vmi", "controller": true},
            ]},
            "spec": {
                "nodeName": "node1",
                "terminationGracePeriodSeconds": 60,
                "containers": [
                    {"name": "volumeroot", "image": "disk"},
                    {"name": "compute", "image": "launcher"},
                ],
            },
            "status": status,
        }))
        .unwrap()
    }

    fn launcher() -> Launcher {
        Launcher {
            name: "virt-launcher-vm-abcde".to_owned(),
            uid: "pod".to_owned(),
            vmi_name: "vm".to_owned(),
            vmi_uid: "vmi".to_owned(),
            grace_seconds: Some(60),
            node: Some("node1".to_owned()),
            image: Some("launcher".to_owned()),
            ..Launcher::default()
        }
    }

    #[test]
    fn what_decisions_need_is_taken_over() {
        let condition = |status: &str, reason: &str| PodCondition {
            status: status.to_owned(),
            reason: reason.to_owned(),
            ..PodCondition::default()
        };
        let pulling = json!({"waiting": {"reason": "ErrImagePull", "message": "no such host"}});
        let creating = json!({"waiting": {"reason": "ContainerCreating"}});
        let container = |name: &str, state: Value| {
            json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": state})
        };
        let failed = |message: &str| json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": message}});
        let ended = json!({"terminated": {"exitCode": 3, "reason": "Error", "message": "why\n"}});
        let cases = [
            (json!({"phase": "Pending"}), launcher()),
            (
                json!({"qosClass": "Burstable", "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"},
                    {"type": "Ready", "status": "True"},
                    {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"},
                ]}),
                Launcher {
                    qos_class: Some("Burstable".to_owned()),
                    ready: Some(condition("True", "")),
                    scheduled: Some(condition("False", "Unschedulable")),
                    disruption: Some(condition("True", "EvictionByEvictionAPI")),
                    ..launcher()
                },
            ),
            (
                json!({"conditions": [{"type": "DisruptionTarget", "status": "False"}]}),
                launcher(),
            ),
            (
                json!({"containerStatuses": [
                    container("compute", creating),
                    container("volumeroot", pulling),
                ]}),
                Launcher {
                    waiting: Some(Waiting {
                        reason: "ErrImagePull".to_owned(),
                        message: "container volumeroot: no such host".to_owned(),
                    }),
                    ..launcher()
                },
            ),
            (
                json!({"containerStatuses": [
                    container("compute", json!({"running": {}})),
                    container("guest-console-log", failed("")),
                    container("volumeroot", json!({"terminated": {"exitCode": 0}})),
                    container("kernel-boot", failed("no such file\n")),
                    container("volumedata", failed("")),
                ]}),
                Launcher {
                    failed_helper: Some(Ended {
                        status: 128,
                        reason: "StartError".to_owned(),
                        message: "container kernel-boot: no such file".to_owned(),
                    }),
                    ..launcher()
                },
            ),
            (
                json!({"containerStatuses": [container("volumedata", failed(""))]}),
                Launcher {
                    failed_helper: Some(Ended {
                        status: 128,
                        reason: "StartError".to_owned(),
                        message: "container volumedata: StartError".to_owned(),
                    }),
                    ..launcher()
                },
            ),
            (
                json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory",
                    "containerStatuses": [
                    container("compute", ended),
                ]}),
                Launcher {
                    ended: Some(Ended {
                        status: 3,
                        reason: "Error".to_owned(),
                        message: "why".to_owned(),
                    }),
                    over: Some(PodOver {
                        succeeded: false,
                        reason: "Evicted".to_owned(),
                        message: "low on memory".to_owned(),
                    }),
                    ..launcher()
                },
            ),
        ];
        for (status, expected) in cases {
            assert_eq!(Launcher::new(&pod(status.clone())), expected, "{status}");
        }
    }

    #[test]
    fn a_pod_that_no_instance_controls_has_none() {
        let owner = |owner: Value| {
            let mut pod = pod(json!({}));
            pod.metadata.owner_references = serde_json::from_value(json!([owner])).unwrap();
            Launcher::new(&pod).vmi_uid
        };
        let base = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "name": "vm", "uid": "vmi", "controller": true});
        let with = |field: &str, value: Value| {
            let mut owner = base.clone();
            owner[field] = value;
            owner
        };
        assert_eq!(owner(base.clone()), "vmi");
        assert_eq!(owner(with("controller", json!(false))), "");
        assert_eq!(owner(with("kind", json!("ReplicaSet"))), "");
        assert_eq!(owner(with("apiVersion", json!("example.org/v1"))), "");
    }
}
