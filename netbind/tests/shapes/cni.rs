//! The shapes that CNI plugins give a pod's network, made by ip(8).
//!
//! Each has what its plugin is known for and no more. `pod0` is the node's end of the pod's link.

use super::lab::{Lab, PEER_V4, PEER_V6};

/// A pod's network.
pub(crate) struct Shape {
    /// The pod's interface.
    pub(crate) interface: &'static str,
    /// The addresses that the guest takes over in bridge binding.
    pub(crate) ends: &'static [End],
    /// What else the guest reaches.
    pub(crate) further: &'static [&'static str],
    /// The guest's MTU.
    pub(crate) mtu: u32,
    /// Makes the lab.
    pub(crate) make: fn(&'static str) -> Lab,
}

/// One of the pod's addresses.
pub(crate) struct End {
    pub(crate) pod: &'static str,
    /// The node's address on the way, which answers a ping.
    pub(crate) gateway: &'static str,
    /// The peer behind the gateway, if there is a way to it.
    pub(crate) peer: Option<&'static str>,
}

pub(crate) const fn end(pod: &'static str, gateway: &'static str, peer: &'static str) -> End {
    End {
        pod,
        gateway,
        peer: Some(peer),
    }
}

/// A bridge on the node, which is the gateway: its addresses.
fn bridged(lab: &Lab, mtu: u32, gateways: &[&str]) {
    lab.node(&format!(
        "link add cni0 type bridge
         link set pod0 mtu {mtu} master cni0
         link set pod0 type bridge_slave hairpin on
         link set pod0 up
         link set cni0 mtu {mtu} up"
    ));
    for gateway in gateways {
        let nodad = if gateway.contains(':') { "nodad" } else { "" };
        lab.node(&format!("address add {gateway} dev cni0 {nodad}"));
    }
}

/// The bridge plugin, as flannel uses it.
pub(crate) const FLANNEL: Shape = Shape {
    interface: "eth0",
    ends: &[end("10.244.1.5", "10.244.1.1", PEER_V4)],
    further: &[],
    mtu: 1450,
    make: |interface| {
        let lab = Lab::new(interface);
        bridged(&lab, 1450, &["10.244.1.1/24"]);
        lab.pod(
            "link set eth0 mtu 1450 up
             address add 10.244.1.5/24 dev eth0
             route add default via 10.244.1.1
             route add 10.244.0.0/16 via 10.244.1.1",
        );
        lab
    },
};

/// Calico: host addresses, a gateway that no subnet holds, and proxy ARP.
pub(crate) const CALICO: Shape = Shape {
    interface: "eth0",
    ends: &[
        end("10.65.0.2", "192.0.2.1", PEER_V4),
        end("fd00:65::2", "2001:db8:2::1", PEER_V6),
    ],
    further: &[],
    mtu: 1500,
    make: |interface| {
        let lab = Lab::new(interface);
        lab.pod.node.sysctl("ipv4/conf/pod0/proxy_arp", "1");
        lab.pod.node.sysctl("ipv4/neigh/pod0/proxy_delay", "0");
        lab.node(
            "link set pod0 address ee:ee:ee:ee:ee:ee up
             route add 10.65.0.2 dev pod0 scope link
             route add fd00:65::2 dev pod0",
        );
        lab.pod(
            "link set eth0 up
             address add 10.65.0.2/32 dev eth0
             route add 169.254.1.1 dev eth0 scope link
             route add default via 169.254.1.1
             address add fd00:65::2/128 dev eth0 nodad
             route add default via fe80::ecee:eeff:feee:eeee dev eth0",
        );
        lab
    },
};

/// The ptp plugin: a subnet whose neighbours are reached through the gateway, which is known by its
/// global address.
pub(crate) const PTP: Shape = Shape {
    interface: "eth0",
    ends: &[
        end("10.88.0.5", "10.88.0.1", PEER_V4),
        end("fd00:88::5", "fd00:88::1", PEER_V6),
    ],
    further: &[],
    mtu: 1500,
    make: |interface| {
        let lab = Lab::new(interface);
        lab.node(
            "link set pod0 up
             address add 10.88.0.1/32 dev pod0
             route add 10.88.0.5 dev pod0 scope host
             address add fd00:88::1/128 dev pod0 nodad
             route add fd00:88::5 dev pod0",
        );
        lab.pod(
            "link set eth0 up
             address add 10.88.0.5/24 dev eth0 noprefixroute
             route add 10.88.0.1 dev eth0 scope link src 10.88.0.5
             route add 10.88.0.0/24 via 10.88.0.1 src 10.88.0.5
             route add default via 10.88.0.1
             address add fd00:88::5/64 dev eth0 noprefixroute nodad
             route add fd00:88::1 dev eth0
             route add fd00:88::/64 via fd00:88::1
             route add default via fd00:88::1",
        );
        lab
    },
};

