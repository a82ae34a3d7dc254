//! PID 1 of the pod's container: the only part of a launcher that ever holds privilege.
//!
//! ```text
//!  stage 1, root:    network of the pod ─▶ taps, packet sockets ─▶ give up root and every
//!                    capability
//!           uid 107: fetch the images' files from the containers that have them ─▶ execute itself as
//!  stage 2, uid 107: start the worker, reap every orphan at once, forward signals, start the
//!                    worker again when it dies
//! ```
//!
//! It needs NET_ADMIN, NET_RAW, SETUID, SETGID and SETPCAP, and nothing that a read-only root file
//! system or no_new_privs would keep from it.
//!
//! Stage 2 is a fresh process image under the same process id: nothing that set-up parsed or
//! allocated stays in the memory of the process that lives as long as the guest. It parses no
//! untrusted byte and knows no libvirt. libvirt polls until an ended QEMU is reaped, so reaping
//! late would show as seconds in every start and stop.

mod capabilities;
pub mod container_disks;
mod inherit;
pub mod last_words;
mod lock;
mod network;
mod options;
mod privileges;
mod set_up;
mod signals;
mod supervise;
mod vmi;

use std::net::IpAddr;
use std::num::ParseIntError;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::convert::Accelerator;

pub use inherit::{InheritedFile, take_over};
pub use lock::LOCK;
pub use privileges::{PrivilegeError, drop_all};
pub use set_up::set_up;
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
    /// The VMI that the pod carries, as JSON; absent where vmi.json is in the runtime directory.
    #[arg(long, value_name = "FILE")]
    pub vmi: Option<PathBuf>,
    /// A volume whose container hands over a disk; may be given several times.
    #[arg(long, value_name = "VOLUME")]
    pub container_disk: Vec<String>,
    /// Wait for the container that hands over kernel and initrd.
    #[arg(long)]
    pub kernel_boot: bool,
    /// Where these containers listen, as volume-VOLUME.sock and kernel-boot.sock.
    #[arg(long, value_name = "DIRECTORY", default_value = "/run/container-disks")]
    pub container_disks_dir: PathBuf,
    /// How long each of them is waited for, in seconds; default: as long as its image takes to be
    /// pulled.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub container_disks_timeout: Option<Duration>,
    /// What the node knows of QEMU: files of libvirt's capability cache, below the accelerator's
    /// name.
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/var/lib/ferrovirt/capabilities"
    )]
    pub capabilities: PathBuf,
    /// Where the kubelet reads why the container ended; nothing is written where it is not there.
    #[arg(long, value_name = "FILE", default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,
    /// The pod's first network interface. Those of further networks are named by the network.
    #[arg(long, default_value = crate::network::PRIMARY)]
    pub interface: String,
    /// Addresses that an interface will have, such as eth0=$(POD_IPS): they are waited for.
    #[arg(long, value_name = "INTERFACE=ADDRESS,...")]
    pub expect: Vec<Expected>,
    /// How long the pod's interfaces and their addresses are waited for, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub network_timeout: Duration,
    /// The directory where the state of the pod's network is kept; default: below the runtime
    /// directory.
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
    /// Stage 2: the packet sockets that stage 1 opened, as INTERFACE=TAP[,UPLINK].
    #[arg(long, hide = true)]
    pub packet_sockets: Vec<PacketSockets>,
    /// Stage 2: the disks that stage 1 fetched, as VOLUME=DESCRIPTOR.
    #[arg(long, hide = true)]
    pub container_disk_file: Vec<InheritedFile>,
    /// Stage 2: kernel and initrd, as ROLE=DESCRIPTOR.
    #[arg(long, hide = true)]
    pub kernel_boot_file: Vec<InheritedFile>,
    /// Stage 2: descriptors that are only kept open, and by init alone.
    #[arg(long, hide = true)]
    pub held: Vec<RawFd>,
    /// Stage 2: the open termination log.
    #[arg(long, hide = true)]
    pub termination_descriptor: Option<RawFd>,
    /// Stage 2.
    #[arg(long, hide = true)]
    pub supervise: bool,
    /// Stage 2: when stage 1 began, in microseconds of `CLOCK_MONOTONIC`.
    #[arg(long, hide = true)]
    pub began: Option<u64>,
}

fn seconds(text: &str) -> Result<Duration, ParseIntError> {
    text.parse().map(Duration::from_secs)
}

/// Addresses that an interface of the pod is known to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The pod's interface.
    pub device: String,
    /// Its addresses; none where nobody knew any.
    pub addresses: Vec<IpAddr>,
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(device, addresses)| {
            let addresses = addresses.split(',').filter(|address| !address.is_empty());
            Some(Self {
                device: device.to_owned(),
                addresses: addresses.map(str::parse).collect::<Result<_, _>>().ok()?,
            })
        });
        parsed.ok_or_else(|| format!("{text:?} is not INTERFACE=ADDRESS,..."))
    }
}

/// The packet sockets of one interface, inherited from init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketSockets {
    /// The VMI's name for the interface.
    pub interface: String,
    /// The open descriptor on the tap.
    pub tap: RawFd,
    /// The one on the pod's interface, where the guest's router is asked for by it.
    pub uplink: Option<RawFd>,
}

impl FromStr for PacketSockets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.rsplit_once('=').and_then(|(interface, descriptors)| {
            let (tap, uplink) = match descriptors.split_once(',') {
                Some((tap, uplink)) => (tap, Some(uplink.parse().ok()?)),
                None => (descriptors, None),
            };
            Some(Self {
                interface: interface.to_owned(),
                tap: tap.parse().ok()?,
                uplink,
            })
        });
        parsed.ok_or_else(|| format!("{text:?} is not INTERFACE=TAP[,UPLINK]"))
    }
}

impl std::fmt::Display for PacketSockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.interface, self.tap)?;
        match self.uplink {
            Some(uplink) => write!(f, ",{uplink}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_sockets_come_back_from_their_argument() {
        for uplink in [None, Some(8)] {
            let sockets = PacketSockets {
                interface: "default".to_owned(),
                tap: 7,
                uplink,
            };
            assert_eq!(sockets.to_string().parse(), Ok(sockets));
        }
        for text in [
            "default",
            "default=",
            "default=a",
            "default=7,",
            "default=7,b",
        ] {
            let error = text.parse::<PacketSockets>().unwrap_err();
            assert!(error.starts_with(&format!("{text:?} is not ")), "{error}");
        }
    }

    #[test]
    fn expected_addresses_may_be_none() {
        let parsed: Expected = "eth0=10.0.0.2,fd00::2".parse().unwrap();
        assert_eq!(parsed.device, "eth0");
        let expected = ["10.0.0.2", "fd00::2"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(parsed.addresses, expected);
        assert_eq!(
            "eth0=".parse::<Expected>().unwrap().addresses,
            [] as [IpAddr; 0]
        );
        for text in ["eth0", "eth0=10.0.0.2/24", "eth0=a"] {
            assert!(text.parse::<Expected>().is_err(), "{text}");
        }
    }
}
