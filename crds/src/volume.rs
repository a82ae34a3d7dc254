//! `spec.volumes`: where the contents of disks come from.

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, LocalObjectReference, PersistentVolumeClaimVolumeSource,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::Quantity;

/// The contents of the disk of the same name: a name and one source.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// A disk labelled `config-2` that tells cloud-init what to do.
    pub cloud_init_config_drive: Option<CloudInitConfigDriveSource>,
    /// A disk labelled `cidata` that tells cloud-init what to do.
    pub cloud_init_no_cloud: Option<CloudInitNoCloudSource>,
    /// A disk that holds a config map, one file a key.
    pub config_map: Option<ConfigMapVolumeSource>,
    /// A disk image in a container image. What the guest writes lasts as long as the instance.
    pub container_disk: Option<ContainerDiskSource>,
    /// A disk that holds what the pod says of itself.
    #[serde(rename = "downwardAPI")]
    pub downward_api: Option<DownwardAPIVolumeSource>,
    /// An empty disk that lasts as long as the instance.
    pub empty_disk: Option<EmptyDiskSource>,
    /// A claim's disk image, read-only beneath what the guest writes, which lasts as long as the
    /// instance.
    pub ephemeral: Option<EphemeralVolumeSource>,
    /// A disk image in the host's file system.
    pub host_disk: Option<HostDisk>,
    /// Its name, that of a disk.
    pub name: String,
    /// A claim: its block device, or the image `disk.img` in its file system. What the guest
    /// writes lasts as long as the claim.
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    /// A disk that holds a secret, one file a key.
    pub secret: Option<SecretVolumeSource>,
    /// A disk that holds a service account's token, its namespace and the cluster's CA.
    pub service_account: Option<ServiceAccountVolumeSource>,
}

/// When an image is pulled (Kubernetes' `PullPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Before every start.
    Always,
    /// If it is not there.
    IfNotPresent,
    /// Never; it must be there.
    Never,
}

/// A disk image in a container image.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDiskSource {
    /// The container image's name.
    pub image: String,
    /// When to pull it. Defaults to Always for the tag `latest`, else to IfNotPresent.
    pub image_pull_policy: Option<PullPolicy>,
    /// The secret that holds the registry's credentials.
    pub image_pull_secret: Option<String>,
    /// The disk image, as an absolute path in the container image. Defaults to the only file in
    /// `/disk`.
    pub path: Option<String>,
}

/// What cloud-init's NoCloud data source says.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudInitNoCloudSource {
    /// Network configuration.
    pub network_data: Option<String>,
    /// Network configuration in base64.
    pub network_data_base64: Option<String>,
    /// The secret that holds network configuration, under `networkdata`.
    pub network_data_secret_ref: Option<LocalObjectReference>,
    /// The secret that holds user data, under `userdata`.
    pub secret_ref: Option<LocalObjectReference>,
    /// User data.
    pub user_data: Option<String>,
    /// User data in base64.
    pub user_data_base64: Option<String>,
}

/// What cloud-init's ConfigDrive data source says.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudInitConfigDriveSource {
    /// Network configuration.
    pub network_data: Option<String>,
    /// Network configuration in base64.
    pub network_data_base64: Option<String>,
    /// The secret that holds network configuration, under `networkdata`.
    pub network_data_secret_ref: Option<LocalObjectReference>,
    /// The secret that holds user data, under `userdata`.
    pub secret_ref: Option<LocalObjectReference>,
    /// User data.
    pub user_data: Option<String>,
    /// User data in base64.
    pub user_data_base64: Option<String>,
}

/// A disk that holds a config map.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapVolumeSource {
    /// The config map's name.
    pub name: String,
    /// Whether the instance starts without it. Defaults to false.
    pub optional: Option<bool>,
    /// The disk's label. Defaults to `cfgdata`.
    pub volume_label: Option<String>,
}

/// A disk that holds a secret.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretVolumeSource {
    /// Whether the instance starts without it. Defaults to false.
    pub optional: Option<bool>,
    /// The secret's name.
    pub secret_name: String,
    /// The disk's label. Defaults to `cfgdata`.
    pub volume_label: Option<String>,
}

/// A disk that holds a service account's token. An instance has at most one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountVolumeSource {
    /// The service account's name. The pod runs as it.
    pub service_account_name: String,
}

/// A disk that holds what the pod says of itself, as it was when the instance started.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DownwardAPIVolumeSource {
    /// The files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<DownwardAPIVolumeFile>,
    /// The disk's label. Defaults to `cfgdata`.
    pub volume_label: Option<String>,
}

/// An empty disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EmptyDiskSource {
    /// Its size. The file behind it is sparse.
    pub capacity: Quantity,
}

/// A disk image beneath what the guest writes.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EphemeralVolumeSource {
    /// The claim that holds the image.
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
}

/// A disk image in the host's file system.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostDisk {
    /// The size of an image that is created.
    pub capacity: Option<Quantity>,
    /// The image's absolute path.
    pub path: String,
    /// Nodes share the path, so that the machine could migrate; nothing does. Defaults to false.
    pub shared: Option<bool>,
    /// Whether the image is created when there is none.
    #[serde(rename = "type")]
    pub type_: HostDiskType,
}

/// Whether a host's disk image is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HostDiskType {
    /// It must be there.
    Disk,
    /// It is created when it is not there.
    DiskOrCreate,
}
