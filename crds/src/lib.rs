//! `kubevirt.io/v1`: the types of KubeVirt's API that Ferrovirt supports, their defaults and
//! their validation.
//!
//! ```text
//! YAML or JSON --manifest--> Manifest --into_vmi--> VirtualMachineInstance
//!                                                     | default   (what is not said)
//!                                                     | validate  (what cannot be meant)
//!                                                     v
//!                                            what the launcher runs
//! ```
//!
//! Everything here is pure. A field has KubeVirt's name, type and meaning, or does not exist;
//! reading a manifest refuses a field that does not exist here, with its path, and never
//! drops it.
//!
//! The crate chooses no Kubernetes version: the binary that links it enables one `v1_xx`
//! feature (or `latest`) of `k8s-openapi`.

mod annotation;
mod clock;
mod cpu;
mod credentials;
mod defaults;
pub mod definitions;
mod devices;
mod disk;
mod domain;
mod features;
mod field;
mod firmware;
mod kubevirt;
pub mod manifest;
mod network;
mod probe;
mod quantity;
mod status;
#[cfg(test)]
mod tests;
mod unsupported;
mod validate;
mod vm;
mod vmi;
mod volume;

pub use annotation::{ANTI_SPOOFING, anti_spoofing, instance_annotations};
pub use clock::*;
pub use cpu::*;
pub use credentials::*;
pub use defaults::default;
pub use devices::*;
pub use disk::*;
pub use domain::*;
pub use features::*;
pub use field::{FieldError, FieldErrors};
pub use firmware::*;
pub use kubevirt::*;
pub use network::*;
pub use probe::*;
pub use quantity::{ParseQuantityError, Quantity};
pub use status::*;
pub use validate::{validate, validate_kubevirt, validate_update};
pub use vm::*;
pub use vmi::*;
pub use volume::*;