/// A second gateway for one network, a worse default route, and a further network on the link.
pub(crate) const SEVERAL_ROUTES: Shape = Shape {
    interface: "eth0",
    ends: &[
        end("10.70.0.5", "10.70.0.1", PEER_V4),
        end("fd00:70::5", "fd00:70::1", PEER_V6),
    ],
    further: &["198.18.0.1", "10.71.0.7", "fd00:71::7"],
    mtu: 1500,
    make: |interface| {
        let lab = Lab::new(interface);
        bridged(&lab, 1500, &["10.70.0.1/24", "fd00:70::1/64"]);
        lab.node(&format!(
            "link add mate0 type veth peer name mate netns {}
             link set mate0 master cni0 up",
            lab.peer.name()
        ));
        lab.peer(
            "address add 10.70.0.2/24 dev mate
             address add 10.71.0.7/24 dev mate
             address add fd00:71::7/64 dev mate nodad
             address add 198.18.0.1/32 dev lo
             link set mate up",
        );
        lab.pod(
            "link set eth0 up
             address add 10.70.0.5/24 dev eth0
             route add default via 10.70.0.1 metric 100
             route add default via 10.70.0.254 metric 200
             route add 198.18.0.0/15 via 10.70.0.2
             route add 10.71.0.0/24 dev eth0 scope link
             address add fd00:70::5/64 dev eth0 nodad
             route add default via fd00:70::1
             route add fd00:71::/64 dev eth0",
        );
        lab
    },
};

/// Cilium: host addresses behind a gateway's host address, whose route has a smaller MTU than the
/// link.
pub(crate) const CILIUM: Shape = Shape {
    interface: "eth0",
    ends: &[
        end("10.0.0.15", "10.0.0.237", PEER_V4),
        end("fd00:10::f", "fd00:10::ed", PEER_V6),
    ],
    further: &[],
    mtu: 1450,
    make: |interface| {
        let lab = Lab::new(interface);
        lab.node(
            "link set pod0 up
             address add 10.0.0.237/32 dev pod0
             route add 10.0.0.15 dev pod0 scope link
             address add fd00:10::ed/128 dev pod0 nodad
             route add fd00:10::f dev pod0",
        );
        lab.pod(
            "link set eth0 up
             address add 10.0.0.15/32 dev eth0
             route add 10.0.0.237 dev eth0 scope link
             route add default via 10.0.0.237 mtu 1450
             address add fd00:10::f/128 dev eth0 nodad
             route add fd00:10::ed dev eth0
             route add default via fd00:10::ed mtu 1450",
        );
        lab
    },
};

/// Both families, and a gateway in one.
pub(crate) const GATEWAY_IN_IPV6_ONLY: Shape = Shape {
    interface: "eth0",
    ends: &[
        End {
            pod: "10.66.0.5",
            gateway: "10.66.0.1",
            peer: None,
        },
        end("fd00:66::5", "fd00:66::1", PEER_V6),
    ],
    further: &[],
    mtu: 1500,
    make: |interface| {
        let lab = Lab::new(interface);
        bridged(&lab, 1500, &["10.66.0.1/24", "fd00:66::1/64"]);
        lab.pod(
            "link set eth0 up
             address add 10.66.0.5/24 dev eth0
             address add fd00:66::5/64 dev eth0 nodad
             route add default via fd00:66::1",
        );
        lab
    },
};

/// No IPv4, and a gateway known by its link-local address.
pub(crate) const IPV6_ONLY: Shape = Shape {
    interface: "eth0",
    ends: &[end("fd00:67::5", "fd00:67::1", PEER_V6)],
    further: &[],
    mtu: 1500,
    make: |interface| {
        let lab = Lab::new(interface);
        bridged(&lab, 1500, &["fd00:67::1/64", "fe80::1/64"]);
        lab.pod(
            "link set eth0 up
             address add fd00:67::5/64 dev eth0 nodad
             route add default via fe80::1 dev eth0",
        );
        lab
    },
};

