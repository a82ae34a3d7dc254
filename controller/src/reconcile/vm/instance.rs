//! The instance that a machine makes, and whether the machine's template has changed since.

use crds::{
    StartStrategy, StateChangeRequestAction, VirtualMachine, VirtualMachineInstance,
    VirtualMachineInstanceSpec, VirtualMachineStateChangeRequest, VirtualMachineStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube_core::Resource;

use crate::reconcile::vmi;

/// The generation of the machine that an instance was made from (KubeVirt's
/// `VirtualMachineGenerationAnnotation`).
const GENERATION: &str = "kubevirt.io/vm-generation";

/// What a request to start says of a start that is paused: `"true"`.
const START_PAUSED: &str = "paused";

/// The instance that the machine's template describes, where `wanted` holds the requests that are
/// left to do.
pub(super) fn instance(
    vm: &VirtualMachine,
    wanted: &VirtualMachineStatus,
) -> VirtualMachineInstance {
    let template = &vm.spec.template;
    let mut annotations = crds::instance_annotations(vm);
    let generation = vm.metadata.generation.unwrap_or_default();
    annotations.insert(GENERATION.to_owned(), generation.to_string());
    let mut spec = template.spec.clone();
    if wanted.state_change_requests.first().is_some_and(is_paused) {
        spec.start_strategy = Some(StartStrategy::Paused);
    }
    VirtualMachineInstance {
        metadata: ObjectMeta {
            annotations: Some(annotations),
            finalizers: Some(vec![vmi::FINALIZER.to_owned()]),
            labels: template.metadata.labels.clone(),
            name: vm.metadata.name.clone(),
            namespace: vm.metadata.namespace.clone(),
            owner_references: Some(vec![OwnerReference {
                api_version: VirtualMachine::api_version(&()).into_owned(),
                kind: VirtualMachine::kind(&()).into_owned(),
                name: vm.metadata.name.clone().unwrap_or_default(),
                uid: vm.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

fn is_paused(request: &VirtualMachineStateChangeRequest) -> bool {
    request.action == StateChangeRequestAction::Start
        && request
            .data
            .get(START_PAUSED)
            .is_some_and(|said| said == "true")
}

/// The generation of the machine that the instance was made from.
pub(super) fn generation(vmi: &VirtualMachineInstance) -> Option<i64> {
    let annotations = vmi.metadata.annotations.as_ref()?;
    annotations.get(GENERATION)?.parse().ok()
}

/// The machine describes another instance than the one that was made.
pub(super) fn is_outdated(vm: &VirtualMachine, vmi: &VirtualMachineInstance) -> bool {
    // It counts the specs, and not the annotations of the machine's own.
    let same_generation = generation(vmi).is_some_and(|made| vm.metadata.generation == Some(made));
    is_annotated_otherwise(vm, vmi) || !same_generation && is_specified_otherwise(vm, vmi)
}

/// Of annotations only what they say to Ferrovirt counts.
fn is_annotated_otherwise(vm: &VirtualMachine, vmi: &VirtualMachineInstance) -> bool {
    let wanted = VirtualMachineInstance {
        metadata: ObjectMeta {
            annotations: Some(crds::instance_annotations(vm)),
            ..ObjectMeta::default()
        },
        ..VirtualMachineInstance::default()
    };
    crds::anti_spoofing(&wanted) != crds::anti_spoofing(vmi)
}

/// Both specs are compared with their defaults, as this version of the program knows them: neither a
/// default that is written out nor a new version is a change.
fn is_specified_otherwise(vm: &VirtualMachine, vmi: &VirtualMachineInstance) -> bool {
    let complete = |spec: &VirtualMachineInstanceSpec| {
        let mut whole = VirtualMachineInstance {
            metadata: ObjectMeta {
                name: vm.metadata.name.clone(),
                ..ObjectMeta::default()
            },
            spec: spec.clone(),
            status: None,
        };
        crds::default(&mut whole);
        // A start that was paused is over.
        whole.spec.start_strategy = vm.spec.template.spec.start_strategy;
        whole.spec
    };
    complete(&vm.spec.template.spec) != complete(&vmi.spec)
}
