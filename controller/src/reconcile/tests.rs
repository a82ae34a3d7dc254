//! A machine, its instance and its pod in a small model of a cluster, in which anything may happen
//! at any time.

use std::sync::Arc;

use crds::{
    RunStrategy, VirtualMachine, VirtualMachineInstance, VirtualMachineInstancePhase as Phase,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::vm::VmSnapshot;
use super::vmi::{Offers, VmiSnapshot, is_final, phase};
use super::*;

/// What happens to the cluster from outside.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Strategy(RunStrategy),
    AskToStart,
    AskToStop,
    DeleteInstance,
    Evict,
    Bind,
    GuestRuns,
    GuestEnds(i32),
    HelpersEnd,
    HelperFails,
    NodeShutsDown,
    KubeletRemovesPod,
    NodeIsLost,
    NodeIsBack,
    TimePasses,
    DeleteMachine,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    use RunStrategy::*;
    let strategies = prop_oneof![
        Just(Always),
        Just(Halted),
        Just(Manual),
        Just(RerunOnFailure),
        Just(Once),
    ];
    prop_oneof![
        2 => strategies.prop_map(Strategy),
        2 => Just(AskToStart),
        2 => Just(AskToStop),
        1 => Just(DeleteInstance),
        1 => Just(Evict),
        6 => Just(Bind),
        6 => Just(GuestRuns),
        3 => prop_oneof![Just(0), Just(1), Just(3)].prop_map(GuestEnds),
        3 => Just(HelpersEnd),
        1 => Just(HelperFails),
        1 => Just(NodeShutsDown),
        6 => Just(KubeletRemovesPod),
        1 => Just(NodeIsLost),
        2 => Just(NodeIsBack),
        2 => Just(TimePasses),
        1 => Just(DeleteMachine),
    ]
}

#[derive(Debug)]
struct Cluster {
    vm: Option<VirtualMachine>,
    vmi: Option<VirtualMachineInstance>,
    pod: Option<Launcher>,
    node_ready: bool,
    /// Somebody asked the machine to start under the strategy that it has now.
    asked: bool,
    now: i64,
    uids: u32,
}

