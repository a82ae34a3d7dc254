//! Whether the network that `run` makes has IPv6.
//!
//! The bridge plugin makes the machine forward IPv6, and leaves it so. A machine that forwards takes
//! no default route from router advertisements any more, and drops those that it has, unless its
//! interface's `accept_ra` is 2 (the kernel's `ip-sysctl`). `run` does not cost its user the
//! network: there, VMs get IPv4 alone.

use std::fs;
use std::process::{Command, Stdio};

/// The machine's own settings.
const SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// The kernel's routes: ten columns, of which the ninth has the flags and the last the interface.
const ROUTES: &str = "/proc/net/ipv6_route";

/// `RTF_DEFAULT | RTF_ADDRCONF` (linux/ipv6_route.h): a default route from a router advertisement.
const ADVERTISED: u32 = 0x0001_0000 | 0x0004_0000;

/// Why VMs get no IPv6, although the machine may have it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Without {
    /// The kernel has none, or is told to have none: nothing that anybody would wonder about.
    #[error("this machine has none")]
    Kernel,
    /// Forwarding would take the machine's own default route away.
    #[error(
        "forwarding it would take {0}'s default route away; keep it with \
         `sysctl net.ipv6.conf.{0}.accept_ra=2`"
    )]
    Advertised(String),
    /// Nothing translates.
    #[error("ip6tables has no NAT here (Debian: apt-get install iptables; modprobe ip6table_nat)")]
    NoNat,
}

/// Looks whether VMs can be given IPv6.
///
/// # Errors
/// [`Without`], the first reason not to.
pub(super) fn usable() -> Result<(), Without> {
    let setting = |device: &str, name: &str| {
        let text = fs::read_to_string(format!("{SETTINGS}/{device}/{name}")).ok()?;
        text.trim().parse::<u32>().ok()
    };
    // Of new devices, such as the bridge.
    if setting("default", "disable_ipv6") != Some(0) {
        return Err(Without::Kernel);
    }
    if setting("all", "forwarding") != Some(1) {
        let routes = fs::read_to_string(ROUTES).unwrap_or_default();
        let lost = advertised(&routes).find(|device| setting(device, "accept_ra") != Some(2));
        if let Some(device) = lost {
            return Err(Without::Advertised(device.to_owned()));
        }
    }
    let listed = Command::new("ip6tables")
        .args(["--wait", "--table", "nat", "--list-rules"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match listed {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Without::NoNat),
    }
}

/// The interfaces that have a default route from a router advertisement.
fn advertised(routes: &str) -> impl Iterator<Item = &str> {
    routes.lines().filter_map(|line| {
        let mut columns = line.split_whitespace().rev();
        let (device, flags) = (columns.next()?, columns.next()?);
        let flags = u32::from_str_radix(flags, 16).ok()?;
        (flags & ADVERTISED == ADVERTISED).then_some(device)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_default_routes_from_advertisements_would_be_lost() {
        const ANY: &str = "00000000000000000000000000000000 00";
        const VIA: &str = "fe800000000000000000000000000001";
        let route = |to: &str, flags: &str, device: &str| {
            format!("{to} {ANY} {VIA} 00000400 00000001 00000000 {flags} {device:>8}\n")
        };
        let net = "fd001430000000000000000000000000 40";
        let routes = [
            // ip -6 route add default via fe80::1
            route(ANY, "00000003", "eth0"),
            // The subnet's own, from an advertisement.
            route(net, "00040001", "eth1"),
            route(ANY, "00450003", "eth2"),
            route(ANY, "00200200", "lo"),
        ]
        .concat();
        assert_eq!(advertised(&routes).collect::<Vec<_>>(), ["eth2"]);
        assert_eq!(advertised("").count(), 0);
        assert_eq!(advertised("short\n\n").count(), 0);
    }
}
