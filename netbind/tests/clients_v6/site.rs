//! A pod with an IPv6 address on a node, with the guest's interface bound.

use crate::common::{Pod, success};

/// The guest's MAC, in whatever pod it is.
pub(crate) const MAC: &str = "02:00:00:00:00:01";
/// The node's address beyond the pod's link.
pub(crate) const BEYOND: &str = "2001:db8:2::1";

/// A pod with this address, set up with these further arguments. Nobody serves it yet.
pub(crate) fn pod(address: &str, arguments: &[&str]) -> Pod {
    let pod = Pod::by_hand("eth0");
    pod.node.sysctl("ipv6/conf/all/forwarding", "1");
    let to_node = pod.namespace.name();
    let node = [
        format!("link add pod0 type veth peer name eth0 netns {to_node}"),
        format!("address add {BEYOND}/64 dev lo"),
        "address add 2001:db8:1::1/64 dev pod0 nodad".to_owned(),
        "address add fe80::1/64 dev pod0 nodad".to_owned(),
        "link set pod0 up".to_owned(),
    ];
    let inside = [
        "link set eth0 up".to_owned(),
        format!("address add {address}/64 dev eth0 nodad"),
        "route add default via fe80::1 dev eth0".to_owned(),
    ];
    for (namespace, lines) in [(&pod.node, &node[..]), (&pod.namespace, &inside)] {
        for line in lines {
            namespace.ip(line);
        }
    }
    std::fs::write(
        pod.dir.path().join("resolv.conf"),
        "nameserver 2001:db8::53\nnameserver 2001:db8::54\nsearch svc.cluster.local cluster.local\n",
    )
    .unwrap();
    let setup = ["setup", "--guest-mac", MAC, "--hostname", "vm"];
    let setup = [&setup, &["--ntp-server", "2001:db8::123"][..], arguments].concat();
    success(&mut pod.netbind(&setup));
    pod
}
