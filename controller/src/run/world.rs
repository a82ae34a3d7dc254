//! What is known of the cluster, what a change in it concerns, and snapshots of it.

use std::borrow::Cow;
use std::sync::Arc;

use crds::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::api::core::v1 as k8s;
use kube_core::ResourceExt;
use kube_runtime::reflector::Store;
use kube_runtime::watcher::Event;

use super::cache::{Cache, Change, Wrote};
use super::queue::{Key, Kind};
use crate::metrics::Metrics;
use crate::pod;
use crate::reconcile::vm::VmSnapshot;
use crate::reconcile::vmi::{Offers, VmiSnapshot, claims};
use crate::reconcile::{Failure, Launcher};

/// A node, reduced to what decisions are made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Its name.
    pub(super) name: String,
    /// Its resource version.
    pub(super) resource_version: String,
    /// It is heard from.
    pub(super) ready: bool,
    /// What it offers to launchers, while it is heard from.
    pub(super) offers: Offers,
}

impl Node {
    /// The node.
    pub(super) fn new(node: &k8s::Node) -> Self {
        let status = node.status.as_ref();
        let mut conditions = status
            .and_then(|s| s.conditions.as_deref())
            .into_iter()
            .flatten();
        let ready = conditions.any(|c| c.type_ == "Ready" && c.status == "True");
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        let has = |resource| {
            let amount = allocatable.and_then(|resources| resources.get(resource));
            ready && amount.is_some_and(|amount| amount.0 != "0")
        };
        let labels = node.labels();
        let schedulable = labels
            .get(pod::SCHEDULABLE)
            .is_some_and(|said| said == "true");
        Self {
            name: node.name_any(),
            resource_version: node.resource_version().unwrap_or_default(),
            ready,
            offers: Offers {
                handler: schedulable && has("devices.kubevirt.io/tun"),
                kvm: has("devices.kubevirt.io/kvm"),
            },
        }
    }
}

/// For a type that stands for an object in a cache.
macro_rules! lookup {
    ($type:ty, $kind:literal, $plural:literal, $namespace:expr) => {
        // Its methods have the names of `ResourceExt`'s: it is not imported.
        impl kube_runtime::reflector::Lookup for $type {
            type DynamicType = ();

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                "".into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn name(&self) -> Option<Cow<'_, str>> {
                Some((&self.name).into())
            }

            fn namespace(&self) -> Option<Cow<'_, str>> {
                $namespace(self)
            }

            fn resource_version(&self) -> Option<Cow<'_, str>> {
                Some((&self.resource_version).into())
            }

            fn uid(&self) -> Option<Cow<'_, str>> {
                None
            }
        }
    };
}

lookup!(Launcher, "Pod", "pods", |pod| {
    let pod: &Launcher = pod;
    Some(Cow::Borrowed(pod.namespace.as_str()))
});
lookup!(Node, "Node", "nodes", |_| None);

/// What is known of the cluster.
#[derive(Debug, Default)]
pub struct World {
    /// The machines.
    pub(super) vms: Cache<VirtualMachine>,
    /// The instances.
    pub(super) vmis: Cache<VirtualMachineInstance>,
    /// The launchers' pods.
    pub(super) pods: Cache<Launcher>,
    /// The claims.
    pub(super) claims: Cache<k8s::PersistentVolumeClaim>,
    /// The nodes.
    pub(super) nodes: Cache<Node>,
}

/// What was watched.
#[derive(Debug)]
pub(super) enum Watched {
    /// Machines.
    Vm(Event<VirtualMachine>),
    /// Instances.
    Vmi(Event<VirtualMachineInstance>),
    /// Launchers' pods.
    Pod(Event<Launcher>),
    /// Claims.
    Claim(Event<k8s::PersistentVolumeClaim>),
    /// Nodes.
    Node(Event<Node>),
}

/// What a write of ours was answered with.
#[derive(Debug)]
pub(super) enum Written {
    /// A machine, which others make.
    Vm(Box<VirtualMachine>),
    /// An instance.
    Vmi(Box<VirtualMachineInstance>, Wrote),
    /// A launcher's pod.
    Pod(Box<Launcher>, Wrote),
}

impl World {
    /// The machines and the instances, to read.
    pub fn stores(&self) -> (Store<VirtualMachine>, Store<VirtualMachineInstance>) {
        (self.vms.store(), self.vmis.store())
    }

