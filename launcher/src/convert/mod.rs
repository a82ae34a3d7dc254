//! VMI to libvirt domain: pure, one module a concern.

mod host;

pub use host::{Accelerator, BlockSize, BoundInterface, DiskFormat, Firmware, Host, KernelBoot, VolumeSource};
