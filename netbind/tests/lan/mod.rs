//! A pod, its node and a peer on one Ethernet, and what is seen on it frame by frame.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's tools fail as a test does"
)]

pub(crate) mod frame;
pub(crate) mod wire;

use crate::common::{Namespace, Pod, wait_until};

/// The node, which is the gateway.
pub(crate) const NODE_V4: &str = "10.88.0.1";
pub(crate) const NODE_V6: &str = "fd88::1";
/// The pod.
pub(crate) const POD_V4: &str = "10.88.0.5";
pub(crate) const POD_V6: &str = "fd88::5";
/// The peer.
pub(crate) const PEER_V4: &str = "10.88.0.9";
pub(crate) const PEER_V6: &str = "fd88::9";
/// A station that is nothing but a wire.
pub(crate) const NOBODY_V4: &str = "10.88.0.99";
/// Whom a guest could pretend to be.
pub(crate) const OTHER_V4: &str = "10.88.0.66";
pub(crate) const OTHER_V6: &str = "fd88::66";
/// The MAC of the pod's interface.
pub(crate) const POD_MAC: &str = "02:00:00:00:00:05";

/// Three namespaces: the node, a pod and a peer, whose `eth0` are ports of the node's bridge `br0`.
pub(crate) struct Lan {
    pub(crate) pod: Pod,
    pub(crate) peer: Namespace,
}

impl Lan {
    /// Everybody has an address of both families, and the node as gateway.
    pub(crate) fn new() -> Self {
        let lan = Self::without_address();
        let namespaces = [
            (&lan.pod.node, "br0", [NODE_V4, NODE_V6]),
            (&lan.pod.namespace, "eth0", [POD_V4, POD_V6]),
            (&lan.peer, "eth0", [PEER_V4, PEER_V6]),
        ];
        for (namespace, link, [ipv4, ipv6]) in namespaces {
            namespace.ip(&format!("address add {ipv4}/24 dev {link}"));
            namespace.ip(&format!("address add {ipv6}/64 dev {link} nodad"));
        }
        for namespace in [&lan.pod.namespace, &lan.peer] {
            namespace.ip(&format!("route add default via {NODE_V4}"));
            namespace.ip(&format!("route add default via {NODE_V6}"));
        }
        lan
    }

    /// Nobody has an address, beside link-local ones.
    pub(crate) fn without_address() -> Self {
        let (pod, peer) = (Pod::by_hand("eth0"), Namespace::new("peer"));
        let node = &pod.node;
        node.ip("link add br0 type bridge mcast_snooping 0");
        for (port, namespace) in [("pod0", &pod.namespace), ("peer0", &peer)] {
            let name = namespace.name();
            node.ip(&format!(
                "link add {port} type veth peer name eth0 netns {name}"
            ));
            node.ip(&format!("link set {port} master br0 up"));
        }
        node.ip("link set br0 up");
        pod.namespace
            .ip(&format!("link set eth0 address {POD_MAC} up"));
        peer.ip("link set eth0 up");
        let lan = Self { pod, peer };
        for namespace in [&lan.pod.node, &lan.pod.namespace, &lan.peer] {
            settle(namespace);
        }
        lan
    }

    /// The peer's link-local address.
    pub(crate) fn peer_link_local(&self) -> String {
        link_local(&self.peer, "eth0")
    }

    /// The node's.
    pub(crate) fn node_link_local(&self) -> String {
        link_local(&self.pod.node, "br0")
    }
}

fn link_local(namespace: &Namespace, link: &str) -> String {
    let shown = namespace.ip(&format!("-o -6 address show dev {link} scope link"));
    let address = shown
        .split_whitespace()
        .find(|word| word.starts_with("fe80"));
    address.unwrap().split('/').next().unwrap().to_owned()
}

/// Waits until no address of a namespace is under duplicate address detection.
pub(crate) fn settle(namespace: &Namespace) {
    wait_until("addresses are settled", || {
        !namespace.ip("address").contains("tentative")
    });
}