/// Both families on a bridge.
pub(crate) const DUAL_STACK: Shape = Shape {
    interface: "eth0",
    ends: &[
        end("10.73.0.5", "10.73.0.1", PEER_V4),
        end("fd00:73::5", "fd00:73::1", PEER_V6),
    ],
    further: &[],
    mtu: 1500,
    make: dual_stack,
};

/// The same, on an interface of another name, as multus makes them.
pub(crate) const OTHER_NAME: Shape = Shape {
    interface: "net1",
    make: dual_stack,
    ..DUAL_STACK
};

fn dual_stack(interface: &'static str) -> Lab {
    let lab = Lab::new(interface);
    bridged(&lab, 1500, &["10.73.0.1/24", "fd00:73::1/64"]);
    lab.pod(&format!(
        "link set {interface} up
         address add 10.73.0.5/24 dev {interface}
         route add default via 10.73.0.1
         address add fd00:73::5/64 dev {interface} nodad
         route add default via fd00:73::1"
    ));
    lab
}

/// Two addresses of each family, and a further one of a subnet that has one already. DHCP has room for
/// one; DHCPv6 for both.
pub(crate) const TWO_ADDRESSES: Shape = Shape {
    interface: "eth0",
    ends: &[
        end("10.74.0.5", "10.74.0.1", PEER_V4),
        end("fd00:74::5", "fd00:74::1", PEER_V6),
        end("fd00:75::5", "fd00:75::1", PEER_V6),
    ],
    further: &[],
    mtu: 1500,
    make: |interface| {
        let lab = Lab::new(interface);
        bridged(
            &lab,
            1500,
            &[
                "10.74.0.1/24",
                "10.75.0.1/24",
                "fd00:74::1/64",
                "fd00:75::1/64",
            ],
        );
        lab.pod(
            "link set eth0 up
             address add 10.74.0.5/24 dev eth0
             address add 10.74.0.6/24 dev eth0
             address add 10.75.0.5/24 dev eth0
             address add fd00:74::5/64 dev eth0 nodad
             address add fd00:75::5/64 dev eth0 nodad
             route add default via 10.74.0.1
             route add default via fd00:74::1",
        );
        lab
    },
};

/// Amazon's VPC plugin: nobody answers for the gateway, which has static neighbour entries.
pub(crate) const AWS_VPC: Shape = Shape {
    interface: "eth0",
    ends: &[
        end("10.69.0.5", "192.0.2.1", PEER_V4),
        end("fd00:69::5", "2001:db8:2::1", PEER_V6),
    ],
    further: &[],
    mtu: 1500,
    make: |interface| {
        let lab = Lab::new(interface);
        lab.node(
            "link set pod0 address 02:aa:aa:aa:aa:aa up
             route add 10.69.0.5 dev pod0 scope link
             route add fd00:69::5 dev pod0",
        );
        lab.pod(
            "link set eth0 up
             address add 10.69.0.5/32 dev eth0
             neighbour add 169.254.1.1 lladdr 02:aa:aa:aa:aa:aa dev eth0 nud permanent
             route add 169.254.1.1 dev eth0 scope link
             route add default via 169.254.1.1
             address add fd00:69::5/128 dev eth0 nodad
             neighbour add fe80::1 lladdr 02:aa:aa:aa:aa:aa dev eth0 nud permanent
             route add default via fe80::1 dev eth0",
        );
        lab
    },
};

/// A macvlan on the node's uplink; the node is the gateway, beyond a switch.
pub(crate) const MACVLAN: Shape = Shape {
    interface: "eth0",
    ends: &[
        end("10.76.0.5", "10.76.0.1", PEER_V4),
        end("fd00:76::5", "fd00:76::1", PEER_V6),
    ],
    further: &[],
    mtu: 1500,
    make: |interface| {
        let lab = Lab::without_pod_link(interface);
        lab.node(&format!(
            "link add uplink type veth peer name switch
             address add 10.76.0.1/24 dev switch
             address add fd00:76::1/64 dev switch nodad
             link set switch up
             link set uplink up
             link add link uplink name eth0 netns {} type macvlan mode bridge",
            lab.pod.namespace.name()
        ));
        lab.pod(
            "link set eth0 up
             address add 10.76.0.5/24 dev eth0
             route add default via 10.76.0.1
             address add fd00:76::5/64 dev eth0 nodad
             route add default via fd00:76::1",
        );
        lab
    },
};
