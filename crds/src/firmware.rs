//! `spec.domain.firmware`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::PullPolicy;

/// BIOS or EFI, what it boots, and what SMBIOS says about the machine.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Firmware {
    /// The firmware. Defaults to BIOS.
    pub bootloader: Option<Bootloader>,
    /// Boot a kernel directly, without a boot loader.
    pub kernel_boot: Option<KernelBoot>,
    /// The serial number in SMBIOS.
    pub serial: Option<String>,
    /// The UUID in SMBIOS. Defaults to one derived from the instance's name.
    pub uuid: Option<String>,
}

/// The firmware: one of the two, or neither for BIOS.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bootloader {
    /// SeaBIOS.
    pub bios: Option<BIOS>,
    /// OVMF.
    pub efi: Option<EFI>,
}

/// SeaBIOS.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BIOS {
    /// Show its output on the serial console.
    pub use_serial: Option<bool>,
}

/// OVMF.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EFI {
    /// Keep the variables from one run to the next. Defaults to false; true is not supported yet.
    pub persistent: Option<bool>,
    /// Boot only what is signed. Needs `features.smm`. Defaults to true.
    pub secure_boot: Option<bool>,
}

/// A kernel that is booted directly.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KernelBoot {
    /// The image that holds the kernel and its initrd.
    pub container: Option<KernelBootContainer>,
    /// The kernel's command line.
    pub kernel_args: Option<String>,
}

/// The image that holds a kernel and its initrd.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KernelBootContainer {
    /// The image's name.
    pub image: String,
    /// When to pull the image.
    pub image_pull_policy: Option<PullPolicy>,
    /// The secret that holds the registry's credentials.
    pub image_pull_secret: Option<String>,
    /// The initrd, as an absolute path in the image.
    pub initrd_path: Option<String>,
    /// The kernel, as an absolute path in the image.
    pub kernel_path: Option<String>,
}
