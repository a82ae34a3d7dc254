//! VirtualMachineInstances.

use crds::manifest::{self, Manifest};
use crds::{FieldError, VirtualMachineInstance, VirtualMachineInstanceSpec};
use serde_json::Value;

use super::{Change, Cluster, add_finalizer, unreadable};

/// Keeps an instance until its pod is gone (KubeVirt's name).
pub const FINALIZER: &str = "foregroundDeleteVirtualMachine";

/// Adds the finalizer, and the defaults to a spec that is new. So an instance's manifest can be
/// applied again: with its defaults it is what is there.
pub(super) fn mutate(change: &Change, object: &mut Value) {
    if change.is_creation() {
        add_finalizer(object, FINALIZER);
    }
    if !change.touches("/spec") {
        return;
    }
    // What cannot be read is refused, by the schema or by `validate`, in better words.
    let Ok(mut vmi) = read(&change.object) else {
        return;
    };
    crds::default(&mut vmi);
    if let (Some(spec), Ok(defaulted)) = (object.get_mut("spec"), serde_json::to_value(vmi.spec)) {
        fill(spec, defaulted);
    }
}

/// Checks a new instance; one that exists keeps its spec, unless our controller changes it.
pub(super) fn validate(change: &Change, cluster: Cluster<'_>) -> Vec<FieldError> {
    if !change.is_worth_a_look() {
        return Vec::new();
    }
    let mut vmi = match read(&change.object) {
        Ok(vmi) => vmi,
        Err(mut errors) => {
            change.retain_touched(&mut errors);
            return errors;
        }
    };
    let ours = format!(
        "system:serviceaccount:{}:virt-controller",
        cluster.namespace
    );
    if let Some(old) = &change.old
        && change.touches("/spec")
        && change.user != ours
    {
        // What is there was admitted, so it can be read, if not by rules that came later.
        let changed = match read(old) {
            Ok(old) => crds::validate_update(&old, &vmi),
            Err(errors) => errors,
        };
        if !changed.is_empty() {
            return changed;
        }
    }
    crds::default(&mut vmi);
    let mut errors = crds::validate(&vmi);
    errors.extend(host_disks(&vmi.spec, "spec", cluster));
    change.retain_touched(&mut errors);
    errors
}

/// Refuses files of the node as disks, unless the cluster's admin allows them. `at` is the path
/// of the spec.
pub(super) fn host_disks(
    spec: &VirtualMachineInstanceSpec,
    at: &str,
    cluster: Cluster<'_>,
) -> Vec<FieldError> {
    if cluster.settings.host_disk {
        return Vec::new();
    }
    let volumes = spec.volumes.iter().enumerate();
    let refused = volumes.filter(|(_, volume)| volume.host_disk.is_some());
    refused
        .map(|(index, _)| FieldError {
            path: format!("{at}.volumes[{index}].hostDisk"),
            detail: "not allowed in this cluster; use persistentVolumeClaim, or have HostDisk \
                     added to spec.configuration.developerConfiguration.featureGates of the \
                     KubeVirt object"
                .to_owned(),
        })
        .collect()
}

/// Warns of what is taken, for the sake of KubeVirt's manifests, and not followed. `at` is the path
/// of the spec.
pub(super) fn warnings(change: &Change, at: &str) -> Vec<String> {
    if !change.touches("/spec") {
        return Vec::new();
    }
    let pointer = format!("/{}/evictionStrategy", at.replace('.', "/"));
    let said = change.object.pointer(&pointer).and_then(Value::as_str);
    let unfollowed = said.filter(|said| ["LiveMigrate", "External"].contains(said));
    let warning = unfollowed.map(|said| {
        format!(
            "{at}.evictionStrategy: {said} is not followed, as nothing migrates: a drain of the \
             node shuts the machine down; None and LiveMigrateIfPossible say so"
        )
    });
    warning.into_iter().collect()
}

fn read(object: &Value) -> Result<VirtualMachineInstance, Vec<FieldError>> {
    match manifest::read(object.clone()) {
        Ok(Manifest::Vmi(vmi)) => Ok(*vmi),
        // Only the API server's rules could bring another kind here.
        Ok(Manifest::Vm(_)) => Err(vec![FieldError {
            path: "kind".to_owned(),
            detail: "not a VirtualMachineInstance".to_owned(),
        }]),
        Err(error) => Err(unreadable(error)),
    }
}

/// Puts into `written` what it lacks of `defaulted`, and leaves what it has.
pub(super) fn fill(written: &mut Value, defaulted: Value) {
    match (written, defaulted) {
        (Value::Object(written), Value::Object(defaulted)) => {
            for (key, value) in defaulted {
                fill(written.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(written), Value::Array(defaulted)) => {
            let mut defaulted = defaulted.into_iter();
            for (written, value) in written.iter_mut().zip(&mut defaulted) {
                fill(written, value);
            }
            written.extend(defaulted);
        }
        (absent @ Value::Null, value) => *absent = value,
        _ => {}
    }
}
