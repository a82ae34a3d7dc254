//! VMI to libvirt domain: pure, one module a concern.

mod host;

pub use host::{BoundInterface, Accelerator, DiskFormat, Firmware, Host, KernelBoot, VolumeSource};
