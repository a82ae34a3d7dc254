//! The kubelets and the handlers of nodes that are only told of.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;
use kube_client::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube_client::core::DynamicObject;
use kube_runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

use super::CONCURRENT;
use crate::api::Api;
use crate::vms::guest::holds;

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(900);

/// Each takes two hundred pods.
const NODES: usize = 10;

/// The label by which instances ask for simulated nodes, and the prefix of those nodes' names.
pub(super) const SIMULATED: &str = "simulated";

/// How often a node's Lease is renewed; it is dead after 16 s.
const RENEWAL: Duration = Duration::from_secs(4);

/// The kubelets and the handlers of nodes that are only told of.
pub(super) struct Simulator<'a> {
    pub(super) api: &'a Api,
    pub(super) namespace: &'a str,
    /// The instances that there are; whether each runs and is ready.
    instances: RefCell<BTreeMap<String, bool>>,
    /// The launchers' pods that there are.
    pods: RefCell<BTreeSet<String>>,
    /// How many addresses are taken.
    addresses: Cell<u16>,
}

impl<'a> Simulator<'a> {
    pub(super) fn new(api: &'a Api, namespace: &'a str) -> Self {
        Self {
            api,
            namespace,
            instances: RefCell::default(),
            pods: RefCell::default(),
            addresses: Cell::default(),
        }
    }

