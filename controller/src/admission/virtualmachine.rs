//! VirtualMachines.

use crds::FieldError;
use crds::manifest::{self, Manifest};
use serde_json::Value;

use super::{Change, Cluster, add_finalizer, unreadable, virtualmachineinstance};

/// Keeps a VirtualMachine until its instance is gone (KubeVirt's name).
pub const FINALIZER: &str = "kubevirt.io/virtualMachineControllerFinalize";

/// Adds the finalizer. The template stays as its author wrote it: its instances get the defaults
/// of the day they are made.
pub(super) fn mutate(change: &Change, object: &mut Value) {
    if change.is_creation() {
        add_finalizer(object, FINALIZER);
    }
}

/// Checks the machine, and its template as the instance that it will make.
pub(super) fn validate(change: &Change, cluster: Cluster<'_>) -> Vec<FieldError> {
    if !change.is_worth_a_look() {
        return Vec::new();
    }
    let mut errors = match manifest::read(change.object.clone()) {
        Ok(manifest) => {
            let mut errors = manifest.validate();
            if let Manifest::Vm(vm) = &manifest {
                let spec = &vm.spec.template.spec;
                let disks = virtualmachineinstance::host_disks(spec, "spec.template.spec", cluster);
                errors.extend(disks);
            }
            errors
        }
        Err(error) => unreadable(error),
    };
    change.retain_touched(&mut errors);
    errors
}
