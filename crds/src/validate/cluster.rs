//! Rules about the cluster's settings.

use crate::field::Field;
use crate::{FieldError, KubeVirt};

/// The feature gates that mean something here (KubeVirt's names).
const FEATURE_GATES: [&str; 1] = [crate::HOST_DISK_GATE];

/// All that is wrong with the cluster's settings, by paths that start at `spec.`.
pub fn validate_kubevirt(kubevirt: &KubeVirt) -> Vec<FieldError> {
    let configuration = kubevirt.spec.configuration.as_ref();
    let developer = configuration.and_then(|it| it.developer_configuration.as_ref());
    let gates = developer.map_or(&[][..], |it| &it.feature_gates);
    let at = Field::root("spec.configuration.developerConfiguration.featureGates");
    gates
        .iter()
        .enumerate()
        .filter(|(_, gate)| !FEATURE_GATES.contains(&gate.as_str()))
        .map(|(index, gate)| {
            at.index(index).error(format!(
                "{gate:?} is no feature gate here; remove it, or write {}",
                FEATURE_GATES.join(" or ")
            ))
        })
        .collect()
}
