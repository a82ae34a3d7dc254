//! `spec.accessCredentials`: who may enter the guest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// A credential that the guest gets.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessCredential {
    /// Keys that may enter by SSH.
    pub ssh_public_key: Option<SSHPublicKeyAccessCredential>,
}

/// Keys that may enter by SSH, and how the guest gets them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SSHPublicKeyAccessCredential {
    /// How the guest gets them.
    pub propagation_method: SSHPublicKeyAccessCredentialPropagationMethod,
    /// Where they are.
    pub source: SSHPublicKeyAccessCredentialSource,
}

/// Where keys are.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SSHPublicKeyAccessCredentialSource {
    /// In a secret: each of its keys holds public keys, one a line.
    pub secret: Option<AccessCredentialSecretSource>,
}

/// A secret in the instance's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessCredentialSecretSource {
    /// Its name.
    pub secret_name: String,
}

/// How the guest gets keys: one of the two. Both are meta data of cloud-init's, on the disk of
/// the volume of that kind.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SSHPublicKeyAccessCredentialPropagationMethod {
    /// By the volume `cloudInitConfigDrive`.
    pub config_drive: Option<ConfigDriveSSHPublicKeyAccessCredentialPropagation>,
    /// By the volume `cloudInitNoCloud`.
    pub no_cloud: Option<NoCloudSSHPublicKeyAccessCredentialPropagation>,
}

/// By the volume `cloudInitConfigDrive`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigDriveSSHPublicKeyAccessCredentialPropagation {}

/// By the volume `cloudInitNoCloud`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoCloudSSHPublicKeyAccessCredentialPropagation {}
