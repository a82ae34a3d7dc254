//! What the cluster's `KubeVirt` object says about machines: the settings that pods are made by.

use crds::{KubeVirt, PullPolicy};

/// The feature gate that allows `hostDisk` volumes.
const HOST_DISK: &str = "HostDisk";

/// Settings of the cluster. The default is that of a cluster without a `KubeVirt` object.
///
/// A change reaches the pods that are made after it; a pod that is there keeps what it was made by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Emulate processors in software (`developerConfiguration.useEmulation`). Without it a pod asks
    /// for KVM, and waits where no node has any.
    pub use_emulation: bool,
    /// Volumes may be files of the node (`hostDisk`; `developerConfiguration.featureGates`).
    pub host_disk: bool,
    /// When the launcher's image is pulled (`imagePullPolicy`); None leaves it to Kubernetes.
    pub image_pull_policy: Option<PullPolicy>,
    /// Serial consoles have no log unless their machine asks for one
    /// (`virtualMachineOptions.disableSerialConsoleLog`).
    pub serial_console_log_disabled: bool,
}

impl From<&KubeVirt> for Settings {
    fn from(object: &KubeVirt) -> Self {
        let Some(configuration) = &object.spec.configuration else {
            return Self::default();
        };
        let developer = configuration.developer_configuration.as_ref();
        let options = configuration.virtual_machine_options.as_ref();
        Self {
            use_emulation: developer.is_some_and(|d| d.use_emulation == Some(true)),
            host_disk: developer.is_some_and(|d| d.feature_gates.iter().any(|g| g == HOST_DISK)),
            image_pull_policy: configuration.image_pull_policy,
            serial_console_log_disabled: options
                .is_some_and(|options| options.disable_serial_console_log.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn settings_are_those_of_the_object() {
        let cases: [(Value, Settings); 4] = [
            (json!({}), Settings::default()),
            (
                json!({"configuration": {"developerConfiguration": {"useEmulation": false}}}),
                Settings::default(),
            ),
            (
                json!({"configuration": {"developerConfiguration": {"featureGates": ["Other"]}}}),
                Settings::default(),
            ),
            (
                json!({"configuration": {
                    "developerConfiguration": {
                        "useEmulation": true,
                        "featureGates": ["Other", "HostDisk"],
                    },
                    "imagePullPolicy": "Never",
                    "virtualMachineOptions": {"disableSerialConsoleLog": {}},
                }}),
                Settings {
                    use_emulation: true,
                    host_disk: true,
                    image_pull_policy: Some(PullPolicy::Never),
                    serial_console_log_disabled: true,
                },
            ),
        ];
        for (spec, expected) in cases {
            let object = json!({
                "apiVersion": "kubevirt.io/v1",
                "kind": "KubeVirt",
                "metadata": {"name": "kubevirt"},
                "spec": spec,
            });
            let object: KubeVirt = serde_json::from_value(object).unwrap();
            assert_eq!(Settings::from(&object), expected, "{spec}");
        }
    }
}
