//! Every shape of pod network, times both bindings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

#[path = "../common/mod.rs"]
mod common;

mod cni;
mod kinds;
mod lab;
mod late;
mod layer2;
mod secondary;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use cni::Shape;
use common::guest::{GUEST_LINK, Guest};
use common::serve::Serve;
use common::{Pod, Process, assert_becomes, settled, success, wait_until};
use lab::{Lab, Service, settle_addresses};
use serde_json::Value;

/// How a guest is connected, on the command line.
type Binding = &'static [&'static str];
const BRIDGE: Binding = &["--binding", "bridge"];
const MASQUERADE: Binding = &["--binding", "masquerade"];

macro_rules! matrix {
    ($binds:path; $($name:ident: $shape:expr;)*) => { $(
        mod $name {
            use super::*;

            #[test]
            fn bridge() {
                $binds(&$shape, BRIDGE);
            }

            #[test]
            fn masquerade() {
                $binds(&$shape, MASQUERADE);
            }
        }
    )* };
}

matrix! {
    binds;
    flannel: cni::FLANNEL;
    calico: cni::CALICO;
    ptp: cni::PTP;
    several_routes: cni::SEVERAL_ROUTES;
    cilium: cni::CILIUM;
    gateway_in_ipv6_only: cni::GATEWAY_IN_IPV6_ONLY;
    ipv6_only: cni::IPV6_ONLY;
    dual_stack: cni::DUAL_STACK;
    other_name: cni::OTHER_NAME;
    two_addresses: cni::TWO_ADDRESSES;
    aws_vpc: cni::AWS_VPC;
    macvlan: cni::MACVLAN;
}

matrix! {
    late::binds;
    interface_late: late::INTERFACE;
    slaac_late: late::SLAAC;
}

/// Binds a pod whose network is ready, and proves it.
fn binds(shape: &Shape, binding: Binding) {
    let lab = (shape.make)(shape.interface);
    let before = before(shape, &lab);
    let mut setup = lab.pod.netbind(&["setup", "--json"]);
    let done = serde_json::from_str(&success(setup.args(binding))).unwrap();
    proves(shape, &lab, &before, &done);
}

/// The dump of a network that works, and is not bound yet.
fn before(shape: &Shape, lab: &Lab) -> String {
    // Their detection would end in the middle otherwise.
    settle_addresses(&lab.pod.namespace);
    settle_addresses(&lab.pod.node);
    reaches(shape, "the pod, before", |to| lab.pod.namespace.reaches(to));
    settled(|| lab.dump())
}

/// Has a guest take what set-up left for it, as any guest does, sees it reach and be reached, and
/// takes everything back.
fn proves(shape: &Shape, lab: &Lab, before: &str, done: &Value) {
    let guest_network = &done["guest"];
    assert_eq!(guest_network["mtu"], shape.mtu);
    let server = Serve::start(&lab.pod);
    let guest = Guest::behind(&lab.pod, "tap0", guest_network["mac"].as_str().unwrap());
    let _leases = take_addresses(&lab.pod, &guest, guest_network);

    reaches(shape, "the guest", |to| {
        guest.reaches(to) && carries(&guest, to, shape.mtu)
    });
    let service = Service::of(&guest);
    for end in shape.ends {
        service.answers(&lab.pod.node, end.pod, "from the node");
        if end.peer.is_some() {
            service.answers(&lab.peer, end.pod, "from the peer");
        }
    }

    drop((guest, server));
    success(&mut lab.pod.netbind(&["teardown"]));
    assert_becomes(|| lab.dump(), before, "teardown");
    reaches(shape, "the pod, after", |to| lab.pod.namespace.reaches(to));
    for end in shape.ends {
        assert!(lab.pod.node_reaches(end.pod), "{} is the pod's", end.pod);
    }
}

/// Fails unless all that a shape promises is reached.
#[track_caller]
fn reaches(shape: &Shape, who: &str, reaches: impl Fn(&str) -> bool) {
    let of_ends = shape
        .ends
        .iter()
        .flat_map(|end| [Some(end.gateway), end.peer]);
    for to in of_ends.flatten().chain(shape.further.iter().copied()) {
        assert!(reaches(to), "{who} reaches {to}");
    }
}

/// Whether a packet of just the guest's MTU gets there, and back.
fn carries(guest: &Guest, to: &str, mtu: u32) -> bool {
    const ICMP: u32 = 8;
    let headers = ICMP + if to.contains(':') { 40 } else { 20 };
    let size = (mtu - headers).to_string();
    let mut ping = guest.namespace.command("ping");
    ping.args(["-c1", "-w10", "-M", "do", "-s", &size, to]);
    ping.output().unwrap().status.success()
}

/// Has the guest take what it is served: IPv4 by udhcpc, IPv6 by its kernel and dhclient. The latter
/// keeps its addresses for as long as the value lives.
fn take_addresses(pod: &Pod, guest: &Guest, network: &Value) -> Option<Process> {
    if !network["lease"].is_null() {
        guest.udhcpc(pod.dir.path());
        let link: Value =
            serde_json::from_str(&guest.namespace.ip(&format!("-j link show {GUEST_LINK}")))
                .unwrap();
        assert_eq!(link[0]["mtu"], network["mtu"], "by DHCP");
    }
    if network["ipv6"].is_null() {
        return None;
    }
    settle_addresses(&guest.namespace);
    let client = dhclient6(pod, guest);
    let addresses = network["ipv6"]["addresses"].as_array().unwrap();
    wait_until("the guest has its IPv6 addresses", || {
        let taken = guest.namespace.ip(&format!("address show {GUEST_LINK}"));
        addresses
            .iter()
            .all(|address| taken.contains(&format!(" {}/", address.as_str().unwrap())))
            && !taken.contains("tentative")
    });
    let taken = guest.namespace.ip(&format!("address show {GUEST_LINK}"));
    assert!(!taken.contains("dadfailed"), "{taken}");
    let mtu = Path::new("/proc/sys/net/ipv6/conf")
        .join(GUEST_LINK)
        .join("mtu");
    wait_until("the guest has its MTU by advertisement", || {
        let mtu = guest.namespace.within(|| fs::read_to_string(&mtu));
        mtu.unwrap().trim().parse().ok() == network["mtu"].as_u64()
    });
    if network["ipv6"]["router"]["default"] == true {
        wait_until("the guest has a default route", || {
            !guest.namespace.ip("-6 route show default").is_empty()
        });
    }
    Some(client)
}

/// Starts dhclient for IPv6, which the value ends.
fn dhclient6(pod: &Pod, guest: &Guest) -> Process {
    let dir = pod.dir.path();
    let script = dir.join("dhclient6.sh");
    // DHCPv6 gives addresses and no prefix (RFC 8415 section 21.6).
    let text = "#!/bin/sh\n[ -z \"$new_ip6_address\" ] || \
                ip address replace \"$new_ip6_address/128\" dev \"$interface\"\n";
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = guest.namespace.command("dhclient");
    command.args(["-6", "-d", "-sf"]).arg(script);
    command.arg("-lf").arg(dir.join("leases6"));
    command.arg("-pf").arg(dir.join("pid6"));
    command.arg("-cf").arg("/dev/null").arg(GUEST_LINK);
    Process::start(command.stdout(Stdio::null()))
}