    /// Everything is known that decisions are made from.
    pub(super) fn is_listed(&self) -> bool {
        self.vms.is_listed()
            && self.vmis.is_listed()
            && self.pods.is_listed()
            && self.claims.is_listed()
            && self.nodes.is_listed()
    }

    /// Takes over what was watched. Returns what it concerns.
    pub(super) fn watched(&mut self, watched: Watched, metrics: &Metrics) -> Vec<Key> {
        match watched {
            Watched::Vm(event) => {
                let change = self.vms.watched(event);
                self.vm_changed(change)
            }
            Watched::Vmi(event) => {
                let change = self.vmis.watched(event);
                observe(&change, metrics);
                self.vmi_changed(change)
            }
            Watched::Pod(event) => {
                let change = self.pods.watched(event);
                self.pod_changed(change)
            }
            Watched::Claim(event) => {
                let change = self.claims.watched(event);
                self.claim_changed(change)
            }
            Watched::Node(event) => {
                let change = self.nodes.watched(event);
                self.node_changed(change)
            }
        }
    }

    /// Takes over what a write of ours was answered with. Returns what it concerns.
    pub(super) fn written(&mut self, written: Written, metrics: &Metrics) -> Vec<Key> {
        match written {
            Written::Vm(vm) => {
                let change = self.vms.written(*vm, Wrote::Known);
                self.vm_changed(change)
            }
            Written::Vmi(vmi, wrote) => {
                let change = self.vmis.written(*vmi, wrote);
                observe(&change, metrics);
                self.vmi_changed(change)
            }
            Written::Pod(pod, wrote) => {
                let change = self.pods.written(*pod, wrote);
                self.pod_changed(change)
            }
        }
    }

    /// No answer to a write is on its way any more.
    pub(super) fn settle(&mut self) {
        self.vms.settle();
        self.vmis.settle();
        self.pods.settle();
        self.claims.settle();
        self.nodes.settle();
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.vms.clear();
        self.vmis.clear();
        self.pods.clear();
        self.claims.clear();
        self.nodes.clear();
    }

    fn vm_changed(&self, change: Change<VirtualMachine>) -> Vec<Key> {
        match change {
            Change::None => Vec::new(),
            Change::One { old, new } => {
                let vm = new.or(old);
                vm.map(|vm| key(Kind::Vm, &*vm)).into_iter().collect()
            }
            Change::All => keys(Kind::Vm, &self.vms.all()),
        }
    }

    fn vmi_changed(&self, change: Change<VirtualMachineInstance>) -> Vec<Key> {
        match change {
            Change::None => Vec::new(),
            Change::One { old, new } => {
                let Some(vmi) = new.or(old) else {
                    return Vec::new();
                };
                // A machine cares for the instance of its name, whoever made it.
                vec![key(Kind::Vmi, &*vmi), key(Kind::Vm, &*vmi)]
            }
            Change::All => {
                let mut all = keys(Kind::Vmi, &self.vmis.all());
                all.extend(keys(Kind::Vm, &self.vms.all()));
                all
            }
        }
    }

    fn pod_changed(&self, change: Change<Launcher>) -> Vec<Key> {
        match change {
            Change::None => Vec::new(),
            Change::One { old, new } => {
                let gone = new.is_none();
                let Some(pod) = new.or(old) else {
                    return Vec::new();
                };
                let mut concerned = vec![key_of(Kind::Vmi, &pod.namespace, &pod.vmi_name)];
                if gone {
                    concerned.push(key_of(Kind::Vm, &pod.namespace, &pod.vmi_name));
                }
                concerned
            }
            Change::All => self.vmi_changed(Change::All),
        }
    }

    fn claim_changed(&self, change: Change<k8s::PersistentVolumeClaim>) -> Vec<Key> {
        let (old, new) = match change {
            Change::None => return Vec::new(),
            Change::One { old, new } => (old, new),
            Change::All => return self.vmi_changed(Change::All),
        };
        if let (Some(old), Some(new)) = (&old, &new)
            && is_bound(old) == is_bound(new)
        {
            return Vec::new();
        }
        let Some(claim) = new.or(old) else {
            return Vec::new();
        };
        let (namespace, name) = (claim.namespace(), claim.name_any());
        let vmis = self.vmis.all();
        let vmis = vmis.iter().filter(|vmi| {
            vmi.namespace() == namespace && claims(&vmi.spec).any(|claim| claim == name)
        });
        let vms = self.vms.all();
        let vms = vms.iter().filter(|vm| {
            vm.namespace() == namespace && claims(&vm.spec.template.spec).any(|claim| claim == name)
        });
        let vmis = vmis.map(|vmi| key(Kind::Vmi, &**vmi));
        vmis.chain(vms.map(|vm| key(Kind::Vm, &**vm))).collect()
    }

