//! What the API server tells of this node's VMIs and pods, brought together: pure.

use std::collections::HashMap;
use std::sync::Arc;

use crds::VirtualMachineInstance;
use k8s_openapi::api::core::v1::Pod;
use kube_client::core::error_boundary::DeserializeGuard;
use kube_runtime::watcher::Event;

use super::Seen;
use crate::status::{Disruption, PodFacts, is_followed};

/// The VMIs and the launchers' pods of this node.
#[derive(Debug)]
pub(super) struct World {
    node: String,
    vmis: Cache<Arc<VirtualMachineInstance>>,
    pods: Cache<Arc<PodFacts>>,
}

/// Objects by uid, as a watch tells of them.
#[derive(Debug)]
struct Cache<T> {
    known: HashMap<String, T>,
    /// What a list has told so far that has not come to its end.
    listed: HashMap<String, T>,
    complete: bool,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            listed: HashMap::new(),
            complete: false,
        }
    }
}

impl<T> Cache<T> {
    /// Takes in what a watch told; `keep` makes of an object what is kept of it, under its uid.
    fn take<K>(&mut self, event: Event<K>, keep: impl FnOnce(K) -> Option<(String, T)>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => self.listed.extend(keep(object)),
            // What the list does not have is gone; nobody tells of it one by one.
            Event::InitDone => {
                self.known = std::mem::take(&mut self.listed);
                self.complete = true;
            }
            Event::Apply(object) => self.known.extend(keep(object)),
            Event::Delete(object) => {
                if let Some((uid, _)) = keep(object) {
                    self.known.remove(&uid);
                }
            }
        }
    }
}

/// What a watch told of a VMI. One that cannot be read is left out: it must not keep the others from
/// being followed.
pub(super) fn readable(
    event: Event<DeserializeGuard<VirtualMachineInstance>>,
) -> Option<Event<VirtualMachineInstance>> {
    let read = |vmi: DeserializeGuard<VirtualMachineInstance>| match vmi.0 {
        Ok(mut vmi) => {
            vmi.metadata.managed_fields = None;
            Some(vmi)
        }
        Err(error) => {
            let namespace = error.metadata.namespace.as_deref().unwrap_or_default();
            let name = error.metadata.name.as_deref().unwrap_or_default();
            tracing::warn!("the VirtualMachineInstance {namespace}/{name} cannot be read: {error}");
            None
        }
    };
    match event {
        Event::Apply(vmi) => read(vmi).map(Event::Apply),
        Event::Delete(vmi) => read(vmi).map(Event::Delete),
        Event::InitApply(vmi) => read(vmi).map(Event::InitApply),
        Event::Init => Some(Event::Init),
        Event::InitDone => Some(Event::InitDone),
    }
}

impl World {
    /// The world of that node, of which nothing is known yet.
    pub(super) fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            vmis: Cache::default(),
            pods: Cache::default(),
        }
    }

    /// Takes in what the watch of VMIs told.
    pub(super) fn vmi(&mut self, event: Event<VirtualMachineInstance>) {
        self.vmis.take(event, |vmi| {
            Some((vmi.metadata.uid.clone()?, Arc::new(vmi)))
        });
    }

    /// Takes in what the watch of pods told.
    pub(super) fn pod(&mut self, event: Event<Pod>) {
        self.pods.take(event, |pod| {
            let facts = facts(&pod)?;
            Some((facts.uid.clone(), Arc::new(facts)))
        });
    }

    /// The VMIs to follow, by uid, each with its pod. `None` before both watches have told all
    /// there is.
    ///
    /// A VMI's pod is the one that virt-controller wrote into its status (activePods) and that names
    /// the VMI as its owner: labels and owner references are anybody's who can make a pod.
    pub(super) fn followed(&self) -> Option<HashMap<String, Seen>> {
        if !(self.vmis.complete && self.pods.complete) {
            return None;
        }
        let followed = self.vmis.known.iter().filter_map(|(uid, vmi)| {
            let status = vmi.status.as_ref()?;
            status.phase.filter(|phase| is_followed(*phase))?;
            // A node's handler may write of no other node's VMIs; the watch tells of none.
            status
                .node_name
                .as_ref()
                .filter(|node| **node == self.node)?;
            let active = status.active_pods.keys();
            let mut pods = active.filter_map(|pod| self.pods.known.get(pod));
            let pod = pods.find(|pod| pod.owner == *uid)?;
            let seen = Seen {
                vmi: vmi.clone(),
                pod: pod.clone(),
            };
            Some((uid.clone(), seen))
        });
        Some(followed.collect())
    }
}

/// What matters of a pod; `None` for one that belongs to no VMI.
pub(super) fn facts(pod: &Pod) -> Option<PodFacts> {
    let metadata = &pod.metadata;
    let owners = metadata.owner_references.iter().flatten();
    let mut vmis = owners.filter(|owner| {
        owner.controller == Some(true)
            && owner.kind == "VirtualMachineInstance"
            && owner.api_version.starts_with("kubevirt.io/")
    });
    let status = pod.status.as_ref();
    let ips = status
        .and_then(|status| status.pod_ips.as_deref())
        .unwrap_or_default();
    let phase = status.and_then(|status| status.phase.as_deref());
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let disrupted = conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True");
    Some(PodFacts {
        uid: metadata.uid.clone()?,
        name: metadata.name.clone()?,
        owner: vmis.next()?.uid.clone(),
        ips: ips.iter().filter_map(|ip| ip.ip.parse().ok()).collect(),
        over: matches!(phase, Some("Succeeded" | "Failed")),
        disruption: if disrupted {
            Some(Disruption::Evicted)
        } else {
            metadata
                .deletion_timestamp
                .as_ref()
                .map(|_| Disruption::Deleted)
        },
    })
}
