//! What a manifest says to a cluster, which is not here.

use crds::manifest::Manifest;
use crds::{FieldError, VirtualMachineInstance, Volume};

use super::kernel_container;

/// What a cluster would heed and this machine does not: told once, in one line.
pub(super) fn ignored(manifest: &Manifest) -> Vec<String> {
    let vmi = manifest.clone().into_vmi();
    let spec = &vmi.spec;
    let fields = [
        ("affinity", spec.affinity.is_some()),
        ("evictionStrategy", spec.eviction_strategy.is_some()),
        ("imagePullSecret", has_pull_secret(&vmi)),
        ("livenessProbe", spec.liveness_probe.is_some()),
        ("nodeSelector", !spec.node_selector.is_empty()),
        ("priorityClassName", spec.priority_class_name.is_some()),
        ("readinessProbe", spec.readiness_probe.is_some()),
        ("schedulerName", spec.scheduler_name.is_some()),
        ("serviceAccountName", spec.service_account_name.is_some()),
        ("tolerations", !spec.tolerations.is_empty()),
        (
            "topologySpreadConstraints",
            !spec.topology_spread_constraints.is_empty(),
        ),
    ];
    let given: Vec<&str> = fields
        .iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| *name)
        .collect();
    if given.is_empty() {
        return vec![];
    }
    vec![format!(
        "there is no cluster here: {} is ignored",
        given.join(", ")
    )]
}

fn has_pull_secret(vmi: &VirtualMachineInstance) -> bool {
    let volumes = vmi.spec.volumes.iter();
    let disks = volumes.filter_map(|volume| volume.container_disk.as_ref());
    let mut secrets = disks
        .map(|disk| &disk.image_pull_secret)
        .chain(kernel_container(vmi).map(|container| &container.image_pull_secret));
    secrets.any(Option::is_some)
}

/// Fields that a guest would miss, by their paths in the manifest.
pub(super) fn required(manifest: &Manifest) -> Vec<FieldError> {
    let spec = match manifest {
        Manifest::Vm(_) => "spec.template.spec",
        Manifest::Vmi(_) => "spec",
    };
    let vmi = manifest.clone().into_vmi();
    let error = |path: String, remedy: &str| FieldError {
        path: format!("{spec}.{path}"),
        detail: format!("needs a cluster, and there is none here; {remedy}"),
    };
    let mut errors = vec![];
    for (index, volume) in vmi.spec.volumes.iter().enumerate() {
        if let Some(source) = cluster_source(volume) {
            let remedy = "use a configMap or a secret, and give it with --config-map or --secret";
            errors.push(error(format!("volumes[{index}].{source}"), remedy));
        }
    }
    if vmi.spec.start_strategy.is_some() {
        let remedy = "remove it, as nothing here would unpause the machine";
        errors.push(error("startStrategy".to_owned(), remedy));
    }
    errors
}

/// The source of a volume whose contents only a cluster knows.
fn cluster_source(volume: &Volume) -> Option<&'static str> {
    let sources = [
        (volume.downward_api.is_some(), "downwardAPI"),
        (volume.service_account.is_some(), "serviceAccount"),
    ];
    let given = sources.into_iter().find(|(given, _)| *given);
    given.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use crds::manifest;

    use super::*;

    fn instance(spec: &str) -> Manifest {
        let text = format!(
            "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstance\nmetadata: {{name: a}}\n\
             spec: {{domain: {{devices: {{}}, memory: {{guest: 64Mi}}}}, {spec}}}"
        );
        manifest::parse(&text).unwrap()
    }

    #[test]
    fn what_takes_a_cluster_is_ignored_with_one_warning() {
        let manifest = instance("priorityClassName: high, nodeSelector: {a: b}");
        assert_eq!(
            ignored(&manifest),
            ["there is no cluster here: nodeSelector, priorityClassName is ignored"]
        );
    }

    #[test]
    fn what_the_guest_would_miss_is_refused_by_path() {
        const FILES: &str =
            "use a configMap or a secret, and give it with --config-map or --secret";
        let cases = [
            (
                "serviceAccount: {serviceAccountName: s}",
                "volumes[0].serviceAccount",
            ),
            ("downwardAPI: {fields: []}", "volumes[0].downwardAPI"),
        ];
        for (source, path) in cases {
            let manifest = instance(&format!("volumes: [{{name: a, {source}}}]"));
            let errors = required(&manifest);
            let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
            let line = format!("spec.{path}: needs a cluster, and there is none here; {FILES}");
            assert_eq!(told, [line]);
        }
        for source in [
            "persistentVolumeClaim: {claimName: c}",
            "configMap: {name: c}",
            "secret: {secretName: s}",
        ] {
            let volumes = format!("volumes: [{{name: a, {source}}}]");
            assert_eq!(required(&instance(&volumes)), [], "{source}");
        }
    }

    #[test]
    fn a_machine_is_told_by_its_own_paths() {
        let text = "
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: a}
spec:
  running: true
  template: {spec: {domain: {devices: {}}, startStrategy: Paused}}
";
        let errors = required(&manifest::parse(text).unwrap());
        let paths: Vec<_> = errors.iter().map(|error| &error.path).collect();
        assert_eq!(paths, ["spec.template.spec.startStrategy"]);
    }
}
