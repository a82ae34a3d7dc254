//! The files behind a VMI's volumes.
//!
//! ```text
//! VMI ─▶ plan ─▶ Plan ─┬─▶ convert (paths and formats)
//!                      └─▶ prepare ─▶ overlays, empty disks, disks of files
//! ```
//!
//! | volume | its file | over or from |
//! | --- | --- | --- |
//! | containerDisk | qcow2 overlay | the image's disk, qcow2 or raw as it says itself |
//! | ephemeral | qcow2 overlay | the claim's disk image or device |
//! | persistentVolumeClaim | itself, raw | the claim's `disk.img`, made in an empty one, or its device |
//! | emptyDisk | qcow2 | nothing |
//! | hostDisk | itself, raw | [`host_disk::ensure`], on the host; [`host_disk::ensure_in_pod`] |
//! | cloudInitNoCloud, cloudInitConfigDrive | ISO 9660 | the manifest or a secret |
//! | configMap, secret, serviceAccount, downwardAPI | ISO 9660 | the files that the kubelet writes |
//!
//! Disks of files show what there was when the VM started, as KubeVirt's do.
//!
//! [`plan()`] is pure, so `render` shows a VM's domain without its files. [`prepare()`] runs as
//! the worker's user, below one runtime directory ([`Layout`]).

mod claim;
mod cloud_init;
mod error;
mod files;
pub mod host_disk;
pub mod inspect;
mod layout;
mod plan;
mod prepare;
mod qcow2;
#[cfg(test)]
mod tests;

pub use error::VolumeError;
pub use layout::{Descriptors, Layout, SecretData};
pub use plan::{Plan, plan};
pub use prepare::prepare;
