//! What a change concerns, and what is known of an object.

use kube_runtime::reflector::store;
use kube_runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::queue::{Key, Kind};
use super::world::{Node, Watched, World};
use crate::metrics::Metrics;
use crate::pod;
use crate::reconcile::Launcher;

fn read<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

fn machine(name: &str, version: u64, claim: &str) -> Value {
    let spec = json!({
        "domain": {"devices": {}},
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    });
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": "default", "uid": name,
            "resourceVersion": version.to_string()},
        "spec": {"template": {"spec": spec}},
    })
}

fn instance(name: &str, version: u64, claim: &str) -> Value {
    let mut instance = machine(name, version, claim);
    instance["kind"] = json!("VirtualMachineInstance");
    instance["spec"] = instance["spec"]["template"]["spec"].take();
    instance
}

fn claim(name: &str, version: u64, phase: &str) -> Watched {
    Watched::Claim(Event::Apply(read(json!({
        "metadata": {"name": name, "namespace": "default",
            "resourceVersion": version.to_string()},
        "status": {"phase": phase},
    }))))
}

fn node(version: u64, ready: bool) -> Watched {
    offering(version, ready, "true", "1000", "0")
}

fn offering(version: u64, ready: bool, schedulable: &str, tun: &str, kvm: &str) -> Watched {
    let status = if ready { "True" } else { "Unknown" };
    Watched::Node(Event::Apply(Node::new(&read(json!({
        "metadata": {"name": "node1", "resourceVersion": version.to_string(),
            "labels": {"kubevirt.io/schedulable": schedulable}},
        "status": {
            "conditions": [{"type": "Ready", "status": status}],
            "allocatable": {"devices.kubevirt.io/tun": tun, "devices.kubevirt.io/kvm": kvm},
        },
    })))))
}

fn launcher(vmi_uid: &str) -> Launcher {
    let vmi: crds::VirtualMachineInstance = read(instance("vm", 1, "data"));
    Launcher {
        namespace: "default".to_owned(),
        name: pod::name(&vmi),
        uid: "pod".to_owned(),
        resource_version: "9".to_owned(),
        vmi_name: "vm".to_owned(),
        vmi_uid: vmi_uid.to_owned(),
        node: Some("node1".to_owned()),
        ..Launcher::default()
    }
}

fn key(kind: Kind, name: &str) -> Key {
    Key {
        kind,
        namespace: "default".to_owned(),
        name: name.to_owned(),
    }
}

/// A world, and what watching this in it concerns, in order.
struct Case {
    world: World,
    metrics: Metrics,
}

impl Case {
    fn new() -> Self {
        let mut case = Self {
            world: World::default(),
            metrics: Metrics::new(store().0, store().0),
        };
        case.watch(Watched::Vm(Event::Apply(read(machine("vm", 1, "data")))));
        case.watch(Watched::Vm(Event::Apply(read(machine("other", 2, "logs")))));
        case.watch(Watched::Vmi(Event::Apply(read(instance("vm", 3, "data")))));
        case.watch(Watched::Pod(Event::Apply(launcher("vm"))));
        case.watch(node(4, true));
        case
    }

    fn watch(&mut self, watched: Watched) -> Vec<Key> {
        let mut concerned = self.world.watched(watched, &self.metrics);
        concerned.sort();
        concerned
    }
}

#[test]
fn an_instance_concerns_itself_and_the_machine_of_its_name() {
    let mut case = Case::new();
    let vmi = Event::Apply(read(instance("vm", 10, "data")));
    let concerned = case.watch(Watched::Vmi(vmi));
    assert_eq!(concerned, [key(Kind::Vm, "vm"), key(Kind::Vmi, "vm")]);
}

#[test]
fn a_pod_concerns_its_instance_and_when_it_goes_the_machine() {
    let mut case = Case::new();
    let mut pod = launcher("vm");
    pod.resource_version = "10".to_owned();
    let concerned = case.watch(Watched::Pod(Event::Apply(pod.clone())));
    assert_eq!(concerned, [key(Kind::Vmi, "vm")]);
    let concerned = case.watch(Watched::Pod(Event::Delete(pod)));
    assert_eq!(concerned, [key(Kind::Vm, "vm"), key(Kind::Vmi, "vm")]);
}

