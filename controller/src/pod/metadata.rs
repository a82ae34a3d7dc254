//! The pod's name, labels, annotations and owner.
//!
//! The pod carries its instance in an annotation, which the kubelet shows to the launcher as a
//! file: the launcher starts the guest without asking the API server or anybody else.

use std::collections::BTreeMap;

use crds::VirtualMachineInstance;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube_core::Resource;
use sha2::{Digest, Sha256};

use super::{RenderError, networks};

/// The annotation that carries the instance, as JSON: its spec and what of its metadata the launcher
/// reads.
pub const VMI: &str = "ferrovirt.io/vmi";

/// The annotation that names the instance, which may be longer than a label's value.
pub const DOMAIN: &str = "kubevirt.io/domain";

/// The label of a launcher's pod: [`LAUNCHER`].
pub const APP: &str = "kubevirt.io";

/// What [`APP`] says.
pub const LAUNCHER: &str = "virt-launcher";

/// The label that holds the instance's uid.
pub const CREATED_BY: &str = "kubevirt.io/created-by";

/// The label that holds the instance's name, or as much of it as a label's value may have.
pub const NAME: &str = "vm.kubevirt.io/name";

/// The most bytes that a pod's annotations may have, names and values together (Kubernetes'
/// `TotalAnnotationSizeLimitB`).
const ANNOTATIONS_MOST: usize = 256 * 1024;

/// The longest value of a label.
const LABEL_MOST: usize = 63;

/// The longest name of a pod: a longer one would not fit a DNS label, as which tools take it.
const NAME_MOST: usize = 63;

/// What `kubectl apply` keeps for itself: the instance as it was written, over again.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Annotations with it would set the confinement of the pod's containers.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The name of an instance's pod. It is the same whoever computes it, and as often as they do, so
/// that a second pod for one instance cannot be: the API server refuses it with 409. An instance of
/// the same name that comes later has another uid, and its pod another name.
pub fn name(vmi: &VirtualMachineInstance) -> String {
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let uid = vmi.metadata.uid.as_deref().unwrap_or_default();
    let digits = digits(uid);
    let start: String = format!("{LAUNCHER}-{name}")
        .chars()
        .take(NAME_MOST - 1 - digits.len())
        .collect();
    // Where the name is cut, a DNS label must not end.
    format!("{}-{digits}", start.trim_end_matches(['-', '.']))
}

/// Five digits of a-z and 0-9 that stand for `text`, from its SHA-256.
pub(super) fn digits(text: &str) -> String {
    const ALPHABET: [char; 36] = [
        'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r',
        's', 't', 'u', 'v', 'w', 'x', 'y', 'z', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9',
    ];
    let digest = Sha256::digest(text);
    let mut number = digest
        .iter()
        .take(8)
        .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let digit = || {
        let digit = ALPHABET[(number % 36) as usize];
        number /= 36;
        digit
    };
    std::iter::repeat_with(digit).take(5).collect()
}

