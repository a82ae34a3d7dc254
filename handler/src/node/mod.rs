//! What this node is: found out once by a process with the privilege for it, and told to the cluster
//! by one without.
//!
//! ```text
//! prepare (privileged, ends)          virt-launcher
//!   does a guest run with KVM?   ───▶   kvm-probe         killed where it hangs
//!   what can QEMU do here?       ───▶   capabilities      libvirt's cache, kept on the node
//!   the static program of disks  ───▶ STATE/bin
//!     └─▶ node.json ─▶ run (no privilege): device plugins, labels, heartbeat
//! ```

mod caches;
mod cpu;
mod facts;
mod heartbeat;
mod labels;
mod prepare;

pub use cpu::Cpu;
pub use facts::{Facts, FactsError};
pub use heartbeat::keep_labels;
pub use prepare::{PrepareArgs, PrepareError, prepare};

/// Where `prepare` tells `run` what it found out: a directory of the handler's pod alone, so that
/// no facts are older than the pod.
pub const FACTS: &str = "/run/virt-handler/node.json";
