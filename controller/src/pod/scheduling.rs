//! Where the pod may run: what the instance says, and what its processor needs.

use std::collections::BTreeMap;

use crds::{CPUFeature, CPUFeaturePolicy, VirtualMachineInstance};
use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec,
};

use super::Context;

/// On nodes whose virt-handler is there: `true`.
pub const SCHEDULABLE: &str = "kubevirt.io/schedulable";

/// Followed by a CPU model of libvirt's, on nodes that have it: `true`.
pub const CPU_MODEL: &str = "cpu-model.node.kubevirt.io/";

/// Followed by a CPU feature of libvirt's, on nodes that have it: `true`.
pub const CPU_FEATURE: &str = "cpu-feature.node.kubevirt.io/";

/// Sets every field that the scheduler reads, but resources.
pub(super) fn place(vmi: &VirtualMachineInstance, context: &Context, pod: &mut PodSpec) {
    let spec = &vmi.spec;
    // Emulated processors do not depend on the node's.
    let kvm = !context.settings.use_emulation;
    let mut labels = spec.node_selector.clone();
    labels.insert(SCHEDULABLE.to_owned(), "true".to_owned());
    let mut affinity = spec.affinity.clone();
    if kvm {
        labels.extend(needed(vmi));
        let without: Vec<_> = features(vmi, Some(CPUFeaturePolicy::Forbid)).collect();
        if !without.is_empty() {
            forbid(&without, affinity.get_or_insert_default());
        }
    }
    pod.node_selector = Some(labels);
    pod.affinity = affinity;
    pod.priority_class_name = spec.priority_class_name.clone();
    pod.scheduler_name = spec.scheduler_name.clone();
    pod.tolerations = some(&spec.tolerations);
    pod.topology_spread_constraints = some(&spec.topology_spread_constraints);
}

/// None where there are no elements: an empty list in a pod is noise.
fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// The labels of nodes that have the model and every feature that the guest cannot do without.
fn needed(vmi: &VirtualMachineInstance) -> BTreeMap<String, String> {
    let cpu = vmi.spec.domain.cpu.as_ref();
    let model = cpu.and_then(|cpu| cpu.model.as_deref());
    // Every node has a model of its own.
    let model = model.filter(|model| !["host-model", "host-passthrough"].contains(model));
    let model = model.map(|model| format!("{CPU_MODEL}{model}"));
    let unsaid = features(vmi, None);
    let required = unsaid.chain(features(vmi, Some(CPUFeaturePolicy::Require)));
    let labels = required.map(|feature| format!("{CPU_FEATURE}{}", feature.name));
    let labels = labels.chain(model);
    labels.map(|label| (label, "true".to_owned())).collect()
}

fn features(
    vmi: &VirtualMachineInstance,
    policy: Option<CPUFeaturePolicy>,
) -> impl Iterator<Item = &CPUFeature> {
    let features = vmi.spec.domain.cpu.iter().flat_map(|cpu| &cpu.features);
    features.filter(move |feature| feature.policy == policy)
}

/// Keeps the pod from nodes that have one of `features`: from each alternative that the instance
/// gives, for the scheduler takes any of them.
fn forbid(features: &[&CPUFeature], affinity: &mut Affinity) {
    let node = affinity.node_affinity.get_or_insert_default();
    let selector = node
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(NodeSelector::default);
    if selector.node_selector_terms.is_empty() {
        selector.node_selector_terms = vec![NodeSelectorTerm::default()];
    }
    for term in &mut selector.node_selector_terms {
        let expressions = term.match_expressions.get_or_insert_default();
        expressions.extend(features.iter().map(|feature| NodeSelectorRequirement {
            key: format!("{CPU_FEATURE}{}", feature.name),
            operator: "DoesNotExist".to_owned(),
            values: None,
        }));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pod::tests::{context, instance};

    fn placed(spec: Value, use_emulation: bool) -> Value {
        let mut context = context();
        context.settings.use_emulation = use_emulation;
        let mut pod = PodSpec::default();
        place(&instance(spec), &context, &mut pod);
        let mut placed = serde_json::to_value(&pod).unwrap();
        // A pod always has this field.
        placed.as_object_mut().unwrap().remove("containers");
        placed
    }

    #[test]
    fn what_the_instance_says_is_carried_over() {
        let spread = json!([{
            "maxSkew": 1,
            "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "db"}},
        }]);
        let said = json!({
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname"},
            ]}},
            "nodeSelector": {"disk": "fast"},
            "priorityClassName": "high",
            "schedulerName": "other",
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "topologySpreadConstraints": spread,
        });
        let mut expected = said.clone();
        expected["nodeSelector"][SCHEDULABLE] = json!("true");
        assert_eq!(placed(said.clone(), true), expected);
        assert_eq!(placed(said, false), expected);
    }

    #[test]
    fn a_processor_needs_a_node_that_has_it() {
        let cpu = json!({
            "model": "Haswell",
            "features": [
                {"name": "vmx"},
                {"name": "pcid", "policy": "require"},
                {"name": "la57", "policy": "disable"},
                {"name": "svm", "policy": "forbid"},
                {"name": "sse4.2", "policy": "optional"},
                {"name": "x2apic", "policy": "force"},
            ],
        });
        let forbidden =
            json!({"key": "cpu-feature.node.kubevirt.io/svm", "operator": "DoesNotExist"});
        let spec = json!({"domain": {"cpu": cpu}});
        let term = |terms: Value| {
            json!({"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
            }})
        };
        assert_eq!(
            placed(spec.clone(), false),
            json!({
                "nodeSelector": {
                    SCHEDULABLE: "true",
                    "cpu-model.node.kubevirt.io/Haswell": "true",
                    "cpu-feature.node.kubevirt.io/vmx": "true",
                    "cpu-feature.node.kubevirt.io/pcid": "true",
                },
                "affinity": term(json!([{"matchExpressions": [forbidden]}])),
            })
        );
        assert_eq!(
            placed(spec.clone(), true),
            json!({"nodeSelector": {SCHEDULABLE: "true"}})
        );

        let zone = |zone: &str| json!({"key": "zone", "operator": "In", "values": [zone]});
        let mut spec = spec;
        spec["affinity"] = term(json!([
            {"matchExpressions": [zone("a")]},
            {"matchExpressions": [zone("b")]},
        ]));
        assert_eq!(
            placed(spec, false)["affinity"],
            term(json!([
                {"matchExpressions": [zone("a"), forbidden]},
                {"matchExpressions": [zone("b"), forbidden]},
            ]))
        );
    }

    #[test]
    fn a_model_of_the_hosts_runs_anywhere() {
        for model in ["host-model", "host-passthrough"] {
            assert_eq!(
                placed(json!({"domain": {"cpu": {"model": model}}}), false),
                json!({"nodeSelector": {SCHEDULABLE: "true"}})
            );
        }
    }
}
