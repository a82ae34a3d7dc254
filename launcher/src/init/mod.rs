//! PID 1 of the pod's container: the only part of a launcher that ever holds privilege.
//!
//! ```text
//!  stage 1, root:   network of the pod ─▶ taps, packet sockets ─▶ give up root and every
//!                   capability ─▶ execute itself as
//!  stage 2, uid 107: start the worker, reap every orphan at once, forward signals, start the
//!                   worker again when it dies
//! ```
//!
//! Stage 2 is a fresh process image under the same process id: nothing that set-up parsed or
//! allocated stays in the memory of the process that lives as long as the guest. It parses no
//! untrusted byte and knows no libvirt. libvirt polls until an ended QEMU is reaped, so reaping
//! late would show as seconds in every start and stop.

mod network;
mod privileges;
mod supervise;

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

use crate::convert::Accelerator;

pub use network::{pod_interfaces, set_up};
pub use supervise::supervise;

/// The worker's exit status where the VM failed; init ends with the same.
pub const VM_FAILED: u8 = 3;

/// What init does, in both stages.
#[derive(Clone, Debug, clap::Args)]
pub struct InitArgs {
    /// The pod's runtime directory.
    #[arg(long, default_value = crate::pod::RUNTIME_DIR)]
    pub runtime_dir: PathBuf,
    /// What executes the guest's instructions.
    #[arg(long, default_value = "kvm")]
    pub accelerator: Accelerator,
    /// The pod's network interface.
    #[arg(long, default_value = "eth0")]
    pub interface: String,
    /// Where the state of the pod's network is kept; default: below the runtime directory.
    #[arg(long)]
    pub network_state: Option<PathBuf>,
    /// The resolv.conf that the guest's DNS settings come from.
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// End when the parent ends.
    #[arg(long)]
    pub die_with_parent: bool,
    /// Only fill libvirt's capability cache; needs no VMI and no network.
    #[arg(long)]
    pub probe: bool,
    /// Stage 2: the packet sockets that stage 1 opened, as INTERFACE=DESCRIPTOR.
    #[arg(long = "packet-socket", hide = true)]
    pub packet_sockets: Vec<PacketSocket>,
    /// Stage 2.
    #[arg(long, hide = true)]
    pub supervise: bool,
    /// Stage 2: when stage 1 began, in microseconds of `CLOCK_MONOTONIC`.
    #[arg(long, hide = true)]
    pub began: Option<u64>,
}

/// A packet socket on an interface's tap, inherited from init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketSocket {
    /// The VMI's name for the interface.
    pub interface: String,
    /// The open descriptor.
    pub descriptor: RawFd,
}

impl FromStr for PacketSocket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.rsplit_once('=').and_then(|(interface, descriptor)| {
            Some(Self {
                interface: interface.to_owned(),
                descriptor: descriptor.parse().ok()?,
            })
        });
        parsed.ok_or_else(|| format!("{text:?} is not INTERFACE=DESCRIPTOR"))
    }
}

impl std::fmt::Display for PacketSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.interface, self.descriptor)
    }
}