impl Cluster {
    fn new() -> Self {
        let vm = json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {
                "name": "vm", "namespace": "default", "uid": "vm", "generation": 1,
                "finalizers": [vm::FINALIZER],
            },
            "spec": {
                "runStrategy": "Halted",
                "template": {"spec": {"domain": {"devices": {}}}},
            },
        });
        Self {
            vm: Some(serde_json::from_value(vm).unwrap()),
            vmi: None,
            pod: None,
            node_ready: true,
            asked: false,
            now: 1000,
            uids: 0,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.now).unwrap()
    }

    fn uid(&mut self) -> String {
        self.uids += 1;
        format!("uid-{}", self.uids)
    }

    fn happen(&mut self, happening: Happening) {
        let now = Time(self.now());
        match happening {
            Happening::Strategy(strategy) => {
                if let Some(vm) = &mut self.vm {
                    self.asked &= vm.spec.run_strategy == Some(strategy);
                    vm.spec.run_strategy = Some(strategy);
                    vm.metadata.generation = vm.metadata.generation.map(|number| number + 1);
                }
            }
            Happening::AskToStart => {
                self.asked = true;
                self.ask(json!({"action": "Start"}));
            }
            Happening::AskToStop => {
                if let Some(vmi) = &self.vmi {
                    self.ask(json!({"action": "Stop", "uid": vmi.metadata.uid}));
                }
            }
            Happening::DeleteInstance => {
                if let Some(vmi) = &mut self.vmi {
                    vmi.metadata.deletion_timestamp.get_or_insert(now);
                }
            }
            Happening::Evict => self.delete_pod(),
            Happening::Bind => {
                if let Some(pod) = &mut self.pod {
                    pod.node = Some("node".to_owned());
                }
            }
            Happening::GuestRuns => {
                let runs = self
                    .pod
                    .as_ref()
                    .is_some_and(|pod| pod.node.is_some() && pod.ended.is_none() && !pod.deleting);
                let vmi = self.vmi.as_mut().filter(|vmi| !is_final(phase(vmi)));
                if let (true, Some(vmi)) = (runs, vmi) {
                    // The handler's write.
                    let status = vmi.status.get_or_insert_default();
                    status.phase = Some(Phase::Running);
                    let transition = json!({"phase": "Running"});
                    let transition = serde_json::from_value(transition).unwrap();
                    status.phase_transition_timestamps.push(transition);
                }
            }
            Happening::GuestEnds(status) => {
                let pod = self.pod.as_mut().filter(|pod| pod.node.is_some());
                if let Some(pod) = pod {
                    pod.ended.get_or_insert(Ended {
                        status,
                        ..Ended::default()
                    });
                }
            }
            Happening::HelpersEnd => {
                if let Some(pod) = &mut self.pod
                    && let Some(ended) = &pod.ended
                {
                    pod.over.get_or_insert(PodOver {
                        succeeded: ended.status == 0,
                        ..PodOver::default()
                    });
                }
            }
            Happening::HelperFails => {
                if let Some(pod) = self.pod.as_mut().filter(|pod| pod.node.is_some()) {
                    pod.failed_helper.get_or_insert_default();
                }
            }
            Happening::NodeShutsDown => {
                let pod = self.pod.as_mut().filter(|pod| pod.node.is_some());
                if let Some(pod) = pod.filter(|pod| pod.over.is_none()) {
                    pod.ended.get_or_insert_default();
                    pod.disruption = Some(PodCondition::default());
                    pod.over = Some(PodOver::default());
                }
            }
            Happening::KubeletRemovesPod => {
                self.pod.take_if(|pod| pod.deleting && self.node_ready);
            }
            Happening::NodeIsLost => self.node_ready = false,
            Happening::NodeIsBack => self.node_ready = true,
            Happening::TimePasses => self.now += 300,
            Happening::DeleteMachine => {
                if let Some(vm) = &mut self.vm {
                    vm.metadata.deletion_timestamp.get_or_insert(now);
                }
            }
        }
    }

    fn ask(&mut self, request: serde_json::Value) {
        if let Some(vm) = &mut self.vm {
            let requests = &mut vm.status.get_or_insert_default().state_change_requests;
            requests.push(serde_json::from_value(request).unwrap());
        }
    }

    fn delete_pod(&mut self) {
        match &mut self.pod {
            // One without a node is gone at once.
            Some(pod) if pod.node.is_none() => self.pod = None,
            Some(pod) => pod.deleting = true,
            None => {}
        }
    }

    /// Decides and writes until nothing is decided.
    fn reconcile(&mut self) {
        for _ in 0..20 {
            let about_vm = self.decide_on_vm();
            let about_vmi = match about_vm.is_empty() {
                true => self.decide_on_vmi(),
                false => Vec::new(),
            };
            if about_vm.is_empty() && about_vmi.is_empty() {
                return;
            }
            about_vm.into_iter().for_each(|write| self.about_vm(write));
            about_vmi
                .into_iter()
                .for_each(|write| self.about_vmi(write));
        }
        panic!("no end of writes: {self:#?}");
    }

    fn decide_on_vm(&self) -> Vec<vm::Write> {
        let Some(vm) = &self.vm else {
            return Vec::new();
        };
        let snapshot = VmSnapshot {
            vm: Arc::new(vm.clone()),
            vmi: self.vmi.clone().map(Arc::new),
            pod_left: self.vmi.is_none() && self.pod.is_some(),
            unbound_claim: false,
            failure: None,
        };
        vm::decide(&snapshot, self.now()).writes
    }

    fn decide_on_vmi(&self) -> Vec<vmi::Write> {
        let Some(vmi) = &self.vmi else {
            return Vec::new();
        };
        let pod = self.pod.as_ref();
        let own = pod.filter(|pod| Some(&pod.vmi_uid) == vmi.metadata.uid.as_ref());
        let snapshot = VmiSnapshot {
            vmi: Arc::new(vmi.clone()),
            pod: own.cloned().map(Arc::new),
            node_ready: self.node_ready,
            offers: Offers::default(),
            missing_claims: Vec::new(),
            failure: None,
        };
        vmi::decide(&snapshot, self.now()).writes
    }

    fn about_vm(&mut self, write: vm::Write) {
        match write {
            vm::Write::CreateVmi(vmi) => {
                assert!(self.vmi.is_none() && self.pod.is_none(), "{self:#?}");
                let mut vmi = *vmi;
                vmi.metadata.uid = Some(self.uid());
                self.vmi = Some(vmi);
            }
            vm::Write::DeleteVmi { uid } => {
                let now = Time(self.now());
                let vmi = self.vmi.as_mut().unwrap();
                assert_eq!(vmi.metadata.uid, Some(uid));
                assert_eq!(vmi.metadata.deletion_timestamp.replace(now), None);
            }
            vm::Write::SetAlways => {
                assert!(self.asked, "{self:#?}");
                let vm = self.vm.as_mut().unwrap();
                let before = vm.spec.run_strategy.replace(RunStrategy::Always);
                assert_eq!(before, Some(RunStrategy::Halted));
            }
            vm::Write::RemoveFinalizer => {
                assert!(self.vmi.is_none(), "{self:#?}");
                self.vm = None;
            }
            vm::Write::ApplyStatus(status) => {
                let vm = self.vm.as_mut().unwrap();
                assert_ne!(vm.status.as_ref(), Some(&*status), "it is there already");
                vm.status = Some(*status);
            }
            vm::Write::Event(_) => {}
        }
    }

    fn about_vmi(&mut self, write: vmi::Write) {
        match write {
            vmi::Write::CreatePod => {
                assert!(self.pod.is_none(), "{self:#?}");
                let vmi = self.vmi.as_ref().unwrap();
                assert_eq!(phase(vmi), Phase::Pending);
                let vmi_uid = vmi.metadata.uid.clone().unwrap();
                self.pod = Some(Launcher {
                    uid: self.uid(),
                    vmi_uid,
                    ..Launcher::default()
                });
            }
            vmi::Write::DeletePod { uid, .. } => {
                let pod = self.pod.as_ref().unwrap();
                assert!(pod.uid == uid && !pod.deleting, "{self:#?}");
                self.delete_pod();
            }
            vmi::Write::ApplyStatus(status) => {
                let vmi = self.vmi.as_mut().unwrap();
                assert_ne!(vmi.status.as_ref(), Some(&*status), "it is there already");
                let before = phase(vmi);
                assert!(
                    !is_final(before) || status.phase == Some(before),
                    "{before:?}"
                );
                vmi.status = Some(*status);
            }
            vmi::Write::ConfirmNoPod => assert!(self.pod.is_none(), "{self:#?}"),
            vmi::Write::RemoveFinalizer => {
                assert!(self.pod.is_none(), "{self:#?}");
                let vmi = self.vmi.take().unwrap();
                assert!(vmi.metadata.deletion_timestamp.is_some());
            }
            vmi::Write::ShutDown { .. } | vmi::Write::Event(_) => {}
        }
    }

    /// What holds whenever there is nothing to write.
    fn check(&self) {
        let Some(vm) = &self.vm else {
            assert!(self.vmi.is_none() && self.pod.is_none(), "{self:#?}");
            return;
        };
        let status = vm.status.as_ref().unwrap();
        assert_eq!(status.created, Some(self.vmi.is_some()));
        let going = |vmi: &VirtualMachineInstance| vmi.metadata.deletion_timestamp.is_some();
        let going = self.vmi.as_ref().is_some_and(going);
        match vm.spec.run_strategy {
            _ if vm.metadata.deletion_timestamp.is_some() => assert!(going, "{self:#?}"),
            Some(RunStrategy::Halted) => assert!(going || self.vmi.is_none(), "{self:#?}"),
            Some(RunStrategy::Always) => {
                let waits = status.start_failure.is_some() && self.vmi.is_none();
                let lives = self.vmi.as_ref().is_some_and(|vmi| !is_final(phase(vmi)));
                assert!(going || waits || lives, "{self:#?}");
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever happens: writes come to an end, none is repeated, there is never a second pod, what
    /// ended stays ended, nothing goes before what is below it is gone, and nothing that is Halted
    /// starts unless somebody asks.
    #[test]
    fn decisions_come_to_rest(happenings in prop::collection::vec(happening(), 1..60)) {
        let mut cluster = Cluster::new();
        cluster.reconcile();
        for happening in happenings {
            cluster.happen(happening);
            cluster.reconcile();
            cluster.check();
        }
    }
}
