//! The kernel settings that have no netlink path.

use std::{fs, io};

use crate::network::BridgeNetfilter;

/// Whether frames that cross a bridge also traverse the namespace's iptables, and so on.
///
/// On, as they are in each new namespace, a `FORWARD` policy of drop kills the guest's traffic. The
/// bridge's own attributes (`IFLA_BR_NF_CALL_IPTABLES`) cannot turn them off: the kernel takes the two
/// by OR.
const IPTABLES: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
const IP6TABLES: &str = "/proc/sys/net/bridge/bridge-nf-call-ip6tables";
const ARPTABLES: &str = "/proc/sys/net/bridge/bridge-nf-call-arptables";

/// Reads which tables bridged frames go through; none without bridge netfilter.
pub(crate) fn bridge_netfilter() -> Option<BridgeNetfilter> {
    Some(BridgeNetfilter {
        iptables: read(IPTABLES)?,
        ip6tables: read(IP6TABLES)?,
        arptables: read(ARPTABLES)?,
    })
}

/// Turns off what was found on, or on again, if it can be written.
pub(crate) fn switch_bridge_netfilter(found: BridgeNetfilter, on: bool) {
    for (path, found) in [
        (IPTABLES, found.iptables),
        (IP6TABLES, found.ip6tables),
        (ARPTABLES, found.arptables),
    ] {
        if found && read(path) == Some(!on) {
            let _ = write(path, on);
        }
    }
}

/// Whether the namespace forwards IPv6 packets.
pub(crate) const IPV6_FORWARDING: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// Whether a link is a router's: it then takes no advertisements.
pub(crate) fn ipv6_forwarding(link: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{link}/forwarding")
}

/// What a link makes of router advertisements: 0 nothing, 1 takes them unless the namespace forwards,
/// 2 takes them.
pub(crate) fn accept_ra(link: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{link}/accept_ra")
}

/// Whether a link has no IPv6 at all.
pub(crate) fn disable_ipv6(link: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6")
}

/// Reads a switch; none where the kernel has no such setting.
pub(crate) fn read(path: &str) -> Option<bool> {
    Some(fs::read_to_string(path).ok()?.trim() != "0")
}

/// Turns a switch on or off.
pub(crate) fn write(path: &str, on: bool) -> io::Result<()> {
    set(path, on.into())
}

/// Reads a number; none where the kernel has no such setting.
pub(crate) fn get(path: &str) -> Option<u8> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Writes a number.
pub(crate) fn set(path: &str, value: u8) -> io::Result<()> {
    fs::write(path, value.to_string())
}

/// Whether a switch can be turned: in a container all of /proc/sys is read-only.
pub(crate) fn is_writable(path: &str) -> bool {
    fs::OpenOptions::new().write(true).open(path).is_ok()
}
