//! virt-launcher: one virtual machine, inside its pod.
//!
//! ```text
//! VMI ──▶ volumes::plan ──▶ files ─┐
//! pod ──▶ netbind::setup ─▶ tap ───┼─▶ Host ─┐
//! node ─▶ emulation ───────────────┘         ├─▶ convert ─▶ domain XML ─▶ libvirt
//! VMI ───────────────────────────────────────┘
//! ```
//!
//! What decides is pure (`convert`, `volumes::plan`, `lifecycle`); what touches the kernel,
//! files or libvirt is thin and says so in its name.

pub mod clock;
pub mod convert;
pub mod emulation;
pub mod host;
pub mod images;
pub mod init;
pub mod lifecycle;
pub mod network;
pub mod pod;
pub mod probe;
pub mod run;
pub mod volumes;