/// All of the pod's metadata.
///
/// # Errors
/// When the instance has not been stored, or when the pod cannot carry it.
pub(super) fn metadata(vmi: &VirtualMachineInstance) -> Result<ObjectMeta, RenderError> {
    let stored = &vmi.metadata;
    let unstored = |field| move || RenderError::Unstored { field };
    let owner = stored.name.clone().ok_or_else(unstored("name"))?;
    let uid = stored.uid.clone().ok_or_else(unstored("uid"))?;
    Ok(ObjectMeta {
        annotations: Some(annotations(vmi)?),
        labels: Some(labels(vmi, &owner, &uid)),
        name: Some(name(vmi)),
        namespace: stored.namespace.clone(),
        owner_references: Some(vec![OwnerReference {
            api_version: VirtualMachineInstance::api_version(&()).into_owned(),
            kind: VirtualMachineInstance::kind(&()).into_owned(),
            name: owner,
            uid,
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    })
}

fn labels(vmi: &VirtualMachineInstance, name: &str, uid: &str) -> BTreeMap<String, String> {
    let mut labels = vmi.metadata.labels.clone().unwrap_or_default();
    let name: String = name.chars().take(LABEL_MOST).collect();
    let name = name.trim_end_matches(['-', '.']);
    for (label, value) in [(APP, LAUNCHER), (CREATED_BY, uid), (NAME, name)] {
        labels.insert(label.to_owned(), value.to_owned());
    }
    labels
}

fn annotations(vmi: &VirtualMachineInstance) -> Result<BTreeMap<String, String>, RenderError> {
    let own = vmi.metadata.annotations.clone().unwrap_or_default();
    let own: BTreeMap<_, _> = own
        .into_iter()
        .filter(|(name, _)| name != LAST_APPLIED && name != VMI && !name.starts_with(APP_ARMOR))
        .collect();
    let carried = carried(vmi, &own)?;
    let name = vmi.metadata.name.clone().unwrap_or_default();
    let mut annotations = own;
    annotations.extend(networks::annotations(vmi)?);
    for (annotation, value) in [
        (DOMAIN, name),
        (
            "kubectl.kubernetes.io/default-container",
            super::containers::COMPUTE.to_owned(),
        ),
        (VMI, carried),
    ] {
        annotations.insert(annotation.to_owned(), value);
    }
    let bytes = annotations
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > ANNOTATIONS_MOST {
        return Err(RenderError::TooLarge {
            bytes,
            most: ANNOTATIONS_MOST,
        });
    }
    Ok(annotations)
}

/// The instance as the launcher reads it.
fn carried(
    vmi: &VirtualMachineInstance,
    annotations: &BTreeMap<String, String>,
) -> Result<String, RenderError> {
    let stored = &vmi.metadata;
    let carried = VirtualMachineInstance {
        metadata: ObjectMeta {
            annotations: (!annotations.is_empty()).then(|| annotations.clone()),
            labels: stored.labels.clone(),
            name: stored.name.clone(),
            namespace: stored.namespace.clone(),
            uid: stored.uid.clone(),
            ..ObjectMeta::default()
        },
        spec: vmi.spec.clone(),
        status: vmi.status.clone(),
    };
    serde_json::to_string(&carried).map_err(RenderError::Json)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pod::tests::instance;

    fn named(name: &str, uid: &str) -> VirtualMachineInstance {
        let mut vmi = instance(json!({}));
        vmi.metadata.name = Some(name.to_owned());
        vmi.metadata.uid = Some(uid.to_owned());
        vmi
    }

    #[test]
    fn a_name_is_the_instances_and_its_uids() {
        let long = "x".repeat(42);
        let cases = [
            ("vm", "virt-launcher-vm"),
            ("vm.a-b", "virt-launcher-vm.a-b"),
            (&format!("{long}y"), &format!("virt-launcher-{long}y")),
            (&format!("{long}yz"), &format!("virt-launcher-{long}y")),
            // A label neither begins nor ends with a hyphen.
            (&format!("{long}-z"), &format!("virt-launcher-{long}")),
            (&format!("{long}.z"), &format!("virt-launcher-{long}")),
        ];
        for (instance, start) in cases {
            let vmi = named(instance, "0f9e6a4f-57a2-4f4b-a9d7-1d6c58ec1d1a");
            assert_eq!(name(&vmi), format!("{start}-jmzd9"));
            assert!(name(&vmi).len() <= NAME_MOST);
            let later = named(instance, "1f9e6a4f-57a2-4f4b-a9d7-1d6c58ec1d1a");
            assert_ne!(name(&vmi), name(&later));
        }
    }

    #[test]
    fn an_instance_that_is_not_stored_has_no_pod() {
        let mut vmi = instance(json!({}));
        vmi.metadata.uid = None;
        let error = metadata(&vmi).unwrap_err();
        assert_eq!(
            error.to_string(),
            "metadata.uid is missing; only an instance that the API server has stored gets a pod"
        );
    }

    #[test]
    fn labels_and_annotations_of_the_instance_are_on_the_pod() {
        let mut vmi = named("vm", "uid");
        vmi.metadata.labels = serde_json::from_value(json!({
            "app": "db", CREATED_BY: "somebody",
        }))
        .unwrap();
        vmi.metadata.annotations = serde_json::from_value(json!({
            "note": "kept",
            LAST_APPLIED: "{}",
            VMI: "mine",
            "container.apparmor.security.beta.kubernetes.io/compute": "unconfined",
        }))
        .unwrap();
        vmi.metadata.managed_fields = Some(Vec::new());
        vmi.metadata.resource_version = Some("7".to_owned());
        let made = metadata(&vmi).unwrap();
        let labels = json!({
            "app": "db",
            "kubevirt.io": "virt-launcher",
            "kubevirt.io/created-by": "uid",
            "vm.kubevirt.io/name": "vm",
        });
        assert_eq!(json!(made.labels), labels);
        let annotations = made.annotations.unwrap();
        let names: Vec<_> = annotations.keys().map(String::as_str).collect();
        let expected = [
            VMI,
            "kubectl.kubernetes.io/default-container",
            DOMAIN,
            "note",
        ];
        assert_eq!(names, expected);
        let carried: Value = serde_json::from_str(&annotations[VMI]).unwrap();
        assert_eq!(
            carried["metadata"],
            json!({
                "annotations": {"note": "kept"},
                "labels": {"app": "db", CREATED_BY: "somebody"},
                "name": "vm",
                "namespace": "default",
                "uid": "uid",
            })
        );
        let read: VirtualMachineInstance = serde_json::from_value(carried).unwrap();
        assert_eq!(read.spec, vmi.spec);
        assert_eq!(read.status, None);
    }

    #[test]
    fn a_long_name_is_cut_to_a_labels_value() {
        let start = "y".repeat(62);
        let made = metadata(&named(&format!("{start}.z"), "uid")).unwrap();
        assert_eq!(made.labels.unwrap()[NAME], start);
    }

    #[test]
    fn an_instance_that_no_annotation_holds_is_refused() {
        let text = |length: usize| {
            let mut vmi = instance(json!({}));
            let note = BTreeMap::from([("note".to_owned(), "x".repeat(length))]);
            vmi.metadata.annotations = Some(note);
            metadata(&vmi)
        };
        let rest: usize = text(0)
            .unwrap()
            .annotations
            .unwrap()
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        // The annotation is there twice: as itself, and in the instance.
        let room = (ANNOTATIONS_MOST - rest) / 2;
        assert!(text(room).is_ok());
        let error = text(room + 1).unwrap_err();
        assert!(matches!(error, RenderError::TooLarge { .. }), "{error}");
    }
}