    /// Waits until there are so many instances, each with its pod, and all are ready.
    pub(super) async fn wait(&self, wanted: usize) {
        let until = Instant::now() + LIMIT;
        loop {
            let pods = self.pods.borrow().len();
            let ready: Vec<bool> = self.instances.borrow().values().copied().collect();
            let count = ready.len();
            let ready = ready.into_iter().filter(|ready| *ready).count();
            if [count, ready, pods] == [wanted; 3] {
                break;
            }
            assert!(
                Instant::now() < until,
                "not {wanted} within {LIMIT:?}: {count} instances, {ready} ready, {pods} pods"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Tells of the nodes, as a kubelet and a handler do that start.
    pub(super) async fn make_nodes(&self) {
        self.renew().await;
        let nodes = self.api.dynamic("v1", "Node", None);
        let offers = json!({
            "cpu": "64", "memory": "1Ti", "ephemeral-storage": "1Ti", "pods": "200",
            "devices.kubevirt.io/tun": "1000", "devices.kubevirt.io/vhost-net": "1000",
            "devices.kubevirt.io/kvm": "1000", "devices.kubevirt.io/sidecar": "1000",
        });
        for node in node_names() {
            // No label of an operating system: a DaemonSet's pods have no place here.
            let node = json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {
                    "name": node,
                    "labels": {"kubevirt.io/schedulable": "true", SIMULATED: "true"},
                },
                "status": {
                    "capacity": offers, "allocatable": offers,
                    "conditions": [condition("Ready")],
                },
            });
            let node = serde_json::from_value(node).expect("it is an object");
            let made = nodes.create(&PostParams::default(), &node).await;
            made.expect("a node can be made");
        }
    }

    /// Plays its parts, for ever.
    pub(super) async fn run(&self) {
        let leases = async {
            loop {
                tokio::time::sleep(RENEWAL).await;
                self.renew().await;
            }
        };
        tokio::select! {
            () = self.be_kubelets() => {}
            () = self.be_handlers() => {}
            () = leases => {}
        }
    }

    async fn renew(&self) {
        for node in node_names() {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": node, "namespace": "kube-node-lease"},
                "spec": {
                    "holderIdentity": node, "leaseDurationSeconds": 40,
                    "renewTime": MicroTime(Timestamp::now()),
                },
            });
            self.api.apply(lease).await;
        }
    }

    async fn be_kubelets(&self) {
        let pods = self.api.pods(self.namespace);
        let launchers = watcher::Config::default().labels("kubevirt.io=virt-launcher");
        watcher(pods.clone(), launchers)
            .default_backoff()
            .for_each_concurrent(CONCURRENT, async |event| {
                let pod = match event {
                    Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => pod,
                    Ok(watcher::Event::Delete(pod)) => {
                        let name = name_of(pod.metadata.name);
                        self.pods.borrow_mut().remove(&name);
                        return;
                    }
                    _ => return,
                };
                let name = name_of(pod.metadata.name.clone());
                self.pods.borrow_mut().insert(name.clone());
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
                if !node.is_some_and(|node| node.starts_with(SIMULATED)) {
                    return;
                }
                // What fails has changed meanwhile, and is seen again.
                if pod.metadata.deletion_timestamp.is_some() {
                    let at_once = DeleteParams::default().grace_period(0);
                    let _ = pods.delete(&name, &at_once).await;
                } else if pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Pending") {
                    let status = Patch::Strategic(self.started(&pod));
                    let _ = pods
                        .patch_status(&name, &PatchParams::default(), &status)
                        .await;
                }
            })
            .await;
    }

    /// The status of a pod whose containers all run.
    fn started(&self, pod: &Pod) -> Value {
        self.addresses.set(self.addresses.get() + 1);
        let [high, low] = self.addresses.get().to_be_bytes();
        let address = format!("10.100.{high}.{low}");
        let now = Time(Timestamp::now());
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let containers = containers.map(|container| {
            json!({
                "name": container.name, "image": container.image, "imageID": "",
                "ready": true, "started": true, "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            })
        });
        let conditions = ["Initialized", "ContainersReady", "Ready"].map(condition);
        json!({"status": {
            "phase": "Running", "startTime": now,
            "podIP": address, "podIPs": [{"ip": address}],
            "conditions": conditions, "containerStatuses": containers.collect::<Vec<_>>(),
        }})
    }

    async fn be_handlers(&self) {
        let kind = "VirtualMachineInstance";
        let instances = self
            .api
            .dynamic("kubevirt.io/v1", kind, Some(self.namespace));
        watcher(instances.clone(), watcher::Config::default())
            .default_backoff()
            .for_each_concurrent(CONCURRENT, async |event| {
                let vmi = match event {
                    Ok(watcher::Event::Apply(vmi) | watcher::Event::InitApply(vmi)) => vmi,
                    Ok(watcher::Event::Delete(vmi)) => {
                        let name = name_of(vmi.metadata.name);
                        self.instances.borrow_mut().remove(&name);
                        return;
                    }
                    _ => return,
                };
                let name = name_of(vmi.metadata.name.clone());
                let status = &vmi.data["status"];
                let ready = status["phase"] == "Running" && holds(&vmi.data, "Ready");
                self.instances.borrow_mut().insert(name.clone(), ready);
                let node = status["nodeName"].as_str();
                let ours = node.is_some_and(|node| node.starts_with(SIMULATED));
                if ours && status["phase"] == "Scheduled" {
                    let running = Patch::Apply(running(&vmi));
                    let params = PatchParams::apply("virt-handler").force();
                    // Where it has changed meanwhile, it is seen again.
                    let _ = instances.patch_status(&name, &params, &running).await;
                }
            })
            .await;
    }
}

/// What a handler writes of an instance whose guest has started.
fn running(vmi: &DynamicObject) -> Value {
    let metadata = &vmi.metadata;
    let mut transitions = vmi.data["status"]["phaseTransitionTimestamps"].clone();
    if let Some(transitions) = transitions.as_array_mut() {
        let now = Time(Timestamp::now());
        transitions.push(json!({"phase": "Running", "phaseTransitionTimestamp": now}));
    }
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": metadata.name, "resourceVersion": metadata.resource_version},
        "status": {
            "phase": "Running", "phaseTransitionTimestamps": transitions,
            "interfaces": [
                {"name": "default", "ipAddress": "10.100.0.1", "ipAddresses": ["10.100.0.1"]},
            ],
            "machine": {"type": "pc-q35-7.2"},
        },
    })
}

fn node_names() -> impl Iterator<Item = String> {
    (0..NODES).map(|number| format!("{SIMULATED}-{number}"))
}

fn name_of(name: Option<String>) -> String {
    name.expect("every object has a name")
}

/// A condition that holds, of a node or a pod.
fn condition(kind: &str) -> Value {
    let now = Time(Timestamp::now());
    json!({"type": kind, "status": "True", "lastTransitionTime": now})
}