    fn node_changed(&self, change: Change<Node>) -> Vec<Key> {
        let (old, new) = match change {
            Change::None => return Vec::new(),
            Change::One { old, new } => (old, new),
            Change::All => return self.vmi_changed(Change::All),
        };
        let said = |node: &Option<Arc<Node>>| {
            let said = node.as_ref().map(|node| (node.ready, node.offers));
            said.unwrap_or_default()
        };
        let ((was_ready, offered), (is_ready, offers)) = (said(&old), said(&new));
        let (lost_or_back, offers_other) = (was_ready != is_ready, offered != offers);
        if !lost_or_back && !offers_other {
            return Vec::new();
        }
        let name = new.or(old).map(|node| node.name.clone());
        let pods = self.pods.all();
        let concerned = pods.iter().filter(|pod| match pod.node {
            Some(_) => lost_or_back && pod.node == name,
            // It says what no node offers.
            None => offers_other,
        });
        concerned
            .map(|pod| key_of(Kind::Vmi, &pod.namespace, &pod.vmi_name))
            .collect()
    }

    /// What is known of a machine, if there is one.
    pub(super) fn vm(&self, key: &Key, failure: Option<Failure>) -> Option<VmSnapshot> {
        let vm = self.vms.get(&key.namespace, &key.name)?;
        let vmi = self.vmis.get(&key.namespace, &key.name);
        let left = |pod: &Launcher| pod.namespace == key.namespace && pod.vmi_name == key.name;
        let unbound_claim = claims(&vm.spec.template.spec).any(|claim| {
            let claim = self.claims.get(&key.namespace, claim);
            claim.is_some_and(|claim| !is_bound(&claim))
        });
        Some(VmSnapshot {
            pod_left: vmi.is_none() && self.pods.any(left),
            vm,
            vmi,
            unbound_claim,
            failure,
        })
    }

    /// What is known of an instance, if there is one.
    pub(super) fn vmi(&self, key: &Key, failure: Option<Failure>) -> Option<VmiSnapshot> {
        let vmi = self.vmis.get(&key.namespace, &key.name)?;
        let pod = self.pods.get(&key.namespace, &pod::name(&vmi));
        let pod = pod.filter(|pod| Some(&pod.vmi_uid) == vmi.metadata.uid.as_ref());
        let node = pod.as_ref().and_then(|pod| pod.node.as_deref());
        let node = node.and_then(|node| self.nodes.get_global(node));
        let missing_claims = claims(&vmi.spec)
            .filter(|claim| self.claims.get(&key.namespace, claim).is_none())
            .map(str::to_owned)
            .collect();
        Some(VmiSnapshot {
            pod,
            node_ready: node.is_some_and(|node| node.ready),
            offers: Offers {
                handler: self.nodes.any(|node| node.offers.handler),
                kvm: self.nodes.any(|node| node.offers.kvm),
            },
            missing_claims,
            vmi,
            failure,
        })
    }

    /// The claims that the instance names, as many as exist.
    pub(super) fn claims_of(
        &self,
        vmi: &VirtualMachineInstance,
    ) -> Vec<k8s::PersistentVolumeClaim> {
        let namespace = vmi.namespace().unwrap_or_default();
        claims(&vmi.spec)
            .filter_map(|name| self.claims.get(&namespace, name))
            .map(Arc::unwrap_or_clone)
            .collect()
    }
}

/// Counts how long phases took.
fn observe(change: &Change<VirtualMachineInstance>, metrics: &Metrics) {
    if let Change::One {
        old: Some(old),
        new: Some(new),
    } = change
    {
        metrics.observe(old, new);
    }
}

fn is_bound(claim: &k8s::PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    status.and_then(|status| status.phase.as_deref()) == Some("Bound")
}

fn keys<K: ResourceExt>(kind: Kind, objects: &[Arc<K>]) -> Vec<Key> {
    objects.iter().map(|object| key(kind, &**object)).collect()
}

fn key(kind: Kind, object: &impl ResourceExt) -> Key {
    let namespace = object.namespace().unwrap_or_default();
    key_of(kind, &namespace, &object.name_any())
}

fn key_of(kind: Kind, namespace: &str, name: &str) -> Key {
    Key {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}
