//! What the cluster is told about the node: pure. The names are KubeVirt's.

use std::collections::BTreeMap;

use super::Facts;

/// Whether virtual machines may be put on the node; their pods select by it.
pub(super) const SCHEDULABLE: &str = "kubevirt.io/schedulable";

/// When the handler was last known to be well, RFC 3339.
pub(super) const HEARTBEAT: &str = "kubevirt.io/heartbeat";

/// Whether guests run with KVM.
const KVM: &str = "kubevirt.io/kvm";

/// The longest name of a label, without its prefix.
const LONGEST: usize = 63;

/// The node's labels.
pub(super) fn labels(facts: &Facts, schedulable: bool) -> BTreeMap<String, String> {
    let cpu = &facts.cpu;
    let of = |kind, names: &[String]| {
        let names: Vec<_> = names.iter().filter(|name| is_label(name)).collect();
        names
            .into_iter()
            .map(move |name| (format!("{kind}.node.kubevirt.io/{name}"), true))
            .collect::<Vec<_>>()
    };
    let of_one = |kind, name: &Option<String>| of(kind, name.as_slice());
    [
        (SCHEDULABLE.to_owned(), schedulable),
        (KVM.to_owned(), facts.kvm),
    ]
    .into_iter()
    .chain(of("cpu-model", &cpu.models))
    .chain(of("cpu-feature", &cpu.features))
    .chain(of_one("cpu-vendor", &cpu.vendor))
    .chain(of_one("host-model-cpu", &cpu.host_model))
    .map(|(name, value)| (name, value.to_string()))
    .collect()
}

/// Whether the API server takes the text as the name of a label. One bad name would cost the node
/// all the others.
fn is_label(name: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= LONGEST
        && ends(name.chars().next())
        && ends(name.chars().next_back())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Cpu;

    #[test]
    fn a_node_is_labelled_with_what_it_has() {
        let facts = Facts {
            kvm: true,
            cpu: Cpu {
                models: vec!["Haswell-noTSX-IBRS".into(), "486".into()],
                host_model: Some("Skylake-Client".into()),
                vendor: Some("Intel".into()),
                features: vec!["sse4.2".into(), "a b".into(), "lahf_lm".into()],
            },
            ..Facts::default()
        };
        let expected = [
            ("cpu-feature.node.kubevirt.io/lahf_lm", "true"),
            ("cpu-feature.node.kubevirt.io/sse4.2", "true"),
            ("cpu-model.node.kubevirt.io/486", "true"),
            ("cpu-model.node.kubevirt.io/Haswell-noTSX-IBRS", "true"),
            ("cpu-vendor.node.kubevirt.io/Intel", "true"),
            ("host-model-cpu.node.kubevirt.io/Skylake-Client", "true"),
            ("kubevirt.io/kvm", "true"),
            ("kubevirt.io/schedulable", "true"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(labels(&facts, true), expected.into());
    }

    #[test]
    fn what_is_missing_is_said() {
        let labels = labels(&Facts::default(), false);
        assert_eq!(labels[SCHEDULABLE], "false");
        assert_eq!(labels[KVM], "false");
        assert_eq!(labels.len(), 2);
    }

    #[test]
    fn names_that_the_api_server_refuses_are_left_out() {
        let long = "a".repeat(LONGEST + 1);
        for name in ["", "-a", "a-", "a b", "a/b", long.as_str()] {
            assert!(!is_label(name), "{name:?}");
        }
        for name in ["a", "3dnow", "a.b-c_d", &long[1..]] {
            assert!(is_label(name), "{name:?}");
        }
    }
}
