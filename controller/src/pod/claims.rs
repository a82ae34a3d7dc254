//! What a pod's launcher cannot know of the instance's claims.

use crds::{
    PersistentVolumeClaimInfo, Quantity, VirtualMachineInstanceSpec, VirtualMachineInstanceStatus,
    VolumeStatus,
};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

/// The status that the pod carries: how large the claims are, so that an empty one gets a disk of
/// its size even where its file system is the node's. The rest of the instance's status changes
/// while the pod runs, and is nothing to the launcher.
pub(super) fn status(
    spec: &VirtualMachineInstanceSpec,
    claims: &[PersistentVolumeClaim],
) -> Option<VirtualMachineInstanceStatus> {
    let volume_status: Vec<_> = spec
        .volumes
        .iter()
        .filter_map(|volume| {
            let name = &volume.persistent_volume_claim.as_ref()?.claim_name;
            let mut claims = claims.iter();
            let claim = claims.find(|claim| claim.metadata.name.as_ref() == Some(name))?;
            let capacity = claim.status.as_ref()?.capacity.as_ref()?.get("storage")?;
            let capacity: Quantity = capacity.0.parse().ok()?;
            Some(VolumeStatus {
                name: volume.name.clone(),
                persistent_volume_claim_info: Some(PersistentVolumeClaimInfo {
                    capacity: [("storage".to_owned(), capacity)].into(),
                    claim_name: Some(name.clone()),
                    ..PersistentVolumeClaimInfo::default()
                }),
                ..VolumeStatus::default()
            })
        })
        .collect();
    (!volume_status.is_empty()).then(|| VirtualMachineInstanceStatus {
        volume_status,
        ..VirtualMachineInstanceStatus::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pod::tests::instance;

    fn claim(name: &str, status: Value) -> PersistentVolumeClaim {
        let claim = json!({"metadata": {"name": name}, "status": status});
        serde_json::from_value(claim).unwrap()
    }

    #[test]
    fn bound_claims_tell_their_size() {
        let volumes = json!([
            {"name": "data", "persistentVolumeClaim": {"claimName": "bound"}},
            {"name": "late", "persistentVolumeClaim": {"claimName": "pending"}},
            {"name": "gone", "persistentVolumeClaim": {"claimName": "none"}},
            // Its image is there: nothing is made of the claim.
            {"name": "base", "ephemeral": {"persistentVolumeClaim": {"claimName": "bound"}}},
        ]);
        let claims = [
            claim(
                "bound",
                json!({"phase": "Bound", "capacity": {"storage": "2Gi"}}),
            ),
            claim("pending", json!({"phase": "Pending"})),
        ];
        let spec = instance(json!({"volumes": volumes})).spec;
        let told = serde_json::to_value(status(&spec, &claims)).unwrap();
        let info = json!({"capacity": {"storage": "2Gi"}, "claimName": "bound"});
        assert_eq!(
            told,
            json!({"volumeStatus": [
                {"name": "data", "target": "", "persistentVolumeClaimInfo": info},
            ]})
        );
        assert_eq!(status(&spec, &[]), None);
    }
}