#[test]
fn a_claim_concerns_who_names_it_when_it_comes_and_when_it_is_bound() {
    let mut case = Case::new();
    let named = [key(Kind::Vm, "vm"), key(Kind::Vmi, "vm")];
    assert_eq!(case.watch(claim("data", 10, "Pending")), named);
    assert_eq!(case.watch(claim("data", 11, "Pending")), []);
    assert_eq!(case.watch(claim("data", 12, "Bound")), named);
    assert_eq!(
        case.watch(claim("logs", 13, "Bound")),
        [key(Kind::Vm, "other")]
    );
    assert_eq!(case.watch(claim("nobodys", 14, "Bound")), []);
}

#[test]
fn a_node_concerns_who_is_on_it_when_it_is_lost_and_when_it_is_back() {
    let mut case = Case::new();
    assert_eq!(case.watch(node(10, true)), []);
    assert_eq!(case.watch(node(11, false)), [key(Kind::Vmi, "vm")]);
    assert_eq!(case.watch(node(12, true)), [key(Kind::Vmi, "vm")]);
}

#[test]
fn what_a_node_offers_concerns_who_has_none() {
    let mut case = Case::new();
    let waiting = Launcher {
        name: "waiting".to_owned(),
        vmi_name: "waiting".to_owned(),
        node: None,
        ..launcher("waiting")
    };
    case.watch(Watched::Pod(Event::Apply(waiting)));
    let (vm, waiting) = (key(Kind::Vmi, "vm"), key(Kind::Vmi, "waiting"));
    let cases = [
        ((true, "true", "1000", "0"), vec![]),
        ((true, "true", "999", "0"), vec![]),
        ((true, "false", "1000", "0"), vec![&waiting]),
        ((true, "true", "1000", "0"), vec![&waiting]),
        ((true, "true", "0", "0"), vec![&waiting]),
        ((true, "true", "1000", "1000"), vec![&waiting]),
        ((false, "true", "1000", "1000"), vec![&vm, &waiting]),
        // It has nothing to offer.
        ((true, "false", "1000", "0"), vec![&vm]),
    ];
    for (version, (said, expected)) in (10..).zip(cases) {
        let (ready, schedulable, tun, kvm) = said;
        let concerned = case.watch(offering(version, ready, schedulable, tun, kvm));
        assert_eq!(concerned.iter().collect::<Vec<_>>(), expected, "{said:?}");
    }
}

#[test]
fn a_snapshot_holds_what_is_known() {
    let mut case = Case::new();
    let of_vmi = |case: &Case| case.world.vmi(&key(Kind::Vmi, "vm"), None).unwrap();
    let snapshot = of_vmi(&case);
    assert_eq!(snapshot.pod.as_deref(), Some(&launcher("vm")));
    assert!(snapshot.node_ready);
    assert!(snapshot.offers.handler && !snapshot.offers.kvm);
    assert_eq!(snapshot.missing_claims, ["data"]);
    case.watch(claim("data", 10, "Pending"));
    case.watch(node(11, false));
    let snapshot = of_vmi(&case);
    assert_eq!(snapshot.missing_claims, [] as [String; 0]);
    assert!(!snapshot.node_ready && !snapshot.offers.handler);
    let snapshot = case.world.vm(&key(Kind::Vm, "vm"), None).unwrap();
    assert!(snapshot.vmi.is_some() && snapshot.unbound_claim && !snapshot.pod_left);
    case.watch(Watched::Vmi(Event::Delete(read(instance(
        "vm", 12, "data",
    )))));
    let snapshot = case.world.vm(&key(Kind::Vm, "vm"), None).unwrap();
    assert!(snapshot.vmi.is_none() && snapshot.pod_left);
    assert!(case.world.vm(&key(Kind::Vm, "none"), None).is_none());
}

#[test]
fn a_pod_that_another_made_under_the_name_is_not_the_instances() {
    let mut case = Case::new();
    let mut pod = launcher("somebody");
    pod.resource_version = "10".to_owned();
    case.watch(Watched::Pod(Event::Apply(pod)));
    let snapshot = case.world.vmi(&key(Kind::Vmi, "vm"), None).unwrap();
    assert_eq!(snapshot.pod, None);
}
