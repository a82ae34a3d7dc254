//! What an uninstallation does next, decided from what is left.

use std::collections::HashSet;
use std::time::Duration;

use crds::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::api::core::v1::Pod;
use kube_core::{PartialObjectMeta, ResourceExt};

use super::{GRACE, PATIENCE, SUSPENSE};
use crate::pod;

/// What is left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The launchers' pods.
    pub(super) pods: Vec<Pod>,
    /// The instances.
    pub(super) vmis: Vec<PartialObjectMeta<VirtualMachineInstance>>,
    /// The machines.
    pub(super) vms: Vec<PartialObjectMeta<VirtualMachine>>,
    /// The machines' definition is being deleted, or gone: so is every machine, though the API
    /// server deletes them one by one.
    pub(super) undefined: bool,
}

/// What to let go of.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// These instances.
    pub(super) vmis: Vec<&'a PartialObjectMeta<VirtualMachineInstance>>,
    /// These machines.
    pub(super) vms: Vec<&'a PartialObjectMeta<VirtualMachine>>,
    /// Then nothing is left to do.
    pub(super) last: bool,
}

/// What to let go of, so long after the uninstallation has begun.
pub(super) fn plan(left: &Left, elapsed: Duration) -> Plan<'_> {
    let pods = left.pods.iter();
    let running: HashSet<_> = pods
        .filter_map(|pod| pod.labels().get(pod::CREATED_BY))
        .filter(|_| elapsed < PATIENCE)
        .collect();
    let (held, vmis): (Vec<_>, Vec<_>) = left.vmis.iter().partition(|vmi| {
        let uid = vmi.metadata.uid.as_ref();
        uid.is_some_and(|uid| running.contains(uid))
    });
    let names: HashSet<_> = held
        .iter()
        .map(|vmi| (vmi.namespace(), vmi.name_any()))
        .collect();
    // Machines whose definition stays are kept.
    let vms = left
        .vms
        .iter()
        .filter(|vm| left.undefined || vm.metadata.deletion_timestamp.is_some())
        .filter(|vm| !names.contains(&(vm.namespace(), vm.name_any())))
        .collect();
    Plan {
        vmis,
        vms,
        // The machines' definition may be the next to be deleted.
        last: held.is_empty() && (left.undefined || elapsed >= SUSPENSE),
    }
}

/// The grace that the pod is deleted with, unless it is being deleted with that or less.
pub(super) fn shorter(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref();
    let own = spec.and_then(|spec| spec.termination_grace_period_seconds);
    let wanted = own.map_or(GRACE, |own| u32::try_from(own).unwrap_or(GRACE).min(GRACE));
    let given = pod.metadata.deletion_grace_period_seconds;
    match (&pod.metadata.deletion_timestamp, given) {
        (Some(_), Some(given)) if given <= i64::from(wanted) => None,
        _ => Some(wanted),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
    use k8s_openapi::jiff::Timestamp;
    use kube_core::metadata::PartialObjectMetaExt;

    use super::*;

    fn object(name: &str, deleting: bool) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("default".to_owned()),
            uid: Some(format!("uid-{name}")),
            deletion_timestamp: deleting.then_some(Time(Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        }
    }

    /// A cluster with a halted machine, one that is being deleted, one that runs, and an instance
    /// of nobody's that is over.
    fn left(undefined: bool) -> Left {
        let label = (pod::CREATED_BY.to_owned(), "uid-runs".to_owned());
        Left {
            pods: vec![Pod {
                metadata: ObjectMeta {
                    labels: Some([label].into()),
                    ..object("pod", true)
                },
                ..Pod::default()
            }],
            vmis: ["runs", "over"]
                .map(|name| object(name, true).into_response_partial())
                .into(),
            vms: [("halted", false), ("deleted", true), ("runs", true)]
                .map(|(name, deleting)| object(name, deleting).into_response_partial())
                .into(),
            undefined,
        }
    }

    #[test]
    fn nothing_is_let_go_of_before_its_pod_is_gone() {
        let soon = Duration::ZERO;
        let cases = [
            (true, soon, "over", "halted deleted", false),
            // Its definition stays, as far as is known: so does a machine.
            (false, soon, "over", "deleted", false),
            (true, SUSPENSE, "over", "halted deleted", false),
            (false, SUSPENSE, "over", "deleted", false),
            // Pods are not waited for for ever.
            (true, PATIENCE, "runs over", "halted deleted runs", true),
            (false, PATIENCE, "runs over", "deleted runs", true),
        ];
        for (undefined, elapsed, vmis, vms, last) in cases {
            let left = left(undefined);
            let plan = plan(&left, elapsed);
            let case = format!("{undefined} {elapsed:?}");
            let names: Vec<_> = plan.vmis.iter().map(|vmi| vmi.name_any()).collect();
            assert_eq!(names.join(" "), vmis, "{case}");
            let names: Vec<_> = plan.vms.iter().map(|vm| vm.name_any()).collect();
            assert_eq!(names.join(" "), vms, "{case}");
            assert_eq!(plan.last, last, "{case}");
        }
    }

    #[test]
    fn the_definition_of_machines_may_be_the_next_to_go() {
        let cases = [
            (true, Duration::ZERO, true),
            (false, Duration::ZERO, false),
            (false, SUSPENSE, true),
        ];
        for (undefined, elapsed, last) in cases {
            let halted = Left {
                vms: vec![object("halted", false).into_response_partial()],
                undefined,
                ..Left::default()
            };
            let plan = plan(&halted, elapsed);
            assert_eq!(plan.last, last, "{undefined} {elapsed:?}");
            assert_eq!(plan.vms.len(), usize::from(undefined), "{elapsed:?}");
        }
    }

    #[test]
    fn a_pod_gets_no_more_grace_than_there_is_time() {
        // Its own grace, the grace of its deletion, and the grace that it is deleted with.
        let cases = [
            (Some(60), None, Some(20)),
            (Some(5), None, Some(5)),
            (None, None, Some(20)),
            (Some(60), Some(60), Some(20)),
            (Some(60), Some(20), None),
            (Some(60), Some(0), None),
            (Some(5), Some(10), Some(5)),
        ];
        for (own, given, expected) in cases {
            let pod = Pod {
                metadata: ObjectMeta {
                    deletion_timestamp: given.map(|_| Time(Timestamp::UNIX_EPOCH)),
                    deletion_grace_period_seconds: given,
                    ..ObjectMeta::default()
                },
                spec: Some(PodSpec {
                    termination_grace_period_seconds: own,
                    ..PodSpec::default()
                }),
                status: None,
            };
            assert_eq!(shorter(&pod), expected, "{own:?} {given:?}");
        }
    }
}
